"""Liars of the storm: those of ``liars.py``, and with the attacks that each rule of the agreement is there to stop.

A puppet is an honest replica whose words are twisted on the way out. Besides, it *usurps*: out of the blue it shows the proof of a view
that it would lead (a forged one, or a true one of an epoch that is over), proposes another block there than the others are deciding, or
have just decided, and votes for it. And where a view must begin with a certain block it proposes another one, and keeps on doing so: to
whoever might have forgotten.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from meshos.consensus.pbft.block import Block
from meshos.consensus.pbft.codec import decode, encode
from meshos.consensus.pbft.messages import AskSeen, ChunkOf, Message, NewView, Proposal, ViewChange, Vote
from meshos.consensus.pbft.proposing import choose_requests, fresh_time, make_block, null_block
from meshos.consensus.pbft.replica import CAST, Replica
from meshos.consensus.pbft.view_change import change_domain, change_payload, choose, new_view_domain, new_view_payload
from meshos.crypto.signing import Signer
from meshos.effects import Cast, Heard
from meshos.ids import NodeId
from meshos.simulations.pbft.liars import Liar, Plot, read

PROOFS_KEPT = 32


class Puppet(Liar):
    """``eager`` is how often it usurps: a share of its steps."""

    def __init__(self, inner: Replica, signer: Signer, rng: random.Random, plot: Plot, ids: Sequence[NodeId]) -> None:
        super().__init__(inner, signer, rng, plot, ids)
        self._tale = ""  # a node that takes a state is told useless ones where a mesh goes on (liars.py)
        inner.core._asking._roll = lambda epoch: None  # type: ignore[method-assign]  # it knows that others have heard what it never said
        self.habits -= {"silent to some"}  # partitions do that
        self._eager, self._betrays = 0.0, False
        match rng.randrange(4):
            case 0:  # honest, until it leads a view that must begin with a certain block
                self.habits, self._betrays = set(), True
            case 1:  # honest, but that it usurps
                self.habits, self._eager = set(), rng.choice((0.02, 0.1))
            case 2:
                self.habits |= {"wrong roots"}
                self._betrays = True
            case _:
                self.habits |= {"false states"}
                self._eager = rng.choice((0.0, 0.02))
        self._favours = (
            rng.choice(self._ids) if self._betrays or rng.random() < 0.5 else None
        )  # who alone hears its commit votes, so that it decides first
        self._proofs: list[NewView] = []
        self._betrayal: Proposal | None = None
        self._height = 0
        self._committing: tuple[int, set[int]] = (0, set())  # who has committed at which height

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        heard = read(event) if isinstance(event, Heard) else None
        if isinstance(heard, NewView):
            self._keep_proof(heard)
        committing = heard is not None and _is_commit(heard)
        ignored = committing and self._favours is not None  # of what the others decide it wants to know nothing
        found = [] if ignored else super().step(now, event)
        height = self.inner.core.chain.height
        tempting, self._height = committing or height > self._height, height
        if self._eager and self._rng.random() < (5 * self._eager if tempting else self._eager):
            found += self._usurp(self._old_proofs() if self._rng.random() < 0.5 else [])
        elif isinstance(heard, Vote) and committing and self._nearly_decided(heard) and (old := self._old_proofs()):
            found += self._usurp(old)
        if isinstance(event, Heard) and isinstance(heard, AskSeen) and self._betrayal is not None:
            found += self._backed(self._betrayal, [event.peer.node])  # to somebody who may have forgotten
        return found

    def _nearly_decided(self, vote: Vote) -> bool:
        """Whether so many others have committed that whoever has this validator's vote besides decides."""
        if vote.height != self._committing[0]:
            self._committing = (vote.height, set())
        self._committing[1].add(vote.index)
        return len(self._committing[1]) >= self.inner.core.chain.validators.q - 1

    def _keep_proof(self, proof: NewView) -> None:
        if proof not in self._proofs:
            self._proofs = [*self._proofs[1 - PROOFS_KEPT :], proof]

    def _twist(self, cast: Cast) -> list[object]:
        if self._favours not in (None, cast.to) and _is_commit(decode(cast.body)):
            return []
        return super()._twist(cast)

    def _wrong_block(self, block: Block, slot: tuple[int, int, int]) -> Block:
        """Mostly one of another state, since all else of a header is looked at too."""
        if slot not in self._wrong and self._rng.random() < 0.3:
            self._wrong[slot] = Block(replace(block.header, state_root=self._rng.randbytes(32)), block.requests)
        return super()._wrong_block(block, slot)

    # -- a view that must begin with a certain block -------------------------------------------------------------------

    def _proposal(self, to: NodeId, proposal: Proposal) -> Proposal:
        core, header = self.inner.core, proposal.block.header
        choice = core.desk.ballot.record.choice
        if self._betrays and choice.hash == header.hash and header.height == core.chain.height + 1:
            slot = (header.epoch, proposal.view, header.height)
            other = self._wrong.setdefault(slot, self._another_block(proposal.block))
            self._plot.variants.setdefault(slot, dict.fromkeys(self._ids, other.hash))
            self._betrayal = self._signed_proposal(proposal, other)
            return self._betrayal
        return super()._proposal(to, proposal)

    def _new_view(self, to: NodeId, message: NewView) -> NewView:
        """Who wants to betray a view needs it. A true proof is kept, for later."""
        self._keep_proof(message)
        return message if self._betrays and choose(message.changes).hash is not None else super()._new_view(to, message)

    def _chunk(self, to: NodeId, message: ChunkOf) -> ChunkOf:
        """No part of a state that it gives is right."""
        return replace(message, data=self._garbage(message.data))

    def _another_block(self, block: Block) -> Block:
        """In the place of ``block``, for the height in flight."""
        chain = self.inner.core.chain
        null = null_block(chain)
        return null if null.hash != block.hash else self._variant(block, (0, 0, 0))

    # -- a view that nobody has asked for ------------------------------------------------------------------------------

    def _usurp(self, old: Sequence[NewView]) -> list[object]:
        index = self.inner.core.desk.index
        if index is None:
            return []
        block = self._fresh_block() if self._rng.random() < 0.5 else self._decided_again()
        proof = self._rng.choice(old) if old else self._forged(index, block)
        proposal = self._signed_proposal(Proposal(proof.view, block, index, b""), block)
        return [*(Cast(peer, CAST, encode(proof)) for peer in self._ids), *self._backed(proposal, self._ids)]

    def _backed(self, proposal: Proposal, peers: Sequence[NodeId]) -> list[object]:
        """A proposal, with both of this validator's votes for it."""
        vote = proposal.vote
        said: list[Message] = [proposal, vote, self._voting(replace(vote, phase="commit"))]
        return [Cast(peer, CAST, encode(message)) for message in said for peer in peers]

    def _old_proofs(self) -> list[NewView]:
        """Those that would make this validator the primary of a later view than the present one, were they not of epochs that are over."""
        core = self.inner.core
        epoch, validators, index = core.chain.epoch, core.chain.validators, core.desk.index
        later = [proof for proof in self._proofs if proof.epoch < epoch and proof.view > core.view]
        return [proof for proof in later if validators.primary(proof.view) == index]

    def _fresh_block(self) -> Block:
        """For the height in flight: another one than is voted for, if there is one."""
        core = self.inner.core
        slot = core._slots.known(core.chain.height + 1)
        if slot is not None and slot.bodies:
            return self._variant(self._rng.choice(list(slot.bodies.values())), (0, 0, 0))
        time_ms = fresh_time(core.chain, core.desk.wall_ms)
        chosen, _ = choose_requests(core.chain, core.desk.pool, core.desk.config, time_ms)
        return make_block(core.chain, chosen, time_ms) if chosen else null_block(core.chain)

    def _decided_again(self) -> Block:
        """Another block for the height that was decided last, if it is of this epoch."""
        chain = self.inner.core.chain
        certified = chain.certified(chain.height)
        if certified is None or certified.block.header.epoch != chain.epoch:
            return self._fresh_block()
        return self._variant(certified.block, (0, 0, 0))

    def _forged(self, index: int, block: Block) -> NewView:
        """A proof on votes that nobody has given, none of which holds anything prepared."""
        core = self.inner.core
        validators, header = core.chain.validators, block.header
        view = max(core.view, core.desk.ballot.record.promised) + 1
        while validators.primary(view) != index and view < core.view + 2 * validators.n:
            view += 1
        changes: list[ViewChange] = []
        others = self._rng.sample([other for other in range(validators.n) if other != index], k=validators.q - 1)
        for other in sorted([index, *others]):
            change = ViewChange(header.epoch, view, header.height - 1, header.parent, None, (), other, b"")
            mine = self._signer.sign(change_domain(self._mesh, change), change_payload(change))
            changes.append(replace(change, signature=mine))
        proof = NewView(header.epoch, view, tuple(changes), (), index, b"")
        return replace(proof, signature=self._signer.sign(new_view_domain(self._mesh, proof), new_view_payload(proof)))


def _is_commit(message: Message) -> bool:
    return isinstance(message, Vote) and message.phase == "commit"
