"""The kernel machine: what a node begins, and when."""

from meshos.consensus.raft.events import Followed, Led
from meshos.effects import Tell
from meshos.errors import Unreachable
from meshos.flow_machine import CancelFlow, StartFlow
from meshos.ids import NodeId
from meshos.node.kernel.watch import END, START, Begin, Happened, Watch
from meshos.protocols.membership.events import Returned, SeedFailed
from tests.kernel.test_news import decided as block


def started(effects: list[object]) -> list[str]:
    """The Flows that are begun."""
    told = [effect.event for effect in effects if isinstance(effect, Tell)]
    return [event.service for event in told if isinstance(event, StartFlow)]


def test_agents_are_started_once_the_ports_are_open_and_the_node_leads_whichever_comes_first() -> None:
    early = Watch(also=("tidy",))
    assert started(early.step(0.0, Led("org", 3))) == [], "a port that is not open starts nothing"
    assert started(early.step(0.0, Begin())) == ["tidy", START]
    late = Watch(also=("tidy",))
    assert started(late.step(0.0, Begin())) == ["tidy"]
    assert started(late.step(0.0, Led("org", 3))) == [START]


def test_who_leads_no_more_ends_what_it_runs_and_only_what_it_began() -> None:
    watch = Watch()
    watch.step(0.0, Led("org", 3))
    assert started(watch.step(0.0, Followed("org", 4, NodeId("other")))) == [], "nothing was begun"
    watch.step(0.0, Begin())
    watch.step(0.0, Led("org", 5))
    effects = watch.step(0.0, Followed("org", 6, NodeId("other")))
    assert started(effects) == [END]
    assert any(isinstance(effect, Tell) and isinstance(effect.event, CancelFlow) for effect in effects)


def test_who_comes_back_says_how_long_it_was_away_and_how_many_blocks_it_has_missed_once_it_has_them() -> None:
    behind = [2]
    watch = Watch(behind=lambda: behind[0])

    def told(event: object) -> list[Happened]:
        return [effect for effect in watch.step(0.0, event) if isinstance(effect, Happened)]

    assert [one.kind for one in told(block(7))] == ["block"], "it was never away"
    (failed,) = told(SeedFailed(NodeId("far"), Unreachable("not-connected", "nobody listens at 192.0.2.1:1")))
    assert failed.kind == "seed-failed" and "nobody listens" in failed.text and ("err", "not-connected") in failed.fields
    (back,) = told(Returned(7_200.4))
    assert back.kind == "returned" and back.fields == (("awayMs", 7_200_400),)
    assert [one.kind for one in told(block(8))] == ["block"]
    behind[0] = 0
    assert [(one.kind, one.fields) for one in told(block(9))][1:] == [("caught-up", (("blocks", 2),))]
    assert [one.kind for one in told(block(10))] == ["block"]
