"""A run written down: a decision log (one JSON line for each step of each machine) and a file from which it is replayed.

The log is a function of seed and schedule alone: two runs give the same bytes, in any process. So nothing enters it that
differs between processes: no ids of objects, no hashes of strings, no order of sets, no wall-clock time.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TextIO

from meshos.simulations.world import SimNode


def plain(value: object) -> object:
    """``value`` as JSON can hold it: dataclasses by their fields and type, bytes in hex, functions by name, sets in order."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "args": [plain(argument) for argument in value.args]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **inner}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return getattr(value, "__qualname__", type(value).__qualname__)


class Recorder:
    """Writes the log, and keeps its hash."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines = 0

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """One step."""
        row = {"t": node.world.now, "node": node.name, "machine": machine, "event": plain(event), "effects": plain(effects)}
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._hash.update(line.encode())
        self.lines += 1
        if self._out is not None:
            self._out.write(line)

    def digest(self) -> str:
        """The hash of all lines so far."""
        return self._hash.hexdigest()
