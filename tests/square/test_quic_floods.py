"""What a stranger can make the square's QUIC do without paying: little, and never to anybody else."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from aioquic._buffer import Buffer
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch
from libp2p.crypto.ed25519 import create_new_key_pair

from meshos.node.runtime.quic.limits import CRYPTO_BYTES, DATAGRAM_BYTES, DATAGRAMS, FRAMES, HOLES
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.quic_core import Core, configuration
from meshos.node.runtime.square.square import Square
from meshos.protocols.square import wire
from tests.links.quic_stranger import ByHand, crypto
from tests.square.hosts import ECHO, empty, ended, endpoint, host, only_quic, opened, port, still_serves, stranger

ASK = wire.encode_request({"n": 1})
PING = b"\x01"


def by_hand(of: Square) -> ByHand:
    return ByHand(Core(configuration(create_new_key_pair(), client=True)), port(of))


async def known(of: Square) -> ByHand:
    """One that has proven its key, and was let in."""
    somebody = by_hand(of)
    await somebody.until(lambda: somebody.quic._handshake_confirmed)
    await until(lambda: any(one.peer for one in host(of).table.connections))
    return somebody


async def validated(of: Square) -> ByHand:
    """One whose address has answered, and that has said nothing else."""
    somebody = by_hand(of)
    await somebody.send()
    assert await somebody.receive(5), "a Retry"
    return somebody


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.01)


async def test_an_id_that_a_peer_retires_is_forgotten(nursery: trio.Nursery) -> None:
    """Each one retired brings a new one (RFC 9000, section 5.1.1)."""
    of = await opened(nursery)
    somebody = await known(of)
    muxed = only_quic(of)
    for first in range(1, limits.IDS_RETIRED, 16):
        await somebody.raw(retires(first, 16))
    await until(lambda: muxed.core._host_cid_seq > limits.IDS_RETIRED)
    assert len(endpoint(of).connections) <= 10
    assert {cid.cid for cid in muxed.core._host_cids if cid.was_sent} <= set(endpoint(of).connections._by_id)
    await somebody.raw(PING)
    await until(lambda: muxed.core._spaces[Epoch.ONE_RTT].largest_received_packet == somebody.quic._packet_number - 1)


def retires(first: int, count: int) -> bytes:
    frames = Buffer(capacity=2_000)
    for number in range(first, first + count):
        frames.push_uint_var(0x19)
        frames.push_uint_var(number)
    return bytes(frames.data)


async def test_who_goes_on_retiring_ids_is_cut_off(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    somebody = await known(of)
    await somebody.raw(retires(1, limits.IDS_RETIRED + 1))
    await ended(of, "square-flood")
    await empty(of)
    assert len(endpoint(of).connections) == 0
    await still_serves(of, quic=True)


def holes(first: int, count: int) -> bytes:
    """STREAM frames of one byte each at every other offset: none of them touches another."""
    frames = Buffer(capacity=2_000)
    for at in range(first, first + count):
        for number in (0x0E, 0, 2 * at + 1, 1):
            frames.push_uint_var(number)
        frames.push_bytes(b"x")
    return bytes(frames.data)


async def test_who_leaves_more_holes_in_a_stream_than_losses_do_is_cut_off(nursery: trio.Nursery) -> None:
    """aioquic looks through all of them for each frame."""
    of = await opened(nursery)
    somebody = await known(of)
    core = only_quic(of).core

    def ranges() -> int:
        return len(core._streams[0].receiver._ranges) if 0 in core._streams else 0

    for first in range(0, HOLES, 100):
        await somebody.raw(holes(first, 100))
        await until(lambda first=first: core.exceeded or ranges() == first + 100)  # type: ignore[misc]
    assert not core.exceeded
    await somebody.raw(holes(HOLES, 100))
    await ended(of, "square-flood")
    assert ranges() == HOLES + 1
    await still_serves(of, quic=True)


async def test_frames_that_are_many_are_paid_for(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PACKETS_A_SECOND", 1e-6)
    monkeypatch.setattr(limits, "PACKETS_SAVED", 200)
    of = await opened(nursery)
    somebody = await known(of)
    muxed = only_quic(of)
    began = somebody.quic._packet_number
    for _ in range(30):  # some 30 packets' worth each
        await somebody.raw(PING * 240)
    await still_serves(of, quic=True)
    assert began <= muxed.core._spaces[Epoch.ONE_RTT].largest_received_packet < began + 200 * limits.FRAMES_A_PACKET / 240 + 1


async def test_a_connection_that_is_over_leaves_no_id_behind(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=True) as asking:
        await asking.ask(ECHO, ASK)
        assert len(endpoint(of).connections) > 1
    await empty(of)
    assert len(endpoint(of).connections) == 0 and not endpoint(of).connections._of


@pytest.mark.parametrize("epoch", [Epoch.INITIAL, Epoch.ONE_RTT])
async def test_a_handshake_beyond_any_size_is_refused_before_it_is_buffered(epoch: Epoch, nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    somebody = await (validated(of) if epoch is Epoch.INITIAL else known(of))
    kind = b"\x01" if epoch is Epoch.INITIAL else b"\x0b"
    message = kind + (1 << 20).to_bytes(3, "big") + bytes(2 * CRYPTO_BYTES)  # a hello, or a certificate, of 1 MiB
    for at in range(0, len(message), 1_000):
        await somebody.raw(crypto(at, message[at : at + 1_000]), epoch)
        await trio.sleep(0)
    await somebody.until(lambda: somebody.quic._close_event)
    assert somebody.quic._close_event is not None
    assert somebody.quic._close_event.error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
    await empty(of)
    await still_serves(of, quic=True)


async def test_what_cannot_be_taken_ends_its_connection_and_no_other(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    taken = Core.receive_datagram
    async with stranger(of, quic=True) as honest:
        await honest.ask(ECHO, ASK)
        somebody = await known(of)
        poisoned = somebody.socket.getsockname()[1]

        def poison(self: Core, data: bytes, addr: Any, now: float) -> None:
            if addr[1] == poisoned:
                raise RuntimeError("a bug")
            taken(self, data, addr, now)

        monkeypatch.setattr(Core, "receive_datagram", poison)
        await somebody.raw(PING)
        await ended(of, "square-bad-handshake")
        assert await honest.ask(ECHO, ASK), "another connection goes on"
        assert of.statistics()["restarts"] == 0


async def test_who_does_not_want_the_answer_costs_no_line_in_the_log(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    """aioquic raises RuntimeError where a stream is written to that the peer has stopped (RFC 9000, section 3.5)."""
    of = await opened(nursery)
    async with stranger(of, quic=True) as asking:
        stream = await asking.open(ECHO)
        muxed: Any = stream._muxed
        await stream.write(wire.frame(ASK))
        muxed._conn.core.stop_stream(muxed.number, 0)
        await muxed.close()
        assert await asking.ask(ECHO, ASK)
        await until(lambda: host(of).statistics()["streams"] == 1)
    await empty(of)
    assert not host(of).table.ended["internal"] and not [one for one in caplog.records if one.name == "meshos.square"]


async def test_a_flood_of_garbage_silences_nobody(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALL_PACKETS_A_SECOND", 400)
    monkeypatch.setattr(limits, "ALL_PACKETS_SAVED", 800)
    of = await opened(nursery)
    async with stranger(of, quic=True) as asking:
        await asking.ask(ECHO, ASK)
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as noisy:
            for number in range(1_500):  # as five packets each they would be a debt of 16 s
                await noisy.sendto(b"\xc0\x00\x00\x00\x01\x08" + bytes(1_194), ("127.0.0.1", port(of)))
                if number % 32 == 0:
                    await trio.sleep(0)
        with trio.fail_after(3):
            assert await asking.ask(ECHO, ASK), "who is here is heard"
            await still_serves(of, quic=True)


async def test_garbage_takes_nothing_from_who_is_known(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALL_PACKETS_A_SECOND", 1e-6)
    monkeypatch.setattr(limits, "ALL_PACKETS_SAVED", 400)
    of = await opened(nursery)
    async with stranger(of, quic=True) as asking:
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as noisy:
            for _ in range(400):
                await noisy.sendto(b"\xc0\x00\x00\x00\x01\x08" + bytes(1_194), ("127.0.0.1", port(of)))
                await trio.sleep(0)
        await until(lambda: not endpoint(of).unknown.take(trio.current_time()))
        with trio.fail_after(3):
            assert await asking.ask(ECHO, ASK)


async def test_who_floods_on_a_connection_of_its_own_takes_nothing_from_the_others(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("PACKETS", 100), ("ADDRESS_PACKETS", 1_000), ("ALL_PACKETS", 400)):
        monkeypatch.setattr(limits, f"{name}_A_SECOND", 1e-6)
        monkeypatch.setattr(limits, f"{name}_SAVED", most)
    of = await opened(nursery)
    noisy = await known(of)
    muxed = only_quic(of)
    for _ in range(600):
        await noisy.raw(PING)
        await trio.sleep(0)
    await until(lambda: not muxed.meters[0].take(trio.current_time(), 2))
    with trio.fail_after(5):
        await still_serves(of, quic=True)


async def test_an_address_has_a_part_of_the_packets_however_many_connections_it_has(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("PACKETS", 200), ("ADDRESS_PACKETS", 300), ("ALL_PACKETS", 700)):
        monkeypatch.setattr(limits, f"{name}_A_SECOND", 1e-6)
        monkeypatch.setattr(limits, f"{name}_SAVED", most)
    of = await opened(nursery)
    several = [by_hand(of) for _ in range(4)]
    for somebody in several:
        await somebody.socket.bind(("127.0.0.2", 0))
        await somebody.until(lambda somebody=somebody: somebody.quic._handshake_confirmed)
    for _ in range(200):
        for somebody in several:
            await somebody.raw(PING)
            await trio.sleep(0)
    muxed = next(iter(endpoint(of).connections._by_id.values()))
    await until(lambda: not muxed.meters[1].take(trio.current_time(), 2))
    with trio.fail_after(5):
        await still_serves(of, quic=True)


async def test_a_packet_full_of_frames_is_not_a_handshake(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    somebody = await validated(of)
    await somebody.raw(crypto(0, b"\x01") + PING * 2 * FRAMES, Epoch.INITIAL, DATAGRAM_BYTES)
    await ended(of, "square-flood")
    await empty(of)
    await still_serves(of, quic=True)


async def test_a_handshake_of_too_many_datagrams_is_cut_off(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    somebody = await validated(of)
    await somebody.raw(crypto(0, b"\x01"), Epoch.INITIAL)
    for _ in range(DATAGRAMS):
        await somebody.raw(PING, Epoch.INITIAL)
        await trio.sleep(0)
    await ended(of, "square-flood")
    await empty(of)
    await still_serves(of, quic=True)


async def test_a_packet_full_of_frames_ends_the_connection_of_who_is_known_too(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    somebody = await known(of)
    await somebody.raw(PING * (limits.FRAMES_A_DATAGRAM + 1))
    await ended(of, "square-flood")
    await empty(of)
    await still_serves(of, quic=True)


async def test_a_datagram_larger_than_any_path_is_not_looked_at(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    somebody = await known(of)
    muxed = only_quic(of)
    number = muxed.core._spaces[Epoch.ONE_RTT].largest_received_packet
    await somebody.raw(PING + bytes(DATAGRAM_BYTES), largest=2 * DATAGRAM_BYTES)
    await somebody.raw(PING)
    await until(lambda: muxed.core._spaces[Epoch.ONE_RTT].largest_received_packet > number)
    assert muxed.core._spaces[Epoch.ONE_RTT].largest_received_packet == somebody.quic._packet_number - 1
    queue = list(muxed.core._spaces[Epoch.ONE_RTT].ack_queue)
    assert not any(somebody.quic._packet_number - 2 in one for one in queue), "as if it was lost"
