"""The data of an entry: a time, and commands by who proposed them. One entry carries what came together, so that its cost is shared."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshos import cbor
from meshos.consensus.raft.entries import bad_message, is_number
from meshos.consensus.raft.limits import MAX_COMMANDS, MAX_ENTRY_BYTES, MAX_NODE_CHARS
from meshos.ids import NodeId


@dataclass(slots=True)
class Proposed:
    """Commands of ``node`` in its ``session``, as (number, bytes), in order. All its numbers up to ``floor`` are settled."""

    node: NodeId
    session: int
    floor: int
    commands: list[tuple[int, bytes]] = field(default_factory=list)


def encode_batch(at_ms: int, batch: list[Proposed]) -> bytes:
    """[time, [[node, session, floor, [[number, command], …]], …]]."""
    return cbor.encode([at_ms, [[each.node, each.session, each.floor, each.commands] for each in batch]])


def packed(proposals: Sequence[Proposed], *, commands: int, size: int) -> list[list[Proposed]]:
    """``proposals`` in the same order as batches of at most so many commands, and as many bytes of them unless one alone is larger."""
    batches: list[list[Proposed]] = []
    count = held = 0
    for each in proposals:
        part: Proposed | None = None
        for number, command in each.commands:
            if not batches or count >= commands or (count and held + len(command) > size):
                batches.append([])
                part, count, held = None, 0, 0
            if part is None:
                part = Proposed(each.node, each.session, each.floor)
                batches[-1].append(part)
            part.commands.append((number, command))
            count += 1
            held += len(command)
    return batches


def decode_batch(data: bytes) -> tuple[int, list[Proposed]]:
    """The time, and the proposals; raises Refused ``too-large``, ``bad-encoding`` or ``bad-raft-message``."""
    value = cbor.decode(data, max_bytes=MAX_ENTRY_BYTES, max_depth=5)
    if type(value) is not list or len(value) != 2 or not is_number(value[0]) or type(value[1]) is not list or len(value[1]) > MAX_COMMANDS:
        raise bad_message("a batch")
    at_ms = value[0]
    assert isinstance(at_ms, int)
    return at_ms, [_proposed(each) for each in value[1]]


def _proposed(value: cbor.Value) -> Proposed:
    if type(value) is not list or len(value) != 4:
        raise bad_message("a batch")
    node, session, floor, commands = value
    if type(node) is not str or not 0 < len(node) <= MAX_NODE_CHARS or type(commands) is not list or len(commands) > MAX_COMMANDS:
        raise bad_message("a batch")
    if not (is_number(session) and is_number(floor)):
        raise bad_message("a batch")
    found = []
    for pair in commands:
        if type(pair) is not list or len(pair) != 2 or not is_number(pair[0]) or type(pair[1]) is not bytes:
            raise bad_message("a batch")
        found.append((pair[0], pair[1]))
    return Proposed(NodeId(node), session, floor, found)  # type: ignore[arg-type]
