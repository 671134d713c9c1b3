"""Which members a leaf keeps links to.

Up to ANCHORS of them, of different organisations where there are so many: no single organisation then decides whether the others can
see the leaf. An anchor stays for as long as this node can reach it; where one is gone, another takes its place, and everybody hears of it
by the leaf's own signed word. Before anybody is known, these are the nodes that it was told to join through, often all of one organisation:
once others are known, they take the places of all but one of these.

Whether an anchor can be reached is what this node hears of it itself, so it pings them in turn. That another anchor reaches it shows that
it lives, and is of no use to who wants to know whether the leaf does. Where none is heard, it is this node that is cut off.
"""

from collections.abc import Callable
from dataclasses import replace

from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership.limits import ANCHORS
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.state import State
from meshos.protocols.membership.voice import Voice

CANDIDATES = 16
"""Members that are looked at for an anchor that is missing."""

LATELY = 2 * ANCHORS
"""Looks within which an anchor is heard of: it is pinged each ANCHORS looks."""

MISSED = 15
"""Looks in a row in which one was not, while another was, until it is given up: more than a lost link and a dial take."""

AGAIN_S = 600.0
"""It is chosen again after this at the earliest."""


class Anchoring:
    """Of a leaf; anybody else has none, and nothing happens here."""

    def __init__(self, state: State, voice: Voice, probe: Callable[[Member], None]) -> None:
        self._state = state
        self._voice = voice
        self._probe = probe
        self._turn = 0
        self._missed: dict[NodeId, int] = {}  # looks in a row, of each anchor
        self._given_up: dict[NodeId, float] = {}  # until when

    def begin(self) -> None:
        """Look after them from now on."""
        if self._state.anchors:
            self._look(None)

    def _look(self, _: object) -> None:
        state = self._state
        if self._voice.leaving:
            return
        state.timers.set(state.now + state.timing.probe_interval_s, self._look)
        self._ping()
        chosen = self._chosen()
        if chosen and set(chosen) != set(state.anchors):
            state.anchors = chosen
            state.counts["anchored"] += 1
            self._voice.change_facts(replace(self._voice.facts, anchors=chosen))

    def _ping(self) -> None:
        """One of them, in turn; and note which are not heard of."""
        state = self._state
        known = [member for node in state.anchors if (member := state.table.members.get(node)) is not None and member.place >= 0]
        if not known:
            return
        heard = {member.node for member in known if member.heard >= state.now - LATELY * state.timing.probe_interval_s}
        missed = {member.node: self._missed.get(member.node, 0) + 1 for member in known if member.node not in heard}
        self._missed = missed if heard else {}
        self._given_up = {node: until for node, until in self._given_up.items() if until > state.now}
        self._given_up.update({node: state.now + AGAIN_S for node, looks in self._missed.items() if looks >= MISSED})
        self._turn += 1
        self._probe(known[self._turn % len(known)])

    def _chosen(self) -> tuple[NodeId, ...]:
        """The anchors from now on: those that are there, then of organisations that have none among them, then any. A second one of an
        organisation makes room for another's."""
        state = self._state
        kept = [member for node in state.anchors if (member := state.table.members.get(node)) is not None and self._serves(member)]
        orgs: set[OrgDid] = {member.org for member in kept}
        if len(kept) == ANCHORS == len(orgs):
            return tuple(member.node for member in kept)
        others = [one for one in state.table.ring.sample(CANDIDATES) if self._serves(one) and one not in kept]
        for one in others:
            if one.org in orgs or len(orgs) == ANCHORS:
                continue
            if len(kept) == ANCHORS:
                kept.remove(next(each for place, each in reversed([*enumerate(kept)]) if each.org in {it.org for it in kept[:place]}))
            kept.append(one)
            orgs.add(one.org)
        kept += [one for one in others if one not in kept][: ANCHORS - len(kept)]
        return tuple(member.node for member in kept)

    def _serves(self, member: Member) -> bool:
        return _serves(member) and member.node not in self._given_up


def _serves(member: Member) -> bool:
    return member.routable and member.place >= 0 and not member.facts.anchors
