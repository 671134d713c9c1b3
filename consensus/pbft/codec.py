"""Messages as bytes, and what must be verified before one is believed.

A message is canonical CBOR ``[number, field, …]``. Decoding checks sizes first, then the form; nothing of it costs more than reading
it once. What it gives is well formed and nothing else: ``claims.py`` says which signatures must hold.
"""

import itertools
from collections.abc import Callable
from typing import Any

from meshos import cbor
from meshos.consensus.pbft.block import (
    block_of,
    certificate_fields,
    certificate_of,
    certified_of,
    header_fields,
    header_of,
    is_number,
    signature_of,
)
from meshos.consensus.pbft.limits import (
    HASH_BYTES,
    MAX_BLOCK_REQUESTS,
    MAX_CHUNK_BYTES,
    MAX_EPOCH_STEPS,
    MAX_FETCHED_BLOCKS,
    MAX_MESSAGE_BYTES,
    MAX_REQUEST_BYTES,
    MAX_VALIDATORS,
    SIGNATURE_BYTES,
)
from meshos.consensus.pbft.messages import (
    PHASES,
    AskSeen,
    Blocks,
    Body,
    Checkpoint,
    Checkpoints,
    ChunkOf,
    EpochStep,
    Evidence,
    Fetch,
    FetchBody,
    FetchCheckpoint,
    FetchChunk,
    Message,
    NewView,
    Proposal,
    Relay,
    Seen,
    Signatures,
    Status,
    ViewChange,
    Vote,
)
from meshos.consensus.pbft.validators import validators_fields, validators_of
from meshos.errors import Refused
from meshos.storage.limits import MAX_KEY_BYTES

_MAX_DEPTH = 6

_Fields = list[Any]  # of a decoded message: each reader looks at the type of what it takes


# -- out ---------------------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The canonical bytes of ``message``."""
    number, write, _ = _KINDS[type(message)]
    return cbor.encode([number, *write(message)])


def vote_fields(vote: Vote) -> _Fields:
    """A vote as a CBOR value."""
    return [PHASES.index(vote.phase), vote.epoch, vote.view, vote.height, vote.hash, vote.index, vote.signature]


def change_fields(change: ViewChange) -> _Fields:
    """A vote for a view as a CBOR value."""
    return [
        change.epoch,
        change.view,
        change.height,
        change.hash,
        change.prepared,
        change.proof,
        change.index,
        change.signature,
    ]


def checkpoint_fields(checkpoint: Checkpoint) -> _Fields:
    """A checkpoint as a CBOR value."""
    return [
        header_fields(checkpoint.header),
        certificate_fields(checkpoint.certificate),
        checkpoint.root,
        None if checkpoint.pending is None else validators_fields(checkpoint.pending),
        checkpoint.signatures,
    ]


def step_fields(step: EpochStep) -> _Fields:
    """The step into an epoch as a CBOR value."""
    return [header_fields(step.header), certificate_fields(step.certificate), validators_fields(step.validators)]


# -- in ----------------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Message:
    """The message; raises Refused ``too-large``, ``bad-encoding``, ``pbft-message-malformed`` or what its parts raise."""
    match cbor.decode(data, max_bytes=MAX_MESSAGE_BYTES, max_depth=_MAX_DEPTH):
        case [int() as number, *fields] if type(number) is int and number in _READERS:
            try:
                return _READERS[number](fields)
            except (ValueError, TypeError, LookupError) as error:
                raise Refused("pbft-message-malformed", f"this is no message of kind {number}: {error}") from error
    raise Refused("pbft-message-malformed", "this is no message between validators")


def vote_of(fields: _Fields) -> Vote:
    """The vote that a decoded value is; raises ValueError."""
    phase, epoch, view, height, hash_, index, signature = fields
    if _number(phase) >= len(PHASES):
        raise ValueError("no phase")
    return Vote(PHASES[phase], _number(epoch), _number(view), _number(height), _hash(hash_), _index(index), _signature(signature))


def change_of(fields: _Fields) -> ViewChange:
    """The vote for a view that a decoded value is; raises ValueError."""
    epoch, view, height, hash_, prepared, proof, index, signature = fields
    highest = None
    if prepared is not None:
        in_view, what = prepared
        highest = (_number(in_view), _hash(what))
        if highest[0] >= _number(view):
            raise ValueError("prepared in a later view than it asks for")
    elif proof:
        raise ValueError("a proof of nothing")
    return ViewChange(
        _number(epoch), _number(view), _number(height), _hash(hash_), highest, _signatures(proof), _index(index), _signature(signature)
    )


def checkpoint_of(fields: _Fields) -> Checkpoint:
    """The checkpoint that a decoded value is; raises ValueError."""
    header, certificate, root, pending, signatures = fields
    return Checkpoint(
        header_of(header),
        certificate_of(certificate),
        _hash(root),
        None if pending is None else validators_of(pending),
        _signatures(signatures),
    )


def step_of(fields: _Fields) -> EpochStep:
    """The step into an epoch that a decoded value is; raises ValueError or Refused."""
    header, certificate, validators = fields
    return EpochStep(header_of(header), certificate_of(certificate), validators_of(validators))


def _proposal(fields: _Fields) -> Proposal:
    view, block, index, signature = fields
    return Proposal(_number(view), block_of(block), _index(index), _signature(signature))


def _new_view(fields: _Fields) -> NewView:
    epoch, view, changes, proof, index, signature = fields
    if not 1 <= len(changes) <= MAX_VALIDATORS:
        raise ValueError("too many votes, or none")
    votes = tuple(change_of([*change[:5], [], *change[5:]]) for change in changes)
    if any(one.index >= other.index for one, other in itertools.pairwise(votes)):
        raise ValueError("votes out of order")
    return NewView(_number(epoch), _number(view), votes, _signatures(proof), _index(index), _signature(signature))


def _new_view_fields(message: NewView) -> _Fields:
    changes = [[*fields[:5], *fields[6:]] for fields in map(change_fields, message.changes)]
    return [message.epoch, message.view, changes, message.proof, message.index, message.signature]


def _status(fields: _Fields) -> Status:
    epoch, view, height = fields
    return Status(_number(epoch), _number(view), _number(height))


def _fetch(fields: _Fields) -> Fetch:
    height, follow = fields
    if not isinstance(follow, bool):
        raise TypeError("follow is true or false")
    return Fetch(_number(height), follow)


def _blocks(fields: _Fields) -> Blocks:
    height, base, blocks = fields
    if len(blocks) > MAX_FETCHED_BLOCKS:
        raise ValueError("too many blocks")
    return Blocks(_number(height), _number(base), tuple(certified_of(block) for block in blocks))


def _fetch_body(fields: _Fields) -> FetchBody:
    height, hash_ = fields
    return FetchBody(_number(height), _hash(hash_))


def _body(fields: _Fields) -> Body:
    (block,) = fields
    return Body(block_of(block))


def _relay(fields: _Fields) -> Relay:
    (requests,) = fields
    if not 1 <= len(requests) <= MAX_BLOCK_REQUESTS:
        raise ValueError("too many requests, or none")
    return Relay(tuple(_bytes(request, MAX_REQUEST_BYTES) for request in requests))


def _evidence(fields: _Fields) -> Evidence:
    one, other = fields
    return Evidence(vote_of(one), vote_of(other))


def _ask_seen(fields: _Fields) -> AskSeen:
    (epoch,) = fields
    return AskSeen(_number(epoch))


def _seen(fields: _Fields) -> Seen:
    epoch, vote, change = fields
    return Seen(_number(epoch), None if vote is None else vote_of(vote), None if change is None else change_of(change))


def _seen_fields(message: Seen) -> _Fields:
    vote, change = message.vote, message.change
    return [message.epoch, None if vote is None else vote_fields(vote), None if change is None else change_fields(change)]


def _fetch_checkpoint(fields: _Fields) -> FetchCheckpoint:
    (epoch,) = fields
    return FetchCheckpoint(_number(epoch))


def _checkpoints(fields: _Fields) -> Checkpoints:
    steps, checkpoint = fields
    if len(steps) > MAX_EPOCH_STEPS:
        raise ValueError("too many epochs")
    return Checkpoints(tuple(step_of(step) for step in steps), None if checkpoint is None else checkpoint_of(checkpoint))


def _checkpoints_fields(message: Checkpoints) -> _Fields:
    last = message.checkpoint
    return [[step_fields(step) for step in message.steps], None if last is None else checkpoint_fields(last)]


def _fetch_chunk(fields: _Fields) -> FetchChunk:
    height, at = fields
    return FetchChunk(_number(height), _bytes(at, MAX_KEY_BYTES))


def _chunk_of(fields: _Fields) -> ChunkOf:
    height, at, data = fields
    return ChunkOf(_number(height), _bytes(at, MAX_KEY_BYTES), _bytes(data, MAX_CHUNK_BYTES))


# -- fields ------------------------------------------------------------------------------------------------------------


def _number(value: object) -> int:
    if not is_number(value):
        raise ValueError("no number")
    return value


def _index(value: object) -> int:
    index = _number(value)
    if index >= MAX_VALIDATORS:
        raise ValueError("no index of a validator")
    return index


def _bytes(value: object, most: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > most:
        raise ValueError(f"not at most {most} bytes")
    return value


def _hash(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != HASH_BYTES:
        raise ValueError("no hash")
    return value


def _signature(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != SIGNATURE_BYTES:
        raise ValueError("no signature")
    return value


def _signatures(rows: _Fields) -> Signatures:
    if len(rows) > MAX_VALIDATORS:
        raise ValueError("too many signatures")
    signatures = tuple(signature_of(row) for row in rows)
    if any(one[0] >= other[0] for one, other in itertools.pairwise(signatures)):
        raise ValueError("signatures out of order")
    return signatures


_KINDS: dict[type, tuple[int, Callable[[Any], _Fields], Callable[[_Fields], Message]]] = {
    Vote: (1, vote_fields, vote_of),
    Proposal: (2, lambda m: [m.view, m.block.fields, m.index, m.signature], _proposal),
    ViewChange: (3, change_fields, change_of),
    NewView: (4, _new_view_fields, _new_view),
    Status: (5, lambda m: [m.epoch, m.view, m.height], _status),
    Fetch: (6, lambda m: [m.height, m.follow], _fetch),
    Blocks: (7, lambda m: [m.height, m.base, [block.fields for block in m.blocks]], _blocks),
    FetchBody: (8, lambda m: [m.height, m.hash], _fetch_body),
    Body: (9, lambda m: [m.block.fields], _body),
    Relay: (10, lambda m: [m.requests], _relay),
    Evidence: (11, lambda m: [vote_fields(m.one), vote_fields(m.other)], _evidence),
    AskSeen: (12, lambda m: [m.epoch], _ask_seen),
    Seen: (13, _seen_fields, _seen),
    FetchCheckpoint: (14, lambda m: [m.epoch], _fetch_checkpoint),
    Checkpoints: (15, _checkpoints_fields, _checkpoints),
    FetchChunk: (16, lambda m: [m.height, m.at], _fetch_chunk),
    ChunkOf: (17, lambda m: [m.height, m.at, m.data], _chunk_of),
}
"""Of each kind its number on the wire, how its fields are written and how they are read."""

_READERS = {number: read for number, _, read in _KINDS.values()}
