"""An MCP session over two pipes: JSON-RPC 2.0, one message a line, many calls at a time.

A reader and writer of our own, since the pipes lead to a stranger: lines are bounded, bytes that are not UTF-8 or JSON cost
one line, a flood of messages nobody asked for is slowed down, and what a cancelled call left in the pipe harms nobody.

Theory of operation. A request gets a number and a slot in ``_waiting``; its line is written at once where the pipe takes
it, else queued for the writer task. The reader task fills slots. An answer without a slot (cancelled, timed out) is dropped.
"""

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import trio
from pydantic_core import from_json, to_json

from meshos.adapters.onprem import limits
from meshos.adapters.onprem.lines import Line, LineReader, TooLong
from meshos.adapters.onprem.mcp_values import KNOWN_PROTOCOLS, PROTOCOL, Json, Message, garbage, too_large, tool_result, tools_of
from meshos.cbor import Value
from meshos.errors import Done, Failed, MeshError, busy
from meshos.protocols.tasks.tools import Tool

MAX_GARBAGE_LINES = 1_000
"""In a row, without one message among them: then this is no MCP server."""
MAX_GARBAGE_AT_START = 100
MAX_DROPPED_BYTES = 4 << 30
"""Of one line: a result of 1 GiB is waited out and refused, output without end is not."""
UNASKED_BURST = 2_000
UNASKED_PER_S = 500.0
"""Messages nobody asked for (progress, logs, garbage): beyond this the pipe is read more slowly."""
MAX_BACKLOG_FOR_REPLIES = 64 * 1024
"""Requests of the server are answered while less than this waits to be written."""


@dataclass(slots=True)
class _Slot:
    """A request under way: the task that waits, and what came."""

    method: str
    done: trio.Event
    result: Json = None
    error: MeshError | None = None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server said of itself at initialisation."""

    name: str
    version: str
    protocol: str


class McpSession:
    """One server process. ``run`` reads and writes until the server ends; the other methods are called beside it.

    ``large`` is shared by the whole node (limits.LARGE_LINES).
    """

    def __init__(self, read_fd: int, write_fd: int, large: trio.Semaphore) -> None:
        self._read_fd, self._write_fd, self._large = read_fd, write_fd, large
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        self._reader = LineReader(limits.MAX_LINE_BYTES)
        self._holds_large = False
        self._waiting: dict[int, _Slot] = {}
        self._numbers = 0
        self._outgoing: deque[memoryview] = deque()
        self._outgoing_bytes = 0
        self._write_wanted = trio.Event()
        self._garbage_in_a_row = 0
        self._greeted = False
        self._unasked = float(UNASKED_BURST)
        self._unasked_at = 0.0
        self._ended: MeshError | None = None
        self._input_open = True
        self.garbage_lines = 0
        self.heard_at = 0.0
        """When the last message came, by trio's clock."""

    # -- the pipes ---------------------------------------------------------------------------------------------------

    async def run(self) -> MeshError:
        """Read and write until the server closes its output; then why, as the error that open calls ended with."""
        ended: MeshError = Failed("agent-crashed", "the agent closed its output", outcome="unknown")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        except* Failed as group:
            ended = cast(Failed, group.exceptions[0])
        finally:
            if self._holds_large:
                self._release_large()
        return ended

    def end(self, error: MeshError) -> None:
        """Every call under way, and each one to come, ends with ``error``."""
        self._ended = error
        for slot in self._waiting.values():
            slot.error = error
            slot.done.set()
        self._waiting.clear()
        self._outgoing.clear()
        self._outgoing_bytes = 0

    def close_input(self) -> None:
        """Close the server's stdin, which asks it to end."""
        if self._input_open:
            self._input_open = False
            trio.lowlevel.notify_closing(self._write_fd)
            os.close(self._write_fd)

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._read_fd)
            try:
                chunk = os.read(self._read_fd, limits.READ_CHUNK_BYTES)
            except BlockingIOError:
                continue
            if not chunk:
                return
            for line in self._reader.feed(chunk):
                await self._take(line)
            await self._bound_large()

    async def _bound_large(self) -> None:
        if self._reader.dropping > MAX_DROPPED_BYTES:
            raise garbage(f"the agent wrote more than {MAX_DROPPED_BYTES >> 30} GiB without ending the line")
        large = self._reader.pending > limits.LARGE_LINE_BYTES
        if large and not self._holds_large:
            await self._large.acquire()
            self._holds_large = True
        elif self._holds_large and not large:
            self._release_large()

    def _release_large(self) -> None:
        self._holds_large = False
        self._large.release()

    async def _take(self, line: Line) -> None:
        if isinstance(line, TooLong):
            number = line.request_id()
            slot = self._waiting.pop(number, None) if number is not None else None
            if number is None:
                raise garbage(f"the agent wrote a line of {line.size >> 20} MiB that is no answer to anything")
            if slot is not None:
                slot.error = too_large(line.size)
                slot.done.set()
            return
        try:
            parse = partial(from_json, line, allow_inf_nan=False)
            message = await trio.to_thread.run_sync(parse) if len(line) > limits.LARGE_LINE_BYTES else parse()
        except ValueError:
            message = None
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            self._garbage(line)
            await self._slow_down()
            return
        self._garbage_in_a_row = 0
        self.heard_at = trio.current_time()
        if not self._answer(message):
            await self._slow_down()

    def _answer(self, message: Message) -> bool:
        """Deal with one message; True if it was an answer somebody waits for."""
        number = message.get("id")
        if isinstance(message.get("method"), str):
            if "id" in message:
                self._reply(message)
            return False
        slot = self._waiting.pop(number, None) if isinstance(number, int) and not isinstance(number, bool) else None
        if slot is None:
            return False
        if "result" in message:
            slot.result = message["result"]
        else:
            slot.error = rpc_error(slot.method, message.get("error"))
        slot.done.set()
        return True

    def _garbage(self, line: bytes) -> None:
        """Count a line that is no message; if an answer can still be seen in it, its call fails at once."""
        self.garbage_lines += 1
        self._garbage_in_a_row += 1
        number = TooLong(len(line), line[:256], line[-256:]).request_id()
        slot = self._waiting.pop(number, None) if number is not None else None
        if slot is not None:
            slot.error = garbage("its answer is not JSON in UTF-8")
            slot.done.set()
        if self._garbage_in_a_row > (MAX_GARBAGE_LINES if self._greeted else MAX_GARBAGE_AT_START):
            raise garbage(f"the agent wrote {self._garbage_in_a_row} lines in a row that are no messages")

    async def _slow_down(self) -> None:
        now = trio.current_time()
        self._unasked = min(float(UNASKED_BURST), self._unasked + (now - self._unasked_at) * UNASKED_PER_S) - 1
        self._unasked_at = now
        if self._unasked < 0:
            await trio.sleep(1 / UNASKED_PER_S)

    def _reply(self, message: Message) -> None:
        """Answer a request of the server: pings, nothing else (no sampling, roots or elicitation is offered)."""
        if self._outgoing_bytes > MAX_BACKLOG_FOR_REPLIES:
            return
        answer: Message = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": -32601, "message": "not offered here"}
        self._send(answer)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _send(self, message: Mapping[str, object]) -> None:
        """Write now as much as the pipe takes, queue the rest; never half a line."""
        if not self._input_open:
            return  # it is being stopped: open calls end when its output does
        data = to_json(message) + b"\n"
        if self._outgoing_bytes + len(data) > limits.MAX_REQUEST_BYTES:
            raise busy("what waits for this agent's input")
        written = 0
        if not self._outgoing:
            try:
                written = os.write(self._write_fd, data)
            except BlockingIOError:
                pass
            except OSError:
                return  # it has closed its input: its end comes by its output
        if written < len(data):
            self._outgoing.append(memoryview(data)[written:])
            self._outgoing_bytes += len(data) - written
            self._write_wanted.set()

    async def _write(self) -> None:
        while True:
            await self._write_wanted.wait()
            self._write_wanted = trio.Event()
            while self._outgoing:
                try:
                    await trio.lowlevel.wait_writable(self._write_fd)
                except trio.ClosedResourceError:
                    return
                if not self._outgoing:
                    break
                try:
                    written = os.write(self._write_fd, self._outgoing[0])
                except BlockingIOError:
                    continue
                except OSError:
                    self._outgoing.clear()
                    self._outgoing_bytes = 0
                    break
                self._outgoing_bytes -= written
                rest = self._outgoing[0][written:]
                if rest:
                    self._outgoing[0] = rest
                else:
                    self._outgoing.popleft()

    # -- requests ----------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests without an answer yet."""
        return len(self._waiting)

    async def request(self, method: str, params: Mapping[str, object]) -> Json:
        """Send a request and wait for its result; cancelled, the server is told so."""
        if self._ended is not None:
            raise self._ended
        self._numbers += 1
        number = self._numbers
        slot = _Slot(method, trio.Event())
        self._waiting[number] = slot
        try:
            self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            await slot.done.wait()
        finally:
            if self._waiting.pop(number, None) is not None and self._ended is None:
                self._send_if_possible("notifications/cancelled", {"requestId": number, "reason": "not wanted any more"})
        if slot.error is not None:
            raise slot.error
        return slot.result

    def _send_if_possible(self, method: str, params: Mapping[str, object]) -> None:
        if self._outgoing_bytes < limits.MAX_REQUEST_BYTES - 1024:
            self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def initialize(self) -> ServerInfo:
        """The handshake; raises Failed ``agent-garbage`` for a server of an unknown revision."""
        client = {"name": "meshos", "version": "1"}
        answer = await self.request("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client})
        if not isinstance(answer, dict):
            raise garbage("its answer to initialize is no object")
        protocol, server = answer.get("protocolVersion"), answer.get("serverInfo")
        if protocol not in KNOWN_PROTOCOLS:
            raise garbage(f"it speaks the MCP revision {str(protocol)[:40]!r}, not one of {', '.join(KNOWN_PROTOCOLS)}")
        server = server if isinstance(server, dict) else {}
        self._greeted = True
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return ServerInfo(str(server.get("name", ""))[:128], str(server.get("version", ""))[:64], protocol)

    async def list_tools(self) -> tuple[Tool, ...]:
        """All pages of tools/list; raises Failed ``agent-garbage`` for a list without end, a name twice, or a wrong shape."""
        tools: list[Tool] = []
        cursor = ""
        for _ in range(limits.MAX_TOOL_PAGES):
            page, cursor = tools_of(await self.request("tools/list", {"cursor": cursor} if cursor else {}))
            tools += page
            if len(tools) > limits.MAX_TOOLS:
                raise garbage(f"it lists more than {limits.MAX_TOOLS} tools")
            if not cursor:
                if len({tool.name for tool in tools}) != len(tools):
                    raise garbage("it lists two tools of one name")
                return tuple(tools)
        raise garbage("its list of tools has no end")

    async def ping(self) -> None:
        """Come back when the server has answered; any answer is a sign of life, also that it knows no ping."""
        try:
            await self.request("ping", {})
        except Failed as error:
            if error.name != "tool-refused":
                raise

    async def call(self, tool: str, arguments: Mapping[str, Value], meta: Mapping[str, str]) -> tuple[bytes, bool]:
        """Call a tool: ``(canonical CBOR of its result, the tool's own word that it failed)``."""
        if len(self._waiting) >= limits.MAX_CALLS:
            raise busy("the table of this agent's calls")
        params: dict[str, object] = {"name": tool, "arguments": arguments}
        if meta:
            params["_meta"] = meta
        result = await self.request("tools/call", params)
        if _is_large(result):
            return await trio.to_thread.run_sync(partial(tool_result, result, large=True))
        return tool_result(result)


def _is_large(result: Json) -> bool:
    """Whether making CBOR of it may take more than a millisecond or two: looked at without walking it."""
    if not isinstance(result, dict):
        return False
    structured, content = result.get("structuredContent"), result.get("content")
    if isinstance(structured, dict | list) and structured:
        return _weight(structured, 3) > 2_000
    return isinstance(content, list) and _weight(content, 3) > 2_000


def _weight(value: Json, depth: int) -> int:
    """A cheap lower bound of how much there is: entries, and text by the 64 bytes, a few levels deep."""
    if isinstance(value, str):
        return len(value) >> 6
    if not isinstance(value, dict | list):
        return 1
    inner = list(value.values() if isinstance(value, dict) else value)
    if depth == 0 or len(inner) > 2_000:
        return len(inner)
    return len(inner) + sum(_weight(item, depth - 1) for item in inner)


def rpc_error(method: str, error: Json) -> MeshError:
    """A JSON-RPC error as one of ours; the server's words are cut and cleaned."""
    code = error.get("code") if isinstance(error, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    shown = "".join(c if c.isprintable() else " " for c in str(text or "no reason given")[:300])
    if isinstance(code, int):
        outcome: Done = "not_done" if code == -32601 else "unknown"
        return Failed("tool-refused", f"the agent answered {method} with error {code}: {shown}", outcome=outcome)
    return garbage(f"its answer to {method} is neither a result nor an error")
