"""Two machines (network namespaces of this one), two paths, and a router that swallows one of them under 200 calls a second."""

import time

import pytest

from meshos.bench.namespaces import why_not
from meshos.bench.paths import PROTOCOL, both_answer, caller, gap_ms
from meshos.bench.paths_node import RATE, Call


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")
def test_each_path_is_cut_while_it_carries_and_no_call_fails() -> None:
    cut: list[str] = []
    with caller() as (net, ask):
        while len(set(cut)) < len(PROTOCOL):
            carries = both_answer(ask)
            ask("calls")
            net.cut(PROTOCOL[carries])
            time.sleep(0.5)
            calls = [Call(**each) for each in ask("calls")]
            (now,) = (path for path in ask("paths") if path["why"])
            net.mend(PROTOCOL[carries])
            assert now["path"] != carries and now["why"] in ("stalled", "told")
            assert len(calls) > RATE / 10 and not [call.error for call in calls if call.error]
            cut.append(carries)
            assert len(cut) < 10, "the one that has taken over carries until the other one has been better for long enough"
        both_answer(ask)
        assert not [call for call in ask("calls") if call["error"]]


def test_a_gap_is_the_longest_between_answers_after_the_cut() -> None:
    calls = [Call(at - 0.001, at, "") for at in (1.0, 1.5, 2.0, 2.1, 2.4, 2.41)]
    assert round(gap_ms(calls, 2.05)) == 300
    assert round(gap_ms(calls, 1.9)) == 500, "from the last answer before it"
    assert gap_ms([Call(1.0, 1.1, "link-lost")], 1.0) == float("inf")
