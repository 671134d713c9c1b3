"""Casts: one-way messages between machines of the same name on different nodes.

A cast costs one message on the link and nothing besides: no id, no record, no Flow. So nothing tells its sender what became
of it, and whoever casts makes good for a loss itself (Raft sends again at the next heartbeat). What comes from a peer is handed
to the machine that listens to its protocol, if the peer may speak it; all else is counted and dropped, since a refusal would
cost more than what is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from meshos.effects import Cast, Heard, Tell
from meshos.flow import Lane
from meshos.ids import NodeId, Peer
from meshos.protocols.rpc.asking import Send
from meshos.protocols.rpc.events import Notice, OpenLink
from meshos.protocols.rpc.limits import BODY_BYTES, CAST_OPEN_AGAIN_S, PEERS, PROTOCOL_CHARS


@dataclass(frozen=True, slots=True)
class Listener:
    """The machine that hears a protocol, and from whom."""

    machine: str
    allowed: Callable[[Peer], bool]


Listeners: TypeAlias = Mapping[str, Listener]
"""By protocol. What is not in it is dropped."""

COUNTED = ("casts", "casts_unlinked", "casts_refused", "casts_not_sent", "heard", "heard_unknown", "heard_not_allowed")
"""What ``Casting`` counts; ``casts_refused`` are those that no lane takes, a bug of whoever cast them."""


def cast_lane(size: int) -> Lane | None:
    """The lane for a body of ``size`` bytes; None if it is too large to be cast."""
    if size <= BODY_BYTES["control"]:
        return "control"
    return "work" if size <= BODY_BYTES["work"] else None


class Casting:
    """Sends casts and hands over notices. ``now`` is set by the machine before each call."""

    def __init__(self, listeners: Listeners, send: Send, linked: Callable[[NodeId], bool], effects: list[object]) -> None:
        self.now = 0.0
        self.counts = dict.fromkeys(COUNTED, 0)
        self._effects = effects
        self._listeners = listeners
        self._send = send
        self._linked = linked
        self._wanted: dict[NodeId, float] = {}  # links that were asked for, and when

    def cast(self, cast: Cast) -> None:
        """Send it, or lose it."""
        lane = cast_lane(len(cast.body))
        if lane is None or not 0 < len(cast.protocol) <= PROTOCOL_CHARS or not cast.protocol.isascii():
            self.counts["casts_refused"] += 1
        elif self._linked(cast.to):
            self.counts["casts"] += 1
            self._send(cast.to, lane, Notice(cast.protocol, cast.body))
        else:
            self.counts["casts_unlinked"] += 1
            if cast.dial:
                self._want(cast.to)

    def notice(self, peer: Peer, notice: Notice) -> None:
        """A cast of ``peer`` has come."""
        listener = self._listeners.get(notice.protocol)
        if listener is None:
            self.counts["heard_unknown"] += 1
        elif not listener.allowed(peer):
            self.counts["heard_not_allowed"] += 1
        else:
            self.counts["heard"] += 1
            self._effects.append(Tell(listener.machine, Heard(peer, notice.protocol, notice.body)))

    def not_sent(self) -> None:
        """A notice did not go out: its lane was full, or its link ended."""
        self.counts["casts_not_sent"] += 1

    def link_up(self, node: NodeId) -> None:
        """The link that was wanted, perhaps."""
        self._wanted.pop(node, None)

    def _want(self, to: NodeId) -> None:
        since = self._wanted.get(to)
        if since is not None and self.now - since < CAST_OPEN_AGAIN_S:
            return
        if len(self._wanted) >= PEERS:
            self._wanted.clear()
        self._wanted[to] = self.now
        self._effects.append(OpenLink(to))
