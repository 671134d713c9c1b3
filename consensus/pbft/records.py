"""What a replica keeps under ``b"pbft/"`` of its Store.

head                what was committed last
sets                who decides next, and who shall from the next boundary on
b/<height>          certified blocks
r/<request hash>    where a request was ordered, and what came of it
e/<epoch>           how the epoch began
checkpoint          the newest one that q validators signed
vote                the newest vote and the lock, on disk before the vote is signed
view                the view, the promise not to vote below, and what the view must carry over; on disk before the promise is signed
p/<height><hash>    blocks voted for at the height in flight
seen, seen/<node>   the newest votes and votes for a view seen of each validator (``witness.py``)
rolled              the epoch in which this disk turned out to be an old copy
lie/<epoch><index>  evidence
restoring           the checkpoint whose state is being laid down
"""

from dataclasses import dataclass

from meshos import cbor
from meshos.consensus.pbft.codec import vote_fields, vote_of
from meshos.consensus.pbft.limits import MAX_MESSAGE_BYTES
from meshos.consensus.pbft.messages import Signatures, Vote
from meshos.consensus.pbft.validators import ValidatorSet, validators_fields, validators_of
from meshos.consensus.pbft.view_change import Choice
from meshos.errors import Broken
from meshos.ids import NodeId

PREFIX = b"pbft/"
HEAD = b"pbft/head"
SETS = b"pbft/sets"
VOTE = b"pbft/vote"
VIEW = b"pbft/view"
SEEN = b"pbft/seen"
ROLLED = b"pbft/rolled"
CHECKPOINT = b"pbft/checkpoint"
RESTORING = b"pbft/restoring"
BODIES = b"pbft/p/"
BLOCKS = b"pbft/b/"
EPOCHS = b"pbft/e/"
LIES = b"pbft/lie/"


def block_key(height: int) -> bytes:
    """Of a certified block."""
    return BLOCKS + height.to_bytes(8, "big")


def request_key(request_hash: bytes) -> bytes:
    """Of a request that was ordered."""
    return b"pbft/r/" + request_hash


def epoch_key(epoch: int) -> bytes:
    """Of the step into an epoch."""
    return EPOCHS + epoch.to_bytes(8, "big")


def body_key(height: int, block: bytes) -> bytes:
    """Of a block that is voted for."""
    return BODIES + height.to_bytes(8, "big") + block


def change_key(node: NodeId) -> bytes:
    """Of the newest vote for a view of a validator."""
    return SEEN + b"/" + node.encode()


def lie_key(epoch: int, index: int) -> bytes:
    """Of evidence."""
    return LIES + epoch.to_bytes(8, "big") + index.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """See ``Chain``, whose fields these are."""

    height: int
    hash: bytes
    time_ms: int
    view: int
    root: bytes
    base: int
    first: int
    validators: ValidatorSet
    pending: ValidatorSet | None


@dataclass(frozen=True, slots=True)
class Voted:
    """The newest vote of this replica, and its lock.

    In ``view`` at ``height`` of ``epoch`` it has prepared ``prepared`` and committed ``committed`` (None: not voted). ``lock``: the
    highest view in which it holds q prepare votes for a block of ``height``, which block, and the votes.
    """

    epoch: int = 0
    height: int = 0
    view: int = 0
    prepared: bytes | None = None
    committed: bytes | None = None
    lock: tuple[int, bytes, Signatures] | None = None

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Grows with every vote: heights, views and phases never go back."""
        phase = 2 if self.committed is not None else 1 if self.prepared is not None else 0
        return self.epoch, self.height, self.view, phase


@dataclass(frozen=True, slots=True)
class ViewRecord:
    """In ``epoch`` this replica is in ``view``, which began as ``choice`` says, and votes in none below ``promised``."""

    epoch: int
    view: int
    promised: int
    choice: Choice


def encode_head(head: HeadRecord) -> bytes:
    """For ``HEAD``."""
    return cbor.encode([head.height, head.hash, head.time_ms, head.view, head.root, head.base, head.first])


def encode_sets(head: HeadRecord) -> bytes:
    """For ``SETS``, which changes seldom."""
    return cbor.encode([validators_fields(head.validators), None if head.pending is None else validators_fields(head.pending)])


def height_of(data: bytes) -> int:
    """The height that ``HEAD`` names."""
    height: int = read(data)[0]
    return height


def decode_head(data: bytes, sets: bytes) -> HeadRecord:
    """Of ``HEAD`` and ``SETS``."""
    height, block, time_ms, view, root, base, first = read(data)
    validators, pending = read(sets)
    waiting = None if pending is None else validators_of(pending)
    return HeadRecord(height, block, time_ms, view, root, base, first, validators_of(validators), waiting)


def encode_voted(voted: Voted) -> bytes:
    """For ``VOTE``."""
    return cbor.encode([voted.epoch, voted.height, voted.view, voted.prepared, voted.committed, voted.lock])


def decode_voted(data: bytes) -> Voted:
    """Of ``VOTE``."""
    epoch, height, view, prepared, committed, lock = read(data)
    if lock is not None:
        lock = (lock[0], lock[1], tuple((index, signature) for index, signature in lock[2]))
    return Voted(epoch, height, view, prepared, committed, lock)


def encode_view(record: ViewRecord) -> bytes:
    """For ``VIEW``."""
    choice = record.choice
    return cbor.encode([record.epoch, record.view, record.promised, choice.height, choice.hash, choice.view])


def decode_view(data: bytes) -> ViewRecord:
    """Of ``VIEW``."""
    epoch, view, promised, height, block, prepared_in = read(data)
    return ViewRecord(epoch, view, promised, Choice(height, block, prepared_in))


def encode_votes(votes: list[Vote]) -> bytes:
    """For ``SEEN``."""
    return cbor.encode([vote_fields(vote) for vote in votes])


def decode_votes(data: bytes) -> list[Vote]:
    """Of ``SEEN``."""
    return [vote_of(fields) for fields in read(data)]


def encode_place(height: int, index: int, result: bytes) -> bytes:
    """For ``request_key``."""
    return cbor.encode([height, index, result])


def decode_place(data: bytes) -> tuple[int, int, bytes]:
    """Of ``request_key``: height, index in the block, result."""
    height, index, result = read(data)
    return height, index, result


def read(data: bytes) -> list:  # type: ignore[type-arg]  # our own bytes: what stands in them was typed when it was written
    """A record's fields; raises Broken ``agreement-broken`` if the disk gives something else."""
    value = cbor.decode(data, max_bytes=2 * MAX_MESSAGE_BYTES)
    if not isinstance(value, list):
        raise Broken("agreement-broken", "a record of the agreement between organisations cannot be read")
    return value
