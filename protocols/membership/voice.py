"""What this node says of itself and of others: its incarnations, facts, notes, accusations, goodbye.

An incarnation is written down before it is signed, let alone announced, so a node that restarts (at the last one written, plus one) never
reuses one, at whatever moment it was killed. Signing is I/O and takes as long as it takes: what is signed is absorbed and
spread when its signature comes, by the same path as anybody's statement, and is simply old news if the world has moved on meanwhile.
"""

from collections.abc import Callable
from dataclasses import replace

from meshos.effects import Persist, Put, Sign
from meshos.ids import NodeId
from meshos.protocols.membership import codec, limits
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.state import State
from meshos.protocols.membership.statements import Kind, NodeFacts, Statement
from meshos.protocols.membership.suspicion import shortest_s
from meshos.storage.store import View

INCARNATION_KEY = b"incarnation"
"""Under which the last incarnation stands on disk: 8 bytes, big-endian."""

MACHINE = "membership"


class Voice:
    """``incarnation`` is the newest that was written down; the one that others know may still be the one before."""

    def __init__(self, state: State, facts: NodeFacts, view: View, say: Callable[[Statement], None]) -> None:
        """``say`` takes over a statement of ours once it is signed. Raises Refused ``bad-statement`` for facts nobody would accept."""
        self._state = state
        self._say = say
        self.facts = facts
        stored = view.get(INCARNATION_KEY)
        self.incarnation = 0 if stored is None else int.from_bytes(stored, "big")
        self._revision = 0
        self._notes = 0
        self._pending: dict[int, bytes] = {}
        self._facts_due = 0.0
        self._facts_timer = False
        self._tokens = float(limits.REFUTATIONS)
        self._refilled = 0.0
        self._refuted = float("-inf")
        self._waiting_to_refute = False
        self.leaving = False
        codec.alive_payload(state.table.me, self.incarnation, 0, facts)  # refuses bad facts now rather than later

    def begin(self) -> None:
        """The first incarnation of this life."""
        self._rise_to(self.incarnation + 1)

    def signed(self, op: int, signature: bytes) -> None:
        """A signature that was asked for has come."""
        payload = self._pending.pop(op, None)
        if payload is not None:
            self._say(codec.statement(payload, signature))

    def accuse(self, member: Member, kind: Kind) -> None:
        """Sign ``suspect`` or ``dead``, unless our organisation has said as much already: it has one voice."""
        said = member.words.get(self._state.table.org)
        if said is None or (said.incarnation, said.kind) < (member.incarnation, kind):
            self._sign(codec.word_payload(kind, member.node, member.incarnation, self._state.table.me))

    # -- about itself ------------------------------------------------------------------------------------------------

    def accused(self, said: Statement, me: Member) -> None:
        """Somebody holds this node for suspect or dead."""
        if not self.leaving and said.incarnation == me.incarnation == self.incarnation:
            self._state.awareness.worse()
            self._refute(me)

    def heard_of_an_earlier_life(self, said: Statement) -> None:
        """Our own words from others: of a life that our disk does not remember, or of another node with our key."""
        newer = said.incarnation > self.incarnation or (said.kind is Kind.LEFT and said.incarnation == self.incarnation)
        if newer and not self.leaving and self.incarnation:
            self._rise_to(said.incarnation + 1)

    def change_facts(self, facts: NodeFacts) -> None:
        """Load and health wait for their turn; where and what this node is, does not."""
        codec.check_facts(facts)
        former, self.facts = self.facts, facts
        if facts == former or self.leaving or not self.incarnation:
            return
        if replace(facts, load_permille=former.load_permille, health=former.health) != former:
            self._sign_facts(None)
        elif not self._facts_timer:
            self._facts_timer = True
            self._state.timers.set(max(self._state.now, self._facts_due), self._sign_facts)

    def announce(self, topic: str, body: bytes) -> None:
        """A note, the newest on its topic."""
        self._notes += 1
        self._sign(codec.note_payload(self._state.table.me, self.incarnation, self._notes, topic, body))

    def leave(self) -> None:
        """Goodbye, for this incarnation."""
        self.leaving = True
        self._sign(codec.left_payload(self._state.table.me, self.incarnation))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _refute(self, me: Member) -> None:
        """Rise above the accusation. One organisation that accuses again and again is answered slowly: alone it cannot kill."""
        state = self._state
        pause = shortest_s(state.timing, len(state.table.ring) + 1)
        self._tokens = min(limits.REFUTATIONS, self._tokens + (state.now - self._refilled) / pause)
        self._refilled = state.now
        urgent = len(me.open_words()) >= 2 and state.now - self._refuted >= state.timing.probe_interval_s
        if self._tokens < 1 and not urgent:
            if not self._waiting_to_refute:
                self._waiting_to_refute = True
                wait = max((1 - self._tokens) * pause, pause / 100)  # never so short that the clock does not move
                state.timers.set(state.now + wait, self._refute_late, me)
            return
        self._tokens = max(0.0, self._tokens - 1)
        self._refuted = state.now
        state.counts["refutations"] += 1
        self._rise_to(self.incarnation + 1)

    def _refute_late(self, me: Member) -> None:
        self._waiting_to_refute = False
        if me.open_words() and me.incarnation == self.incarnation and not self.leaving:
            self._refute(me)

    def _rise_to(self, incarnation: int) -> None:
        if incarnation >= limits.NUMBER:
            return  # nothing that was signed by this key can be that high, but for a bug of ours
        self.incarnation = incarnation
        self._revision = 0
        self._state.out.append(Persist((Put(INCARNATION_KEY, incarnation.to_bytes(8, "big")),)))
        self._sign(codec.alive_payload(self._me, incarnation, 0, self.facts))

    def _sign_facts(self, _: object) -> None:
        self._facts_timer = False
        if self.leaving:
            return
        self._facts_due = self._state.now + self._state.timing.facts_interval_s
        self._revision += 1
        self._sign(codec.alive_payload(self._me, self.incarnation, self._revision, self.facts))

    def _sign(self, payload: bytes) -> None:
        if len(self._pending) >= limits.SIGNING or payload in self._pending.values():
            return
        state = self._state
        op = state.number()
        self._pending[op] = payload
        state.out.append(Sign(MACHINE, op, state.domain, payload))

    @property
    def _me(self) -> NodeId:
        return self._state.table.me
