"""The state machine of the raft scenario: registers under names, each with a counter of its writes."""

from dataclasses import dataclass

from meshos import cbor
from meshos.effects import Put, Write
from meshos.errors import BadInput, Refused
from meshos.storage.store import View

MAX_NAME_BYTES = 64


@dataclass(frozen=True, slots=True)
class Set:
    """``name`` becomes ``value``; gives the number of this write."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Gives (value, number of the last write), or None."""

    name: str


class Registers:
    """See ``consensus/raft/state_machine.py``."""

    def asks(self, command: object) -> bool:
        """Reads do."""
        return type(command) is Read

    def encode(self, command: object) -> bytes:
        """[name, value]."""
        if not isinstance(command, Set):
            raise Refused("unknown-command", f"registers have no command {type(command).__name__}")
        return cbor.encode([command.name, command.value])

    def decode(self, data: bytes) -> Set:
        """Raises BadInput ``bad-command``."""
        value = cbor.decode(data, max_bytes=len(data), max_depth=1)
        if type(value) is list and len(value) == 2 and type(value[0]) is str and type(value[1]) is bytes:
            return Set(value[0], value[1])
        raise BadInput("bad-command", "this is no write of a register")

    def apply(self, view: View, command: object, at_ms: int) -> tuple[int, tuple[Write, ...]]:
        """The write's number."""
        assert isinstance(command, Set)
        if len(command.name) > MAX_NAME_BYTES:
            raise BadInput("bad-command", "the command is outside its bounds: its name is too long")
        key = command.name.encode()
        found = _read(view, key)
        number = 1 if found is None else found[1] + 1
        return number, (Put(key, cbor.encode([number, at_ms, command.value])),)

    def query(self, view: View, question: object) -> tuple[bytes, int] | None:
        """What the register holds."""
        assert isinstance(question, Read)
        return _read(view, question.name.encode())


def _read(view: View, key: bytes) -> tuple[bytes, int] | None:
    raw = view.get(key)
    if raw is None:
        return None
    value = cbor.decode(raw, max_bytes=len(raw), max_depth=1)
    assert isinstance(value, list)
    number, _, held = value
    assert isinstance(number, int) and isinstance(held, bytes)
    return held, number
