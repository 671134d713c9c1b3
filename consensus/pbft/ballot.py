"""This validator's own votes: the only place where its key is asked for, and where what it has signed is remembered.

Every promise is on disk before it is signed: a vote, a lock, a promise to leave a view is in a ``Persist`` of the same step as its
``Sign``, so no signature exists before its record does. After a crash the same vote is given again or none. A vote that would contradict
the record is a bug, and raises.

The lock is the newest q prepare votes held for the height in flight. It is written with the commit vote that it allows, and told with
the next promise, whose reader may have to carry the block over (Castro & Liskov 1999, section 4.4: the set P).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from meshos.consensus.pbft.block import PROTOCOL, Block, Certificate
from meshos.consensus.pbft.claims import vote_domain
from meshos.consensus.pbft.messages import NewView, Proposal, Signatures, ViewChange, Vote
from meshos.consensus.pbft.records import (
    BODIES,
    VIEW,
    VOTE,
    ViewRecord,
    Voted,
    body_key,
    decode_view,
    decode_voted,
    encode_view,
    encode_voted,
)
from meshos.consensus.pbft.view_change import Choice, change_domain, change_payload, new_view_domain, new_view_payload
from meshos.crypto.signing import Domain
from meshos.effects import Delete, Persist, Put, Sign, Write, WriteBack
from meshos.errors import Broken
from meshos.storage.store import View

Spoken = Vote | Proposal | ViewChange | NewView


class Ballot:
    """Reads its records from ``store``, writes by ``write``, and appends signatures to be made to ``out``, for ``machine`` to hear."""

    def __init__(
        self,
        genesis_hash: bytes,
        store: View,
        out: list[object],
        write: Callable[[Persist | WriteBack], None],
        machine: str = PROTOCOL,
    ) -> None:
        self._genesis_hash = genesis_hash
        self._out = out
        self._write = write
        self._machine = machine
        self._ops = 0
        self._signing: dict[int, Spoken] = {}
        voted, record = store.get(VOTE), store.get(VIEW)
        self.voted = Voted() if voted is None else decode_voted(voted)
        self.record = ViewRecord(0, 0, 0, Choice(1)) if record is None else decode_view(record)
        self._bodies = {key for key, _ in store.scan(BODIES)}
        self.index: int | None = None

    # -- views ---------------------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int, first: int, index: int | None) -> None:
        """Another set of validators decides from the height ``first`` on; ``index`` is this node's seat. What was promised before binds no
        longer, what was voted stays written."""
        self.index = index
        if self.record.epoch != epoch:
            self.record = ViewRecord(epoch, 0, 0, Choice(first))
            self._signing.clear()

    def enter(self, view: int, choice: Choice) -> None:
        """Be in ``view``, by its proof: what it must begin with is on disk before any vote in it."""
        self.record = ViewRecord(self.record.epoch, view, view, choice)
        self._write(Persist((Put(VIEW, encode_view(self.record)),)))

    def follow(self, view: int, height: int) -> None:
        """Be in ``view``, since a block at ``height`` was decided in it; not if a later view was promised."""
        if view > self.record.view and view >= self.record.promised:
            self.record = ViewRecord(self.record.epoch, view, view, Choice(height))
            self._write(WriteBack((Put(VIEW, encode_view(self.record)),)))

    def promise(self, view: int, height: int, head: bytes) -> None:
        """Vote in no view below ``view`` any more, with ``height`` committed. May be said again when more is committed."""
        assert self.index is not None
        if view < self.record.promised or view <= self.record.view:
            raise Broken("vote-contradicts", f"a promise of view {view} after one of {self.record.promised}")
        prepared: tuple[int, bytes] | None = None
        proof: Signatures = ()
        lock = self.voted.lock
        if lock is not None and (self.voted.epoch, self.voted.height) == (self.record.epoch, height + 1):
            prepared, proof = (lock[0], lock[1]), lock[2]
        self.record = replace(self.record, promised=view)
        self._write(Persist((Put(VIEW, encode_view(self.record)),)))
        change = ViewChange(self.record.epoch, view, height, head, prepared, proof, self.index, b"")
        self._sign(change, change_domain(self._genesis_hash, change), change_payload(change))

    def show(self, message: NewView) -> None:
        """Sign the proof of a new view."""
        self._sign(message, new_view_domain(self._genesis_hash, message), new_view_payload(message))

    # -- votes ---------------------------------------------------------------------------------------------------------

    def has_prepared(self, height: int) -> bool:
        """Whether the prepare vote of this height and view is given."""
        voted = self.voted
        here = (voted.epoch, voted.height, voted.view) == (self.record.epoch, height, self.record.view)
        return here and (voted.prepared is not None or voted.committed is not None)

    def has_committed(self, height: int) -> bool:
        """The same of the commit vote."""
        voted = self.voted
        return (voted.epoch, voted.height, voted.view) == (self.record.epoch, height, self.record.view) and voted.committed is not None

    def prepare(self, block: Block, *, propose: bool) -> None:
        """Vote for ``block`` in this view; with ``propose`` the vote goes out with the block."""
        vote = self._vote("prepare", block.header.height, block.hash)
        if self.has_prepared(vote.height):
            raise Broken("vote-contradicts", f"a second prepare vote at height {vote.height} in view {vote.view}")
        self._advance(vote.height)
        self.voted = replace(self.voted, prepared=vote.hash)
        self._persist(block)
        spoken: Spoken = Proposal(vote.view, block, vote.index, b"") if propose else vote
        self._sign(spoken, vote_domain(self._genesis_hash, vote), vote.hash)

    def commit(self, block: Block, prepared: Certificate) -> None:
        """Vote that ``block`` is prepared, and be locked on it."""
        vote = self._vote("commit", block.header.height, block.hash)
        if self.has_committed(vote.height):
            raise Broken("vote-contradicts", f"a second commit vote at height {vote.height} in view {vote.view}")
        self._advance(vote.height)
        self.voted = replace(self.voted, committed=vote.hash, lock=(prepared.view, vote.hash, prepared.signatures))
        self._persist(block)
        self._sign(vote, vote_domain(self._genesis_hash, vote), vote.hash)

    def repeat(self, height: int, proposed: Mapping[bytes, Block]) -> None:
        """Sign again what was voted in this view at ``height``, since a restart may have come before it was sent; the primary's vote with
        the block that it has ``proposed``."""
        voted, record = self.voted, self.record
        if (voted.epoch, voted.height, voted.view) != (record.epoch, height, record.view):
            return
        if voted.prepared is not None:
            vote = self._vote("prepare", height, voted.prepared)
            block = proposed.get(vote.hash)
            spoken: Spoken = vote if block is None else Proposal(vote.view, block, vote.index, b"")
            self._sign(spoken, vote_domain(self._genesis_hash, vote), vote.hash)
        if voted.committed is not None:
            vote = self._vote("commit", height, voted.committed)
            self._sign(vote, vote_domain(self._genesis_hash, vote), vote.hash)

    def vouch(self, epoch: int, height: int, digest: bytes, index: int) -> None:
        """Vote for a checkpoint, in the seat that this node had when it was decided. It follows from what was committed, so it needs no
        record."""
        vote = Vote("checkpoint", epoch, 0, height, digest, index, b"")
        self._sign(vote, vote_domain(self._genesis_hash, vote), digest)

    def signed(self, op: int, signature: bytes) -> Spoken | None:
        """What was to be signed under ``op``; None where it has become needless."""
        spoken = self._signing.pop(op, None)
        return None if spoken is None else replace(spoken, signature=signature)

    def let_go(self, height: int) -> tuple[Write, ...]:
        """The writes that forget the blocks voted for up to ``height``, which is decided."""
        limit = body_key(height + 1, b"")
        gone = [key for key in sorted(self._bodies) if key < limit]
        self._bodies.difference_update(gone)
        return tuple(Delete(key) for key in gone)

    def _vote(self, phase: str, height: int, block: bytes) -> Vote:
        assert self.index is not None and phase in ("prepare", "commit")
        record = self.record
        if record.promised > record.view:
            raise Broken("vote-contradicts", f"a vote in view {record.view} after the promise of {record.promised}")
        return Vote("prepare" if phase == "prepare" else "commit", record.epoch, record.view, height, block, self.index, b"")

    def _advance(self, height: int) -> None:
        """Turn the record to this height and view; the lock stays for as long as the height does."""
        voted, record = self.voted, self.record
        here = (record.epoch, height, record.view)
        if here < voted.order[:3]:
            raise Broken("vote-contradicts", f"a vote at {here} after one at {voted.order}")
        if here != voted.order[:3]:
            lock = voted.lock if (voted.epoch, voted.height) == (record.epoch, height) else None
            self.voted = Voted(record.epoch, height, record.view, None, None, lock)

    def _persist(self, block: Block) -> None:
        writes: list[Write] = []
        key = body_key(block.header.height, block.hash)
        if key not in self._bodies:
            self._bodies.add(key)
            writes.append(Put(key, block.encoded))
        self._write(Persist((*writes, Put(VOTE, encode_voted(self.voted)))))

    def _sign(self, spoken: Spoken, domain: Domain, payload: bytes) -> None:
        self._ops += 1
        self._signing[self._ops] = spoken
        self._out.append(Sign(self._machine, self._ops, domain, payload))
