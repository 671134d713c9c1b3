"""The membership machine: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar, Phillips, Currey 2017), and signatures.

Theory of operation. Everything that is believed is a signed statement (statements.py); what is held about a member is a join of such
(member.py), so that order and repetition do not matter. The parts: who is who (table.py), what to conclude (judgement.py),
whom to probe (probing.py), what this node itself says (voice.py), when to sync with whom (syncing.py), what rides on datagrams
(piggyback.py). This file takes events apart and gives each to its part.

The edge verifies signatures before a statement gets in here. Most datagrams carry nothing new, so it asks first: ``updates_to_verify``
gives what is worth a signature check, and for bytes that were met before costs one look-up.

A step that meets no news costs a few microseconds, and none costs more than in proportion to the news it carries.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import heappop

from meshos.crypto.signing import Domain
from meshos.effects import Completed, Err, Ok, Signed, Tell, Tick
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.flow_machine import Abandon, FlowEnded, Perform
from meshos.ids import NodeId, OrgDid
from meshos.presets import Timing
from meshos.protocols.membership import codec, commands
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.anchoring import Anchoring
from meshos.protocols.membership.judgement import Judgement
from meshos.protocols.membership.limits import REFUTATIONS
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.probing import Prober
from meshos.protocols.membership.reach import Reach
from meshos.protocols.membership.state import ROOM, State
from meshos.protocols.membership.statements import Kind, NodeFacts, Statement
from meshos.protocols.membership.syncing import Seed, Syncing
from meshos.protocols.membership.table import Verdict
from meshos.protocols.membership.timers import Timer
from meshos.protocols.membership.voice import Voice
from meshos.storage.store import View

AWAY_S = 60.0
"""Who has heard nobody for so long was away, or all others were: in a mesh of two, too, there is a probe every second."""

GOSSIPED_FROM_A_SYNC = 16
"""News of one page of a sync that is gossiped on; more than that is catching up, which the others do by syncs of their own."""

assert GOSSIPED_FROM_A_SYNC > REFUTATIONS


class Membership:
    """A ``meshos.effects.Machine``; see the module's text.

    ``mine`` names this node, its organisation and its certificate. ``domain`` is what statements are signed for, the same at
    every node of a mesh: ``domain(genesis_hash)``. ``view`` is the machine's own store. ``subscribers`` are told ``MemberChanged``,
    ``MemberForgotten``, ``NoteReceived``, ``SeedFailed``, ``Returned`` and ``LeaveCompleted``.
    """

    def __init__(
        self,
        mine: commands.Certified,
        facts: NodeFacts,
        *,
        domain: Domain,
        timing: Timing,
        seeds: Sequence[Seed],
        rng: random.Random,
        view: View,
        subscribers: tuple[str, ...] = ("kernel",),
    ) -> None:
        """Raises Refused ``bad-statement`` for facts that others would refuse."""
        if facts.org != mine.org:
            raise Refused("bad-statement", f"the facts name {facts.org}, the certificate {mine.org}")
        self.domain = domain
        self._state = state = State(mine, facts.anchors, timing, domain, rng, subscribers)
        self._reach = Reach(state)
        self._table = state.table
        self._voice = Voice(state, facts, view, self._say)
        self._judgement = Judgement(state, self._voice.accuse, self._confirm)
        self._prober = Prober(state, self._reach, self._judgement.accused, self._judgement.probe_failed, self._found)
        self._syncing = Syncing(state, self._reach, self._judgement, seeds, view, self._prober.ping_lost)
        self._anchoring = Anchoring(state, self._voice, self._prober.confirm)
        self._heap = state.timers.heap
        self._late_s = timing.probe_timeout_s / 2
        self._gossip_timer: Timer | None = None
        self._news, self._user_news = state.queue.membership.at, state.queue.user.at
        self._started = self._begun = False
        self._heard: float | None = None  # when a datagram last came
        self._handlers: dict[type, Callable[[object], None]] = self._all_handlers()

    # -- the machine -------------------------------------------------------------------------------------------------

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        state = self._state
        state.now = now
        out = state.out = []
        heap = self._heap
        if heap and now - heap[0][0] > self._late_s:
            self._woke_late(now)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        elif type(event) is not Tick:
            raise TypeError(f"Membership has no use for {event!r}")
        if heap and heap[0][0] <= now:
            state.timers.run(now)
        if self._judgement.orgs_changed:
            self._judgement.finish()
        if (self._news or self._user_news) and self._gossip_timer is None and state.table.ring.members:
            self._gossip_timer = state.timers.set(now + state.timing.gossip_interval_s * state.rng.random(), self._gossip)
        return out

    def deadline(self) -> float | None:
        """When the earliest timer is due."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heappop(heap)  # called off: nobody is woken for it, and the next step does not take it for lateness
        return heap[0][0] if heap else None

    # -- for the edge: read-only -------------------------------------------------------------------------------------

    def admitted(self, node: NodeId) -> bool:
        """Whether ``node``'s certificate was checked here: a datagram of anybody else is to be dropped."""
        return node in self._table.credentials

    def organisation_of(self, node: NodeId) -> OrgDid | None:
        """Of which organisation the checked certificate says that ``node`` is; None if none was checked here."""
        certified = self._table.credentials.get(node)
        return None if certified is None else certified.org

    def updates_to_verify(self, message: ev.Message) -> list[Statement]:
        """The updates of a datagram that may be news. Whose signature holds goes into ``DatagramReceived.verified``.

        Raises Refused ``bad-statement`` (and what ``meshos.cbor.decode`` raises) where one of them is no statement.
        """
        if not message.updates:
            return []
        recognised = self._table.recognised
        return [said for said in map(codec.decode_statement, (b for b in message.updates if not recognised(b))) if self.news(said)]

    def news(self, said: Statement) -> bool:
        """Whether a statement may change anything here, or is about or by a node that this one ought to know."""
        return self._table.judge(said) in (Verdict.NEWS, Verdict.STRANGER)

    # -- for the API and the kernel: read-only -----------------------------------------------------------------------

    def members(self) -> list[ev.MemberView]:
        """All that are listed, this node first."""
        return [self._view(member) for member in self._table.members.values()]

    def member(self, node: NodeId) -> ev.MemberView | None:
        """One of them."""
        member = self._table.members.get(node)
        return None if member is None else self._view(member)

    def name_of(self, node: NodeId) -> str | None:
        """What a listed member calls itself."""
        member = self._table.members.get(node)
        return None if member is None else member.facts.name

    def routable_of(self, org: OrgDid) -> list[NodeId]:
        """The nodes of ``org`` that work can be sent to now."""
        return [member.node for member in self._table.members.values() if member.org == org and self.routable(member.node)]

    def routable_peers(self) -> list[NodeId]:
        """The other nodes that work can be sent to now, without leaves: these ask others, and are not asked."""
        members = self._table.members.items()
        return [node for node, member in members if node != self._table.me and self.routable(node) and not member.facts.anchors]

    def rtt_s(self, node: NodeId) -> float | None:
        """The last measured round trip to ``node``, in seconds; None where none was."""
        member = self._table.members.get(node)
        return None if member is None else member.rtt_s

    def anchors_of(self, node: NodeId) -> tuple[NodeId, ...]:
        """Through whom ``node`` is reached; nobody where it is no leaf, or not listed."""
        member = self._table.members.get(node)
        return () if member is None else member.facts.anchors

    def certificates(self) -> tuple[commands.Certified, ...]:
        """The checked certificates that are held, this node's own among them."""
        return tuple(self._table.credentials.values())

    def expelled(self) -> tuple[commands.Certified, ...]:
        """The certificates that nodes were expelled with."""
        return tuple(self._table.expelled.values())

    def link_address(self, node: NodeId) -> str | None:
        """Where ``node``'s link is: as it says itself, or as the seeds have it. None for a leaf."""
        member = self._table.members.get(node)
        if member is not None:
            return member.facts.link or None
        seed = self._syncing.seeds.get(node)
        return None if seed is None else seed.link

    def routable(self, node: NodeId) -> bool:
        """Whether this node would send work to ``node``."""
        member = self._table.members.get(node)
        return member is not None and member.routable and member.state in ("alive", "suspect")

    @property
    def joined(self) -> bool:
        """A sync has succeeded, or there is nobody to join."""
        return self._syncing.joined

    @property
    def incarnation(self) -> int:
        """This node's own, the newest that was written down."""
        return self._voice.incarnation

    def statistics(self) -> dict[str, int]:
        """Counters since the start, and sizes now."""
        state = self._state
        sizes = {"members": len(self._table.members), "live": len(self._table.ring) + 1, "accused": len(self._judgement.accused)}
        waiting = {"queued": len(state.queue), "timers": len(self._heap), "health_score": state.awareness.score}
        return {**state.counts, **sizes, **waiting}

    # -- events ------------------------------------------------------------------------------------------------------

    def _all_handlers(self) -> dict[type, Callable[..., None]]:
        voice, prober = self._voice, self._prober
        return {
            ev.DatagramReceived: self._datagram,
            ev.Started: self._start,
            Signed: lambda event: voice.signed(event.op, event.signature),
            Completed: prober.completed,
            FlowEnded: self._syncing.ended,
            Perform: self._perform,
            Abandon: lambda event: None,  # a command is carried out in the step that brings it
            ev.PeerProved: self._peer_proved,
            ev.LinkLost: self._link_lost,
            ev.Expelled: self._expelled,
            ev.Pardoned: self._pardoned,
            ev.Recertified: lambda event: self._table.recertify(event.certificate),
            ev.FactsChanged: lambda event: voice.change_facts(replace(event.facts, anchors=self._state.anchors)),
            ev.Announce: lambda event: voice.announce(event.topic, event.body),
            ev.Leave: self._leave,
        }

    def _start(self, _: ev.Started) -> None:
        if not self._started:
            self._started = True
            self._voice.begin()

    def _datagram(self, event: ev.DatagramReceived) -> None:
        state = self._state
        sender = event.sender
        if self._heard is not None and state.now - self._heard > AWAY_S:
            state.tell(ev.Returned(state.now - self._heard))
        self._heard = state.now
        member = self._table.members.get(sender)
        if member is not None:
            member.heard = state.now
        elif sender not in self._table.credentials:
            state.counts["strangers"] += 1
            return
        for said in event.verified:
            self._hear(said, sender)
        message = event.message
        kind = type(message)
        if kind is ev.Ping:
            first = member.told() if member is not None and member.words else ()
            if message.updates:
                first = (*self._answer(message.updates[0]), *first)
            self._reach.answer(event, member, ev.Ack(message.sequence, state.queue.take(ROOM, first)))  # type: ignore[union-attr]
        elif kind is ev.Ack:
            self._prober.acked(sender, message.sequence)  # type: ignore[union-attr]
        elif kind is ev.Nack:
            self._prober.nacked(sender, message.sequence)  # type: ignore[union-attr]
        elif kind is ev.PingRequest and member is not None:
            self._prober.asked(member, message)  # type: ignore[arg-type]

    def _answer(self, blob: bytes) -> tuple[bytes, ...]:
        """Our newest incarnation, for one that pings us as a suspect of an older one: our refutation did not reach it."""
        me = self._table.members.get(self._table.me)
        try:
            said = codec.decode_statement(blob)
        except Refused:
            return ()  # nothing was said
        if me is None or said.subject != me.node or said.signer == me.node or said.incarnation >= me.incarnation:
            return ()
        return (me.alive.blob,)

    def _peer_proved(self, event: ev.PeerProved) -> None:
        self._table.admit(commands.Certified(event.peer.node, event.peer.org, event.certificate))

    def _link_lost(self, event: ev.LinkLost) -> None:
        member = self._table.members.get(event.node)
        if member is not None and member.place >= 0 and not self._voice.leaving:
            self._prober.confirm(member)

    def _expelled(self, event: ev.Expelled) -> None:
        table = self._table
        if event.node == table.me:
            return
        table.expel(event.node)
        member = table.members.get(event.node)
        if member is not None:
            self._judgement.expel(member)

    def _pardoned(self, event: ev.Pardoned) -> None:
        if self._table.expelled.pop(event.node, None) is not None:
            self._table.buried.pop(event.node, None)  # it never left: what it said last counts again

    def _leave(self, _: ev.Leave) -> None:
        if self._voice.leaving:
            return
        state = self._state
        self._voice.leave()
        self._prober.stop()
        self._syncing.stop()
        state.timers.set(state.now + state.timing.leave_s, lambda _: state.tell(ev.LeaveCompleted()))

    # -- statements --------------------------------------------------------------------------------------------------

    def _hear(self, said: Statement, sender: NodeId | None, *, spread: bool = True, own: bool = False) -> bool:
        """Take over a verified statement; whether it was news."""
        state, table = self._state, self._table
        member = table.members.get(said.subject)
        if said.subject == table.me and said.signer == table.me and not own:
            self._voice.heard_of_an_earlier_life(said)
            return False
        former = None if member is None else member.incarnation
        former_words = tuple(member.open_words()) if member is not None and member.words else ()
        verdict = table.absorb(said, state.now)
        if verdict is not Verdict.NEWS:
            if verdict is Verdict.STRANGER:
                state.counts["strangers"] += 1
                self._syncing.wish(sender)
            elif verdict is Verdict.REFUSED:
                state.counts["refused"] += 1
            return False
        state.counts["news"] += 1
        member = table.members[said.subject]
        if spread:
            state.spread(said, own=own)
        self._judgement.heard(member, said, former, former_words)
        if said.kind is Kind.NOTE:
            state.tell(ev.NoteReceived(said.subject, said.topic, said.body))
        if said.subject == table.me and said.signer != table.me:
            self._voice.accused(said, member)
        return True

    def _say(self, said: Statement) -> None:
        """A statement of ours, signed."""
        self._hear(said, None, own=True)
        if not self._begun and self._table.me in self._table.members:
            self._begun = True
            self._syncing.begin()
            self._prober.begin()
            self._anchoring.begin()

    def _confirm(self, member: Member) -> None:
        self._prober.confirm(member)

    def _found(self, member: Member) -> None:
        """One that is held for dead has answered: exchange all there is to know."""
        if member.state == "dead":
            self._syncing.wish(member.node)

    def _gossip(self, _: object) -> None:
        state = self._state
        self._gossip_timer = None
        for member in self._reach.gossip_to(state.timing.gossip_fanout):
            updates = state.queue.take(ROOM)
            if not updates:
                return
            self._reach.send(member, ev.Gossip(updates))
        if len(state.queue):
            self._gossip_timer = state.timers.set(state.now + state.timing.gossip_interval_s, self._gossip)

    # -- commands of Flows -------------------------------------------------------------------------------------------

    def _perform(self, event: Perform) -> None:
        operation = event.operation
        assert isinstance(operation, Propose), operation
        try:
            outcome: Ok[object] | Err = Ok(self._carry_out(operation.command))
        except Refused as refusal:
            outcome = Err(refusal)
        self._state.out.append(Tell(event.reply_to, Completed(event.op, outcome)))

    def _carry_out(self, command: object) -> object:
        table = self._table
        if isinstance(command, commands.ReadStates):
            return table.digests()
        if isinstance(command, commands.Compare):
            return table.compare(command.have)
        if isinstance(command, commands.Supply):
            return table.supply(command.want)
        if isinstance(command, commands.ReadCertificates):
            return table.certificates_of(command.nodes)
        if isinstance(command, commands.FindStrangers):
            return tuple(n for n in command.nodes if n not in table.credentials)  # also of who was expelled: it may have another by now
        if isinstance(command, commands.Merge):
            return self._merge(command)
        raise Refused("unknown-command", f"membership does not know {type(command).__name__}")

    def _merge(self, merge: commands.Merge) -> int:
        for certified in merge.certificates:
            self._table.admit(certified)
        trickle = len(merge.statements) <= GOSSIPED_FROM_A_SYNC
        news = 0
        for said in sorted(merge.statements, key=_alive_first):
            spread = trickle or said.kind is not Kind.ALIVE
            news += self._hear(said, merge.sender, spread=spread)
        return news

    # -- time --------------------------------------------------------------------------------------------------------

    def _woke_late(self, now: float) -> None:
        """This node did not run for a while (stopped, or starved of its core): the others are not to blame.

        As if time had stood still, with one probe timeout more, in which what waits in the socket can be read (Lifeguard's local
        health awareness, taken to its end: here the node knows for sure that it was slow).
        """
        state = self._state
        due = state.timers.due()
        if due is None or now - due <= self._late_s:
            return
        state.counts["late"] += 1
        state.awareness.worse()
        late = now - due + state.timing.probe_timeout_s
        state.timers.shift(late)
        self._judgement.forgive_lateness(late)
        self._prober.void()

    def _view(self, member: Member) -> ev.MemberView:
        table = self._table
        accusations = tuple(
            ev.Accusation(word.signer, org, word.kind is Kind.DEAD) for org, word in (member.open_words() if member.words else {}).items()
        )
        counting = member.timer is not None and member.evidence_at is not None and member.timer[2] is not None
        facts = member.facts
        return ev.MemberView(
            node_id=member.node,
            name=facts.name,
            org=member.org,
            region=facts.region,
            state=member.state,
            routable=member.routable or member.node == table.me,
            incarnation=member.incarnation,
            since=member.since,
            facts=facts,
            accusations=accusations,
            unroutable_in_s=max(0.0, member.timer[0] - self._state.now) if counting and member.timer is not None else None,
            rtt_s=member.rtt_s,
            notes=tuple((topic, note.body) for topic, note in sorted(member.notes.items())),
        )


def _alive_first(said: Statement) -> int:
    return 0 if said.kind is Kind.ALIVE else 1


def domain(genesis_hash: bytes) -> Domain:
    """What statements of membership are signed for."""
    return Domain(genesis_hash, "membership")


__all__ = ["Membership", "Seed", "domain"]
