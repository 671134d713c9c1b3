"""The same Flows and the same persisting machine on trio: real time, a real LevelDB, real worker threads.

The nodes are in one process and hand each other their messages; real links are in tests/links, whole processes in tests/mesh.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from meshos.effects import Sign
from meshos.errors import MeshError
from meshos.ids import NodeId, Peer
from meshos.node.runtime.host import Host
from meshos.protocols.rpc.events import LinkUp, MessageReceived, OpenLink, SendMessage
from meshos.storage.level import LevelStore
from meshos.storage.overlay import Overlay
from tests.shape.parts import ORG, Services, machines, quiet, stored

IDS = [NodeId("a"), NodeId("b"), NodeId("c")]


class Bench:
    def __init__(self) -> None:
        self.hosts: dict[NodeId, Host] = {}
        self.services = {node: Services() for node in IDS}
        self.stores: dict[NodeId, LevelStore] = {}

    async def start(self, node: NodeId, folder: Path, nursery: trio.Nursery) -> None:
        level = self.stores[node] = LevelStore(folder / node)
        store = level.prefixed("org")
        overlay = Overlay(store)

        def send(effect: SendMessage) -> None:
            self.hosts[effect.to].deliver("rpc", MessageReceived(Peer(node, ORG), effect.message, effect.lane))

        def open_link(effect: OpenLink) -> None:
            self.hosts[effect.to].deliver("rpc", LinkUp(Peer(node, ORG)))
            self.hosts[node].deliver("rpc", LinkUp(Peer(effect.to, ORG)))

        async def sign(asked: Sign) -> bytes:
            raise AssertionError("nothing here is signed")

        self.hosts[node] = Host(
            machines(node, overlay, random.Random(node), self.services[node]),
            stores={"org": (store, overlay)},
            handlers={SendMessage: send, OpenLink: open_link},
            ports={},
            sign=sign,
        )
        await nursery.start(self.hosts[node].run)

    def quiet(self) -> bool:
        return all(quiet([host.core.machine("flows")]) for host in self.hosts.values())


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Bench]:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        for node in IDS:
            await bench.start(node, folder, nursery)
        try:
            yield bench
        finally:
            nursery.cancel_scope.cancel()
    for store in bench.stores.values():
        store.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what must come; the test's own time limit ends it if it does not."""
    with trio.fail_after(30):
        while not holds():
            await trio.sleep(0.005)


async def test_a_fan_out_reaches_all_and_each_has_it_on_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        for round_ in range(1, 21):
            assert await bench.hosts[IDS[0]].flow("fan_out", tuple(IDS), timeout_s=10) == [b"%d" % round_] * 3
        assert bench.quiet()
    for node in IDS:
        reopened = LevelStore(tmp_path / node)
        assert stored(reopened.prefixed("org")) == [b"x"] * 20
        reopened.close()


async def test_many_at_once_share_syncs_and_all_are_answered(tmp_path: Path) -> None:
    places: list[bytes] = []

    async with running(tmp_path) as bench, trio.open_nursery() as nursery:

        async def one() -> None:
            places.extend(await bench.hosts[IDS[0]].flow("fan_out", (IDS[1],), timeout_s=30))

        for _ in range(50):
            nursery.start_soon(one)
        await until(lambda: len(places) == 50)
    assert sorted(int(place) for place in places) == list(range(1, 51))


async def test_a_hedge_takes_the_faster_and_cancels_the_other(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        assert await bench.hosts[IDS[0]].flow("hedge", (IDS[1], IDS[2]), timeout_s=10) == b"1"
        await until(lambda: bench.services[IDS[1]].cancelled == 1)
        assert bench.quiet()


async def test_a_deadline_ends_the_work_on_the_other_node_too(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        with pytest.raises(MeshError) as caught:
            await bench.hosts[IDS[0]].flow("wait_for", IDS[1], timeout_s=0.2)
        assert caught.value.name in ("deadline-exceeded", "timeout")
        await until(lambda: bench.services[IDS[1]].cancelled == 1 and bench.quiet())


async def test_cancelling_the_task_that_waits_reaches_the_other_node(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        with trio.move_on_after(0.2):
            await bench.hosts[IDS[0]].flow("wait_for", IDS[1], timeout_s=60)
        await until(lambda: bench.services[IDS[1]].cancelled == 1 and bench.quiet())
