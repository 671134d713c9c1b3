"""Agents that already run elsewhere: an MCP server by URL (streamable HTTP), called under the egress policy.

A client of our own on httpcore: one POST a message, its answer as JSON or as events, bounded while it is read. What MCP
leaves optional is left out: no stream from the server, no resumption, no redirects (a redirect would lead past the policy's
reason: the URL is what the owner signed).

Source: MCP 2025-11-25, Transports, Streamable HTTP.
"""

from collections.abc import AsyncIterator, Mapping
from functools import partial

import httpcore
import trio
from pydantic_core import from_json, to_json

from meshos.adapters.onprem import limits
from meshos.adapters.onprem.egress import guarded_pool
from meshos.adapters.onprem.egress_policy import EgressPolicy
from meshos.adapters.onprem.lines import LineReader, TooLong
from meshos.adapters.onprem.mcp_session import rpc_error
from meshos.adapters.onprem.mcp_values import KNOWN_PROTOCOLS, PROTOCOL, Json, garbage, too_large, tool_result, tools_of
from meshos.adapters.onprem.supervisor import Pace, ReplicaStatistics, State
from meshos.cbor import Value
from meshos.errors import MeshError, Unreachable, busy
from meshos.protocols.tasks.tools import Tool

PING_INTERVAL_S = 60.0
"""Somebody else's server is asked more rarely than one of our own."""
MAX_CONNECTIONS = 32
MAX_SESSION_ID = 256
CANCEL_TIMEOUT_S = 2.0


class RemoteAgent:
    """One agent by URL; the same face as ``supervisor.Replica``."""

    name = "remote"

    def __init__(self, url: str, policy: EgressPolicy, pace: Pace) -> None:
        self._url, self._pace = url, pace
        self._pool = guarded_pool(policy, MAX_CONNECTIONS)
        self.state: State = "starting"
        self.tools: tuple[Tool, ...] = ()
        self._session_id = ""
        self._protocol = ""
        self._numbers = 0
        self._changed = trio.Event()
        self._lost = trio.Event()
        self._stop = trio.CancelScope()
        self._finished = trio.Event()
        self._error: MeshError | None = None
        self._calls = self._failures = self._restarts = self.in_flight = 0
        self._start_s = 0.0

    async def run(self, *, must_start: bool) -> None:
        """Shake hands, then ping now and then; try again when that fails. ``must_start``: a first failure is the last."""
        try:
            with self._stop:
                wait_s = self._pace.backoff_first_s
                while True:
                    try:
                        await self._greet()
                        self._become("ready")
                        must_start, wait_s = False, self._pace.backoff_first_s
                        while not self._lost.is_set():
                            with trio.move_on_after(PING_INTERVAL_S):
                                await self._lost.wait()
                            if not self._lost.is_set():
                                await self._request("ping", {}, self._pace.start_timeout_s)
                    except MeshError as error:
                        self._error = error
                    if must_start:
                        self._become("failed")
                        return
                    self._become("waiting")
                    self._restarts += 1
                    await trio.sleep(wait_s)
                    wait_s = min(wait_s * 2, self._pace.backoff_most_s)
        finally:
            if self.state != "failed":
                self._become("stopped")
            with trio.CancelScope(shield=True):
                await self._pool.aclose()
            self._finished.set()

    async def stop(self) -> None:
        """Hang up."""
        self._stop.cancel()
        with trio.CancelScope(shield=True):
            await self._finished.wait()

    async def wait_ready(self) -> tuple[Tool, ...]:
        """The tools, once it answered; raises why it did not."""
        while True:
            state = self.state
            if state == "ready":
                return self.tools
            if state in ("failed", "stopped"):
                raise self._error or Unreachable("agent-down", "the agent was stopped", outcome="not_done")
            await self._changed.wait()

    async def call(self, tool: str, arguments: Mapping[str, Value], meta: Mapping[str, str], timeout_s: float) -> tuple[bytes, bool]:
        """Call a tool. Raises as ``Replica.call``, and ``egress-refused``, ``agent-unreachable``."""
        self._calls += 1
        params: dict[str, object] = {"name": tool, "arguments": arguments}
        if meta:
            params["_meta"] = meta
        try:
            if self.state != "ready":
                why = f" ({self._error.detail})" if self._error else ""
                raise Unreachable("agent-down", f"the agent does not answer{why}", hint="try again in a moment", outcome="not_done")
            if self.in_flight >= limits.MAX_CALLS:
                raise busy("the table of this agent's calls")
            self.in_flight += 1
            try:
                return await trio.to_thread.run_sync(tool_result, await self._request("tools/call", params, timeout_s))
            finally:
                self.in_flight -= 1
        except MeshError:
            self._failures += 1
            raise

    def statistics(self) -> ReplicaStatistics:
        """As a replica's; what only a process has is empty."""
        return ReplicaStatistics(
            replica=self.name,
            state=self.state,
            restarts=self._restarts,
            calls=self._calls,
            failures=self._failures,
            in_flight=self.in_flight,
            garbage_lines=0,
            log_bytes=0,
            start_s=self._start_s,
            layers=(),
            last_error=f"{self._error.name}: {self._error.detail}" if self._error else "",
        )

    # -- the protocol ------------------------------------------------------------------------------------------------

    def _become(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = trio.Event()

    async def _greet(self) -> None:
        began = trio.current_time()
        self._session_id = self._protocol = ""
        self._lost = trio.Event()
        timeout_s = self._pace.start_timeout_s
        client = {"name": "meshos", "version": "1"}
        answer = await self._request("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}, timeout_s)
        protocol = answer.get("protocolVersion") if isinstance(answer, dict) else None
        if protocol not in KNOWN_PROTOCOLS:
            raise garbage(f"it speaks the MCP revision {str(protocol)[:40]!r}, not one of {', '.join(KNOWN_PROTOCOLS)}")
        self._protocol = str(protocol)
        await self._notify("notifications/initialized", {}, timeout_s)
        tools: list[Tool] = []
        cursor = ""
        for _ in range(limits.MAX_TOOL_PAGES):
            page, cursor = tools_of(await self._request("tools/list", {"cursor": cursor} if cursor else {}, timeout_s))
            tools += page
            if not cursor or len(tools) > limits.MAX_TOOLS:
                break
        if cursor or len(tools) > limits.MAX_TOOLS:
            raise garbage(f"it lists more than {limits.MAX_TOOLS} tools, or without end")
        self.tools = tuple(tools)
        self._start_s = trio.current_time() - began

    async def _request(self, method: str, params: Mapping[str, object], timeout_s: float) -> Json:
        self._numbers += 1
        number = self._numbers
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        try:
            with trio.fail_after(timeout_s):
                return await self._post(method, message, number)
        except trio.TooSlowError:
            await self._cancelled(method, number)
            raise Unreachable("deadline-exceeded", f"{method} was not answered in {timeout_s:g} s") from None
        except trio.Cancelled:
            await self._cancelled(method, number)
            raise
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            what = f"the agent's server cannot be reached: {type(error).__name__}"
            raise Unreachable("agent-unreachable", what, hint="look at its address", outcome="not_done") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            what = f"the connection to the agent's server broke: {type(error).__name__}"
            raise Unreachable("agent-unreachable", what, hint="try again in a moment") from error

    async def _cancelled(self, method: str, number: int) -> None:
        """Tell the server (closing the connection does not, by the specification); it may not care, and we do not wait long."""
        if method != "tools/call":
            return
        with trio.CancelScope(shield=True):
            try:
                await self._notify("notifications/cancelled", {"requestId": number, "reason": "not wanted any more"}, CANCEL_TIMEOUT_S)
            except MeshError as error:
                self._error = error

    async def _notify(self, method: str, params: Mapping[str, object], timeout_s: float) -> None:
        body = to_json({"jsonrpc": "2.0", "method": method, "params": params})
        try:
            with trio.move_on_after(timeout_s):
                async with self._pool.stream("POST", self._url, headers=self._headers(), content=body) as response:
                    await _body(response)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise Unreachable("agent-unreachable", f"the connection to the agent's server broke: {type(error).__name__}") from error

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"Content-Type", b"application/json"), (b"Accept", b"application/json, text/event-stream")]
        if self._session_id:
            headers.append((b"Mcp-Session-Id", self._session_id.encode()))
        if self._protocol:
            headers.append((b"MCP-Protocol-Version", self._protocol.encode()))
        return headers

    async def _post(self, method: str, message: Mapping[str, object], number: int) -> Json:
        async with self._pool.stream("POST", self._url, headers=self._headers(), content=to_json(message)) as response:
            headers = {name.lower(): value for name, value in response.headers}
            kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
            if response.status == 404 and self._session_id:
                self._lost.set()  # greet again: a session that is unknown to the server serves nobody
                raise Unreachable("agent-unreachable", "the agent's server forgot our session", hint="try again", outcome="not_done")
            if response.status != 200 or kind not in (b"application/json", b"text/event-stream"):
                raise garbage(f"its server answered {method} with HTTP {response.status} {kind[:60].decode('latin-1')!r}")
            if method == "initialize":
                self._session_id = _session_id(headers.get(b"mcp-session-id", b""))
            if kind == b"application/json":
                return _answer(method, await _parsed(await _body(response)), number)
            async for data in _events(response):
                parsed = await _parsed(data)
                if isinstance(parsed, dict) and parsed.get("id") == number and "method" not in parsed:
                    return _answer(method, parsed, number)
        raise garbage(f"its server ended its events without an answer to {method}")


def _session_id(raw: bytes) -> str:
    if len(raw) > MAX_SESSION_ID or any(not 0x21 <= byte <= 0x7E for byte in raw):
        raise garbage("its server gave a session id that is not visible ASCII")
    return raw.decode("ascii")


async def _body(response: httpcore.Response) -> bytes:
    """The whole body, bounded while it is read."""
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > limits.MAX_LINE_BYTES:
            raise too_large(len(body))
    return bytes(body)


async def _events(response: httpcore.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event, bounded while it is read (WHATWG HTML, 9.2)."""
    reader = LineReader(limits.MAX_LINE_BYTES, keep_empty=True)
    data: list[bytes] = []
    size = 0
    async for chunk in response.aiter_stream():
        for line in reader.feed(chunk):
            if isinstance(line, TooLong):
                raise too_large(line.size)
            if not line:
                if data:
                    yield b"\n".join(data)
                data, size = [], 0
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                size += len(line)
                if size > limits.MAX_LINE_BYTES:
                    raise too_large(size)
        if reader.dropping:
            raise too_large(reader.dropping)
    if data:
        yield b"\n".join(data)


async def _parsed(data: bytes) -> Json:
    parse = partial(from_json, data, allow_inf_nan=False)
    try:
        value: Json = await trio.to_thread.run_sync(parse) if len(data) > limits.LARGE_LINE_BYTES else parse()
    except ValueError as error:
        raise garbage("its answer is not JSON in UTF-8") from error
    return value


def _answer(method: str, message: Json, number: int) -> Json:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or message.get("id") != number:
        raise garbage(f"its answer to {method} is not the JSON-RPC answer to it")
    if "result" in message:
        return message["result"]
    raise rpc_error(method, message.get("error"))
