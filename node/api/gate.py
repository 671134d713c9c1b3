"""What every request passes before anything looks at it, as a plain ASGI application around another.

In this order, cheapest first: is there room; is the Host one of ours (else a web page could reach a loopback API by
rebinding its name); does no foreign web page send it; whose key is it; has the key the right; is it within its rate.
Whatever is raised on the way, or inside, leaves as a problem document with the request's id.
"""

import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import trio

from meshos.errors import Broken, MeshError, Refused, Unreachable, busy
from meshos.node.api import limits, problems
from meshos.node.api.keys import RIGHTS, Key, KeyRing, Right
from meshos.node.api.measures import Measures
from meshos.node.api.paths import keep_parts
from meshos.node.api.rates import Strangers
from meshos.node.api.shapes import Caller

# ASGI's own types are untyped dicts; nothing past this file and ``app.py`` sees them.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("meshos.api")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Settings:
    """``hosts``: the names by which this API may be addressed, without port; None for any (behind TLS with its names)."""

    hosts: frozenset[str] | None = _LOOPBACK
    requests: int = limits.REQUESTS
    body_s: float = limits.BODY_S
    request_s: float = limits.REQUEST_S


@dataclass(slots=True)
class Asked:
    """One request on its way through: its id and trace, its headers, who asks, and what came of it."""

    request_id: str
    trace: str
    headers: Mapping[bytes, bytes]
    key: Key | None = None
    status: int = 0
    whole: bool = False
    """All of the body was read."""

    def caller(self) -> Caller:
        """Who asks, for the service."""
        key = self.key
        assert key is not None, "a public route has no caller"
        return Caller(
            key.id, key.name, key.role, key.left_micro(), key.depth, key, agent=key.agent, request_id=self.request_id, trace=self.trace
        )


Need: TypeAlias = Callable[[str, str], "Right | None"]
"""The right that a request (method, path) needs; None for the public ones."""


class Gate:
    """See the module's text. ``inner`` finds the ``Asked`` in ``scope["asked"]``."""

    def __init__(self, inner: Application, keys: KeyRing, need: Need, measures: Measures, settings: Settings) -> None:
        self._inner, self._keys, self._need, self._measures, self._settings = inner, keys, need, measures, settings
        self._strangers = Strangers(limits.STRANGERS, limits.FAILED_KEYS_PER_S, limits.FAILED_KEYS_BURST)
        self.running = 0
        measures.running.set_function(lambda: self.running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        keep_parts(scope)
        began = trio.current_time()
        headers = dict(scope["headers"])
        asked = Asked(_request_id(headers), _trace(headers), headers)
        scope["asked"] = asked
        self.running += 1
        try:
            await self._pass(scope, asked, receive, send)
        finally:
            self.running -= 1
            took = trio.current_time() - began
            self._measures.request(scope["method"], asked.status, took)
            level = logging.WARNING if asked.status >= 500 else logging.DEBUG
            if log.isEnabledFor(level):
                log.log(
                    level,
                    "request",
                    extra={
                        "req": asked.request_id,
                        "trace": asked.trace,
                        "key": asked.key.id if asked.key else "",
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": asked.status,
                        "dur_ms": round(took * 1000, 2),
                    },
                )

    async def _pass(self, scope: Scope, asked: Asked, receive: Receive, send: Send) -> None:
        marks = ((b"x-request-id", asked.request_id.encode()), (b"traceparent", asked.trace.encode()))

        async def receive_counted() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                asked.whole = True
            return message

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *marks]
            await send(message)

        try:
            self._admit(scope, asked)
            await self._inner(scope, receive_counted, send_marked)
        except MeshError as error:
            await Problem(error)(scope, receive_counted, send_marked)
        except Exception as error:
            log.exception("request failed by a bug", extra={"req": asked.request_id, "path": scope["path"], "err": type(error).__name__})
            await Problem(bug(error, asked.request_id))(scope, receive_counted, send_marked)

    def _admit(self, scope: Scope, asked: Asked) -> None:
        if self.running > self._settings.requests:
            raise busy("the list of requests under way")
        self._check_place(asked.headers)
        need = self._need(scope["method"], scope["path"])
        if need is None:
            return
        now = trio.current_time()
        key = self._authenticate(scope, asked.headers, now)
        asked.key = key
        if need not in RIGHTS[key.role]:
            raise Refused("not-allowed", f"a key of the role {key.role!r} may not do this", hint="use a key of another role")
        wait = key.bucket.take(now)
        if wait > 0:
            hint = f"try again in {max(1, round(wait * 1000))} ms"
            raise Refused("rate-limited", f"the key {key.name!r} asks more often than {key.bucket.per_s:g} times a second", hint=hint)

    def _check_place(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._settings.hosts is not None and _without_port(host) not in self._settings.hosts:
            raise Refused(
                "wrong-host", "this API is not addressed by the name in the Host header", hint="use the address that the node prints"
            )
        origin = headers.get(b"origin")
        if origin is not None and _place_of(origin.decode("latin-1").lower()) != host:
            raise Refused("foreign-origin", "web pages of other origins may not use this API", hint="call it from a program")

    def _authenticate(self, scope: Scope, headers: Mapping[bytes, bytes], now: float) -> Key:
        address = scope["client"][0] if scope.get("client") else ""
        if self._strangers.wait_s(address, now) > 0:
            raise Refused("rate-limited", "too many wrong keys came from this address", hint="try again in a few seconds")
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Refused("no-key", "this needs an API key", hint="pass --api-key, set MESH_API_KEY, or send Authorization: Bearer")
        key = self._keys.find(token.strip().decode("latin-1"))
        if key is None:
            self._strangers.count(address, now)
            raise Refused("unknown-api-key", "this node does not know this API key", hint="use a key that this node has made")
        return key


class Problem:
    """The answer to an error: a problem document, after reading on a little, so that the client gets to see it."""

    def __init__(self, error: MeshError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked: Asked = scope["asked"]
        if asked.status:
            return  # The answer has begun: only an aborted connection can still say that it is incomplete.
        if not asked.whole:
            await _drain(receive)
        status = problems.status_of(self._error)
        text = problems.body(self._error, asked.request_id)
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(text)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="mesh"'))
        if status in (429, 503):
            headers.append((b"retry-after", b"1"))
        async with trio.open_nursery() as nursery:
            if not asked.whole:
                nursery.start_soon(_discard, receive)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            nursery.cancel_scope.cancel()


def bug(error: Exception, request_id: str) -> Broken:
    """What a client is told of a bug of ours; its traceback stays in the log."""
    return Broken("internal", f"a bug of ours, {type(error).__name__}; the log of this node has it under {request_id}")


async def _drain(receive: Receive) -> None:
    """Read what is left of the body, within DRAIN_S and DRAIN_BYTES."""
    left = limits.DRAIN_BYTES
    with trio.move_on_after(limits.DRAIN_S):
        while left > 0:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
            left -= len(message.get("body", b""))


async def _discard(receive: Receive) -> None:
    """Keep taking what comes, so that the server is never stuck on handing over a body that nobody wants."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(scope: Scope, receive: Receive, most: int, seconds: float) -> bytes:
    """The whole body of a JSON request; raises Refused ``too-large``, ``not-json``, ``client-gone`` or Unreachable ``body-timeout``."""
    headers = scope["asked"].headers
    kind = headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Refused("not-json", "the body has to be JSON", hint="send Content-Type: application/json")
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and (len(declared) > 12 or int(declared) > most):
        raise _too_large(most)
    pieces: list[bytes] = []
    size = 0
    whole = False
    with trio.move_on_after(seconds):
        while not whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused("client-gone", "the client left before its request was complete")
            piece = message.get("body", b"")
            size += len(piece)
            if size > most:
                raise _too_large(most)
            pieces.append(piece)
            whole = not message.get("more_body", False)
    if not whole:
        raise Unreachable("body-timeout", f"the body was not complete after {seconds:g} s", outcome="not_done")
    return b"".join(pieces)


def _too_large(most: int) -> Refused:
    return Refused("too-large", f"the body is larger than {most} bytes", hint="send less at a time")


def _place_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None  # it is no URL


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The client's id of the request, if it has a sane form, else one of ours."""
    given = headers.get(b"x-request-id")
    if given is not None:
        text = given.decode("latin-1")
        if _REQUEST_ID.fullmatch(text):
            return text
    return "r-" + os.urandom(8).hex()


def _trace(headers: Mapping[bytes, bytes]) -> str:
    """A W3C traceparent of this hop: the client's trace with a span of ours, or a new trace."""
    span = os.urandom(8).hex()
    given = headers.get(b"traceparent")
    if given is not None:
        match = _TRACE.fullmatch(given.decode("latin-1").strip())
        if match is not None and match[1] != "ff" and match[2].strip("0") and match[3].strip("0"):
            return f"00-{match[2]}-{span}-{match[4]}"
    return f"00-{os.urandom(16).hex()}-{span}-01"
