"""Validators that lie: real replicas whose words are twisted on the way out, by somebody who holds their key.

What a liar may do is everything that its key and its place allow: say different things to different peers, withhold, repeat, make up
proposals, votes, views, states. It cannot forge others' signatures. Each liar has habits of its own, drawn from the seed, since one
that does everything at once is soon found out.

Liars act together through a ``Plot``: when one of them proposes two blocks for one height, each to half of the mesh, all of them vote for
both, to each half for its own. With up to f liars that must fail; with f + 1 it splits the mesh, which the checkers must see.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from meshos.consensus.pbft.block import Block, Header, requests_root
from meshos.consensus.pbft.claims import vote_domain
from meshos.consensus.pbft.codec import decode, encode
from meshos.consensus.pbft.messages import (
    Blocks,
    Body,
    Checkpoint,
    Checkpoints,
    ChunkOf,
    Fetch,
    FetchChunk,
    Message,
    NewView,
    Phase,
    Proposal,
    Relay,
    Seen,
    Status,
    ViewChange,
    Vote,
)
from meshos.consensus.pbft.replica import CAST, Replica
from meshos.consensus.pbft.view_change import change_domain, change_payload, new_view_domain, new_view_payload
from meshos.crypto.signing import Signer
from meshos.effects import Ahead, Cast, Heard
from meshos.errors import MeshError
from meshos.ids import NodeId
from meshos.storage.store import Snapshot

HABITS = (
    "equivocates",
    "withholds",
    "silent to some",
    "repeats",
    "wrong roots",
    "forges views",
    "forges proofs",
    "lies of heights",
    "false states",
    "false checkpoints",
    "denies",
    "garbage",
)
TALES = ("", "", "old states", "epochs alone", "lost states", "taken back")
"""What it answers whoever is behind: the truth; or what is genuine and leads nowhere; or states that nobody else has any more, of which it
gives false parts; or blocks that it claims, takes back, and claims again."""

TOLD_OLD, TOLD_EPOCHS = "a liar told of an old state", "a liar told of epochs that lead to no state"
TOLD_LOST, TAKEN_BACK = "a liar told of a state that nobody else had any more", "a liar took back what it had claimed"
LATER = 6
"""So many checkpoints later nobody has the state of the first any more."""
ONCE_MORE_S, PUSHES_S = 0.003, 0.03
"""So much later it claims what it has taken back; and so often it offers a state to whoever is behind."""

KEPT = 64
_VOTED: tuple[Phase, ...] = ("prepare", "commit")


@dataclass(slots=True)
class Plot:
    """What the liars have agreed on: for a (epoch, view, height) which hash each peer is to believe in."""

    rng: random.Random
    variants: dict[tuple[int, int, int], dict[NodeId, bytes]] = field(default_factory=dict)

    def split(self, peers: Sequence[NodeId], one: bytes, other: bytes, slot: tuple[int, int, int]) -> dict[NodeId, bytes]:
        """Half of the peers is to believe in ``one``, half in ``other``."""
        known = self.variants.get(slot)
        if known is None:
            shuffled = self.rng.sample(list(peers), k=len(peers))
            half = len(shuffled) // 2
            known = {peer: one if place < half else other for place, peer in enumerate(shuffled)}
            self.variants[slot] = known
        return known

    def believed(self, vote: Vote, peer: NodeId) -> bytes | None:
        """What ``peer`` is to be told instead."""
        return self.variants.get((vote.epoch, vote.view, vote.height), {}).get(peer)


class Liar:
    """The machine "pbft" of a lying node: ``inner`` is an honest replica that does not know."""

    visited: Callable[[str], None] = staticmethod(lambda _: None)
    """Told of the situations that it brings others into."""

    def __init__(self, inner: Replica, signer: Signer, rng: random.Random, plot: Plot, ids: Sequence[NodeId]) -> None:
        self.inner = inner
        self._signer = signer
        self._mesh = inner.config.genesis_hash
        self._rng = rng
        self._plot = plot
        self._ids = [node for node in ids if node != inner.config.node]
        self.habits = set(rng.sample(HABITS, k=rng.choice((1, 3, 3, 6))))
        self._mute = set(rng.sample(self._ids, k=rng.randint(1, len(self._ids) // 2)))
        self._kept: list[bytes] = []
        self._voted: set[tuple[int, int, int]] = set()
        self._wrong: dict[tuple[int, int, int], Block] = {}
        self._oldest: tuple[Checkpoint, Snapshot] | None = None
        self._later: list[tuple[float, Cast]] = []
        apart = random.Random(str(rng.getstate()[1][:4]))  # so that the other habits of a seed stay what they were
        self._tale = apart.choice(TALES)

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        told = self._tell(now, event)
        due, self._later = [cast for at, cast in self._later if at <= now], [(at, cast) for at, cast in self._later if at > now]
        found = [*told, *due]
        for effect in [] if told else self.inner.step(now, event):
            if isinstance(effect, Cast):
                found += self._twist(effect)
            else:
                found.append(effect)
        return found + self._conspire()

    def deadline(self) -> float | None:
        """See ``meshos.effects.Machine``."""
        inner = self.inner.deadline()
        due = [at for at, _ in self._later] + ([] if inner is None else [inner])
        return min(due, default=None)

    def _has(self, habit: str, share: float = 1.0) -> bool:
        return habit in self.habits and self._rng.random() < share

    # -- what goes out -------------------------------------------------------------------------------------------------

    def _twist(self, cast: Cast) -> list[object]:
        if self._has("withholds", 0.3) or ("silent to some" in self.habits and cast.to in self._mute):
            return []
        body = self._lie(cast.to, cast.body)
        if self._has("repeats", 0.2):
            self._keep(body)
        again = [Cast(cast.to, CAST, self._rng.choice(self._kept))] if self._kept and self._has("repeats", 0.1) else []
        garbage = [Cast(cast.to, CAST, self._garbage(body))] if self._has("garbage", 0.05) else []
        return [replace(cast, body=body), *again, *garbage]

    def _keep(self, body: bytes) -> None:
        if len(self._kept) >= KEPT:
            self._kept[self._rng.randrange(KEPT)] = body
        else:
            self._kept.append(body)

    def _garbage(self, body: bytes) -> bytes:
        cut = self._rng.randrange(len(body) + 1)
        return body[:cut] + bytes([self._rng.randrange(256)]) + body[cut + 1 :]

    def _lie(self, to: NodeId, body: bytes) -> bytes:
        message = decode(body)
        lies: dict[type, Callable[[NodeId, Any], Message]] = {
            Proposal: self._proposal,
            Vote: self._vote,
            ViewChange: self._change,
            NewView: self._new_view,
            Status: self._status,
            Blocks: self._blocks,
            Body: self._body,
            Checkpoints: self._checkpoints,
            ChunkOf: self._chunk,
            Seen: self._seen,
        }
        lie = lies.get(type(message))
        twisted = message if lie is None else lie(to, message)
        return body if twisted is message else encode(twisted)

    def _proposal(self, to: NodeId, proposal: Proposal) -> Proposal:
        block = proposal.block
        slot = (block.header.epoch, proposal.view, block.header.height)
        if "wrong roots" in self.habits:
            wrong = self._wrong_block(block, slot)
            if wrong is not block:
                return self._signed_proposal(proposal, wrong)
        if "equivocates" in self.habits:
            other = self._variant(block, slot)
            believed = self._plot.split(self._ids, block.hash, other.hash, slot)
            if believed.get(to) == other.hash:
                return self._signed_proposal(proposal, other)
        return proposal

    def _wrong_block(self, block: Block, slot: tuple[int, int, int]) -> Block:
        """One that does not follow, the same for all peers, now and then."""
        if slot not in self._wrong:
            wrong = self._rng.randbytes(32)
            header = block.header
            headers = (replace(header, state_root=wrong), replace(header, next_validators=wrong), replace(header, parent=wrong))
            self._wrong[slot] = Block(self._rng.choice(headers), block.requests) if self._rng.random() < 0.3 else block
        return self._wrong[slot]

    def _variant(self, block: Block, slot: tuple[int, int, int]) -> Block:
        """Another block in its place: without its last request, or a millisecond later."""
        requests = block.requests[:-1] if len(block.requests) > 1 else block.requests
        moved = replace(
            block.header,
            time_ms=block.header.time_ms + 1,
            requests_root=requests_root(Block(block.header, requests).request_hashes),
        )
        return Block(moved, requests)

    def _signed_proposal(self, proposal: Proposal, block: Block) -> Proposal:
        unsigned = Proposal(proposal.view, block, proposal.index, b"")
        return replace(unsigned, signature=self._sign_vote(unsigned.vote))

    def _sign_vote(self, vote: Vote) -> bytes:
        return self._signer.sign(vote_domain(self._mesh, vote), vote.hash)

    def _vote(self, to: NodeId, vote: Vote) -> Vote:
        if vote.phase == "checkpoint":
            if self._has("false checkpoints", 0.7):
                return self._voting(replace(vote, hash=self._rng.randbytes(32)))
            return vote
        believed = self._plot.believed(vote, to)
        if believed is not None and believed != vote.hash:
            return self._voting(replace(vote, hash=believed))
        if self._has("equivocates", 0.1):
            return self._voting(replace(vote, hash=self._rng.randbytes(32)))
        return vote

    def _voting(self, vote: Vote) -> Vote:
        return replace(vote, signature=self._sign_vote(vote))

    def _change(self, to: NodeId, change: ViewChange) -> ViewChange:
        """What it holds prepared, and how far it is, it denies or invents."""
        if not self._has("forges views", 0.7):
            return change
        twisted = replace(change, prepared=None, proof=())
        match self._rng.randrange(4):
            case 0 if change.height > 0:
                twisted = replace(twisted, height=self._rng.randrange(change.height), hash=self._rng.randbytes(32))
            case 1:
                twisted = replace(twisted, height=change.height + self._rng.choice((1, 5, 10**6)))
            case 2:
                twisted = replace(change, prepared=(max(0, change.view - 1), self._rng.randbytes(32)), proof=change.proof)
        return replace(twisted, signature=self._signer.sign(change_domain(self._mesh, twisted), change_payload(twisted)))

    def _new_view(self, to: NodeId, message: NewView) -> NewView:
        """A proof that leaves out what must be carried over, or that rests on votes nobody gave."""
        if not self._has("forges proofs", 0.7):
            return message
        changes = message.changes
        match self._rng.randrange(3):
            case 0:  # fewer votes than a quorum, those that hold nothing
                changes = tuple(change for change in changes if change.prepared is None) or changes[:1]
            case 1:  # its own votes changed
                changes = tuple(replace(change, prepared=None) for change in changes)
            case 2:  # all heights lowered
                changes = tuple(replace(change, height=max(0, change.height - 1), prepared=None) for change in changes)
        twisted = replace(message, changes=changes, proof=())
        return replace(twisted, signature=self._signer.sign(new_view_domain(self._mesh, twisted), new_view_payload(twisted)))

    def _status(self, to: NodeId, status: Status) -> Status:
        if self._has("lies of heights", 0.5):
            return replace(status, height=self._rng.choice((0, status.height + 3, status.height + 10**6)))
        return status

    def _blocks(self, to: NodeId, message: Blocks) -> Blocks:
        if self._tale:  # it keeps no old blocks, it says: whoever fell behind is to ask it for a state
            return Blocks(message.height, message.height, ())
        if not self._has("false states", 0.5) or not message.blocks:
            return message
        place = self._rng.randrange(len(message.blocks))
        certified = message.blocks[place]
        header: Header = replace(certified.block.header, time_ms=certified.block.header.time_ms + 1)
        forged = replace(certified, block=Block(header, certified.block.requests))
        return replace(message, blocks=(*message.blocks[:place], forged, *message.blocks[place + 1 :]), base=self._rng.choice((1, 50)))

    def _body(self, to: NodeId, message: Body) -> Body:
        if not self._has("false states", 0.5):
            return message
        header = replace(message.block.header, time_ms=message.block.header.time_ms + 1)
        return Body(Block(header, message.block.requests))

    def _checkpoints(self, to: NodeId, message: Checkpoints) -> Checkpoints:
        """Genuine and of no use, for as long as it is asked: the oldest state that it has met, or epochs that lead to none."""
        first = self.inner.core.chain.step_into(1)  # genuine, and known to whoever has come so far
        if self._tale == "epochs alone" and first is not None:
            self.visited(TOLD_EPOCHS)
            return Checkpoints((first,), None)
        if self._tale == "old states" and self._oldest is not None:
            self.visited(TOLD_OLD)
            return Checkpoints((), self._oldest[0])
        if self._tale == "lost states" and self._oldest is not None and message.checkpoint is not None:
            if self._oldest[0].header.height < message.checkpoint.header.height:
                self.visited(TOLD_LOST)
            return Checkpoints(message.steps, self._oldest[0])
        return message

    def _tell(self, now: float, event: object) -> list[object]:
        """What its tale makes it say of its own, unasked or in place of an answer."""
        if self._tale in ("old states", "lost states"):
            self._keep_state()
        heard = read(event) if self._tale and isinstance(event, Heard) else None
        if not isinstance(event, Heard) or heard is None:
            return []
        told: list[Message] = []
        match self._tale, heard:
            case "old states", FetchChunk(height, at) if self._oldest is not None and height == self._oldest[0].header.height:
                told = [ChunkOf(height, at, self.inner.core.desk.application.chunk(self._oldest[1], at))]
            case "lost states", FetchChunk(height, at):
                told = [ChunkOf(height, at, b"")]
            case "lost states", Status(height=height) if height < self.inner.core.chain.height:
                top = self.inner.core.chain.height
                offer = Cast(event.peer.node, CAST, encode(Blocks(top, top, ())))  # again and again: before anybody else does
                others = [(at, cast) for at, cast in self._later if cast.to != event.peer.node]
                self._later = [*others, *((now + PUSHES_S * number, offer) for number in range(KEPT))]
            case "taken back", Status(height=height):
                told = [Blocks(height + 1, 1, ())]
            case "taken back", Fetch(height):
                self.visited(TAKEN_BACK)
                told = [Blocks(height - 1, 1, ())]
                again = Cast(event.peer.node, CAST, encode(Blocks(height, 1, ())))
                self._later = [*self._later[-KEPT:], (now + ONCE_MORE_S, again)]
        return [Cast(event.peer.node, CAST, encode(message)) for message in told]

    def _keep_state(self) -> None:
        """It keeps the oldest state that it has met, whole; or one that the others have let go by now."""
        core = self.inner.core
        stable = core._checkpointing.stable
        if stable is None or (self._oldest is not None and self._tale == "old states"):
            return
        lasting = LATER * core.desk.config.checkpoint_interval
        if self._oldest is None or stable.header.height - self._oldest[0].header.height >= lasting:
            snapshot = core._checkpointing.snapshot_at(stable.header.height)
            self._oldest = None if snapshot is None else (stable, snapshot)

    def _chunk(self, to: NodeId, message: ChunkOf) -> ChunkOf:
        return replace(message, data=self._garbage(message.data)) if self._has("false states", 0.7) else message

    def _seen(self, to: NodeId, message: Seen) -> Seen:
        return Seen(message.epoch, None, None) if self._has("denies", 0.8) else message

    # -- what it does unasked ------------------------------------------------------------------------------------------

    def _conspire(self) -> list[object]:
        """Vote for both blocks of a plot, to each side for its own, as soon as there is one."""
        core = self.inner.core
        index = core.desk.index
        if index is None:
            return []
        found: list[object] = []
        for slot, believed in list(self._plot.variants.items())[-4:]:
            epoch, view, height = slot
            if slot in self._voted or epoch != core.chain.epoch or height < core.chain.height:
                continue
            self._voted.add(slot)
            for peer, block in believed.items():
                for phase in _VOTED:
                    vote = Vote(phase, epoch, view, height, block, index, b"")
                    found.append(Ahead(Cast(peer, CAST, encode(self._voting(vote)))))
        if self._has("forges views", 0.01):
            found += self._lonely_change(index)
        if self._has("garbage", 0.01):
            found.append(Cast(self._rng.choice(self._ids), CAST, encode(Relay((self._rng.randbytes(40),)))))
        return found

    def _lonely_change(self, index: int) -> list[object]:
        """Ask some for a view that nobody needs."""
        chain, view = self.inner.core.chain, self.inner.core.view
        change = ViewChange(chain.epoch, view + self._rng.choice((1, 2, 1000)), chain.height, chain.head, None, (), index, b"")
        signature = self._signer.sign(change_domain(self._mesh, change), change_payload(change))
        body = encode(replace(change, signature=signature))
        return [Cast(peer, CAST, body) for peer in self._rng.sample(self._ids, k=self._rng.randint(1, len(self._ids)))]


def read(heard: Heard) -> Message | None:
    """The message that was heard; None where it is none."""
    try:
        return decode(heard.body)
    except MeshError:
        return None
