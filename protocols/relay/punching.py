"""The part of two whose link is relayed in finding a direct way through their routers (RFC 5128, section 3.3; as DCUtR does in libp2p).

    one                              relay                           other
     |-- meet ------------------------>|                               |
     |<------------------------- show  |  show ----------------------->|
     |== QUIC: I come from here ======>|<===== QUIC: I come from here =|
     |<-------------------------- met  |  met ------------------------>|
     |<------------ here: a code, both addresses, end to end --------->|
     |- - - small datagrams with the other's code, from both sides - - |
     |== QUIC, to where the other's datagrams come from ==============>|

A router that lets in only what answers (a filter by address, or by address and port) takes the other's datagrams for answers once its own
side has sent one there. One that uses another port for every destination (symmetric) is found by the other side, if that lets it in: then
its datagrams say from which port it really comes. Two of these, or one and a filter by port, find nothing, and the link stays relayed.

**Nobody is sent anything that has not asked for it**, more than a few small datagrams: the address has to be named twice, by the other
member over the link that it has proved itself on, as its own, and by the relay, who saw it come from there. A connection is opened only
to where a datagram came from that carries the code that was told to the other member alone.
"""

import ipaddress
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from meshos.effects import Cast
from meshos.ids import NodeId, Peer
from meshos.protocols.relay.events import Punch, Relayed, ShowUp
from meshos.protocols.relay.limits import MEET_AGAIN_S, MEET_FIRST_S, MEET_S, MEETINGS, MEETINGS_PER_LINK, TOKEN_BYTES
from meshos.protocols.relay.wire import CAST, Address, Here, Meet, Met, Show, encode


@dataclass(slots=True, eq=False)
class Way:
    """What is known of a peer whose link is relayed. ``code`` is by what its datagrams are known here; a meeting lasts ``until``."""

    via: NodeId
    dialled: bool
    again_at: float | None
    asked: int = 0
    shown: int = 0
    until: float = 0.0
    code: bytes = b""
    met: Met | None = None
    here: Here | None = None


class Punching:
    """``now`` and ``out`` (the effects) are those of the step being taken."""

    def __init__(self, linked: Callable[[NodeId], Peer | None], rng: random.Random, *, enabled: bool) -> None:
        self.now = 0.0
        self.out: list[object] = []
        self.counts: Counter[str] = Counter()
        self._linked = linked
        self._rng = rng
        self._enabled = enabled
        self._ways: dict[NodeId, Way] = {}

    # -- what the links tell -----------------------------------------------------------------------------------------

    def relayed(self, event: Relayed) -> None:
        """A link goes through another now."""
        again_at = self.now + MEET_FIRST_S if event.dialled and self._enabled else None
        self._ways[event.node] = Way(event.via, event.dialled, again_at)

    def unrelayed(self, node: NodeId) -> None:
        """It is gone, or direct."""
        self._ways.pop(node, None)

    # -- what others say ---------------------------------------------------------------------------------------------

    def show(self, relay: Peer, show: Show) -> None:
        """The relay wants to see where this node's datagrams come from: it may, if it relays here, and not too often."""
        way = self._ways.get(show.other)
        if way is None or way.via != relay.node or not self._enabled or way.until > self.now or way.shown >= MEETINGS_PER_LINK:
            self.counts["shows_refused"] += 1
            return
        if sum(each.until > self.now for each in self._ways.values()) >= MEETINGS:
            self.counts["shows_refused"] += 1
            return
        way.shown += 1
        way.until, way.met, way.here = self.now + MEET_S, None, None
        way.code = self._rng.getrandbits(8 * TOKEN_BYTES).to_bytes(TOKEN_BYTES, "big")
        self.counts["shown"] += 1
        self.out.append(ShowUp(relay.node, show.token))

    def meeting(self, relay: Peer, met: Met) -> None:
        """The relay says where the two come from: tell the other what it is said to be, and hear what it says itself."""
        way = self._ways.get(met.other)
        if way is None or way.via != relay.node or way.until <= self.now or way.met is not None or not _may_send(met.mine, met.theirs):
            self.counts["meetings_unexpected"] += 1
            return
        way.met = met
        if self._linked(met.other) is not None:
            self.out.append(Cast(met.other, CAST, encode(Here(way.code, met.mine, met.theirs))))
        self._agree(met.other, way)

    def here(self, peer: Peer, here: Here) -> None:
        """The other says so itself, end to end."""
        way = self._ways.get(peer.node)
        if way is None or way.until <= self.now or way.here is not None:
            self.counts["meetings_unexpected"] += 1
            return
        way.here = here
        self._agree(peer.node, way)

    def _agree(self, node: NodeId, way: Way) -> None:
        """Both have said it, and the same: go."""
        if way.met is None or way.here is None:
            return
        if (way.here.mine, way.here.theirs) != (way.met.theirs, way.met.mine):
            self.counts["meetings_disagreed"] += 1
            way.until = self.now
            return
        self.counts["punched"] += 1
        self.out.append(Punch(node, way.met.theirs, way.code, way.here.code, way.dialled))

    # -- time --------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When the next meeting is asked for."""
        return min((way.again_at for way in self._ways.values() if way.again_at is not None), default=None)

    def tick(self) -> None:
        """Ask for those that are due."""
        for node, way in self._ways.items():
            if way.again_at is None or way.again_at > self.now:
                continue
            way.asked += 1
            way.again_at = None if way.asked >= MEETINGS_PER_LINK else self.now + MEET_AGAIN_S * 2 ** (way.asked - 1)
            if self._linked(way.via) is not None:
                self.out.append(Cast(way.via, CAST, encode(Meet(node))))

    def statistics(self) -> dict[str, float]:
        """Counts since the start."""
        return dict(self.counts)


def _may_send(mine: Address, theirs: Address) -> bool:
    """A node that does not come from this machine itself is not had to send anything to it."""
    one, other = ipaddress.ip_address(mine[0]), ipaddress.ip_address(theirs[0])
    return one.version == other.version and (one.is_loopback or not other.is_loopback)
