"""The three forms of an answer: one JSON text, a task with its (perhaps large) result, a stream of events."""

from collections.abc import Iterator
from typing import cast

import trio
from starlette.responses import Response

from meshos.node.api import json_text, limits, render
from meshos.node.api.gate import Receive, Send
from meshos.node.api.replays import Answer
from meshos.node.api.shapes import EventStream, TaskView

_JSON = (b"content-type", b"application/json")
_STATELESS = (b"cache-control", b"no-store")


class JsonAnswer(Response):
    """One JSON text. ``final``: the same question will have the same answer, so it may be recorded."""

    def __init__(self, value: object, status: int = 200) -> None:
        self._set(json_text.dumps(value), status)

    @classmethod
    def raw(cls, answer: Answer, *, final: bool = True, replayed: bool = False) -> "JsonAnswer":
        """JSON that was made before."""
        self = cls.__new__(cls)
        self._set(answer.body, answer.status, final=final)
        if replayed:
            self.raw_headers.append((b"idempotent-replayed", b"true"))
        return self

    def _set(self, text: bytes, status: int, *, final: bool = True) -> None:
        self.status_code, self.body, self.final, self.background = status, text, final, None
        self.raw_headers = [_JSON, _STATELESS, (b"content-length", str(len(text)).encode())]


class TaskAnswer(Response):
    """A task whose result is large: sent in pieces that are made in a worker thread."""

    def __init__(self, head: bytes, result: bytes) -> None:
        self.status_code, self.body, self.background = 200, b"", None
        self.raw_headers = [_JSON, _STATELESS]
        self._head, self._result = head, result

    @staticmethod
    async def of(view: TaskView, *, asked_again: bool = False) -> Response:
        """The answer to ``view``: 202 while it runs (200 if ``asked_again``), 200 once it ended."""
        head = json_text.dumps(render.task_head(view))[:-1] + b',"result":'
        if view.result is not None and len(view.result) > limits.LARGE_BYTES:
            return TaskAnswer(head, view.result)
        text = head + (b"null" if view.result is None else json_text.result_text(view.result)) + b"}"
        running = view.status == "running"
        answer = JsonAnswer.raw(Answer(202 if running and not asked_again else 200, text), final=view.status in ("completed", "failed"))
        if running:
            answer.raw_headers.append((b"location", f"/v1/tasks/{view.task_id}".encode("ascii", "replace")))
        return answer

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """ASGI."""
        put = cast(Send, send)
        pieces = await trio.to_thread.run_sync(json_text.result_pieces, self._result)
        # The first step decodes, so that a result that cannot be read is still a problem document.
        piece = await trio.to_thread.run_sync(_some, pieces)
        await put({"type": "http.response.start", "status": 200, "headers": list(self.raw_headers)})
        await put({"type": "http.response.body", "body": self._head, "more_body": True})
        while piece:
            await put({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await trio.to_thread.run_sync(_some, pieces)
        await put({"type": "http.response.body", "body": b"}"})


def _some(pieces: Iterator[bytes]) -> bytes:
    """About PIECE_CHARS bytes of ``pieces``; empty at their end."""
    taken: list[bytes] = []
    size = 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size >= limits.PIECE_CHARS:
            break
    return b"".join(taken)


class EventAnswer(Response):
    """Server-sent events (WHATWG HTML, section 9.2)."""

    def __init__(self, events: EventStream) -> None:
        self.status_code, self.body, self.background = 200, b"", None
        self.raw_headers = [(b"content-type", b"text/event-stream"), _STATELESS, (b"x-accel-buffering", b"no")]
        self._events = events

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """ASGI."""
        take, put = cast(Receive, receive), cast(Send, send)
        try:
            await put({"type": "http.response.start", "status": 200, "headers": list(self.raw_headers)})
            await put({"type": "http.response.body", "body": b"retry: 2000\n\n", "more_body": True})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, take, nursery.cancel_scope)
                await self._copy(put)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._events.aclose()

    async def _copy(self, put: Send) -> None:
        while True:
            text = b": still here\n\n"
            with trio.move_on_after(limits.EVENT_HEARTBEAT_S):
                try:
                    event = await self._events.__anext__()
                except StopAsyncIteration:
                    break
                text = b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.kind.encode(), json_text.dumps(render.event(event)))
            await put({"type": "http.response.body", "body": text, "more_body": True})
        await put({"type": "http.response.body", "body": b""})


async def _until_gone(take: Receive, whole: trio.CancelScope) -> None:
    while (await take())["type"] != "http.disconnect":
        pass
    whole.cancel()
