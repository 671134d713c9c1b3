"""By the beginning of its id an agent is known that was shown lately."""

from meshos.ids import AgentId
from meshos.node.facade import shown
from meshos.node.facade.shown import Shown


def test_what_was_shown_is_known_by_its_beginning_and_the_longest_ago_is_forgotten() -> None:
    known = Shown()
    known.note([AgentId("a-1234567890abcdef"), AgentId("a-12ff567890abcdef")])
    assert known.beginning("a-1234") == ["a-1234567890abcdef"] and len(known.beginning("a-12")) == 2 and known.beginning("a-2") == []
    known.note(AgentId(f"a-{number:016x}") for number in range(shown.SHOWN - 1))
    assert known.beginning("a-1234") == [] and known.beginning("a-12ff") == ["a-12ff567890abcdef"]
    known.note([AgentId("a-12ff567890abcdef"), AgentId("a-99ff567890abcdef")])
    assert known.beginning("a-12ff") == ["a-12ff567890abcdef"]  # it was shown again
    assert len(known.beginning("a-")) == shown.SHOWN
