"""The relay's part in a direct way: to see where the datagrams of two come from that it relays for, and to tell both.

Only two whose pair is joined here can be introduced, so nobody learns an address of whom it does not talk to already. What is seen is the
source of a QUIC connection whose handshake is over, by a member that has proved who it is: nobody can have another one's address told.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from meshos.buckets import Buckets
from meshos.effects import Cast
from meshos.ids import NodeId, Peer
from meshos.protocols.relay.events import Came, EndLeg
from meshos.protocols.relay.limits import MEET_S, MEETINGS, REMEMBERED, TOKEN_BYTES, WANTS_BURST, WANTS_PER_S
from meshos.protocols.relay.wire import CAST, Address, Meet, Met, Show, encode


@dataclass(slots=True, eq=False)
class Meeting:
    """Between two, by what token each is to come, and where it was seen."""

    until: float
    tokens: dict[NodeId, bytes]
    seen: dict[NodeId, Address] = field(default_factory=dict)


class Introducing:
    """``relays`` says whether a pair of two nodes is joined here. ``now`` and ``out`` (the effects) are those of the step being taken."""

    def __init__(self, relays: Callable[[NodeId, NodeId], bool], rng: random.Random) -> None:
        self.now = 0.0
        self.out: list[object] = []
        self.counts: Counter[str] = Counter()
        self._relays = relays
        self._rng = rng
        self._often = Buckets(WANTS_PER_S, WANTS_BURST, REMEMBERED)
        self._meetings: dict[frozenset[NodeId], Meeting] = {}
        self._tokens: dict[bytes, frozenset[NodeId]] = {}

    def meet(self, peer: Peer, meet: Meet) -> None:
        """``peer`` would like to meet another."""
        couple = frozenset((peer.node, meet.other))
        too_often = not self._often.of(peer.node).take(self.now)
        if too_often or couple in self._meetings or len(self._meetings) >= MEETINGS or not self._relays(peer.node, meet.other):
            self.counts["meetings_refused"] += 1
            return
        tokens = {node: self._rng.getrandbits(8 * TOKEN_BYTES).to_bytes(TOKEN_BYTES, "big") for node in sorted(couple)}
        self._meetings[couple] = Meeting(self.now + MEET_S, tokens)
        self._tokens.update(dict.fromkeys(tokens.values(), couple))
        self.counts["meetings"] += 1
        for node, token in tokens.items():
            (other,) = couple - {node}
            self.out.append(Cast(node, CAST, encode(Show(token, other))))

    def came(self, event: Came) -> bool:
        """Whether a leg is of one that shows itself; that has been all then."""
        couple = self._tokens.get(event.token)
        if couple is None or self._meetings[couple].tokens.get(event.peer.node) != event.token:
            return False
        meeting = self._meetings[couple]
        del self._tokens[event.token]
        self.out.append(EndLeg(event.leg, "relay-ended"))
        if event.source is None:
            self._end(couple)
            return True
        meeting.seen[event.peer.node] = event.source
        if len(meeting.seen) == 2:
            self._end(couple)
            self.counts["introduced"] += 1
            one, other = sorted(couple)
            for node, them in ((one, other), (other, one)):
                self.out.append(Cast(node, CAST, encode(Met(them, meeting.seen[node], meeting.seen[them]))))
        return True

    def _end(self, couple: frozenset[NodeId]) -> None:
        for token in self._meetings.pop(couple).tokens.values():
            self._tokens.pop(token, None)

    def due(self) -> float | None:
        """When the next meeting ends."""
        return min((meeting.until for meeting in self._meetings.values()), default=None)

    def tick(self) -> None:
        """End those whose time is up."""
        for couple in [couple for couple, meeting in self._meetings.items() if meeting.until <= self.now]:
            self._end(couple)
