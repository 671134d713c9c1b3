"""Partitions by hand: a local socket through which a testnet's node is told whom it must not hear.

It exists only where the genesis is marked as a testnet, as a Unix socket in the node's own folder (mode 0600), and takes one JSON line a
connection: ``{"cut": ["beta-1", …]}`` replaces the list, ``{"heal": true}`` empties it, ``{"show": true}`` leaves it. The answer is one
JSON line: the list, as ``{"cut": […]}``, or ``{"error": …}``. The links and the gossip ask ``is_cut`` before anything is sent or heard.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio

from meshos.ids import NodeId

MAX_LINE_BYTES = 64 * 1024
TIMEOUT_S = 5.0


class FaultHook:
    """Who is cut off from this node."""

    def __init__(self, id_of: Callable[[str], NodeId | None], changed: Callable[[frozenset[NodeId]], None]) -> None:
        """``id_of`` finds a node's id by its name; ``changed`` hears of each new list (to break the links)."""
        self._id_of = id_of
        self._changed = changed
        self.cut: frozenset[NodeId] = frozenset()
        self._names: list[str] = []

    def is_cut(self, node: NodeId) -> bool:
        """Whether nothing may pass between this node and ``node``."""
        return node in self.cut

    async def serve(self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on ``path`` until cancelled."""
        path.unlink(missing_ok=True)
        with trio.socket.socket(trio.socket.AF_UNIX) as server:
            await server.bind(str(path))
            path.chmod(0o600)
            server.listen(4)
            listener = trio.SocketListener(server)
            task_status.started()
            try:
                await trio.serve_listeners(self._one, [listener])
            finally:
                path.unlink(missing_ok=True)

    async def _one(self, stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(TIMEOUT_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it may have hung up
                answer = self._take(await _read_line(stream))
                await stream.send_all(json.dumps(answer).encode() + b"\n")

    def _take(self, line: bytes) -> dict[str, object]:
        try:
            wanted = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "not one line of JSON"}
        if isinstance(wanted, dict) and wanted.get("show") is True:
            return {"cut": self._names}
        if not isinstance(wanted, dict) or not (wanted.get("heal") is True or _are_names(wanted.get("cut"))):
            return {"error": 'write {"cut": [names]}, {"heal": true} or {"show": true}'}
        names = [] if wanted.get("heal") is True else list(wanted["cut"])
        found = {name: self._id_of(name) for name in names}
        unknown = [name for name, node in found.items() if node is None]
        if unknown:
            return {"error": f"no member is called {', '.join(unknown)[:200]}"}
        self.cut = frozenset(node for node in found.values() if node is not None)
        self._names = names
        self._changed(self.cut)
        return {"cut": names}


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


async def _read_line(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES:
        chunk = await stream.receive_some(4096)
        if not chunk:
            break
        line += chunk
    return line[:MAX_LINE_BYTES]
