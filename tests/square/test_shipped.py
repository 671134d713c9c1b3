"""Abuse against the rates and limits that are shipped. What the node's one thread has to do for it is counted: in all it is what decision
0027 promises, and at no time does it keep the other tasks from their turn.
"""

import struct
from collections import Counter
from typing import Any

import pytest
import trio
from aioquic.tls import Epoch
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING, TYPE_WINDOW_UPDATE, YAMUX_HEADER_FORMAT

from meshos.errors import MeshError
from meshos.node.runtime.quic.limits import FRAMES
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.quic_core import Core, configuration
from meshos.node.runtime.square.quic_endpoint import BATCH, Endpoint
from meshos.node.runtime.square.quic_muxed import QuicMuxed
from meshos.node.runtime.square.square import Square
from meshos.node.runtime.square.upgrade import MeteredSession
from meshos.protocols.square import describe
from meshos.protocols.square.limits import PEER_TOKENS_A_SECOND, PEER_TOKENS_SAVED, TOKENS_A_SECOND, TOKENS_SAVED
from tests.links.quic_stranger import ByHand, crypto
from tests.square.hosts import empty, host, opened, port, square, stranger

QUIET_S = 0.5
"""After so long without any more work for it, all of an abuse was dealt with, or dropped."""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What the square does for strangers, as it does it."""
    did: Counter[str] = Counter()
    read, receive, initial = MeteredSession.read, QuicMuxed.receive, Endpoint._initial

    async def count_read(self: MeteredSession, n: int | None = None) -> bytes:
        data = await read(self, n)
        did["yamux"] += 1
        return data

    def count_receive(self: QuicMuxed, data: bytes, address: Any, now: float) -> None:
        receive(self, data, address, now)
        if not self.core.configuration.is_client:
            did["datagrams"] += 1
            did["frames"] += self.core.frames_of_last

    def count_initial(self: Endpoint, *given: Any) -> None:
        did["begun"] += 1
        initial(self, *given)

    monkeypatch.setattr(MeteredSession, "read", count_read)
    monkeypatch.setattr(QuicMuxed, "receive", count_receive)
    monkeypatch.setattr(Endpoint, "_initial", count_initial)
    return did


class Watch:
    """Another task of the node. ``most``: how much of each kind was done between two of its turns."""

    def __init__(self, work: Counter[str]) -> None:
        self.work, self.most = work, Counter[str]()

    async def run(self) -> None:
        """Take every turn that there is."""
        while True:
            before = Counter(self.work)
            await trio.lowlevel.checkpoint()
            for kind, done in self.work.items():
                self.most[kind] = max(self.most[kind], done - before[kind])


async def settled(work: Counter[str]) -> None:
    """Wait until no more is done, or as much as may be every second."""
    with trio.move_on_after(2.5):
        while True:
            before = work.total()
            await trio.sleep(QUIET_S)
            if work.total() == before:
                return


def by_hand(of: Square) -> ByHand:
    return ByHand(Core(configuration(create_new_key_pair(), client=True)), port(of))


async def watched(nursery: trio.Nursery, work: Counter[str]) -> tuple[Square, Watch]:
    """A square with what is shipped, that somebody has visited; nothing that this took is in ``work``."""
    of = await opened(nursery, square(rates=None))
    for quic in (False, True):
        async with stranger(of, quic=quic) as visitor:
            await visitor.ask(describe.NAME, describe.request())
    await empty(of)
    work.clear()
    watch = Watch(work)
    nursery.start_soon(watch.run)
    return of, watch


@pytest.mark.parametrize("kind", [TYPE_PING, TYPE_WINDOW_UPDATE])
async def test_messages_full_of_headers_of_yamux(kind: int, nursery: trio.Nursery, work: Counter[str]) -> None:
    of, watch = await watched(nursery, work)
    async with stranger(of) as first, stranger(of) as second:
        began = trio.current_time()
        for asking in (first, second):
            muxed: Any = asking._muxed
            await muxed.secured_conn.write(struct.pack(YAMUX_HEADER_FORMAT, 0, kind, FLAG_SYN if kind == TYPE_PING else 0, 0, 7) * 5_459)
        await settled(work)
        took, done = trio.current_time() - began, work["yamux"]
    assert done <= 2 * (limits.FRAMES_SAVED + took * limits.FRAMES_A_SECOND + 10)
    assert done > limits.FRAMES_SAVED, "it was let through so far"
    assert watch.most["yamux"] <= 4, "one of each connection in a turn, and the turns of two tasks may meet"


async def test_packets_full_of_frames_of_who_is_known(nursery: trio.Nursery, work: Counter[str]) -> None:
    of, watch = await watched(nursery, work)
    somebody = by_hand(of)
    await somebody.until(lambda: somebody.quic._handshake_confirmed)
    work.clear()
    began = trio.current_time()
    for _ in range(20):
        for data in (data for _ in range(BATCH) for data in somebody.packet(b"\x01" * 250)):
            somebody.socket._sock.sendto(data, somebody.server)  # with no turn of the square's in between
        await trio.sleep(0.01)
    await settled(work)
    took = trio.current_time() - began
    assert work["datagrams"] + work["frames"] // limits.FRAMES_A_PACKET <= limits.PACKETS_SAVED + took * limits.PACKETS_A_SECOND + BATCH
    assert watch.most["frames"] <= 2 * (limits.FRAMES_A_TURN + limits.FRAMES_A_DATAGRAM)
    assert watch.most["datagrams"] <= 2 * BATCH


async def test_beginnings_full_of_frames_of_who_says_nothing_else(nursery: trio.Nursery, work: Counter[str]) -> None:
    of, watch = await watched(nursery, work)
    for _ in range(20):
        somebody = by_hand(of)
        await somebody.send()
        with trio.move_on_after(0.2):
            await somebody.receive(0.2)
        for _ in range(4):
            await somebody.raw(crypto(0, b"\x01") + b"\x01\x00" * 500, Epoch.INITIAL)
    await settled(work)
    assert host(of).table.ended["square-flood"], "those that were let in are cut off"
    assert watch.most["frames"] <= 2 * (limits.FRAMES_A_TURN + FRAMES + 1)
    assert work["frames"] <= (FRAMES + 1) * host(of).table.came


async def test_first_datagrams_from_anywhere(nursery: trio.Nursery, work: Counter[str]) -> None:
    of, watch = await watched(nursery, work)
    core = Core(configuration(create_new_key_pair(), client=True))
    core.connect(("127.0.0.1", port(of)), trio.current_time())
    ((first, _), *_) = core.datagrams_to_send(trio.current_time())
    began = trio.current_time()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as noisy:
        for number in range(4_000):
            await noisy.sendto(first, ("127.0.0.1", port(of)))
            if number % 32 == 0:
                await trio.sleep(0)
        await settled(work)
    took = trio.current_time() - began
    each = 1 + len(first) // 256
    assert work["begun"] * each <= limits.ALL_PACKETS_SAVED + took * limits.ALL_PACKETS_A_SECOND + each
    assert watch.most["begun"] <= 2 * BATCH and not work["frames"] and host(of).table.came == 2


async def test_questions_without_a_pause(nursery: trio.Nursery, work: Counter[str]) -> None:
    of, _ = await watched(nursery, work)
    answering = of._answering
    before = answering.answered[describe.NAME]
    refused = 0
    async with stranger(of) as asking:
        began = trio.current_time()
        for _ in range(400):
            try:
                await asking.ask(describe.NAME, describe.request())
            except MeshError as error:
                assert error.name == "square-rate"
                refused += 1
        took = trio.current_time() - began
    answered = answering.answered[describe.NAME] - before
    assert answered + refused == 400 and refused
    assert answered * describe.COST <= PEER_TOKENS_SAVED + took * PEER_TOKENS_A_SECOND
    assert PEER_TOKENS_SAVED < TOKENS_SAVED and PEER_TOKENS_A_SECOND < TOKENS_A_SECOND
