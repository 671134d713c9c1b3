"""What each connection is like now, for metrics and for people."""

from dataclasses import dataclass

from meshos.flow import Lane
from meshos.ids import NodeId, OrgDid
from meshos.node.runtime.links.channel import Channel
from meshos.node.runtime.links.peer_links import BULK, PeerLinks
from meshos.protocols.rpc.frames import LANES


@dataclass(frozen=True, slots=True)
class LinkState:
    """One connection. ``rtt_s`` is a round trip, None before the first; ``loss`` the share of packets that had to be sent again; ``rate``
    bytes a second, see ``Transport``; ``why`` it carries what goes to the peer, empty where it does not; ``via`` the member that
    relays it."""

    node: NodeId
    org: OrgDid
    path: str
    lanes: tuple[Lane, ...]
    dialled: bool
    rtt_s: float | None
    loss: float
    rate: float
    why: str
    bytes_in: int
    bytes_out: int
    messages_in: dict[Lane, int]
    messages_out: dict[Lane, int]
    queued: int
    via: NodeId | None = None


def state_of(channel: Channel, peer: PeerLinks) -> LinkState:
    """What ``channel``, one of its ``peer``'s, is like."""
    return LinkState(
        channel.peer.node,
        channel.peer.org,
        channel.path,
        BULK if channel.bulk_only else LANES,
        channel.connection.dialled,
        channel.measuring.rtt_s,
        channel.measuring.loss,
        channel.transport().rate,
        peer.choice.why if channel is peer.main else "",
        channel.bytes_in,
        channel.bytes_out,
        dict(channel.messages_in),
        dict(channel.messages_out),
        channel.codec.waiting,
        channel.connection.via,
    )
