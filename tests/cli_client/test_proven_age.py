"""How old what a node proves is, and what is said where it is too old."""

from types import SimpleNamespace

import pytest

from meshos.node.cli import proven_age

NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_age, "time", SimpleNamespace(time_ns=lambda: NOW_MS * 1_000_000))


@pytest.mark.parametrize(
    ("ago_ms", "said"),
    [(0, "0 ms old"), (3_000, "3 s old"), (180_000, "3 m old"), (40 * proven_age.OLD_MS, "40 d old"), (-500, "0 ms old")],
)
def test_the_age_of_a_header_is_told(ago_ms: int, said: str) -> None:
    assert proven_age.age(NOW_MS - ago_ms) == said


def test_a_node_that_shows_last_months_ledger_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    proven_age.warn_if_old(NOW_MS - proven_age.OLD_MS)
    assert capsys.readouterr().err == ""
    proven_age.warn_if_old(NOW_MS - 30 * proven_age.OLD_MS)
    assert "30 d old" in capsys.readouterr().err
