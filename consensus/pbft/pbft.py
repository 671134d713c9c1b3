"""The core of the agreement: Castro & Liskov's PBFT (OSDI 1999; TOCS 2002) over blocks, one height at a time.

Theory of operation. Typed messages, checked before, come in by ``receive``; typed effects come out. A height is decided in three phases
(``phases.py``): the primary of the view proposes a block with its prepare vote; who accepts it prepares; who holds q prepare votes commits,
locked on the block; q commit votes are the block's certificate, and it is executed. The next height begins then, in the same view.
Everything that happens ends in ``Phases.progress``, which does whatever has become possible, so that no order of arrival matters.

A replica for which something waits and nothing happens leaves the view (``views.py``); one that is behind fetches blocks that prove
themselves (``catching_up.py``) or a whole state (``transfer.py``). What it signs goes through its ``Ballot``, which writes it down first.
Here the parts are put together, and it is decided what each event means to which.

``now`` is the driver's clock in seconds, ``wall_ms`` the wall clock; both are arguments of everything that happens.
"""

from collections.abc import Callable

from meshos.consensus.pbft.accusing import Accusing
from meshos.consensus.pbft.application import Application
from meshos.consensus.pbft.asking import Asking
from meshos.consensus.pbft.block import Certificate, Certified, decode_block
from meshos.consensus.pbft.catching_up import CatchingUp
from meshos.consensus.pbft.checkpointing import Checkpointing
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.events import Decided
from meshos.consensus.pbft.messages import (
    AskSeen,
    Blocks,
    Body,
    Checkpoints,
    ChunkOf,
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
    Status,
    ViewChange,
    Vote,
)
from meshos.consensus.pbft.phases import Phases
from meshos.consensus.pbft.pool import Pending
from meshos.consensus.pbft.records import BODIES
from meshos.consensus.pbft.relaying import RELAY, Relaying
from meshos.consensus.pbft.slots import Slots
from meshos.consensus.pbft.transfer import Transfer
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.consensus.pbft.views import IMPATIENCE, PATIENCE, Views
from meshos.effects import Persist, WriteBack
from meshos.errors import Broken, Failed, MeshError, Refused
from meshos.ids import NodeId
from meshos.storage.disk import DiskFailed
from meshos.storage.store import View

RESEND = "resend"
IDLE = "idle"
FOLLOW = "follow"
PRUNE = "prune"


class Pbft:
    """One replica. ``store`` shows what is on disk and what is on its way; effects are those of ``events.py``, writes and signatures."""

    def __init__(self, config: Config, application: Application, store: View) -> None:
        self.desk = desk = Desk(config, application, store)
        self.chain = desk.chain
        self.broken: MeshError | None = None
        self._slots = Slots(desk)
        self._accusing = Accusing(desk, self._add_request)
        self._phases = Phases(desk, self._slots, self._commit, self._accusing.accuse)
        self._catching_up = CatchingUp(desk, self._commit_fetched, self._begin_transfer)
        self._views = Views(desk, self._phases.progress, self._catching_up.heard_of)
        self._phases.views = self._views
        self._checkpointing = Checkpointing(desk)
        self._transfer = Transfer(desk, self._checkpointing, self._transferred)
        self._asking = Asking(desk, self._may_vote)
        self._relaying = Relaying(desk, self._views)

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def view(self) -> int:
        """The view that this replica is in."""
        return self.desk.ballot.record.view

    @property
    def behind(self) -> int:
        """By how many blocks others say that they are ahead."""
        return self._catching_up.behind

    @property
    def silent(self) -> MeshError | None:
        """Why this validator does not vote, if so."""
        return self.broken or self.desk.silent

    def validators_of(self, epoch: int) -> ValidatorSet | None:
        """The set of an epoch, as far as it is known here: for the check of signatures."""
        return self.chain.validators_of(epoch) or self._transfer.validators_of(epoch)

    def deadline(self) -> float | None:
        """When to call ``tick``."""
        return None if self.broken is not None else self.desk.timers.next()

    # -- events --------------------------------------------------------------------------------------------------------

    def start(self, now: float, wall_ms: int) -> list[object]:
        """Begin, on what the disk says."""
        return self._do(now, wall_ms, self._start)

    def _start(self) -> None:
        desk, chain = self.desk, self.chain
        if chain.new:
            desk.write(Persist(chain.genesis()))
        self._check_disk()
        desk.ballot.begin_epoch(chain.epoch, chain.first, desk.seat(chain.validators))
        desk.ballot.follow(chain.head_view, chain.height)
        for _, data in desk.store.scan(BODIES):
            block = decode_block(data)
            if block.header.height == chain.height + 1:
                self._slots.current().add_body(block)
        head = chain.certified(chain.height)
        if head is not None:
            decided_by = chain.validators_of(head.block.header.epoch)
            assert decided_by is not None
            self._checkpointing.committed(head, decided_by)
        if desk.restoring:
            self._transfer.ask()
        self._catching_up.tell_status()
        self._asking.begin()
        desk.again(RESEND, desk.timing.resend_ms)
        desk.again(FOLLOW, 0 if desk.index is None else desk.timing.follow_ms)
        desk.again(IDLE, desk.timing.idle_ms)

    def receive(self, now: float, wall_ms: int, sender: NodeId, message: Message) -> list[object]:
        """A message of the authenticated node ``sender``, whose signatures hold (``claims.py``); its requests' too."""
        return self._do(now, wall_ms, lambda: self._receive(sender, message))

    def submit(self, now: float, wall_ms: int, pendings: list[Pending], *, relay: bool) -> list[object]:
        """Requests whose signatures hold, to be ordered; with ``relay`` the others hear of them. What cannot be is ``Dropped``."""
        return self._do(now, wall_ms, lambda: self._relaying.take(pendings, relay=relay))

    def signed(self, now: float, wall_ms: int, op: int, signature: bytes) -> list[object]:
        """What was to be signed is."""
        return self._do(now, wall_ms, lambda: self._signed(self.desk.ballot.signed(op, signature)))

    def tick(self, now: float, wall_ms: int) -> list[object]:
        """Time has passed."""
        return self._do(now, wall_ms, self._ring)

    def worth(self, now: float, sender: NodeId, message: Message) -> bool:
        """Whether a message that has just come is worth the check of its signatures. Raises a named refusal where it is not by anybody's
        fault; what is merely late gets an answer instead."""
        self.desk.now = now
        return self.broken is None and self._worth(sender, message)

    def taken(self) -> list[object]:
        """What ``worth`` has led to."""
        found = list(self.desk.out)
        self.desk.out.clear()
        return found

    # -- what it means -------------------------------------------------------------------------------------------------

    def _do(self, now: float, wall_ms: int, what: Callable[[], None]) -> list[object]:
        """Do it, and whatever has become possible by it; look after what waits; give what has come of it."""
        desk = self.desk
        desk.now, desk.wall_ms = now, wall_ms
        if self.broken is None:
            try:
                try:
                    what()
                except Refused as error:
                    desk.notice(error)
                self._phases.progress()
                self._views.watch(self._waiting)
            except DiskFailed:
                raise  # the node ends
            except (Broken, Failed) as error:  # what this replica believes cannot be true, or it cannot go on: it does nothing any more
                self.broken = error
                desk.notice(error)
            if desk.pool:
                desk.timers.begin(RELAY, desk.after(desk.timing.relay_ms))
        return self.taken()

    @property
    def _waiting(self) -> bool:
        """Whether there is something to be decided."""
        return bool(self.desk.pool) or self._phases.in_flight or self._phases.idle_due()

    def _worth(self, sender: NodeId, message: Message) -> bool:
        chain = self.chain
        match message:
            case Vote() if message.phase != "checkpoint":
                return self._vote_worth(sender, message)
            case Proposal():
                header = message.block.header
                if header.height <= chain.height:
                    self._catching_up.late_vote(sender, header.height)
                    return False
                slot = self._slots.at(header.height, message.view, header.epoch)
                there = slot.proposals.get(message.view)
                return there is None or (there.block.hash != header.hash and not self._accusing.knows(header.epoch, message.index))
            case ViewChange(epoch=epoch, index=index):
                if epoch > chain.epoch:
                    self._catching_up.heard_of(sender, message.height)
                if epoch == chain.epoch and message.view <= self.view:
                    self._views.answer_late(sender)
                    return False
                known = self._views.newest_change(index) if epoch == chain.epoch else None
                return known is None or (known.view, known.height) < (message.view, message.height)
            case NewView(epoch=epoch, view=view):
                if epoch > chain.epoch:
                    self._catching_up.heard_of(sender, message.height - 1)
                return epoch > chain.epoch or (epoch == chain.epoch and view > self.view)
            case Blocks(height=height):
                self._catching_up.heard_of(sender, height)
                return True
            case Relay():
                return not self.desk.restoring
            case Evidence(one=one):
                return not self._accusing.knows(one.epoch, one.index)
            case Seen():
                return self.desk.asking
            case Checkpoints():
                return self._transfer.awaits(sender)
            case Vote():
                return self._checkpointing.lacks(message)
        return True

    def _vote_worth(self, sender: NodeId, vote: Vote) -> bool:
        """A vote for the height in flight or a little above, that is not there yet. For a decided one, only if it contradicts."""
        height = self.chain.height
        if vote.height <= height:
            self._catching_up.late_vote(sender, vote.height)
            slot = self._slots.known(vote.height)
            if slot is None:
                return False
        else:
            if vote.height > height + 1:
                self._catching_up.heard_of(sender, vote.height - 1)
            slot = self._slots.at(vote.height, vote.view, vote.epoch)
        known = slot.vote_of(vote.phase, vote.view, vote.index)
        if known is not None:
            return known.hash != vote.hash and not self._accusing.knows(vote.epoch, vote.index)
        return vote.height > height or vote.phase == "commit"

    def _receive(self, sender: NodeId, message: Message) -> None:
        match message:
            case Vote(phase="checkpoint"):
                self._checkpointing.on_vote(message)
            case Vote():
                self._asking.see_vote(message)
                self._asking.recognise(message)
                self._phases.on_vote(message)
            case Proposal():
                self._asking.see_vote(message.vote)
                self._asking.recognise(message.vote)
                self._phases.on_proposal(message)
            case ViewChange():
                self._asking.see_change(message)
                if message.prepared is not None:
                    view, block = message.prepared
                    self._phases.on_proof("prepare", message.epoch, message.height + 1, block, Certificate(view, message.proof))
                self._views.on_change(sender, message)
            case NewView():
                self._views.on_new_view(sender, message)
            case Status():
                self._catching_up.on_status(sender, message)
            case Fetch():
                self._catching_up.on_fetch(sender, message)
            case Blocks():
                self._catching_up.on_blocks(sender, message)
            case FetchBody():
                self._phases.on_fetch_body(sender, message)
            case Body(block):
                self._phases.on_body(block)
            case Evidence():
                self._accusing.accuse(message)
            case AskSeen():
                self._asking.on_ask_seen(sender, message)
            case Seen():
                self._asking.on_seen(sender, message)
            case FetchCheckpoint():
                self._transfer.on_fetch_checkpoint(sender, message)
            case Checkpoints():
                self._transfer.on_checkpoints(sender, message)
            case FetchChunk():
                self._transfer.on_fetch_chunk(sender, message)
            case ChunkOf():
                self._transfer.on_chunk(sender, message)

    def _ring(self) -> None:
        for name, late_s in self.desk.timers.take(self.desk.now):
            if name in (PATIENCE, IMPATIENCE) and self._views.stalled(late_s):
                self.desk.again(name, self._views.patience_ms())
            else:
                self._due(name)

    def _signed(self, spoken: Vote | Proposal | ViewChange | NewView | None) -> None:
        match spoken:
            case Vote(phase="checkpoint"):
                self._checkpointing.signed(spoken)
            case Vote() | Proposal():
                self._phases.signed(spoken)
            case ViewChange():
                self._views.promised(spoken)
            case NewView():
                self._views.shown(spoken)

    def _due(self, name: str) -> None:
        desk = self.desk
        match name:
            case "patience":
                self._relaying.sort_out()
                if self._phases.in_flight or self._phases.idle_due() or self._relaying.orderable():
                    self._views.leave()
            case "impatience":
                self._views.impatient()
            case "resend":
                desk.again(RESEND, desk.timing.resend_ms)
                self._views.say_again()
                self._phases.say_again()
            case "relay":
                self._relaying.relay()
            case "fetch":
                self._catching_up.ask()
            case "status":
                self._catching_up.tell_status()
                self._checkpointing.say_again()
            case "witness":
                self._asking.ask()
            case "transfer":
                self._transfer.due()
            case "follow":
                desk.again(FOLLOW, desk.timing.follow_ms)
                if desk.index is None:
                    self._catching_up.follow()
            case "idle":
                desk.again(IDLE, desk.timing.idle_ms / 5)
            case "prune":
                self._checkpointing.prune()

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _commit_fetched(self, certified: Certified) -> None:
        """A block with its certificate from elsewhere; it may hold a vote of this node's that the disk does not know of."""
        if self.desk.restoring:
            return
        header = certified.block.header
        self._phases.on_proof("commit", header.epoch, header.height, header.hash, certified.certificate)
        self._asking.recognise_certificate(self.chain.validators, header.height, header.hash, certified.certificate)
        voted = self.desk.ballot.has_committed(header.height)
        epoch = self.chain.epoch
        self._commit(certified)
        if self.chain.epoch != epoch and not voted and not self.desk.asking:
            self._asking.begin()

    def _commit(self, certified: Certified) -> None:
        desk, chain = self.desk, self.chain
        header, decided_by = certified.block.header, chain.validators
        applied = chain.apply(certified)
        writes = (*applied.writes, *desk.ballot.let_go(header.height), self._asking.record())
        desk.write(WriteBack(writes))
        desk.out.append(Decided(certified, applied.results))
        desk.pool.remove(certified.block.request_hashes)
        self._slots.committed()
        self._phases.committed()
        if chain.epoch != decided_by.epoch:
            desk.ballot.begin_epoch(chain.epoch, chain.first, desk.seat(chain.validators))
            self._views.begin_epoch()
            self._asking.begin_epoch()
        else:
            before = self.view
            desk.ballot.follow(certified.certificate.view, header.height)
            if self.view != before:
                self._views.followed()
        self._checkpointing.committed(certified, decided_by)
        self._catching_up.committed(certified)
        self._views.committed()
        self._relaying.committed(certified)

    def _may_vote(self) -> None:
        """The others have answered what they have seen of this validator."""
        self._views.resume()
        self._phases.resume()
        self._phases.progress()

    def _begin_transfer(self, source: NodeId) -> None:
        self._transfer.begin(source)

    def _transferred(self) -> None:
        """The state of a checkpoint is here: go on from it, as after a restart."""
        desk, chain = self.desk, self.chain
        self._slots.committed()
        self._phases.committed()
        desk.ballot.begin_epoch(chain.epoch, chain.first, desk.seat(chain.validators))
        desk.ballot.follow(chain.head_view, chain.height)
        self._views.begin_epoch()
        self._asking.begin()
        self._relaying.sort_out()
        self._catching_up.ask()

    def _add_request(self, request: bytes) -> None:
        self._relaying.take_own(request)

    def _check_disk(self) -> None:
        """What was voted and promised stands on what was committed: the disk keeps the order of writes."""
        voted, record = self.desk.ballot.voted, self.desk.ballot.record
        newer = voted.epoch > self.chain.epoch or voted.height > self.chain.height + 1 or record.epoch > self.chain.epoch
        if newer and not self.desk.restoring:
            raise Broken("agreement-broken", "the votes on this disk are newer than the blocks that they stand on")
