"""Messages as bytes: a canonical CBOR list of the kind's number and the fields. Sizes are checked before anything is decoded, shapes
after."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from meshos import cbor
from meshos.consensus.raft import messages as m
from meshos.consensus.raft.entries import Entry, bad_message, is_number, read_entry
from meshos.consensus.raft.limits import MAX_CAST_BYTES, MAX_CHUNK_BYTES, MAX_COMMAND_BYTES, MAX_COMMANDS, MAX_ENTRIES
from meshos.effects import Cast
from meshos.ids import NodeId

HASH_BYTES = 32
_DEPTH = 3

_NUMBERED: tuple[type, ...] = (
    m.PreVote,
    m.PreVoteReply,
    m.Vote,
    m.VoteReply,
    m.TimeoutNow,
    m.Append,
    m.AppendReply,
    m.Heartbeat,
    m.HeartbeatReply,
    m.ReadIndex,
    m.ReadIndexReply,
    m.Chunk,
    m.ChunkReply,
    m.Forward,
)
"""A message's number is its place here; new ones go to the end."""

_FIELDS: dict[type, tuple[str, ...]] = {kind: tuple(field.name for field in fields(kind)) for kind in _NUMBERED}
_NUMBER_OF: dict[type, int] = {kind: number for number, kind in enumerate(_NUMBERED)}


def encode(message: m.Message) -> bytes:
    """The bytes of ``message``; the entries of an append are in it as they were made."""
    kind = type(message)
    number = _NUMBER_OF[kind]
    if kind is m.Append:
        assert isinstance(message, m.Append)
        raws = [entry.raw for entry in message.entries]
        return cbor.encode([number, message.term, message.prev_index, message.prev_term, message.commit, message.round, raws])
    return cbor.encode([number, *[getattr(message, name) for name in _FIELDS[kind]]])


def casts(protocol: str, letters: Sequence[tuple[NodeId, m.Message]]) -> list[Cast]:
    """``letters`` as they are sent. An append that goes to several followers is encoded once: those of one step are known by their
    place."""
    bodies: dict[tuple[int, int, int, int], bytes] = {}
    made = []
    for to, message in letters:
        if type(message) is m.Append:
            key = (message.prev_index, len(message.entries), message.commit, message.round)
            body = bodies.get(key)
            if body is None:
                body = bodies[key] = encode(message)
        else:
            body = encode(message)
        made.append(Cast(to, protocol, body))
    return made


def decode(body: bytes) -> m.Message:
    """The message in ``body``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-raft-message``."""
    value = cbor.decode(body, max_bytes=MAX_CAST_BYTES, max_depth=_DEPTH)
    if type(value) is not list or not value or type(value[0]) is not int or not 0 <= value[0] < len(_NUMBERED):
        raise bad_message("a message")
    kind, given = _NUMBERED[value[0]], value[1:]
    shape = _SHAPES[kind]
    if len(given) != len(shape) or not all(fits(field) for fits, field in zip(shape, given, strict=True)):
        raise bad_message(kind.__name__)
    return _made(kind, given)


def _made(kind: type, given: list[Any]) -> m.Message:
    """The message of ``kind`` with the fields ``given``, which have the shape for it."""
    if kind is m.Append:
        term, prev_index, prev_term, commit, round_, raws = given
        entries = tuple([read_entry(raw) for raw in raws])
        _must_follow(entries, prev_index, prev_term, term)
        return m.Append(term, prev_index, prev_term, commit, round_, entries)
    if kind is m.Forward:
        session, floor, proposals = given
        return m.Forward(session, floor, tuple([(number, command) for number, command in proposals]))
    made: m.Message = kind(*given)
    return made


def _must_follow(entries: tuple[Entry, ...], index: int, term: int, leader_term: int) -> None:
    for entry in entries:
        index += 1
        if entry.index != index or not term <= entry.term <= leader_term:
            raise bad_message("an append whose entries do not follow each other")
        term = entry.term


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_hash(value: object) -> bool:
    return type(value) is bytes and len(value) == HASH_BYTES


def _is_chunk(value: object) -> bool:
    return type(value) is bytes and len(value) <= MAX_CHUNK_BYTES


def _are_raws(value: object) -> bool:
    return type(value) is list and len(value) <= MAX_ENTRIES and all(type(raw) is bytes for raw in value)


def _are_proposals(value: object) -> bool:
    return type(value) is list and 0 < len(value) <= MAX_COMMANDS and all(_is_proposal(pair) for pair in value)


def _is_proposal(value: object) -> bool:
    if type(value) is not list or len(value) != 2:
        return False
    number, command = value
    return is_number(number) and type(command) is bytes and len(command) <= MAX_COMMAND_BYTES


_N, _B = is_number, _is_bool

_SHAPES: dict[type, tuple[Callable[[object], bool], ...]] = {
    m.PreVote: (_N, _N, _N),
    m.PreVoteReply: (_N, _B),
    m.Vote: (_N, _N, _N, _B),
    m.VoteReply: (_N, _B),
    m.TimeoutNow: (_N,),
    m.Append: (_N, _N, _N, _N, _N, _are_raws),
    m.AppendReply: (_N, _N, _B, _N, _N, _N),
    m.Heartbeat: (_N, _N, _N),
    m.HeartbeatReply: (_N, _N),
    m.ReadIndex: (_N, _N),
    m.ReadIndexReply: (_N, _N, _N),
    m.Chunk: (_N, _N, _N, _N, _B, _is_hash, _is_chunk),
    m.ChunkReply: (_N, _N, _N, _B),
    m.Forward: (_N, _N, _are_proposals),
}
"""What each field must be, in the order of the fields."""

assert all(len(_SHAPES[kind]) == len(_FIELDS[kind]) for kind in _NUMBERED)
