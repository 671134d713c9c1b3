"""What an agent's server answers, and what of it becomes a value of ours."""

import pytest

from meshos import cbor
from meshos.adapters.onprem.mcp_values import Json, tool_result
from meshos.errors import Failed


@pytest.mark.parametrize("wrong", [2**64, -(2**64) - 1, 10**4000, float("inf"), float("nan")], ids=["above", "below", "long", "inf", "nan"])
def test_numbers_that_cannot_be_passed_on(wrong: Json) -> None:
    answers: list[Json] = [wrong, [wrong], {"x": wrong}, {"x": [1, {"y": wrong}]}]
    for value in answers:
        for large in (False, True):
            with pytest.raises(Failed, match="agent-garbage"):
                tool_result({"structuredContent": value}, large=large)


@pytest.mark.parametrize("number", [2**64 - 1, -(2**64), True, 0, 1e300])
def test_numbers_that_are_passed_on_are_read_again(number: Json) -> None:
    value, failed = tool_result({"structuredContent": {"x": [number]}})
    assert not failed and cbor.decode(value, max_bytes=100) == {"x": [number]}
