"""Reaching an organisation whose nodes choose a leader: asked in rounds while nothing was done, and never a second time where it may be."""

from collections.abc import Sequence
from typing import Any

import pytest

from meshos.effects import Completed, Err, Ok, Outcome, Tell, Tick
from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Ask
from meshos.flow_machine import FlowEnded, Flows, Perform, StartFlow
from meshos.ids import NodeId, org_did
from meshos.protocols.leader.limits import CHOOSING_S
from meshos.protocols.leader.reaching import ask_any

ORG = org_did("enterprise", "acme")
A, B = NodeId("a"), NodeId("b")
CHOOSING = Unreachable("not-leading", "not me", outcome="not_done")
GONE = Unreachable("peer-unreachable", "no way", outcome="not_done")
LOST = Unreachable("unreachable", "the link ended")


class Asked:
    """Answers each ask at once with the next of what it was given for that node, the last again and again."""

    def __init__(self, answers: dict[NodeId, Sequence[bytes | MeshError]], *, timeout_s: float = 60.0) -> None:
        self.asked: list[NodeId] = []
        self.timeouts: list[float] = []
        self.now = 0.0
        self.outcome: Outcome[Any] | None = None
        left = {node: list(given) for node, given in answers.items()}

        async def flow(_: object) -> bytes:
            return await ask_any(ORG, lambda: list(answers), "/meshos/x/1", b"", timeout_s)

        flows = Flows({"flow": flow}, limit=1)
        effects = flows.step(0.0, StartFlow("f", "flow", None, None, "outside"))
        while True:
            for effect in effects:
                assert isinstance(effect, Tell)
                if isinstance(effect.event, FlowEnded):
                    self.outcome = effect.event.outcome
                    return
                assert isinstance(effect.event, Perform) and isinstance(effect.event.operation, Ask)
                to = effect.event.operation.to
                self.asked.append(to)
                self.timeouts.append(effect.event.operation.timeout_s)
                given = left[to].pop(0) if len(left[to]) > 1 else left[to][0]
                outcome: Outcome[Any] = Err(given) if isinstance(given, MeshError) else Ok(given)
                effects = flows.step(self.now, Completed(effect.event.op, outcome))
                break
            else:
                due = flows.deadline()
                assert due is not None
                self.now = due
                effects = flows.step(due, Tick())

    def error(self) -> str:
        assert isinstance(self.outcome, Err)
        return self.outcome.error.name


def test_the_first_that_takes_it_answers() -> None:
    asked = Asked({A: [GONE], B: [b"done"]})
    assert asked.outcome == Ok(b"done") and asked.asked == [A, B] and asked.now == 0


def test_while_they_choose_it_is_asked_again_with_growing_pauses() -> None:
    asked = Asked({A: [CHOOSING, CHOOSING, CHOOSING, b"done"], B: [GONE]})
    assert asked.outcome == Ok(b"done") and asked.asked == [A, B, A, B, A, B, A]
    assert 0.5 < asked.now < 1 and asked.timeouts[-1] == pytest.approx(60 - asked.now), "the time to answer in shrinks"


def test_that_lasts_no_longer_than_a_failover_may_and_half_of_the_time_there_is() -> None:
    for timeout_s, most_s in ((60.0, CHOOSING_S), (2.0, 1.0)):
        asked = Asked({A: [CHOOSING], B: [GONE]}, timeout_s=timeout_s)
        assert asked.error() == "not-leading" and most_s / 2 < asked.now <= most_s


def test_where_nobody_is_reached_nobody_is_waited_for() -> None:
    asked = Asked({A: [GONE], B: [GONE]})
    assert asked.error() == "peer-unreachable" and asked.asked == [A, B] and asked.now == 0


def test_what_may_have_been_done_is_asked_of_nobody_else() -> None:
    asked = Asked({A: [LOST], B: [b"done"]})
    assert asked.error() == "unreachable" and asked.asked == [A]


def test_a_refusal_is_the_answer() -> None:
    asked = Asked({A: [Refused("over-budget", "no")], B: [b"done"]})
    assert asked.error() == "over-budget" and asked.asked == [A]


def test_an_organisation_without_nodes_is_named() -> None:
    assert Asked({}).error() == "no-provider"
