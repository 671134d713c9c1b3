"""Which one somebody means who writes the beginning of an id."""

import pytest

from meshos.errors import BadInput, Refused
from meshos.node.meant import LOOKED_FOR, is_beginning, only

NONE = Refused("tab-not-open", "there is none")


def test_the_one_that_fits() -> None:
    assert only("ab", iter(["abc", "abc"]), NONE) == "abc"
    with pytest.raises(Refused) as nothing:
        only("ab", [], NONE)
    assert nothing.value is NONE


def test_several_are_named_in_order_at_most_three_of_them() -> None:
    with pytest.raises(BadInput) as several:
        only("a" * 200, ["abd9", "abc9", "abf9", "abe9"], NONE, shown_chars=3)
    assert several.value.name == "ambiguous-id" and several.value.detail == f"{'a' * 80} could be abc, abd, abe and 1 more"


@pytest.mark.parametrize(("count", "more"), [(2, ""), (3, ""), (5, " and 2 more"), (99, " and 96 more"), (100, " and at least 97 more")])
def test_how_many_more_there_are_is_said(count: int, more: str) -> None:
    assert LOOKED_FOR == 100
    with pytest.raises(BadInput) as several:
        only("a", [f"a{number:03}" for number in range(count)], NONE)
    assert several.value.detail == f"a could be {', '.join(f'a{number:03}' for number in range(min(3, count)))}{more}"


@pytest.mark.parametrize(
    ("text", "fits"),
    [("0a1f", True), ("f" * 64, True), ("0a1", False), ("f" * 65, False), ("0A1F", False), ("0a1g", False), ("٤٤٤٤", False), ("", False)],
)
def test_the_beginning_of_an_id_is_of_hex_digits_and_long_enough(text: str, fits: bool) -> None:
    assert is_beginning(text, 4) == fits
