"""The core of a node: what is on disk before what, who waits for whom, and what happens when a disk stalls."""

from collections.abc import Sequence

from meshos.effects import Completed, Err, Machine, Persist, Put, Tell, Write
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.node.kernel import core as core_module
from meshos.node.kernel.core import OUTSIDE, Core


class Scripted:
    """A machine whose effects for an event are written down beforehand; it keeps what it heard."""

    def __init__(self, script: dict[object, list[object]]) -> None:
        self.script = script
        self.heard: list[object] = []
        self.due: float | None = None

    def step(self, now: float, event: object) -> list[object]:
        self.heard.append(event)
        return self.script.get(event, []) if isinstance(event, str) else []

    def deadline(self) -> float | None:
        return self.due


class Driver:
    def __init__(self, **machines: Machine) -> None:
        self.did: list[object] = []
        self.staged: list[tuple[str, Sequence[Write]]] = []
        self.syncs: list[str] = []
        self.core = Core(
            machines, carry_out=self.did.append, stage=lambda name, writes: self.staged.append((name, writes)), sync=self.syncs.append
        )


WRITE = Persist((Put(b"k", b"v"),))


def test_nothing_leaves_before_the_batch_is_on_disk() -> None:
    driver = Driver(a=Scripted({"go": ["before", WRITE, "after", Tell("b", "hello")]}), b=(b := Scripted({})))
    driver.core.deliver(0, "a", "go")
    assert driver.did == [] and driver.syncs == ["a"] and b.heard == []
    assert driver.staged == [("a", WRITE.writes)], "visible to the machine's View at once"
    driver.core.synced(1, "a")
    assert driver.did == ["before", "after"] and b.heard == ["hello"]


def test_another_machine_goes_on_while_one_syncs() -> None:
    driver = Driver(a=Scripted({"go": [WRITE]}), b=Scripted({"go": ["b did"]}))
    driver.core.deliver(0, "a", "go")
    driver.core.deliver(0, "b", "go")
    assert driver.did == ["b did"]


def test_what_waited_for_a_sync_shares_the_next_one() -> None:
    driver = Driver(a=(a := Scripted({"1": [WRITE, "one"], "2": [WRITE, "two"], "3": ["three"]})))
    for event in "123":
        driver.core.deliver(0, "a", event)
    assert a.heard == ["1"], "a machine that syncs is not stepped"
    driver.core.synced(1, "a")
    assert driver.did == ["one"] and driver.syncs == ["a", "a"] and a.heard == ["1", "2", "3"]
    driver.core.synced(2, "a")
    assert driver.did == ["one", "two", "three"] and driver.syncs == ["a", "a"]


def test_tell_keeps_its_order_and_reaches_the_driver_when_it_is_for_outside() -> None:
    driver = Driver(a=Scripted({"go": [Tell("b", "1"), Tell(OUTSIDE, "out"), Tell("b", "2")]}), b=(b := Scripted({})))
    driver.core.deliver(0, "a", "go")
    assert b.heard == ["1", "2"] and driver.did == ["out"]


def test_delivering_from_within_an_effect_waits_its_turn() -> None:
    a, b = Scripted({"go": ["effect", Tell("b", "told")]}), Scripted({})
    driver = Driver(a=a, b=b)
    core = driver.core
    core._carry_out = lambda effect: core.deliver(0, "b", f"from {effect}")
    core.deliver(0, "a", "go")
    assert b.heard == ["from effect", "told"]


def test_ticks_go_to_those_whose_deadline_has_passed() -> None:
    a, b = Scripted({}), Scripted({})
    a.due, b.due = 5.0, 9.0
    driver = Driver(a=a, b=b)
    assert driver.core.deadline() == 5.0
    driver.core.tick(6.0)
    assert len(a.heard) == 1 and b.heard == []


def test_a_machine_that_syncs_is_not_ticked_and_does_not_keep_the_driver_awake() -> None:
    a = Scripted({"go": [WRITE]})
    driver = Driver(a=a)
    a.due = 5.0
    driver.core.deliver(0, "a", "go")
    assert driver.core.deadline() is None
    driver.core.tick(6.0)
    assert a.heard == ["go"]
    driver.core.synced(6.0, "a")
    assert driver.core.deadline() == 5.0


def test_many_events_after_a_stall_share_syncs_within_the_bound_of_a_view() -> None:
    a = Scripted({"go": [WRITE], **{f"{n}": [WRITE] for n in range(core_module.DRAIN + 10)}})
    driver = Driver(a=a)
    driver.core.deliver(0, "a", "go")
    for n in range(core_module.DRAIN + 10):
        driver.core.deliver(0, "a", f"{n}")
    driver.core.synced(1, "a")
    assert len(driver.staged) == 1 + core_module.DRAIN and driver.syncs == ["a", "a"]
    driver.core.synced(2, "a")
    assert len(driver.staged) == 1 + core_module.DRAIN + 10 and driver.syncs == ["a", "a", "a"]
    assert a.heard == ["go", *(f"{n}" for n in range(core_module.DRAIN + 10))], "in the order of arrival"


def test_a_stalled_disk_fills_the_backlog_and_then_refuses_by_name() -> None:
    a, asker = Scripted({"go": [WRITE]}), Scripted({})
    driver = Driver(a=a, asker=asker)
    driver.core.deliver(0, "a", "go")
    perform = Perform(7, Propose[object]("command", to="a"), None, reply_to="asker")
    for _ in range(core_module.BACKLOG_LIMIT):
        driver.core.deliver(0, "a", perform)
    assert asker.heard == []
    driver.core.deliver(0, "a", perform)
    (answer,) = asker.heard
    assert isinstance(answer, Completed) and isinstance(answer.outcome, Err) and answer.outcome.error.name == "busy"
    assert driver.core.refused == 1
    driver.core.deliver(0, "a", Abandon(7, perform.operation, "asker"))
    driver.core.synced(1, "a")
    assert isinstance(a.heard[-1], Abandon), "who gives up is heard even then, or what it holds would be held for ever"
