"""What strangers do to a square: each thing is refused by name, ends with them, and costs the others nothing."""

import struct
from functools import partial
from typing import Any

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING, TYPE_WINDOW_UPDATE, YAMUX_HEADER_FORMAT, Yamux

from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.square import Square
from meshos.node.runtime.square.streams import Stream
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Asker
from meshos.protocols.square.budget import Rate, Rates
from meshos.protocols.square.limits import REQUEST_BYTES
from tests.square.hosts import ECHO, empty, ended, host, opened, port, square, still_serves, stranger
from tests.square.mesh import ME

ASK = wire.encode_request({"n": 1})


async def raw(of: Square) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port(of))


async def until_closed(stream: trio.SocketStream) -> None:
    with trio.fail_after(5):
        await until_closed_or_cancelled(stream)


async def test_who_says_nothing_is_not_waited_for(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    await still_serves(of)
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.2)
    async with await raw(of) as silent:
        await until_closed(silent)
    await ended(of, "square-slow-handshake")
    await empty(of)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n" + b"x" * 90, b"\xff" * 100, b"\x80\x00", b"\x01\x00", b"\x03ab\xff\n", b"\x05a\nbcd"]
)
async def test_who_speaks_another_protocol_is_hung_up_on(said: bytes, nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with await raw(of) as other:
        await other.send_all(said)
        await until_closed(other)
    await empty(of)
    assert host(of).table.ended.total() == 1
    await still_serves(of)


async def test_noise_that_is_none_ends_the_connection(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with await raw(of) as other:
        await other.send_all(
            wire.frame(b"/multistream/1.0.0\n") + wire.frame(b"/noise\n") + b"\x00\x20" + bytes(32) + b"\x00\x40" + bytes(64)
        )
        await until_closed(other)
    await ended(of, "square-bad-handshake")
    await still_serves(of)


async def test_a_frame_that_comes_slowly_ends_its_stream(nursery: trio.Nursery, quic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as asking:
        monkeypatch.setattr(limits, "REQUEST_S", 0.2)
        stream = await asking.open(ECHO)
        await stream.write(b"\x40")
        answer = await stream.frame(4096, idle_s=5, whole_s=5)
        assert answer is not None
        with pytest.raises(Refused) as caught:
            wire.decode_answer(answer)
        assert caught.value.name == "square-slow-frame"
        await ended(of, "square-slow-frame")
        monkeypatch.undo()
        assert await asking.ask(ECHO, ASK), "the connection goes on"


@pytest.mark.parametrize(
    ("sent", "name"), [(b"\xff\xff\xff\x7f", "square-too-large"), (b"\x81\xa0\x00", "square-bad-frame"), (b"\xff" * 8, "square-bad-frame")]
)
async def test_a_frame_too_large_or_without_an_end_is_refused_before_it_comes(
    sent: bytes, name: str, nursery: trio.Nursery, quic: bool
) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as asking:
        stream = await asking.open(ECHO)
        await stream.write(sent)
        answer = await stream.frame(4096, idle_s=5, whole_s=5)
        assert answer is not None
        with pytest.raises(Refused) as caught:
            wire.decode_answer(answer)
        assert caught.value.name == name
        await ended(of, name)
    await empty(of)


async def test_a_request_that_cannot_be_read_is_refused_and_the_next_is_answered(nursery: trio.Nursery, quic: bool) -> None:
    async with stranger(await opened(nursery), quic=quic) as asking:
        for request, name in ((b"\xff\xff", "bad-encoding"), (b"\x80", "square-bad-request"), (bytes(REQUEST_BYTES), "bad-encoding")):
            with pytest.raises(Refused) as caught:
                await asking.ask(ECHO, request)
            assert caught.value.name == name


async def test_who_sends_without_reading_is_cut_off_before_it_costs_memory(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    with pytest.raises(MeshError):
        async with stranger(of) as asking:
            stream = await asking.open(ECHO)
            muxed: Any = stream._muxed
            muxed.send_window = 1 << 30  # a peer that ignores the window it was given
            await stream.write(wire.frame(ASK) * 200_000)
            await asking.ask(ECHO, ASK)
    await ended(of, "square-flood")
    await empty(of)
    await still_serves(of)


async def test_a_connection_has_so_many_streams_and_no_more(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await opened(nursery)
    async with stranger(of) as asking:
        for _ in range(limits.STREAMS):
            await asking.open(ECHO)
        with pytest.raises(Unreachable):
            await asking.open(ECHO)
        assert host(of).table.ended["square-too-many"] == 1
    await empty(of)


async def test_who_goes_on_opening_streams_is_cut_off(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    async with stranger(of) as asking:
        muxed: Any = asking._muxed
        for number in range(limits.STREAMS + limits.STREAMS_REFUSED + 1):
            await muxed._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_WINDOW_UPDATE, FLAG_SYN, 1_001 + 2 * number, 0))
        await empty(of)
        assert host(of).table.ended["square-too-many"] > limits.STREAMS_REFUSED
    await still_serves(of)


async def test_a_message_full_of_pings_is_answered_no_faster_than_any_other(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message of Noise holds 5,459 headers of Yamux, and is read in four pieces."""
    answered = 0
    written = Yamux._write_frame

    async def count(self: Yamux, data: bytes) -> None:
        nonlocal answered
        answered += not self.is_initiator_value and data[1] == TYPE_PING
        await written(self, data)

    monkeypatch.setattr(Yamux, "_write_frame", count)
    of = await opened(nursery)
    async with stranger(of) as asking:
        assert await asking.ask(ECHO, ASK)
        muxed: Any = asking._muxed
        ping = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, 7)
        began = trio.current_time()
        await muxed.secured_conn.write(ping * 5_459)
        while answered <= limits.FRAMES_SAVED:
            await trio.sleep(0.05)
        await still_serves(of)
        took = trio.current_time() - began
        assert answered <= limits.FRAMES_SAVED + took * limits.FRAMES_A_SECOND + 10


async def test_streams_that_have_ended_make_room_for_others(nursery: trio.Nursery, quic: bool) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as client:
        for _ in range(3 * limits.STREAMS):
            stream = await client.open(ECHO)
            await stream.write(wire.frame(ASK))
            assert await stream.frame(4096, idle_s=5, whole_s=5) is not None
            await stream.close()
        (connection,) = host(of).table.connections
        assert connection.streams <= 1
    await empty(of)


async def test_a_peer_has_so_many_connections_and_no_more(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    seed = b"s" * 32
    async with trio.open_nursery() as open_ones:
        for _ in range(limits.CONNECTIONS_A_PEER):
            await open_ones.start(partial(stays, of, seed))
        with pytest.raises(MeshError):
            async with stranger(of, seed) as one_more:
                await one_more.ask(ECHO, ASK)
        await ended(of, "square-too-many")
        await still_serves(of)
        open_ones.cancel_scope.cancel()
    await empty(of)


async def stays(of: Square, seed: bytes | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with stranger(of, seed) as asking:
        await asking.ask(ECHO, ASK)
        task_status.started()
        await trio.sleep_forever()


async def test_an_address_has_so_many_connections_and_no_more(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_AN_ADDRESS", 2)
    of = await opened(nursery)
    async with trio.open_nursery() as open_ones:
        for _ in range(2):
            await open_ones.start(partial(stays, of, None))
        with pytest.raises(MeshError):
            async with stranger(of):
                raise AssertionError("it was let in")
        await ended(of, "square-too-many")
        open_ones.cancel_scope.cancel()
    await empty(of)


async def test_a_full_square_gives_the_place_of_the_one_that_was_quiet_longest(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    of = await opened(nursery)
    async with stranger(of), stranger(of):
        with pytest.raises(MeshError):
            async with stranger(of):
                raise AssertionError("it was let in, and nobody was quiet for long")
        await ended(of, "busy")
        monkeypatch.setattr(limits, "EVICTABLE_S", 0.0)
        await still_serves(of)
        assert host(of).table.ended["square-idle"] == 1


async def test_who_is_quiet_is_reaped_and_who_asks_is_not(nursery: trio.Nursery, quic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REAP_S", 0.05)
    of = await opened(nursery)
    async with stranger(of, quic=quic) as quiet:
        asking = await quiet.open(ECHO)
        await asking.close()
        monkeypatch.setattr(limits, "IDLE_S", 0.2)
        await ended(of, "square-idle")
    await empty(of)


async def test_addresses_that_say_nothing_keep_nobody_out(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    await still_serves(of)
    async with trio.open_nursery() as quiet:
        for place in range(2, 2 + limits.HANDSHAKES // limits.HANDSHAKES_AN_ADDRESS):
            for _ in range(2 * limits.HANDSHAKES_AN_ADDRESS):
                quiet.start_soon(says_nothing, of, f"127.0.0.{place}")
        await ended(of, "square-too-many", limits.HANDSHAKES)
        begun = [one for one in host(of).table.connections if not one.peer]
        assert len(begun) == limits.HANDSHAKES, "all places are taken"
        await still_serves(of)
        assert host(of).table.ended["square-slow-handshake"] == 1, "the oldest gave way"
        quiet.cancel_scope.cancel()
    await empty(of)


async def test_addresses_that_say_nothing_before_libp2p_has_loaded_keep_nobody_out(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    assert of._open is not None
    async with trio.open_nursery() as quiet, trio.open_nursery() as honest:
        async with of._open.loading:
            for place in (2, 3):
                for _ in range(limits.HANDSHAKES):
                    quiet.start_soon(says_nothing, of, f"127.0.0.{place}")
            with trio.fail_after(5):
                while of._open.knocking.total() < 2 * limits.HANDSHAKES_AN_ADDRESS:
                    await trio.sleep(0.01)
            honest.start_soon(still_serves, of)
            with trio.fail_after(5):
                while not of._open.knocking["127.0.0.1"]:
                    await trio.sleep(0.01)
            assert of._open.knocking.total() == 2 * limits.HANDSHAKES_AN_ADDRESS + 1
        while honest.child_tasks:
            await trio.sleep(0.01)
        quiet.cancel_scope.cancel()
    await empty(of)


async def says_nothing(of: Square, address: str) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port(of), local_address=address)
    async with stream:
        await until_closed_or_cancelled(stream)


async def until_closed_or_cancelled(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        return


async def test_strangers_have_the_tokens_that_they_have(nursery: trio.Nursery) -> None:
    of = await opened(nursery, square(Rates(Rate(1, 30), Rate(1, 60), Rate(1, 90))))
    async with stranger(of) as asking:
        with pytest.raises(Refused) as caught:
            for _ in range(40):
                await asking.ask(ECHO, ASK)
    assert caught.value.name == "square-rate" and "ask again in" in caught.value.hint


async def test_a_handshake_is_paid_for_before_anything_is_read(nursery: trio.Nursery) -> None:
    of = await opened(nursery, square(Rates(Rate(1, 99), Rate(1, 25), Rate(1, 99))))
    for _ in range(2):
        await still_serves_once(of)
    async with await raw(of) as third:
        await until_closed(third)
    assert host(of).table.ended["square-rate"] == 1 and host(of).table.came == 2


async def still_serves_once(of: Square) -> None:
    async with stranger(of):
        pass


async def test_an_error_inside_ends_the_square_and_it_begins_again(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESTART_S", 0.05)
    monkeypatch.setattr(limits, "REAP_S", 0.01)
    of = await opened(nursery)
    await still_serves(of)

    def broken(now: float) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(host(of).table, "reap", broken)
    with trio.fail_after(15):
        while of.statistics()["restarts"] < 1 or not of.addresses:
            await trio.sleep(0.01)
    assert of.problem == ""
    await still_serves(of)


async def test_a_port_that_is_taken_is_said_and_tried_again(nursery: trio.Nursery) -> None:
    first = await opened(nursery)
    second = square()
    second._place = type(second._place)("127.0.0.1", port(first), "127.0.0.1", ME.node)
    nursery.start_soon(second.run)
    with trio.fail_after(5):
        while not second.problem:
            await trio.sleep(0.01)
    assert "cannot be had" in second.problem and second.addresses == ()


async def test_a_node_that_sends_what_nobody_asked_for_is_left_and_that_is_said(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    await still_serves(of)

    async def floods(stream: Stream, asker: Asker) -> None:
        muxed: Any = stream._muxed
        muxed.send_window = 1 << 30
        await stream.write(bytes(4 << 20))

    host(of).handlers["/test/flood/1"] = floods
    with pytest.raises(Refused) as caught:
        async with stranger(of) as asking:
            await asking.open("/test/flood/1")
            await trio.sleep(10)
    assert caught.value.name == "square-flood"


async def test_a_node_that_answers_without_an_end_is_refused(nursery: trio.Nursery) -> None:
    of = await opened(nursery)
    await still_serves(of)

    async def endless(stream: Stream, asker: Asker) -> None:
        await stream.write(wire.frame(bytes(1 << 20))[:100])

    host(of).handlers["/test/endless/1"] = endless
    async with stranger(of) as asking:
        with pytest.raises(Refused) as caught:
            await asking.ask("/test/endless/1", ASK)
    assert caught.value.name == "square-too-large"
