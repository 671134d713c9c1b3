"""What this node concludes from what was said about a member, and from its own probes.

Two conclusions, and they differ (docs/decisions/0003-membership.md):

- *routable* is this node's own. It ends when this node's own suspicion runs out, and that begins with its own failed probe (direct,
  indirect and over the link): the word of others makes it probe at once and shortens the wait, but replaces no probe. It ends with *dead*
  too. So whoever must rely on its own probes alone asks once more itself (``node/kernel/seating.py``).
- *dead* is the mesh's. It takes the signed ``dead`` of two organisations against the member's last incarnation; or of one where
  fewer than two organisations beside the member's can be reached, and then of this node's own or the member's. So no single other
  organisation can kill. Dead stays dead until the subject signs a higher incarnation.
"""

from collections.abc import Callable

from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership.events import MemberChanged, MemberForgotten, MemberState
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.state import State
from meshos.protocols.membership.statements import Kind, Statement
from meshos.protocols.membership.suspicion import shortest_s, timeout_s
from meshos.protocols.membership.timers import call_off


class Judgement:
    """``accuse(member, kind)`` has this node sign a word, ``confirm(member)`` has it probe at once."""

    def __init__(self, state: State, accuse: Callable[[Member, Kind], None], confirm: Callable[[Member], None]) -> None:
        self._state = state
        self._accuse = accuse
        self._confirm = confirm
        self.orgs_changed = False
        self.accused: dict[NodeId, Member] = {}  # live members that somebody suspects
        self.lost: dict[NodeId, Member] = {}  # the dead: they may come back

    # -- what was heard ----------------------------------------------------------------------------------------------

    def heard(self, member: Member, said: Statement, former: int | None, former_words: tuple[OrgDid, ...]) -> None:
        """``said`` was absorbed. ``former``: the incarnation before (None: a new member), ``former_words``: who accused then."""
        state = self._state
        words = member.open_words() if member.words else {}
        self._count_words(former_words, words)
        fresh = former is not None and member.incarnation > former
        if fresh:
            for org in former_words:
                if org not in words:
                    state.queue.drop((member.node, org))
            self._acquit(member)
        if member.node == state.table.me:
            member.state = "left" if member.left is not None else "alive"
            if former is None:
                state.table.count_reachable(member.org, 1)
                state.queue.resize(len(state.table.ring) + 1)
            return
        if words and member.state in ("alive", "suspect") and member.left is None:
            self._suspected(member)
        self._settle(member, fresh=fresh, new=former is None, tell=said.kind is not Kind.NOTE)

    def probe_failed(self, member: Member) -> None:
        """Our own probe of ``member`` found nobody, in any of the three ways."""
        if member.place < 0 or member.evidence_at is not None:
            return
        now = self._state.now
        member.evidence_at = now
        self.accused[member.node] = member
        if member.suspected_at is None:
            member.suspected_at = now
        self._accuse(member, Kind.SUSPECT)
        self._arm(member)
        self._settle(member)

    def finish(self) -> None:
        """At the end of a step: fewer reachable organisations may make one word enough."""
        while self.orgs_changed:
            self.orgs_changed = False
            for member in list(self.accused.values()):
                if member.node in self.accused:
                    self._settle(member)

    def forgive_lateness(self, seconds: float) -> None:
        """This node did not run for so long: nobody else is to blame for that time (the timers were shifted already)."""
        for member in self.accused.values():
            if member.suspected_at is not None:
                member.suspected_at += seconds
            if member.evidence_at is not None:
                member.evidence_at += seconds

    def expel(self, member: Member) -> None:
        """Forget a member at once."""
        self._move(member, "left", False, new=False)
        self._forget(member)

    # -- suspicion ---------------------------------------------------------------------------------------------------

    def _suspected(self, member: Member) -> None:
        state = self._state
        if member.suspected_at is None:
            member.suspected_at = state.now
            self.accused[member.node] = member
            if state.rng.random() * len(state.table.ring) < state.timing.confirming_probes:
                self._confirm(member)
        if member.evidence_at is not None and member.routable:
            self._arm(member)

    def _arm(self, member: Member) -> None:
        """(Re)set when our suspicion of ``member`` runs out: counted from when the first word was heard."""
        state = self._state
        table, timing = state.table, state.timing
        assert member.suspected_at is not None and member.evidence_at is not None
        voices = sum(org != table.org for org in member.open_words())
        wanted = table.others_reachable(table.org)
        if member.org != table.org and member.routable and table.reachable.get(member.org) == 1:
            wanted -= 1  # nobody but the suspect itself speaks for its organisation
        size = len(table.ring) + 1
        lasts = timeout_s(timing, size, voices, min(timing.confirmations, wanted))
        when = max(state.now, member.suspected_at + lasts, member.evidence_at + shortest_s(timing, size) / 2)
        call_off(member.timer)
        member.timer = state.timers.set(when, self._ran_out, member)

    def _ran_out(self, member: Member) -> None:
        member.timer = None
        self._accuse(member, Kind.DEAD)
        self._move(member, member.state, False, new=False)
        self._tell(member, member.state)
        self._settle(member)

    def _acquit(self, member: Member) -> None:
        """It has signed a higher incarnation: all suspicion is over."""
        self.accused.pop(member.node, None)
        call_off(member.timer)
        member.timer = None
        member.suspected_at = member.evidence_at = None

    def _count_words(self, former: tuple[OrgDid, ...], words: dict[OrgDid, Statement]) -> None:
        open_words = self._state.words_of
        for org in words:
            if org not in former:
                open_words[org] = open_words.get(org, 0) + 1
        for org in former:
            if org not in words:
                open_words[org] -= 1
                if not open_words[org]:
                    del open_words[org]

    # -- state -------------------------------------------------------------------------------------------------------

    def _conclude(self, member: Member, fresh: bool) -> MemberState:
        if member.left is not None:
            return "left"
        if member.state == "dead" and not fresh:
            return "dead"
        if not member.words:
            return "alive" if member.evidence_at is None else "suspect"
        words = member.open_words()
        killers = [org for org, word in words.items() if word.kind is Kind.DEAD]
        if len(killers) >= 2:
            return "dead"
        table = self._state.table
        if killers and table.others_reachable(member.org) < 2 and killers[0] in (table.org, member.org):
            return "dead"
        return "suspect" if words or member.evidence_at is not None else "alive"

    def _settle(self, member: Member, *, fresh: bool = False, new: bool = False, tell: bool = False) -> None:
        before = None if new else member.state
        state = self._conclude(member, fresh or new)
        routable = state in ("alive", "suspect") and (member.routable or fresh or new)
        changed = state != before or routable != member.routable
        self._move(member, state, routable, new=new)
        if changed or tell:
            self._tell(member, before)

    def _tell(self, member: Member, before: MemberState | None) -> None:
        state = self._state
        changed = MemberChanged(member.node, member.org, member.state, before, member.routable, member.incarnation, member.facts)
        state.tell(changed)

    def _move(self, member: Member, now_is: MemberState, routable: bool, *, new: bool) -> None:
        """Keep the ring, the reachable organisations and the timers in step with the state."""
        state = self._state
        table = state.table
        was_reachable = not new and member.place >= 0 and member.routable
        live = now_is in ("alive", "suspect")
        if live and member.place < 0:
            table.ring.add(member)
            state.queue.resize(len(table.ring) + 1)
            self.lost.pop(member.node, None)
        elif not live and member.place >= 0:
            table.ring.remove(member)
            state.queue.resize(len(table.ring) + 1)
        if not live and (new or member.state != now_is):
            self._acquit(member)
            member.timer = state.timers.set(state.now + state.timing.dead_kept_s, self._forget, member)
            if now_is == "dead":
                self.lost[member.node] = member
            else:
                self.lost.pop(member.node, None)
        if new or member.state != now_is:
            member.since = state.now
        member.state, member.routable = now_is, routable
        reachable = live and routable
        if reachable != was_reachable and table.count_reachable(member.org, 1 if reachable else -1):
            self.orgs_changed = True

    def _forget(self, member: Member) -> None:
        state = self._state
        call_off(member.timer)
        self.lost.pop(member.node, None)
        self.accused.pop(member.node, None)
        self._count_words(tuple(member.open_words()), {})
        state.table.forget(member)
        state.timers.set(state.now + state.timing.dead_kept_s, self._unbury, member.node)
        state.tell(MemberForgotten(member.node))

    def _unbury(self, node: NodeId) -> None:
        self._state.table.buried.pop(node, None)
