"""What all handlers of the API share: bodies read within limits, answers in time, and the same answer for the same idempotency key."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from starlette.requests import Request
from starlette.responses import Response

from meshos import cbor
from meshos.errors import BadInput, Unreachable
from meshos.node.api import bodies, limits
from meshos.node.api.answers import JsonAnswer
from meshos.node.api.gate import Asked, Settings, read_body
from meshos.node.api.replays import Answer, Replays
from meshos.node.api.service import NodeService
from meshos.node.api.shapes import Caller

T = TypeVar("T")


class Handling:
    """See the module's text."""

    def __init__(self, service: NodeService, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._replays = Replays()

    async def _body(self, request: Request, kind: type[bodies.AnyBody], most: int) -> bodies.AnyBody:
        raw = await read_body(request.scope, request.receive, most, self._settings.body_s)
        if len(raw) > limits.LARGE_BYTES:
            return await trio.to_thread.run_sync(bodies.read, kind, raw)
        return bodies.read(kind, raw)

    async def _soon(self, work: Callable[[], Awaitable[T]]) -> T:
        return await self._within(self._settings.request_s, work)

    async def _within(self, seconds: float, work: Callable[[], Awaitable[T]]) -> T:
        with trio.move_on_after(seconds):
            return await work()
        raise Unreachable("deadline-exceeded", f"no answer within {seconds:g} s", hint="try again, or look at mesh status")

    async def _once(self, request: Request, body: bodies.Body, work: Callable[[], Awaitable[Answer]]) -> Response:
        """The answer of ``work``, or the recorded one for the body's idempotency key."""
        if body.idempotencyKey is None:
            return JsonAnswer.raw(await work())
        name = name_of(request, body)
        recorded = await self._replays.begin(name, digest_of(body, without=frozenset({"timeout"})))
        if recorded is not None:
            return replayed(recorded)
        try:
            answer = await work()
        except BaseException:
            self._replays.drop(name)
            raise
        self._replays.end(name, answer)
        return JsonAnswer.raw(answer)


def caller(request: Request) -> Caller:
    """Who asks."""
    asked: Asked = request.scope["asked"]
    return asked.caller()


def name_of(request: Request, body: bodies.Body) -> tuple[str, str, str]:
    """Of a request with an idempotency key: where its answer is recorded."""
    asked: Asked = request.scope["asked"]
    assert asked.key is not None and body.idempotencyKey is not None
    return (asked.key.id, request.scope["path"], body.idempotencyKey)


def digest_of(body: bodies.Body, without: frozenset[str] = frozenset()) -> bytes:
    """The same for the same members, however they are spelt in JSON; ``without`` those that say how to answer, and not what is asked."""
    try:
        return cbor.encode(body.model_dump(exclude=set(without)))
    except (UnicodeEncodeError, ValueError) as error:
        raise BadInput("bad-request", "the body holds text that is not valid Unicode") from error


def replayed(answer: Answer) -> Response:
    """The recorded answer again."""
    return JsonAnswer.raw(answer, replayed=True)
