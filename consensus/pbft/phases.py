"""The three phases of the height in flight: propose, prepare, commit (Castro & Liskov 1999, section 4.2).

``progress`` does whatever has become possible, in the order: take what q validators have decided; vote to prepare what the primary
proposes, if it may be; vote to commit what q have prepared; propose, as the primary. A commit vote needs q prepare votes and the block, not
one's own prepare vote: whose clock is wrong cannot judge a proposal, but can count.
"""

from collections.abc import Callable

from meshos.consensus.pbft.block import Block, Certificate, Certified
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.events import Dropped
from meshos.consensus.pbft.messages import Body, Evidence, FetchBody, Message, Phase, Proposal, Vote
from meshos.consensus.pbft.proposing import choose_requests, fresh_time, judge_fresh, make_block, null_block
from meshos.consensus.pbft.slots import Slots
from meshos.consensus.pbft.views import Views
from meshos.consensus.pbft.voting import Slot
from meshos.errors import MeshError, Refused
from meshos.ids import NodeId


class Phases:
    """``decided`` is given each block with its certificate, ``accuse`` each lie that is met."""

    def __init__(self, desk: Desk, slots: Slots, decided: Callable[[Certified], None], accuse: Callable[[Evidence], None]) -> None:
        self._desk = desk
        self._slots = slots
        self._decided = decided
        self._accuse = accuse
        self.views: Views
        self._wanted: dict[bytes, tuple[float, int]] = {}  # blocks asked for: when again, how often
        self._refused: tuple[int, int, str] | None = None  # the proposal that was refused last, to say it once
        self._busy = False

    # -- in ------------------------------------------------------------------------------------------------------------

    def on_vote(self, vote: Vote) -> None:
        """A prepare or commit vote of a validator, for a height that is kept."""
        evidence = self._slots.at(vote.height, vote.view, vote.epoch).add_vote(vote)
        if evidence is not None:
            self._accuse(evidence)

    def on_proposal(self, proposal: Proposal) -> None:
        """A block of the primary of its view."""
        header = proposal.block.header
        self._slots.at(header.height, proposal.view, header.epoch).add_proposal(proposal)
        self.on_vote(proposal.vote)

    def on_proof(self, phase: Phase, epoch: int, height: int, block: bytes, proof: Certificate) -> None:
        """Votes that came in somebody's proof: each may contradict one that its sender has shown to this replica."""
        slot = self._slots.known(height)
        if slot is None or slot.validators.epoch != epoch:
            return
        for index, signature in proof.signatures:
            evidence = slot.add_vote(Vote(phase, epoch, proof.view, height, block, index, signature))
            if evidence is not None:
                self._accuse(evidence)

    def on_body(self, block: Block) -> None:
        """A block that was asked for; any other is dropped."""
        if self._wanted.pop(block.hash, None) is not None and block.header.height == self._desk.chain.height + 1:
            self._slots.current().add_body(block)

    def on_fetch_body(self, sender: NodeId, wanted: FetchBody) -> None:
        """Somebody lacks a block that is voted for."""
        desk, slot = self._desk, self._slots.known(wanted.height)
        block = None if slot is None else slot.bodies.get(wanted.hash)
        if block is not None and desk.allowance.has_more(sender, desk.now):
            desk.allowance.take(sender, len(block.encoded), desk.now)
            desk.send(sender, Body(block))

    # -- onward --------------------------------------------------------------------------------------------------------

    def progress(self) -> None:
        """Do whatever has become possible."""
        if self._busy:
            return  # it is being done: a decision inside of it leads here again
        self._busy = True
        try:
            while self._take_decision():
                pass
            if self._desk.votes:
                self._prepare()
                self._commit()
                self._propose()
        finally:
            self._busy = False

    def _take_decision(self) -> bool:
        if self._desk.restoring:
            return False
        slot = self._slots.known(self._desk.chain.height + 1)
        found = None if slot is None else slot.decided()
        if slot is None or found is None:
            return False
        view, name = found
        block = self._body(slot, name)
        if block is None:
            return False
        self._decided(Certified(block, slot.certificate("commit", view, name)))
        return True

    def _prepare(self) -> None:
        desk = self._desk
        slot = self._slots.known(desk.chain.height + 1)
        proposal = None if slot is None else slot.proposals.get(desk.ballot.record.view)
        if proposal is None or desk.ballot.has_prepared(desk.chain.height + 1):
            return
        try:
            self._judge(proposal.block)
        except MeshError as error:
            self._refuse(proposal, error)
            return
        desk.ballot.prepare(proposal.block, propose=False)
        self.views.progressed()

    def _judge(self, block: Block) -> None:
        """Raise unless the primary of this view may propose this block."""
        desk, choice = self._desk, self.views.choice
        begins = block.header.height == choice.height
        if begins and choice.hash is not None:
            if block.hash != choice.hash:
                raise Refused("not-carried-over", f"view {desk.ballot.record.view} must begin with the block that was prepared before")
            desk.chain.check_links(block.header)
        else:
            may_be_null = begins and desk.ballot.record.view > 0
            judge_fresh(desk.chain, block, desk.config, desk.wall_ms, may_be_null=may_be_null)

    def _refuse(self, proposal: Proposal, error: MeshError) -> None:
        what = (proposal.block.header.height, proposal.view, error.name)
        if what != self._refused:
            self._refused = what
            self._desk.notice(error)

    def _commit(self) -> None:
        desk = self._desk
        height, view = desk.chain.height + 1, desk.ballot.record.view
        slot = self._slots.known(height)
        name = None if slot is None else slot.quorum("prepare", view)
        if slot is None or name is None or desk.ballot.has_committed(height):
            return
        block = self._body(slot, name)
        if block is not None:
            desk.ballot.commit(block, slot.certificate("prepare", view, name))

    def _propose(self) -> None:
        desk = self._desk
        if not desk.leads or desk.ballot.has_prepared(desk.chain.height + 1):
            return
        block = self._next_block()
        if block is not None:
            self._slots.current().add_body(block)
            desk.ballot.prepare(block, propose=True)

    def _next_block(self) -> Block | None:
        """What the primary proposes now, if anything."""
        desk, chain, choice = self._desk, self._desk.chain, self.views.choice
        begins = choice.height == chain.height + 1
        if begins and choice.hash is not None:
            return self._body(self._slots.current(), choice.hash)
        time_ms = fresh_time(chain, desk.wall_ms)
        chosen, refused = choose_requests(chain, desk.pool, desk.config, time_ms)
        for pending, error in refused:
            desk.pool.remove([pending.hash])
            desk.out.append(Dropped(pending.hash, error))
        if chosen:
            return make_block(chain, chosen, time_ms)
        if begins and desk.ballot.record.view > 0:
            return null_block(chain)
        return make_block(chain, (), time_ms) if self.idle_due() else None

    def idle_due(self) -> bool:
        """Whether ledger time must go on although no request waits."""
        desk = self._desk
        time_ms = fresh_time(desk.chain, desk.wall_ms)
        return time_ms - desk.chain.time_ms >= desk.timing.idle_ms and desk.chain.wants_block(time_ms)

    # -- blocks that are voted for and not here ------------------------------------------------------------------------

    def _body(self, slot: Slot, name: bytes) -> Block | None:
        """The block called ``name``; where it is not here, somebody who has voted for it is asked."""
        block = slot.bodies.get(name)
        if block is None:
            self._want(slot, name)
        return block

    def _want(self, slot: Slot, name: bytes) -> None:
        desk = self._desk
        not_before, times = self._wanted.get(name, (0.0, 0))
        if desk.now < not_before:
            return
        holders = [index for index in dict.fromkeys([*slot.voters(name), *self.views.claimants(name)]) if index != desk.index]
        self._wanted[name] = (desk.after(desk.timing.resend_ms), times + 1)
        if holders:
            desk.send(desk.node(holders[times % len(holders)]), FetchBody(slot.height, name))

    def committed(self) -> None:
        """A height was committed: nothing is wanted any more that was."""
        self._wanted.clear()

    # -- out -----------------------------------------------------------------------------------------------------------

    def signed(self, spoken: Vote | Proposal) -> None:
        """An own vote is signed: it counts, and the others hear it, unless the view was left meanwhile."""
        desk = self._desk
        vote = spoken.vote if isinstance(spoken, Proposal) else spoken
        record = desk.ballot.record
        if (vote.epoch, vote.view) != (record.epoch, record.view) or record.promised > record.view:
            return
        if vote.height < desk.chain.height:
            return
        slot = self._slots.at(vote.height, vote.view, vote.epoch)
        slot.add_vote(vote)
        if isinstance(spoken, Proposal):
            slot.add_proposal(spoken)
        desk.broadcast(spoken)

    def resume(self) -> None:
        """This validator votes again after a restart: the votes that it had written down are signed again, as they were."""
        if self._desk.votes:
            self._desk.ballot.repeat(self._desk.chain.height + 1, self._slots.current().bodies if self._desk.leads else {})

    def say_again(self) -> None:
        """Own votes for the height in flight, for those who have not heard them; the proposal for those who have not voted for it."""
        desk = self._desk
        view = desk.ballot.record.view
        slot = self._slots.known(desk.chain.height + 1)
        if slot is None or desk.index is None or not desk.votes:
            return
        found = [slot.vote_of("prepare", view, desk.index), slot.vote_of("commit", view, desk.index)]
        said: list[Message] = [vote for vote in found if vote is not None]
        proposal = slot.proposals.get(view)
        if proposal is not None and proposal.index == desk.index:
            for index in range(slot.validators.n):
                if slot.vote_of("prepare", view, index) is None:
                    desk.send(desk.node(index), proposal)
        for message in said:
            desk.broadcast(message)

    @property
    def in_flight(self) -> bool:
        """Whether this replica has voted for the next block and waits for the others."""
        slot = self._slots.known(self._desk.chain.height + 1)
        view = self._desk.ballot.record.view
        return slot is not None and (self._desk.ballot.has_prepared(slot.height) or view in slot.proposals)
