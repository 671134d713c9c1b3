"""A connection of the API: what leaves together, what ends for want of work, how many there may be."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from meshos.node.api import limits
from meshos.node.api.connection import Connections, IdleClock
from tests.api.conftest import Live

Ask = Callable[[], Awaitable[trio.SocketStream]]
ASK = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def _answer(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"whole", "more_body": False})


async def _stream(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _large(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(256):
        await send({"type": "http.response.body", "body": bytes([number]) * limits.HELD_BYTES, "more_body": number < 255})


async def _listen(nursery: trio.Nursery, app: object, *, idle_s: float = 30.0, most: int = 100) -> tuple[Ask, WorkerContext]:
    config = Config()
    config.keep_alive_timeout = idle_s
    config.errorlog = config.accesslog = None
    context = WorkerContext(None)
    connections = Connections(ASGIWrapper(app), config, context, most=most)  # type: ignore[arg-type]
    (listener,) = await nursery.start(partial(trio.serve_tcp, connections.take, 0, host="127.0.0.1"))
    return partial(trio.open_tcp_stream, *listener.socket.getsockname()[:2]), context


async def test_head_and_body_leave_as_one_piece(nursery: trio.Nursery) -> None:
    ask, _ = await _listen(nursery, _answer)
    stream = await ask()
    for _ in range(20):  # the same connection, again and again
        await stream.send_all(ASK)
        answer = await stream.receive_some(65_536)
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\nwhole")
    nursery.cancel_scope.cancel()


async def test_what_is_streamed_does_not_wait_for_its_end(nursery: trio.Nursery) -> None:
    ask, _ = await _listen(nursery, _stream)
    stream = await ask()
    await stream.send_all(ASK)
    got = b""
    with trio.fail_after(10):
        while b"first" not in got:
            got += await stream.receive_some(65_536)
    nursery.cancel_scope.cancel()


async def test_a_large_answer_arrives_whole_and_in_order(nursery: trio.Nursery) -> None:
    ask, _ = await _listen(nursery, _large)
    stream = await ask()
    await stream.send_all(ASK.replace(b"1.1", b"1.0"))  # an answer that ends with its connection, without chunks
    got = bytearray()
    with trio.fail_after(60):
        async for data in stream:
            got += data
    body = bytes(got).partition(b"\r\n\r\n")[2]
    assert body == b"".join(bytes([number]) * limits.HELD_BYTES for number in range(256))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nhost: loc", ASK])
async def test_a_connection_without_work_ends(nursery: trio.Nursery, said: bytes) -> None:
    ask, _ = await _listen(nursery, _answer, idle_s=0.2)
    stream = await ask()
    await stream.send_all(said)
    with trio.fail_after(10):
        async for _ in stream:
            pass
    nursery.cancel_scope.cancel()


async def test_a_connection_at_work_does_not_end_and_one_without_ends_with_the_server(nursery: trio.Nursery) -> None:
    ask, context = await _listen(nursery, _stream, idle_s=0.2)
    busy, idle = await ask(), await ask()
    await busy.send_all(ASK)
    with trio.fail_after(10):
        while b"first" not in await busy.receive_some(65_536):
            pass
        async for _ in idle:  # its time is up
            pass
        last = await ask()
        await context.terminated.set()
        async for _ in last:
            pass
    with trio.move_on_after(0.3) as waited:
        assert await busy.receive_some(65_536) != b""
    assert waited.cancelled_caught, "it works still"
    nursery.cancel_scope.cancel()


async def _closed(stream: trio.SocketStream) -> bool:
    with trio.fail_after(10):
        try:
            return await stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True


async def _answered(stream: trio.SocketStream) -> bool:
    with trio.fail_after(10):
        await stream.send_all(ASK)
        return b"200" in await stream.receive_some(65_536)


async def test_one_more_than_there_may_be_takes_the_place_of_the_longest_idle(nursery: trio.Nursery) -> None:
    ask, _ = await _listen(nursery, _answer, most=4)  # two of one address
    first, second = await ask(), await ask()
    assert await _answered(first) and await _answered(second) and await _answered(first)
    third = await ask()
    assert await _closed(second), "it was without a request for longest"
    assert await _answered(third) and await _answered(first)
    nursery.cancel_scope.cancel()


async def test_where_all_are_at_work_one_more_is_closed_at_once(nursery: trio.Nursery) -> None:
    ask, _ = await _listen(nursery, _stream, most=4)
    busy = [await ask(), await ask()]
    for stream in busy:
        assert await _answered(stream)
    assert await _closed(await ask())
    await busy[0].aclose()
    with trio.fail_after(10):
        while not await _answered_if_open(await ask()):  # its place is free once its end is seen
            pass
    nursery.cancel_scope.cancel()


async def _answered_if_open(stream: trio.SocketStream) -> bool:
    try:
        return await _answered(stream)
    except trio.BrokenResourceError:
        return False


async def test_half_of_the_places_are_one_addresss_at_most(nursery: trio.Nursery) -> None:
    ask, _ = await _listen(nursery, _stream, most=4)
    mine = [await ask(), await ask()]
    for stream in mine:
        assert await _answered(stream)
    assert await _closed(await ask()), "127.0.0.1 has its half"
    port = mine[0].socket.getpeername()[1]
    other = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2")
    assert await _answered(other)
    nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_breaks_alone(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    ask, _ = await _listen(nursery, _answer)
    kept = await ask()
    assert await _answered(kept)
    for _ in range(3):
        stream = await ask()
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: A\r\n\r\n")
        assert await _closed(stream)
    assert await _answered(kept)
    told = [record for record in caplog.records if record.message == "connection-broken"]
    assert len(told) == 1 and told[0].exc_info, "each kind is told once"
    nursery.cancel_scope.cancel()


async def test_the_clock_ends_with_its_connection(autojump_clock: trio.testing.MockClock) -> None:
    """A connection that was closed leaves no task behind that waits for its idle time."""
    clock = IdleClock(1_000_000, WorkerContext(None))

    class Group:
        def spawn(self, work, *arguments) -> None:  # type: ignore[no-untyped-def]
            tasks.start_soon(work, *arguments)

    async def never() -> None:
        raise AssertionError("it was not idle for so long")

    async with trio.open_nursery() as tasks:
        await clock.restart(Group(), never)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        clock.end()
    assert trio.current_time() < 1_000


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a]b", "null", "", "http://elsewhere"])
async def test_an_origin_that_is_no_url_or_another_one_is_refused(live: Live, origin: str) -> None:
    async with live.client("") as client:
        answer = await client.get("/healthz", headers={"Origin": origin})
        assert (answer.status_code, answer.json()["name"]) == (403, "foreign-origin"), answer.text
