"""The trio driver: what it does with a disk that fails, a port that fails, and a Flow nobody waits for."""

import threading
from collections.abc import Iterator, Sequence

import pytest
import trio
import trio.testing

from meshos.effects import Completed, Err, Ok, Persist, Put, Sign, Tell, Write, WriteBack
from meshos.errors import Broken, MeshError, Refused
from meshos.flow import Compute, Port, Propose
from meshos.flow_machine import Abandon, CancelFlow, Flows, Perform, StartFlow
from meshos.node.kernel.core import OUTSIDE
from meshos.node.runtime.host import Host, PortHandler
from meshos.storage.disk import DiskFailed
from meshos.storage.limits import WRITE_BACK_S
from meshos.storage.overlay import Overlay


class FullDisk:
    """A Store whose every write fails as a full disk's does."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())

    def write(self, writes: Sequence[Write]) -> None:
        raise DiskFailed("disk-full", "the disk is full")

    def snapshot(self) -> "FullDisk":
        return self

    def close(self) -> None:
        return None


class Writes:
    """Persists on everything, and answers."""

    def step(self, now: float, event: object) -> list[object]:
        assert isinstance(event, Perform)
        return [Persist((Put(b"k", b"v"),)), Tell(event.reply_to, Completed(event.op, Ok("acknowledged")))]

    def deadline(self) -> float | None:
        return None


class Work:
    """What a test's port is asked for."""


async def never_signs(sign: Sign) -> bytes:
    raise AssertionError("nothing here is signed")


def host_of(service: object, ports: dict[type, PortHandler] | None = None) -> Host:
    flows = Flows({"work": lambda _: service()}, limit=10)  # type: ignore[operator]
    disk = FullDisk()
    machines = {"flows": flows, "org": Writes()}
    return Host(machines, stores={"org": (disk, Overlay(disk))}, handlers={}, ports=ports or {}, sign=never_signs)


async def test_a_full_disk_ends_the_node_and_acknowledges_nothing() -> None:
    async def work() -> object:
        return await Propose[object]("x")

    host = host_of(work)
    answers: list[object] = []
    with pytest.RaisesGroup(pytest.RaisesExc(DiskFailed), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            answers.append(await host.flow("work", None, timeout_s=5))
    assert answers == []


async def test_a_port_that_is_missing_refuses_and_one_with_a_bug_says_so() -> None:
    async def missing() -> object:
        return await Port[object](Work())

    async def buggy(effect: Work) -> object:
        raise KeyError("a bug")

    for ports, kind, name in (({}, Refused, "no-port"), ({Work: buggy}, Broken, "internal")):
        host = host_of(missing, ports)
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            with pytest.raises(MeshError) as caught:
                await host.flow("work", None, timeout_s=5)
            assert isinstance(caught.value, kind) and caught.value.name == name
            nursery.cancel_scope.cancel()


async def test_cancelling_a_flow_cancels_what_its_port_is_doing() -> None:
    begun, ended = trio.Event(), trio.Event()

    async def slow(effect: Work) -> object:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def work() -> object:
        return await Port[object](Work())

    host = host_of(work, {Work: slow})
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        async with trio.open_nursery() as asking:

            async def ask() -> None:
                await host.flow("work", None, timeout_s=60)

            asking.start_soon(ask)
            await begun.wait()
            asking.cancel_scope.cancel()
        with trio.fail_after(10):
            await ended.wait()
        assert host.statistics()["operations"] == 0 or await _drained(host)
        nursery.cancel_scope.cancel()


async def test_what_is_abandoned_before_its_task_ran_is_never_begun() -> None:
    begun: list[object] = []

    async def port(effect: Work) -> object:
        begun.append(effect)
        return None

    async def work() -> object:
        return await Port[object](Work())

    host = host_of(work, {Work: port})
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.deliver("flows", StartFlow("f", "work", None, None, OUTSIDE))
        host.deliver("flows", CancelFlow("f"))  # no task has run in between
        assert await _drained(host)
        nursery.cancel_scope.cancel()
    assert begun == []


async def test_a_port_that_never_waits_answers_in_the_same_turn_also_with_an_error() -> None:
    async def work() -> object:
        return [await Port[object](Work()), await Port[object](Work())]

    async def failing() -> object:
        return await Port[object](Later())

    class Later:
        pass

    def broken(effect: object) -> object:
        raise KeyError("a bug")

    def refused(effect: object) -> object:
        raise Refused("not-today", "no")

    flows = Flows({"work": lambda _: work(), "failing": lambda _: failing()}, limit=10)
    for handler, name in ((broken, "internal"), (refused, "not-today")):
        host = Host(
            {"flows": flows},
            stores={},
            handlers={},
            ports={},
            at_once={Work: lambda _: "done", Later: handler},
            sign=never_signs,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            host.deliver("flows", StartFlow("unheard", "work", None, None, OUTSIDE))
            assert host.statistics()["operations"] == 0, "no task was made for it"
            assert await host.flow("work", None, timeout_s=5) == ["done", "done"]
            with pytest.raises(MeshError) as caught:
                await host.flow("failing", None, timeout_s=5)
            assert caught.value.name == name
            nursery.cancel_scope.cancel()


class SlowDisk(FullDisk):
    """Writes when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.written: list[Write] = []

    def write(self, writes: Sequence[Write]) -> None:
        assert self.let.wait(10)
        self.written += writes


async def test_a_write_that_was_begun_is_finished_before_the_host_ends() -> None:
    async def work() -> object:
        return await Propose[object]("x")

    async def let_go_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            disk.let.set()

    disk = SlowDisk()
    flows = Flows({"work": lambda _: work()}, limit=10)
    host = Host({"flows": flows, "org": Writes()}, stores={"org": (disk, Overlay(disk))}, handlers={}, ports={}, sign=never_signs)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.deliver("flows", StartFlow("f", "work", None, None, OUTSIDE))
        nursery.start_soon(let_go_when_cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert disk.written == [Put(b"k", b"v")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("disk-org")]


class WritesBack:
    """Writes each event back, and says so."""

    def step(self, now: float, event: object) -> list[object]:
        return [WriteBack((Put(b"%s" % event, b"v"),)), Tell(OUTSIDE, event)]  # type: ignore[str-bytes-safe]

    def deadline(self) -> float | None:
        return None


def writing_back(disk: SlowDisk) -> tuple[Host, Overlay, list[object]]:
    overlay, told = Overlay(disk), list[object]()
    return (
        Host({"org": WritesBack()}, stores={"org": (disk, overlay)}, handlers={bytes: told.append}, ports={}, sign=never_signs),
        overlay,
        told,
    )


async def test_a_write_back_keeps_nobody_waiting_and_is_on_disk_soon(autojump_clock: trio.testing.MockClock) -> None:
    disk = SlowDisk()
    disk.let.set()
    host, overlay, told = writing_back(disk)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.deliver("org", b"one")
        host.deliver("org", b"two")
        assert told == [b"one", b"two"] and overlay.get(b"two") == b"v" and not disk.written
        await trio.sleep(WRITE_BACK_S + 0.1)
        while overlay.pending:
            await trio.to_thread.run_sync(lambda: None)  # virtual time does not wait for a disk's thread
        assert disk.written == [Put(b"one", b"v"), Put(b"two", b"v")]
        nursery.cancel_scope.cancel()


async def test_what_is_written_back_is_on_disk_when_the_host_has_ended() -> None:
    disk = SlowDisk()
    disk.let.set()
    host, _, _ = writing_back(disk)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.deliver("org", b"last")
        nursery.cancel_scope.cancel()
    assert disk.written == [Put(b"last", b"v")]


async def test_an_operation_of_the_outside_needs_no_flow() -> None:
    class Answers:
        def step(self, now: float, event: object) -> list[object]:
            assert isinstance(event, Perform) and isinstance(event.operation, Propose)
            outcome = Ok(event.operation.command) if event.operation.command != "no" else Err(Refused("not-today", "no"))
            return [Tell(event.reply_to, Completed(event.op, outcome))]

        def deadline(self) -> float | None:
            return None

    flows = Flows({}, limit=1)
    host = Host({"flows": flows, "org": Answers()}, stores={}, handlers={}, ports={}, sign=never_signs)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        assert await host.perform(Propose("yes"), timeout_s=5) == "yes"
        with pytest.raises(Refused, match="no"):
            await host.perform(Propose("no"), timeout_s=5)
        assert not any(flows.statistics().values())
        nursery.cancel_scope.cancel()


async def test_who_gives_up_on_an_operation_abandons_it() -> None:
    heard: list[object] = []

    class Listens:
        def step(self, now: float, event: object) -> list[object]:
            heard.append(event)
            return []

        def deadline(self) -> float | None:
            return None

    host = Host({"org": Listens()}, stores={}, handlers={}, ports={}, sign=never_signs)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        with trio.move_on_after(0.01):
            await host.perform(Propose("never answered"), timeout_s=5)
        assert [type(event) for event in heard] == [Perform, Abandon]
        host.core.deliver(0, "org", "late")  # an answer that comes now finds nobody
        nursery.cancel_scope.cancel()


async def test_what_waits_for_the_end_of_a_turn_is_done_once_everything_was_stepped() -> None:
    did: list[str] = []

    class Steps:
        def step(self, now: float, event: object) -> list[object]:
            return [str(event)]

        def deadline(self) -> float | None:
            return None

    def carry_out(effect: str) -> None:
        did.append(effect)
        host.at_turn_end(lambda: did.append(f"end of {effect}"))

    host = Host({"org": Steps()}, stores={}, handlers={str: carry_out}, ports={}, sign=never_signs)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.deliver_all([("org", "1"), ("org", "2")])
        assert did[:2] == ["1", "2"] and sorted(did[2:]) == ["end of 1", "end of 2"]
        host.at_turn_end(lambda: did.append("no turn: now"))
        assert did[-1] == "no turn: now"
        nursery.cancel_scope.cancel()


async def _drained(host: Host) -> bool:
    with trio.fail_after(10):
        while host.statistics()["operations"]:
            await trio.lowlevel.checkpoint()
    return True


async def test_a_machine_that_breaks_ends_the_node_and_not_whoever_brought_the_event() -> None:
    class Breaks:
        def step(self, now: float, event: object) -> list[object]:
            raise Refused("any-name", "a MeshError too, which a link or the API would take for its own")

        def deadline(self) -> float | None:
            return None

    host = Host({"flows": Flows({}, limit=1), "org": Breaks()}, stores={}, handlers={}, ports={}, sign=never_signs)
    with pytest.RaisesGroup(pytest.RaisesExc(Refused), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            host.deliver("org", "an event")
            host.deliver("org", "another: the core is not entered again")


async def test_compute_runs_in_a_thread_of_its_own() -> None:
    async def work() -> object:
        return await Compute(trio.lowlevel.in_trio_run)

    host = host_of(work)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        assert await host.flow("work", None, timeout_s=5) is False
        nursery.cancel_scope.cancel()
