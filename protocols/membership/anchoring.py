"""Which members a leaf keeps links to.

Up to ANCHORS of them, of different organisations where there are so many: no single organisation then decides whether the others can
see the leaf. An anchor stays for as long as this node can reach it; where one is gone, another takes its place, and everybody hears of it
by the leaf's own signed word. Before anybody is known, these are the nodes that it was told to join through.
"""

from dataclasses import replace

from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership.limits import ANCHORS
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.state import State
from meshos.protocols.membership.voice import Voice

CANDIDATES = 16
"""Members that are looked at for an anchor that is missing."""


class Anchoring:
    """Of a leaf; anybody else has none, and nothing happens here."""

    def __init__(self, state: State, voice: Voice) -> None:
        self._state = state
        self._voice = voice

    def begin(self) -> None:
        """Look after them from now on."""
        if self._state.anchors:
            self._look(None)

    def _look(self, _: object) -> None:
        state = self._state
        if self._voice.leaving:
            return
        state.timers.set(state.now + state.timing.probe_interval_s, self._look)
        chosen = self._chosen()
        if chosen and set(chosen) != set(state.anchors):
            state.anchors = chosen
            state.counts["anchored"] += 1
            self._voice.change_facts(replace(self._voice.facts, anchors=chosen))

    def _chosen(self) -> tuple[NodeId, ...]:
        """The anchors from now on: those that are there, then of organisations that have none among them, then any."""
        state = self._state
        kept = [member for node in state.anchors if (member := state.table.members.get(node)) is not None and _serves(member)]
        if len(kept) < ANCHORS:
            others = [one for one in state.table.ring.sample(CANDIDATES) if _serves(one) and one not in kept]
            orgs: set[OrgDid] = {member.org for member in kept}
            for one in others:
                if len(kept) < ANCHORS and one.org not in orgs:
                    kept.append(one)
                    orgs.add(one.org)
            kept += [one for one in others if one not in kept][: ANCHORS - len(kept)]
        return tuple(member.node for member in kept)


def _serves(member: Member) -> bool:
    return member.routable and member.place >= 0 and not member.facts.anchors
