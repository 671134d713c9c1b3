"""What a node has of the relay lane: the path to members that it cannot dial, its own part as a relay, and the way through routers."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import trio

from meshos.errors import MeshError
from meshos.flow import Ask, Propose
from meshos.ids import NodeId, Peer
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.punching import Punching
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.racing import first_of
from meshos.node.runtime.links.relay import RelayPath, nearest
from meshos.node.runtime.links.splicing import Splicing
from meshos.node.runtime.links.tcp import Proved, TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.membership.limits import ANCHORS
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.relay.events import MACHINE, Answer, EndLeg, Grant, Join, Punch, Seek, ShowUp
from meshos.protocols.relay.limits import SEEK_S
from meshos.protocols.relay.policy import Bandwidth, Policy

AnchorsOf: TypeAlias = Callable[[NodeId], Collection[NodeId]]
"""The members that a node which nobody can dial keeps links to; none of any other."""


class Relaying:
    """``direct`` are the other paths; ``links`` and ``host`` are attached once they are there: they are made with parts of this."""

    links: Links
    host: Host

    def __init__(
        self,
        credentials: Credentials,
        me: Peer,
        direct: Sequence[TcpPath | QuicPath],
        policy: Policy,
        *,
        anchors_of: AnchorsOf | None = None,
        proved: Proved | None = None,
    ) -> None:
        self._me = me.node
        self._anchors_of = anchors_of or _no_anchors
        self.path = RelayPath(credentials, me.node, direct, self._candidates, self._link_anchor, self._seek, self._tell, proved=proved)
        self.splicing = Splicing(Bandwidth(policy.bytes_per_s), self._tell)
        quic = next((path for path in direct if isinstance(path, QuicPath)), None)
        self.punching = None if quic is None else Punching(quic, me.node, credentials.mesh, self._going(quic))

    def attach(self, links: Links) -> None:
        """``links`` are made, with ``path`` as the last of theirs."""
        self.links = links
        links.splicing = self.splicing

    def handlers(self) -> Mapping[type, Callable[..., None]]:
        """Of the effects of the machine ``relay``."""
        handlers: dict[type, Callable[..., None]] = {Answer: self.path.answer, Join: self.splicing.join, EndLeg: self.splicing.end}
        handlers[ShowUp] = handlers[Punch] = _not_here
        if self.punching is not None:
            handlers[ShowUp], handlers[Punch] = self.punching.show_up, self.punching.punch
        return handlers

    def statistics(self) -> dict[str, float]:
        """For metrics, beside those of the machine and of the links."""
        return {} if self.punching is None else self.punching.statistics()

    def _candidates(self, to: NodeId) -> Sequence[NodeId]:
        """The peer's anchors first; a leaf relays for nobody, as nobody can dial it."""
        anchors = self._anchors_of(to)
        return sorted(
            (node for node in nearest(self.links.states(), to) if not self._anchors_of(node)), key=lambda node: node not in anchors
        )

    async def _link_anchor(self, to: NodeId, tried: Collection[NodeId]) -> None:
        """Have a link to one of the anchors of ``to`` that was not tried. A leaf has links to these alone, and a member has links to whom
        it has talked to of late: without this nobody but these would reach it."""
        anchors = [node for node in self._anchors_of(to) if node not in (self._me, to, *tried) and not self._anchors_of(node)][:ANCHORS]
        if not anchors or set(anchors) & set(nearest(self.links.states(), to)):
            return
        asks = [Ask(node, PROBE_PROTOCOL, b"", SEEK_S, retries=0, lane="control") for node in anchors]
        ways = [partial(self.host.perform, ask, timeout_s=SEEK_S) for ask in asks]
        with trio.move_on_after(SEEK_S), suppress(MeshError):  # the others that there are links to are asked then
            await first_of(ways, 0.0, _nothing)

    async def _seek(self, seek: Seek) -> Grant:
        grant = await self.host.perform(Propose(seek, to=MACHINE), timeout_s=SEEK_S)
        assert isinstance(grant, Grant)
        return grant

    def _tell(self, machine: str, event: object) -> None:
        self.host.deliver(machine, event)

    def _going(self, quic: QuicPath) -> Callable[[NodeId], Awaitable[None]]:
        async def go(node: NodeId) -> None:
            await self.links.go_direct(node, quic.name)

        return go


def _no_anchors(_: NodeId) -> Collection[NodeId]:
    return ()


async def _nothing(_: object) -> None:
    """There is nothing to undo."""


def _not_here(_: object) -> None:
    """This node's port for QUIC could not be had: its links stay relayed."""
