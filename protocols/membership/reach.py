"""How this node reaches which member: by datagram, over a link, or through others.

Whom everybody can dial hears datagrams. A leaf sits behind a router that lets nothing in: it keeps links to its anchors, and what they
and it say to each other goes over these, in the same words. Nobody else says anything to a leaf: who wants to know whether it is there
asks its anchors. The leaf itself knows its anchors by its own eyes, and all others by what is said of them.
"""

from meshos.effects import Cast
from meshos.ids import NodeId
from meshos.protocols.membership.codec import encode_datagram
from meshos.protocols.membership.events import DatagramReceived, Message, SendDatagram
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.state import State

GOSSIP = "/meshos/gossip/1"
"""What is cast over a link in the place of a datagram."""

OVER_LINK = ""
"""The source of what came so."""


class Reach:
    """See the module's text."""

    def __init__(self, state: State) -> None:
        self._state = state

    def touches(self, member: Member) -> bool:
        """Whether this node and ``member`` talk to each other themselves."""
        mine = self._state.anchors
        if mine:
            return member.node in mine
        theirs = member.facts.anchors
        return not theirs or self._state.table.me in theirs

    def looks_at(self, member: Member) -> bool:
        """Whether this node can find out if ``member`` is there: itself, or by asking its anchors."""
        return not self._state.anchors or self.touches(member)

    def helpers(self, count: int, member: Member) -> list[Member]:
        """Who else can look whether ``member`` is there."""
        anchors = member.facts.anchors or self._state.anchors
        if anchors:
            return [one for one in self._listed(anchors) if one is not member][:count]
        return [one for one in self._state.table.ring.sample(count, member) if not one.facts.anchors]

    def gossip_to(self, count: int) -> list[Member]:
        """Who is told news next."""
        if self._state.anchors:
            return self._listed(self._state.anchors)
        return [member for member in self._state.table.ring.following(count) if self.touches(member)]

    def partner(self) -> Member | None:
        """Somebody to exchange all knowledge with."""
        state = self._state
        found = self._listed(state.anchors) if state.anchors else state.table.ring.sample(1)
        chosen = found[int(state.rng.random() * len(found))] if len(found) > 1 else next(iter(found), None)
        return chosen if chosen is not None and self.touches(chosen) else None

    def send(self, member: Member, message: Message) -> None:
        """To whoever this node touches; to others nothing."""
        state = self._state
        if not (state.anchors or member.facts.anchors):
            state.out.append(SendDatagram(member.node, member.address, message))
        elif self.touches(member):
            self._cast(member.node, message)

    def answer(self, heard: DatagramReceived, member: Member | None, message: Message) -> None:
        """To the sender of ``heard``, by the way it came: where it says it is, signed, so that a forged source gains nothing."""
        if heard.source == OVER_LINK:
            self._cast(heard.sender, message)
        elif member is None:
            self._state.out.append(SendDatagram(heard.sender, heard.source, message))
        else:
            self.send(member, message)

    def _cast(self, to: NodeId, message: Message) -> None:
        """Only a leaf asks for a link where there is none: it cannot be dialled."""
        self._state.out.append(Cast(to, GOSSIP, encode_datagram(message), dial=bool(self._state.anchors)))

    def _listed(self, anchors: tuple[NodeId, ...]) -> list[Member]:
        """Those of a leaf's anchors that this node can ask."""
        table = self._state.table
        listed = (table.members.get(node) for node in anchors if node != table.me)
        return [one for one in listed if one is not None and one.routable and one.place >= 0 and self.touches(one)]
