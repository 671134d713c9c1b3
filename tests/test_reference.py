"""The pages of docs/reference/ that are made from the source are what the source says."""

import pytest

from tools import reference


@pytest.mark.parametrize("page", reference.PAGES)
def test_a_made_page_is_up_to_date(page: str) -> None:
    written = (reference.FOLDER / page).read_text(encoding="utf-8")
    assert written == reference.PAGES[page](), "run `make docs`"


def test_a_page_holds_what_it_is_for() -> None:
    assert "\n## not-yet\n" in reference.errors_page() and "## mesh testnet up\n" in reference.commands_page()
    assert "| a result; larger is `result-too-large` | 128 MiB |" in reference.limits_page()
    assert "| a node's certificate counts for | 365 days |" in reference.limits_page()
