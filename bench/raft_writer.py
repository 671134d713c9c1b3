"""Who writes in ``mesh bench raft``: a machine that keeps requests under way, so that an answer and the next request share a turn."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from meshos.effects import Completed, Err, Tell
from meshos.errors import MeshError
from meshos.flow import Ask
from meshos.flow_machine import Perform
from meshos.ids import NodeId

SIZE = 256
KEYS = 1000
TIMEOUT_S = 30.0


@dataclass(slots=True)
class Writing:
    """One run: ``in_flight`` writes at any time for ``seconds``. ``taken_ms`` has the time of each, ``error`` why it ended early."""

    to: NodeId
    in_flight: int
    seconds: float
    taken_ms: list[float]
    ended: trio.Event
    error: MeshError | None = None
    began: float = 0.0

    def rate(self) -> float:
        """Writes a second, so far."""
        return len(self.taken_ms) / (time.perf_counter() - self.began)


class Writer:
    """The machine ``name``; asks for ``protocol``."""

    def __init__(self, name: str, protocol: str) -> None:
        self._name, self._protocol = name, protocol
        self._writing: Writing | None = None
        self._since: dict[int, float] = {}
        self._ops = 0
        self._value = b""

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``; hears Writing and Completed."""
        if isinstance(event, Writing):
            self._writing, self._value = event, os.urandom(SIZE)
            event.began = time.perf_counter()
            return [self._ask(now, event) for _ in range(event.in_flight)]
        writing = self._writing
        assert isinstance(event, Completed) and writing is not None
        at = time.perf_counter()
        writing.taken_ms.append((at - self._since.pop(event.op)) * 1000)
        if isinstance(event.outcome, Err):
            writing.error = event.outcome.error
        if at < writing.began + writing.seconds and writing.error is None:
            return [self._ask(now, writing)]
        if not self._since:
            writing.ended.set()
        return []

    def deadline(self) -> float | None:
        """Rpc has those."""
        return None

    def _ask(self, now: float, writing: Writing) -> object:
        self._ops = op = self._ops + 1
        self._since[op] = time.perf_counter()
        ask = Ask(writing.to, self._protocol, write(b"bench/%04d" % (op % KEYS), self._value), TIMEOUT_S)
        return Tell("rpc", Perform(op, ask, now + TIMEOUT_S, self._name))


def write(key: bytes, value: bytes) -> bytes:
    """A write as it travels and lies in the log: the length of the key in a byte, the key, the value."""
    return bytes([len(key)]) + key + value


Deliver = Callable[[str, object], None]


async def run(deliver: Deliver, name: str, to: NodeId, in_flight: int, seconds: float) -> Writing:
    """Have the Writer ``name`` write, and come back when it has; raises what a write was refused for."""
    writing = Writing(to, in_flight, seconds, [], trio.Event())
    deliver(name, writing)
    await writing.ended.wait()
    if writing.error is not None:
        raise writing.error
    return writing
