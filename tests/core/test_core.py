"""The core of a node: what is on disk before what, who waits for whom, and what happens when a disk stalls."""

from collections.abc import Sequence

from meshos.effects import Ahead, Cast, Completed, Err, Heard, Machine, Persist, Put, Tell, Write, WriteBack
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel import core as core_module
from meshos.node.kernel.backlog import BACKLOG_LIMIT, HEARD_BYTES, HEARD_OVERHEAD
from meshos.node.kernel.core import OUTSIDE, Core
from meshos.storage.limits import WRITE_BACK_BATCHES, WRITE_BACK_BYTES, WRITE_BACK_S


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
BACK = WriteBack((Put(b"back", b"v"),))


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


def test_what_comes_together_shares_one_sync_and_is_answered_in_its_order() -> None:
    a = Scripted({"1": ["zero"], "2": [WRITE, "one"], "3": ["two", Tell("b", "told")], "4": [WRITE, "three"]})
    driver = Driver(a=a, b=(b := Scripted({"go": [Tell("a", "4")]})))
    driver.core.deliver_all(0, [("a", "1"), ("a", "2"), ("b", "go"), ("a", "3")])
    assert a.heard == ["1", "2", "3", "4"], "it steps on through the turn"
    assert driver.did == ["zero"] and driver.syncs == ["a"] and b.heard == ["go"], "and all since the first write waits for one sync"
    driver.core.synced(1, "a")
    assert driver.did == ["zero", "one", "two", "three"] and b.heard == ["go", "told"] and driver.syncs == ["a"]


def test_a_driver_whose_disk_is_done_at_once_loses_nothing() -> None:
    a = Scripted({"1": [WRITE, "one"], "2": [WRITE, "two"]})
    driver = Driver(a=a)
    driver.core._sync = lambda name: driver.core.synced(0, name)
    driver.core.deliver_all(0, [("a", "1"), ("a", "2")])
    driver.core.deliver(1, "a", "1")
    assert driver.did == ["one", "two", "one"]


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
    for _ in range(BACKLOG_LIMIT):
        driver.core.deliver(0, "a", perform)
    assert asker.heard == []
    driver.core.deliver(0, "a", perform)
    (answer,) = asker.heard
    assert isinstance(answer, Completed) and isinstance(answer.outcome, Err) and answer.outcome.error.name == "busy"
    assert driver.core.refused == 1
    driver.core.deliver(0, "a", Abandon(7, perform.operation, "asker"))
    driver.core.synced(1, "a")
    assert isinstance(a.heard[-1], Abandon), "who gives up is heard even then, or what it holds would be held for ever"


# -- what does not wait, and what is not waited for -------------------------------------------------------------------


def test_ahead_goes_out_before_the_sync_of_its_drain_and_only_it_does() -> None:
    driver = Driver(a=Scripted({"go": ["before", WRITE, Ahead("append"), "after"]}))
    syncing_when_carried_out: list[list[str]] = []
    driver.core._carry_out = lambda effect: (driver.did.append(effect), syncing_when_carried_out.append(list(driver.syncs)))
    driver.core.deliver(0, "a", "go")
    assert driver.did == ["append"] and syncing_when_carried_out == [[]] and driver.syncs == ["a"]
    driver.core.synced(1, "a")
    assert driver.did == ["append", "before", "after"], "once, and the rest in its order"


def test_ahead_keeps_its_place_where_nothing_syncs() -> None:
    b = Scripted({})
    driver = Driver(a=Scripted({"go": ["one", Ahead("two"), Ahead(Tell("b", "told")), "three", BACK]}), b=b)
    driver.core.deliver(0, "a", "go")
    assert driver.did == ["one", "two", "three"] and b.heard == ["told"] and driver.syncs == []


def test_ahead_of_each_step_of_a_drain_goes_out_before_their_one_sync() -> None:
    driver = Driver(a=Scripted({"go": [WRITE], "1": [WRITE, Ahead("a1"), "r1"], "2": [WRITE, Ahead("a2"), "r2"]}))
    for event in ("go", "1", "2"):
        driver.core.deliver(0, "a", event)
    driver.core.synced(1, "a")
    assert driver.did == ["a1", "a2"] and driver.syncs == ["a", "a"]
    driver.core.synced(2, "a")
    assert driver.did == ["a1", "a2", "r1", "r2"]


def test_a_write_back_is_seen_at_once_and_withholds_nothing() -> None:
    driver = Driver(a=(a := Scripted({"go": ["before", BACK, "after"]})))
    driver.core.deliver(0, "a", "go")
    driver.core.deliver(0, "a", "next")
    assert driver.staged == [("a", BACK.writes)], "visible to the machine's View"
    assert driver.did == ["before", "after"] and driver.syncs == [] and a.heard == ["go", "next"]


def test_a_write_back_goes_to_the_disk_with_the_next_sync_before_what_was_written_after_it() -> None:
    driver = Driver(a=Scripted({"back": [BACK], "go": [WRITE, "promise"]}))
    driver.core.deliver(0, "a", "back")
    driver.core.deliver(0.1, "a", "go")
    assert [writes for _, writes in driver.staged] == [BACK.writes, WRITE.writes] and driver.syncs == ["a"]
    driver.core.synced(0.2, "a")
    assert driver.did == ["promise"] and driver.core.deadline() is None, "nothing is left to be written"


def test_a_write_back_that_no_sync_takes_along_gets_one_of_its_own() -> None:
    driver = Driver(a=(a := Scripted({"back": [BACK, "done"]})))
    driver.core.deliver(1.0, "a", "back")
    driver.core.deliver(1.1, "a", "back")
    assert driver.core.deadline() == 1.0 + WRITE_BACK_S, "counted from the oldest"
    driver.core.tick(1.0 + WRITE_BACK_S / 2)
    assert driver.syncs == []
    driver.core.tick(1.0 + WRITE_BACK_S)
    assert driver.syncs == ["a"] and driver.did == ["done", "done"] and a.heard == ["back", "back"], "the machine hears nothing of it"
    driver.core.synced(2.0, "a")
    assert driver.core.deadline() is None


def test_too_much_that_is_written_back_is_synced_before_a_view_or_memory_overflows() -> None:
    large = WriteBack((Put(b"k", bytes(WRITE_BACK_BYTES)),))
    driver = Driver(a=Scripted({"back": [BACK], "large": [large, "after"]}), b=Scripted({"back": [BACK]}))
    driver.core.deliver(0, "a", "large")
    assert driver.syncs == ["a"] and driver.did == []
    for _ in range(WRITE_BACK_BATCHES):
        driver.core.deliver(0, "b", "back")
    assert driver.syncs == ["a", "b"]


def test_a_cast_goes_to_rpc_which_knows_the_links() -> None:
    cast = Cast(NodeId("n2"), "/t/1", b"x")
    driver = Driver(a=Scripted({"go": [cast, WRITE, Ahead(cast)]}), rpc=(rpc := Scripted({})))
    driver.core.deliver(0, "a", "go")
    assert rpc.heard == [cast]
    driver.core.synced(1, "a")
    assert rpc.heard == [cast, cast] and driver.did == []


def test_a_peer_that_casts_into_a_stalled_disk_leaves_room_for_another() -> None:
    a = Scripted({"go": [WRITE]})
    driver = Driver(a=a)
    driver.core.deliver(0, "a", "go")
    mebibyte = bytes((1 << 20) - HEARD_OVERHEAD)
    flood = Heard(Peer(NodeId("flood"), OrgDid("did:mesh:enterprise:x")), "/t/1", mebibyte)
    other = Heard(Peer(NodeId("other"), OrgDid("did:mesh:enterprise:y")), "/t/1", mebibyte)
    most = HEARD_BYTES >> 20
    for _ in range(most):
        driver.core.deliver(0, "a", flood)
    assert driver.core.refused == most // 2, "one peer has half"
    for _ in range(most // 4):
        driver.core.deliver(0, "a", other)
    assert driver.core.refused == most // 2
    driver.core.synced(1, "a")
    assert a.heard.count(flood) == most // 2 and a.heard.count(other) == most // 4
    driver.core.deliver(2, "a", "go")
    driver.core.deliver(2, "a", flood)
    driver.core.synced(3, "a")
    assert a.heard[-1] is flood, "its share is given back once it is heard"
