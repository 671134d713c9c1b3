"""The state machine of the scenario: registers under names, each with a counter of its writes, which shows what was applied twice."""

from collections.abc import Hashable
from dataclasses import dataclass

from meshos import cbor
from meshos.effects import Put, Write
from meshos.errors import BadInput, Refused
from meshos.simulations.linearizability import UNKNOWN, Model, by_key
from meshos.storage.store import View

MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Set:
    """``name`` becomes ``value``; gives the number of this write of the register, from 1 on. ``ballast`` bytes lie beside the value."""

    name: str
    value: str
    ballast: int = 0


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
        """[name, value, ballast]."""
        if not isinstance(command, Set):
            raise Refused("unknown-command", f"registers have no command {type(command).__name__}")
        return cbor.encode([command.name, command.value, bytes(command.ballast)])

    def decode(self, data: bytes) -> Set:
        """Raises BadInput ``bad-command``."""
        value = cbor.decode(data, max_bytes=len(data), max_depth=1)
        if type(value) is list and len(value) == 3:
            name, held, ballast = value
            if type(name) is str and type(held) is str and type(ballast) is bytes:
                return Set(name, held, len(ballast))
        raise BadInput("bad-command", "this is no write of a register")

    def apply(self, view: View, command: object, at_ms: int) -> tuple[int, tuple[Write, ...]]:
        """The write's number."""
        assert isinstance(command, Set)
        if not 0 < len(command.name) <= MAX_NAME_CHARS:
            raise BadInput("bad-command", "the command is outside its bounds: its name is too long or empty")
        found = _read(view, command.name)
        number = 1 if found is None else found[1] + 1
        return number, (Put(command.name.encode(), cbor.encode([command.value, number, at_ms, bytes(command.ballast)])),)

    def query(self, view: View, question: object) -> tuple[str, int] | None:
        """What the register holds."""
        assert isinstance(question, Read)
        return _read(view, question.name)


def _read(view: View, name: str) -> tuple[str, int] | None:
    raw = view.get(name.encode())
    if raw is None:
        return None
    value = cbor.decode(raw, max_bytes=len(raw), max_depth=1)
    assert isinstance(value, list)
    held, number, _, _ = value
    assert isinstance(number, int) and isinstance(held, str)
    return held, number


def _step(state: tuple[str, int] | None, op: Hashable, result: object) -> tuple[bool, tuple[str, int] | None]:
    if isinstance(op, Read):
        return result is UNKNOWN or result == state, state
    assert isinstance(op, Set)
    number = 1 if state is None else state[1] + 1
    return result is UNKNOWN or result == number, (op.value, number)


def _name(op: Hashable) -> str:
    assert isinstance(op, Set | Read)
    return op.name


def model() -> Model[tuple[str, int] | None]:
    """What registers are to whoever uses them one by one."""
    return Model("numbered register", None, _step, split=by_key(_name), looks=lambda op, result: isinstance(op, Read))
