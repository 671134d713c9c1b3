"""Asking the others what they have seen of this validator, and answering when they ask. Why, stands in ``witness.py``."""

from collections.abc import Callable

from meshos import cbor
from meshos.consensus.pbft.block import Certificate
from meshos.consensus.pbft.codec import change_fields, change_of
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.messages import AskSeen, Seen, ViewChange, Vote
from meshos.consensus.pbft.records import ROLLED, SEEN, change_key, decode_votes, encode_votes, read
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.consensus.pbft.witness import SeenVotes, Witness, newer, newer_change, rolled_back
from meshos.effects import Persist, Put, Write, WriteBack
from meshos.ids import NodeId

ASK = "witness"


class Asking:
    """``cleared`` is called when this validator may vote."""

    def __init__(self, desk: Desk, cleared: Callable[[], None]) -> None:
        self._desk = desk
        self._cleared = cleared
        self._witness = Witness(0, 0)
        votes, rolled = desk.store.get(SEEN), desk.store.get(ROLLED)
        self._seen = SeenVotes()
        self._changes: dict[NodeId, ViewChange] = {}
        self._rolled = -1 if rolled is None else int(read(rolled)[0])
        for vote in [] if votes is None else decode_votes(votes):
            self.see_vote(vote)

    # -- asking --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask the validators of this epoch, before anything is signed in it."""
        desk = self._desk
        self._judge()
        self._witness = Witness.asking(desk.chain.validators, desk.index)
        desk.asking = not self._witness.cleared
        if desk.asking:
            self.ask()
        else:
            self._cleared()

    def ask(self) -> None:
        """Once more, of all."""
        desk = self._desk
        if desk.asking:
            desk.broadcast(AskSeen(desk.chain.epoch))
            desk.again(ASK, desk.timing.witness_ms)

    def on_seen(self, sender: NodeId, seen: Seen) -> None:
        """What a validator has seen of this one; the signatures hold."""
        desk = self._desk
        index = desk.chain.validators.index_of(sender)
        if seen.vote is not None:
            self.recognise(seen.vote)
        change = seen.change
        if change is not None and self._is_mine(change.epoch, change.index) and newer_change(change, desk.ballot.record):
            self._roll(change.epoch)
        if desk.asking and index is not None and index != desk.index:
            self._witness.answer(index, seen.epoch)
            if self._witness.cleared:
                desk.asking = False
                self._cleared()

    def recognise(self, vote: Vote) -> None:
        """A vote with a signature of this validator has come from outside: the disk must know of it."""
        if self._is_mine(vote.epoch, vote.index) and vote.phase != "checkpoint" and newer(vote, self._desk.ballot.voted):
            self._roll(vote.epoch)

    def recognise_certificate(self, validators: ValidatorSet, height: int, block: bytes, certificate: Certificate) -> None:
        """The same of the votes in a certificate."""
        index = self._desk.seat(validators)
        if any(signer == index for signer, _ in certificate.signatures):
            assert index is not None
            self.recognise(Vote("commit", validators.epoch, certificate.view, height, block, index, b""))

    def begin_epoch(self) -> None:
        """A new epoch has begun: what was forgotten before it can do no harm any more. Who still asks, asks its validators: those who are
        in it answer nobody about the one before."""
        self._judge()
        if self._desk.asking:
            self.begin()

    def _is_mine(self, epoch: int, index: int) -> bool:
        return self._node(epoch, index) == self._desk.config.node

    def _roll(self, epoch: int) -> None:
        if epoch > self._rolled:
            self._rolled = epoch
            self._desk.write(Persist((Put(ROLLED, cbor.encode([epoch])),)))
        self._judge()

    def _judge(self) -> None:
        desk = self._desk
        was = desk.silent
        desk.silent = rolled_back(self._rolled) if self._rolled >= desk.chain.epoch else None
        if desk.silent is not None and was is None:
            desk.notice(desk.silent)

    # -- answering -----------------------------------------------------------------------------------------------------

    def _node(self, epoch: int, index: int) -> NodeId | None:
        """Who has a seat in an epoch."""
        validators = self._desk.chain.validators_of(epoch)
        return validators.entries[index].node if validators is not None and index < validators.n else None

    def see_vote(self, vote: Vote) -> None:
        """Remember the newest vote of each validator."""
        node = self._node(vote.epoch, vote.index)
        if node is not None:
            self._seen.add(node, vote)

    def see_change(self, change: ViewChange) -> None:
        """Remember the newest vote for a view of each validator, also over a restart."""
        node = self._node(change.epoch, change.index)
        known = None if node is None else self._change_of(node)
        if node is not None and (known is None or (known.epoch, known.view) < (change.epoch, change.view)):
            self._changes[node] = change
            self._desk.write(WriteBack((Put(change_key(node), cbor.encode(change_fields(change))),)))

    def _change_of(self, node: NodeId) -> ViewChange | None:
        if node not in self._changes:
            data = self._desk.store.get(change_key(node))
            if data is not None:
                self._changes[node] = change_of(read(data))
        return self._changes.get(node)

    def record(self) -> Write:
        """The votes seen, to be written with each block."""
        return Put(SEEN, encode_votes(self._seen.all(self._desk.chain.epoch)))

    def on_ask_seen(self, sender: NodeId, ask: AskSeen) -> None:
        """Tell a validator what was seen of it."""
        vote, change = self._seen.of(sender), self._change_of(sender)
        self._desk.send(sender, Seen(self._desk.chain.epoch, vote, change))
