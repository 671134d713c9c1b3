"""Answers that strangers ask for and do not take: so many bytes are kept for them, and no more."""

from contextlib import ExitStack

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair

from meshos.errors import Refused
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.quic_core import Core, configuration
from meshos.node.runtime.square.table import Connection, Table
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Asker, Protocol
from tests.links.quic_stranger import ByHand
from tests.square.hosts import ECHO, echo, empty, ended, host, only_quic, opened, port, square, still_serves, stranger
from tests.square.mesh import MESH_KNOWN, answering

ASK = wire.encode_request({"n": 1})


async def test_answers_that_nobody_takes_are_so_many_bytes_and_no_more(
    nursery: trio.Nursery, quic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def large(fields: wire.Fields, asker: Asker) -> object:
        return bytes(500 * limits.KIB)

    monkeypatch.setattr(limits, "UNTAKEN_AN_ADDRESS_BYTES", 1_100 * limits.KIB)
    of = await opened(nursery, square(answers=answering(MESH_KNOWN, [Protocol(ECHO, 1, echo), Protocol("/test/large/1", 1, large)])))
    async with stranger(of, quic=quic) as first, stranger(of, quic=quic) as second, stranger(of, quic=quic) as third:
        for asking in (first, second, third):
            stream = await asking.open("/test/large/1")
            if not quic:  # py-libp2p's Yamux opens its window as data comes, read or not: have it read nothing more
                asking._muxed.secured_conn.read = _never  # type: ignore[union-attr]
            await stream.write(wire.frame(ASK))
        await ended(of, "busy")
        assert 1_000 * limits.KIB < host(of).statistics()["untaken_bytes"] < 1_100 * limits.KIB
        await still_serves(of, quic=quic)
    await empty(of)
    assert host(of).statistics()["untaken_bytes"] == 0


async def _never(n: int | None = None) -> bytes:
    await trio.sleep_forever()
    return b""


def test_what_waits_is_bounded_for_an_address_and_for_all() -> None:
    table, held = Table(), ExitStack()
    rows = [Connection(f"192.0.2.{number}", "tcp", 0.0, 0.0) for number in range(5)]
    with held:
        for one in rows[:4]:
            held.enter_context(table.writing(one, limits.UNTAKEN_AN_ADDRESS_BYTES))
        for one in (rows[0], rows[4]):
            with pytest.raises(Refused) as caught, table.writing(one, 1):
                raise AssertionError("there was room")
            assert caught.value.name == "busy"
    with table.writing(rows[0], 1):
        assert table.statistics()["untaken_bytes"] == 1


async def test_who_acknowledges_nothing_has_so_much_kept_for_it_and_no_more(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that fit a stream's buffer, on streams that this side has ended: aioquic keeps them until they are acknowledged."""
    monkeypatch.setattr(limits, "WRITE_S", 0.5)
    monkeypatch.setattr(limits, "LINGER_S", 0.1)
    of = await opened(nursery, square(answers=answering(MESH_KNOWN, [Protocol(ECHO, 1, echo), Protocol("/test/large/1", 1, large)])))
    narrow = configuration(create_new_key_pair(), client=True)
    narrow.max_data = narrow.max_stream_data = 2_000
    somebody = ByHand(Core(narrow), port(of))
    somebody.quic._write_connection_limits = lambda **_: None  # type: ignore[method-assign]  # its window never opens
    await somebody.until(lambda: somebody.quic._handshake_confirmed)
    muxed = only_quic(of)
    most = 0
    for _ in range(12):
        number = somebody.quic.get_next_available_stream_id()
        said = b"".join(wire.frame(line) for line in (b"/multistream/1.0.0\n", b"/test/large/1\n", ASK))
        somebody.quic.send_stream_data(number, said, end_stream=True)
        for _ in range(5):
            await somebody.send()
            await somebody.receive(0.02)
            most = max(most, muxed.core.unsent_in_all)
    assert 2 * LARGE < most <= limits.ALL_UNACKNOWLEDGED_BYTES + 2 * limits.READ_BYTES
    await still_serves(of, quic=True)


LARGE = 100_000


async def large(fields: wire.Fields, asker: Asker) -> object:
    return bytes(LARGE)


async def test_what_a_peer_has_stopped_is_kept_no_longer(nursery: trio.Nursery) -> None:
    of = await opened(nursery, square(answers=answering(MESH_KNOWN, [Protocol(ECHO, 1, echo), Protocol("/test/large/1", 1, large)])))
    narrow = configuration(create_new_key_pair(), client=True)
    narrow.max_stream_data = 2_000
    somebody = ByHand(Core(narrow), port(of))
    await somebody.until(lambda: somebody.quic._handshake_confirmed)
    muxed = only_quic(of)
    number = somebody.quic.get_next_available_stream_id()
    somebody.quic.send_stream_data(number, b"".join(wire.frame(line) for line in (b"/multistream/1.0.0\n", b"/test/large/1\n", ASK)))
    await somebody.until(lambda: muxed.core.unsent_in_all > LARGE // 2)
    somebody.quic.stop_stream(number, 0)
    await somebody.until(lambda: not muxed.core.unsent_in_all)
