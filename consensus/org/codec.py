"""Commands as bytes: what a log keeps of them and sends to the other nodes of the organisation.

    [number of the kind, field, field …]        canonical CBOR, the fields in the order of the dataclass

A command is encoded once, by the node that proposes it. It is decoded wherever it is applied, so whatever does not have the types of its
kind is refused here, the same way on every node; sizes and meaning are the business of ``state.py``.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import cbor2

from meshos import cbor
from meshos.consensus.org.commands import (
    STATUSES,
    CallOff,
    Command,
    DeployAgent,
    PlaceAgent,
    Problem,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    RecordReceipts,
    RemoveNode,
    SetConfig,
    Tool,
    WithdrawAgent,
)
from meshos.errors import DONE, BadInput
from meshos.ids import NodeId, OrgDid, Peer, TaskId

Read = Callable[[Any], Any]
"""A field from its value; raises ValueError for a value of another type."""


def _exactly(kind: type) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(kind.__name__)
        return value

    return read


_text, _bytes, _flag = _exactly(str), _exactly(bytes), _exactly(bool)


def _number(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError("int")
    return value


def _list(value: Any, length: int | None = None) -> Sequence[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise ValueError("list")
    return value


def _or_none(read: Read) -> Read:
    return lambda value: None if value is None else read(value)


def _peer(value: Any) -> Peer:
    node, org = _list(value, 2)
    return Peer(NodeId(_text(node)), OrgDid(_text(org)))


def _tools(value: Any) -> tuple[Tool, ...]:
    return tuple(Tool(_text(name), _flag(rerun)) for name, rerun in (_list(tool, 2) for tool in _list(value)))


def _problem(value: Any) -> Problem:
    kind, name, detail, hint, outcome = map(_text, _list(value, 5))
    if outcome not in DONE:
        raise ValueError("outcome")
    return Problem(kind, name, detail, hint, outcome)


def _status(value: Any) -> str:
    if value not in STATUSES:
        raise ValueError("status")
    return str(value)


def _signatures(value: Any) -> tuple[tuple[TaskId, bytes], ...]:
    return tuple((TaskId(_text(task)), _bytes(signature)) for task, signature in (_list(pair, 2) for pair in _list(value)))


_KINDS: Final[tuple[tuple[type, tuple[Read, ...]], ...]] = (
    (DeployAgent, (_text, _text, _number, _bytes, _text, _bytes, _tools, _number, _text, _text, _number)),
    (WithdrawAgent, (_text, _number, _bytes, _text, _number)),
    (PlaceAgent, (_text, _text, _number)),
    (RecordIntent, (_text, _peer, _text, _text, _text, _flag, _bytes, _or_none(_bytes), _number, _text, _number)),
    (
        RecordOutcome,
        (_text, _status, _or_none(_bytes), _bytes, _or_none(_problem), _bytes, _bytes, _number, _text, _flag, _number),
    ),
    (RecordReceipts, (_signatures,)),
    (CallOff, (_text, _peer, _text, _text)),
    (SetConfig, (_text, _or_none(_bytes), _text)),
    (RecordLead, (_text, _number)),
    (RemoveNode, (_text, _text)),
)
"""The number of a kind is its place here: kinds are added at the end, and none is taken away."""

_NUMBERS = {kind: number for number, (kind, _) in enumerate(_KINDS)}


def encode(command: Command) -> bytes:
    """The bytes of ``command``."""
    return cbor.encode([_NUMBERS[type(command)], *_values(command)])


def decode(data: bytes) -> Command:
    """The command in ``data``; raises BadInput ``bad-command``."""
    try:
        value = cbor2.loads(data, max_depth=cbor.MAX_DEPTH, **cbor.STRICT)
        number, *fields = _list(value)
        kind, reads = _KINDS[_index(number)]
        if len(fields) != len(reads):
            raise ValueError("fields")
        command: Command = kind(*(read(field) for read, field in zip(reads, fields, strict=True)))
    except (cbor2.CBORDecodeError, ValueError, RecursionError, OverflowError) as error:
        raise BadInput("bad-command", "these bytes are no command of an organisation's state") from error
    return command


def _index(number: Any) -> int:
    if type(number) is not int or not 0 <= number < len(_KINDS):
        raise ValueError("kind")
    return number


def _values(command: Command) -> list[object]:
    values: list[object] = []
    for name in command.__dataclass_fields__:
        value = getattr(command, name)
        if isinstance(value, Peer):
            value = [value.node, value.org]
        elif isinstance(value, Problem):
            value = [value.kind, value.name, value.detail, value.hint, value.outcome]
        elif name == "tools":
            value = [[tool.name, tool.rerun] for tool in value]
        values.append(value)
    return values
