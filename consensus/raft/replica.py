"""A Replica: the machine around Raft that keeps one state on several nodes.

Theory of operation. Everything lies in the machine's one Store: the log, term and vote, and the state itself (``keys.py``). A step gives
its event to Raft or to what waits here (``proposals.py``, ``reads.py``), then applies what is committed, and emits in this order

    Persist     what Raft must not forget: entries, term, vote
    WriteBack   what was applied, and how far: the log makes it again if a crash loses it
    Ahead(Cast) what a leader sends beside its own disk
    Cast, Tell  the rest, which the driver withholds until the Persist is on disk; ``Stored`` to itself among them

What comes together is sent together: a proposal or a question is only noted, and the first of them makes the machine tell itself
``Settle``, which comes after all that was waiting. There the leader makes one entry of all of them. While the disk works, the driver
puts events aside and steps them together afterwards, so that entries grow with the load and the number of syncs and messages does not.

Proposals of followers go to the leader (``Forward``) and are answered at the follower, from its own state, when they are applied there.
The leader stamps the time of a batch: its wall clock, but never below what was stamped before.
"""

import random
from collections.abc import Sequence

from meshos.consensus.raft import codec
from meshos.consensus.raft import messages as m
from meshos.consensus.raft.applying import State
from meshos.consensus.raft.batch import Proposed, packed
from meshos.consensus.raft.config import Config
from meshos.consensus.raft.events import (
    ChangeMembers,
    Fence,
    GetGroup,
    Group,
    Settle,
    Stale,
    Stored,
    TransferLeadership,
    Unlinked,
    WallTime,
)
from meshos.consensus.raft.gathering import Gathering
from meshos.consensus.raft.limits import APPLIED_PER_STEP_BYTES
from meshos.consensus.raft.proposals import Asker, Proposals, no_leader, read_session, write_session
from meshos.consensus.raft.raft import Raft
from meshos.consensus.raft.reads import Reads
from meshos.consensus.raft.standing import Standing
from meshos.consensus.raft.state import NEVER, Pending
from meshos.consensus.raft.state_machine import StateMachine
from meshos.consensus.raft.states import States
from meshos.effects import Ahead, Completed, Err, Heard, Ok, Outcome, Persist, Tell, Tick, Write, WriteBack
from meshos.errors import MeshError, Refused
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid
from meshos.storage.disk import DiskFailed
from meshos.storage.store import LiveView, View

SETTLE = Settle()
_ASKED = frozenset({ChangeMembers, TransferLeadership, Stale, GetGroup})


class Replica:
    """The machine ``name``: this node's part of ``group``. See the module's text.

    ``view`` shows its Store; an empty one belongs to a node that joins (``applying.founding`` is written into those of a new group).
    ``org`` is the organisation whose nodes alone are listened to; ``wall_ms`` the wall time at ``now``. ``subscribers`` are the machines
    of this node that are told ``Led`` and ``Followed``.
    """

    def __init__(
        self,
        name: str,
        group: str,
        node: NodeId,
        machine: StateMachine,
        view: LiveView,
        *,
        org: OrgDid,
        config: Config,
        rng: random.Random,
        now: float,
        wall_ms: int,
        subscribers: Sequence[str] = (),
    ) -> None:
        """Raises Broken ``raft-log-broken`` for a Store that is not as a Replica left it."""
        self.name, self.group, self.node = name, group, node
        self.protocol = protocol_of(group)
        self._machine, self._view, self._org, self._config = machine, view, org, config
        self._state = State(view, machine)
        self.raft = Raft(node, view, config, configuration=self._state.configuration, applied=self._state.index, rng=rng, now=now)
        self._states = States(view, self.raft, self._state, config, now)
        self._gathering = Gathering(self._state, config, now=now, wall_ms=wall_ms)
        self._standing = Standing(group, self.raft, subscribers)
        self._proposals = Proposals(read_session(view) + 1, config)
        self._first: list[Write] = [write_session(self._proposals.session)]  # on disk before the first proposal is sent
        self._reads = Reads(config)
        self._new: list[int] = []  # proposals of this node that were not sent to anybody yet
        self._sent_term = 0  # to whose leader all older ones were sent
        self._settling = False
        self._due = now  # at once, for ``_first``
        self._behind = False  # more is committed than was applied with the last step
        self._dropped: list[Write] = []
        self._letters: list[tuple[NodeId, m.Message]] = []
        self._waited_for: set[NodeId] = set()  # who waits for what was applied in this step
        self._tells: list[object] = []
        self.refused = 0

    # -- the machine -------------------------------------------------------------------------------------------------

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._tells = []
        kind = type(event)
        if kind is Perform:
            assert isinstance(event, Perform)
            if self._perform(now, event):  # only noted: thousands of them a second come so
                self._due = min(self._due, now + self._config.proposal_s)
                return self._tells
        elif kind is Heard:
            assert isinstance(event, Heard)
            self._hear(now, event)
        elif kind is Settle:
            self._settling = False
            self._settle(now)
        elif kind is Stored:
            assert isinstance(event, Stored)
            self.raft.stored(now, event.saved)
        elif kind is Tick:
            self._tick(now)
        else:
            self._meet(now, event)
        effects = self._effects(now)
        self._due = self._deadline()
        return effects

    def _meet(self, now: float, event: object) -> None:
        """What comes seldom."""
        if isinstance(event, Abandon):
            self._proposals.abandon((event.reply_to, event.op))
        elif isinstance(event, Unlinked):
            self.raft.suspect(now, event.node)
        elif isinstance(event, WallTime):
            self._gathering.set_clock(now, event.ms)
        else:
            raise TypeError(f"Replica has no use for {event!r}")

    def deadline(self) -> float | None:
        """See ``meshos.effects.Machine``."""
        return None if self._due == NEVER else self._due

    def _deadline(self) -> float:
        if self._behind:
            return 0.0  # at once
        due = min(self.raft.deadline(), self._states.deadline())
        if len(self._proposals) or len(self._reads):
            due = min(due, self._proposals.deadline(), self._reads.deadline())
            if self.raft.leader is not None and self.raft.role != "leader":
                due = min(due, self._proposals.retry_at(), self._reads.retry_at())
        return due

    @property
    def fence(self) -> Fence | None:
        """In whose name this node acts, if it leads."""
        return self._standing.fence

    @property
    def applied(self) -> int:
        """Up to which entry this node's state goes."""
        return self._state.index

    def view(self) -> View:
        """This node's own state, however old, for whoever may read it without asking."""
        return self._state.view()

    def statistics(self) -> dict[str, int]:
        """Figures for people."""
        raft = self.raft
        return {
            "term": raft.term,
            "leads": int(raft.role == "leader"),
            "commit": raft.commit,
            "applied": self._state.index,
            "log_entries": raft.log.last - raft.log.base,
            "log_bytes": raft.log.bytes,
            "proposals": len(self._proposals),
            "reads": len(self._reads),
            "refused": self.refused,
        }

    # -- being asked -------------------------------------------------------------------------------------------------

    def _perform(self, now: float, perform: Perform) -> bool:
        """Whether it is only noted, and nothing else has to be looked at."""
        operation = perform.operation
        assert isinstance(operation, Propose)
        asker, command = (perform.reply_to, perform.op), operation.command
        try:
            if type(command) in _ASKED:
                self._ask(now, asker, command)
                return False
            if self._machine.asks(command):
                self._reads.begin(now, asker, command)
            else:
                self._new.append(self._proposals.begin(now, asker, self._machine.encode(command)))
            self._will_settle()
        except DiskFailed:
            raise  # the node ends: nobody else is answered for what its own disk did
        except MeshError as error:
            self._answer(asker, Err(error))
        return True

    def _ask(self, now: float, asker: Asker, command: object) -> None:
        if isinstance(command, Stale):
            self._answer(asker, Ok(self._machine.query(self._state.view(), command.question)))
        elif isinstance(command, GetGroup):
            self._answer(asker, Ok(self._group()))
        elif isinstance(command, ChangeMembers):
            self._standing.change(now, asker, command)
        else:
            assert isinstance(command, TransferLeadership)
            self._standing.transfer(now, asker, command)

    def _group(self) -> Group:
        raft, log = self.raft, self.raft.log
        lags = {node: log.last - progress.match for node, progress in raft.state.progress.items()}
        leads = raft.role == "leader"
        return Group(self.group, raft.term, raft.leader, leads, raft.members, raft.commit, self._state.index, log.first, log.last, lags)

    def _answer(self, asker: Asker, outcome: Outcome[object]) -> None:
        self._tells.append(Tell(asker[0], Completed(asker[1], outcome)))

    def _will_settle(self) -> None:
        if not self._settling:
            self._settling = True
            self._tells.append(Tell(self.name, SETTLE))

    # -- hearing -----------------------------------------------------------------------------------------------------

    def _hear(self, now: float, heard: Heard) -> None:
        if heard.peer.org != self._org or heard.peer.node == self.node:
            self.refused += 1
            return
        try:
            message = codec.decode(heard.body)
        except Refused:
            self.refused += 1
            return
        if type(message) is not m.Forward:
            assert not isinstance(message, m.Forward)
            self.raft.receive(now, heard.peer.node, message)
        elif self.raft.accepts:  # else the proposals are lost, and sent again to whoever leads
            if self._gathering.take(heard.peer.node, message):
                self._will_settle()
            else:
                self._waited_for.add(heard.peer.node)  # it may wait only to hear that they are applied

    # -- settling ----------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._tells += self._proposals.expire(now)
        for question in self._reads.take_expired(now):
            self._answer(question.asker, Err(no_leader()))
        self.raft.tick(now)
        self._dropped = self._states.tick(now)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Send what was gathered to where it belongs."""
        raft = self.raft
        self._answer_reads()
        self._states.settle(now)
        if raft.role == "leader":
            if raft.accepts:
                self._propose(now)
            for number in self._reads.to_ask(now, raft.term):
                if not raft.read(now, number):
                    self._reads.lost([number])
            raft.flush(now)
        elif raft.leader is not None:
            self._forward(now, raft.leader)
            for number in self._reads.to_ask(now, raft.term):
                raft.state.send(raft.leader, m.ReadIndex(raft.term, number))

    def _propose(self, now: float) -> None:
        """Make entries of all that was gathered. What was proposed before this node led is proposed again once it knows what of it
        was decided."""
        raft, mine = self.raft, self._proposals
        numbers, self._new = self._new, []
        if raft.established and self._sent_term != raft.term:
            self._sent_term = raft.term
            numbers = mine.unsent(raft.term)
        commands = mine.mark(now, numbers, raft.term)
        own = Proposed(self.node, mine.session, mine.floor, commands) if commands else None
        for data in self._gathering.entries(now, own):
            raft.propose(now, data)

    def _forward(self, now: float, leader: NodeId) -> None:
        """Send this node's proposals to the leader: new ones, and all others again where it is a new leader or says nothing."""
        mine, term = self._proposals, self.raft.term
        numbers, self._new = self._new, []
        if self._sent_term != term or mine.retry_at() <= now:
            self._sent_term = term
            numbers = mine.unanswered(now, term)
        commands = mine.mark(now, numbers, term)
        if not commands:
            return
        whole = Proposed(self.node, mine.session, mine.floor, commands)
        for (part,) in packed([whole], commands=self._config.entry_commands, size=self._config.append_bytes):
            self._letters.append((leader, m.Forward(part.session, part.floor, tuple(part.commands))))

    # -- applying, and saying what is to be done -----------------------------------------------------------------------

    def _effects(self, now: float) -> list[object]:
        raft = self.raft
        written = self._apply() if raft.commit > self._state.index else []
        if self._waited_for:
            for node in sorted(self._waited_for):
                raft.announce(now, node)
            self._waited_for.clear()
        self._look_at_standing()
        ready = raft.ready()
        pending = ready.pending
        self._serve(now, pending)
        if self._reads.ready(self._state.index):
            if written:
                self._will_settle()  # the View does not show yet what this step wrote
            else:
                self._answer_reads()
        if raft.gathered or self._states.waits:
            self._will_settle()
        effects: list[object] = []
        persist = self._first + ready.writes + self._states.persist
        if persist:
            effects.append(Persist(tuple(persist)))
            self._first, self._states.persist = [], []
        written += self._dropped + self._cut()
        if written:
            effects.append(WriteBack(tuple(written)))
            self._dropped = []
        if pending.ahead:
            effects += [Ahead(cast) for cast in codec.casts(self.protocol, pending.ahead)]
        letters = pending.after + self._letters + self._states.letters
        if letters:
            effects += codec.casts(self.protocol, letters)
            self._letters, self._states.letters = [], []
        if ready.saved is not None:
            effects.append(Tell(self.name, Stored(ready.saved)))
        effects += self._tells
        return effects

    def _serve(self, now: float, pending: Pending) -> None:
        """What Raft hands over beside messages and writes."""
        for leader, chunk in pending.chunks:
            self._states.take(now, leader, chunk)
        for node, reply in pending.chunk_replies:
            self._states.answered(now, node, reply)
        if pending.lost_reads:
            self._reads.lost(pending.lost_reads)
        for read in pending.reads:
            self._reads.index_known(read.number, read.index)
        if self._states.installed:
            self._states.installed = False
            self._tells += self._proposals.overtaken(self._state.applied, self.node)

    def _cut(self) -> list[Write]:
        """Forget entries of the log that nobody should need any more."""
        config, log = self._config, self.raft.log
        if log.last - log.base <= config.keep_entries + config.compact_entries and log.bytes <= config.keep_bytes * 5 // 4:
            return []
        upto = self._state.index
        needed = self._states.lowest()
        if needed is not None and log.bytes <= 4 * config.keep_bytes:
            upto = min(upto, needed)
        index = log.surplus(config.keep_entries, config.keep_bytes, upto)
        return log.cut(index) if index > log.base else []

    def _look_at_standing(self) -> None:
        """Who leads may have changed: tell it, and send again what depended on it."""
        raft = self.raft
        other, tells = self._standing.look()
        self._tells += tells
        if not other:
            return
        if raft.role != "leader":
            self._gathering.forget()
        if (len(self._proposals) or len(self._reads)) and raft.leader is not None:
            self._will_settle()

    def _apply(self) -> list[Write]:
        """Apply what is committed, some of it at a time; what has to be written for that."""
        raft, state = self.raft, self._state
        entries = raft.entries(state.index + 1, raft.commit, APPLIED_PER_STEP_BYTES)
        writes = state.apply(entries, self._settled)
        self._behind = state.index < raft.commit
        return writes

    def _settled(self, node: NodeId, session: int, number: int, outcome: Outcome[object]) -> None:
        """A proposal is applied here."""
        if node != self.node:
            self._waited_for.add(node)
            self._gathering.applied(node, session, number)
        elif session == self._proposals.session:
            tell = self._proposals.settle(number, outcome)
            if tell is not None:
                self._tells.append(tell)

    def _answer_reads(self) -> None:
        view = self._state.view()
        for question in self._reads.take_ready(self._state.index):
            outcome: Outcome[object]
            try:
                outcome = Ok(self._machine.query(view, question.question))
            except DiskFailed:
                raise
            except MeshError as error:
                outcome = Err(error)
            self._answer(question.asker, outcome)


def protocol_of(group: str) -> str:
    """What the group's nodes call their messages to each other."""
    return f"/meshos/raft/1/{group}"
