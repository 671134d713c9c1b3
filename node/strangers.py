"""What this node lets strangers see, put together: its square, on the node's own key."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import trio

from meshos.crypto.signing import Domain
from meshos.genesis import to_json
from meshos.ids import NodeId
from meshos.node.facade.door import Door
from meshos.node.facade.ledger import Books, LedgerDesk
from meshos.node.facade.moving import MotionDesk
from meshos.node.kernel.assembly import Assembly
from meshos.node.opening import Folder
from meshos.node.runtime.host import Host
from meshos.node.runtime.square.offer import Offer
from meshos.node.runtime.square.square import Place, Square
from meshos.protocols.directory.search import DiscoverRequest, Found
from meshos.protocols.directory.services import DISCOVER_HERE
from meshos.protocols.membership.events import Announce, MemberView
from meshos.protocols.square import announcements, describe, headers, peer_record, proof, resolve, search
from meshos.protocols.square.answering import Answering, Protocol
from meshos.protocols.square.budget import Budget
from meshos.protocols.square.knowledge import Known
from meshos.protocols.square.routes import TOPIC, Routes, node_at, note_of, routes_of
from meshos.storage.store import LiveView, View

logger = logging.getLogger("meshos.square")

ROUTES_S = 5.0
"""How long a list of the other nodes' squares is good for."""


def door_of(opened: Folder, *, host: Host, assembly: Assembly, store: LiveView, wall: Callable[[], float]) -> Door:
    """This node's door, for those who want to become members."""
    me, window, membership, mesh = opened.me, assembly.window, assembly.membership, opened.genesis.hash
    desk = LedgerDesk(host, Books(assembly.ledger, window, store), mesh, me.node, membership.name_of)
    return Door(me, window, MotionDesk(me.node, window, desk, mesh), mesh, membership.members, now=trio.current_time, wall=wall)


def open_square(
    opened: Folder,
    version: str,
    *,
    host: Host,
    assembly: Assembly,
    store: View,
    sign: Callable[[Domain, bytes], Awaitable[bytes]],
    wall_ms: Callable[[], int],
    also: Sequence[Protocol] = (),
) -> Square | None:
    """The square of this node, or None where its configuration wants none. ``also`` are protocols beside those that only read."""
    config, genesis = opened.config, opened.genesis
    if config.square is None:
        return None
    place = Place(config.square.host, config.square.port, config.advertise or config.square.host, opened.me.node)
    meeting = meeting_points(genesis.bootstrap, place.advertised)
    routes = MeshRoutes(assembly.membership.members, opened.me.node, meeting, peer_record.Records(wall_ms()))
    known = Known(opened.me, version, genesis, to_json(genesis), store, assembly.window, lambda: square.addresses, routes)

    async def search_here(request: DiscoverRequest) -> Sequence[Found]:
        found: Sequence[Found] = await host.flow(DISCOVER_HERE, request, timeout_s=search.TIMEOUT_S)
        return found

    def tell(addresses: tuple[str, ...]) -> None:
        host.deliver("membership", Announce(TOPIC, note_of(addresses)))
        record = peer_record.seal(opened.node.sign_bytes, opened.me.node, addresses, wall_ms())
        host.deliver("membership", Announce(peer_record.TOPIC, record))

    spoken = [
        describe.protocol(known, lambda: tuple(answering.protocols)),
        headers.protocol(known),
        proof.protocol(known),
        resolve.protocol(known),
        search.protocol(known, search_here, sign, wall_ms),
        *also,
    ]
    answering = Answering(spoken, Budget(), _bug)
    offer = Offer(
        answering,
        genesis.hash,
        f"meshos/{version}",
        addresses=lambda: square.addresses,
        routes=routes,
        news=lambda: _news(known, assembly),
        records=routes.records,
        opened=lambda addresses: None if opened.config.leaf else tell(addresses),
    )
    square = Square(place, opened.node.seed(), offer)
    return square


def _bug(protocol: str, error: Exception) -> None:
    logger.error("bug", exc_info=error, extra={"protocol": protocol})


def _news(known: Known, assembly: Assembly) -> dict[str, bytes]:
    """What this node announces now."""
    genesis_hash, head = known.genesis.hash, known.head()
    directory = announcements.of_directory(assembly.directory.digest(), int(assembly.directory.statistics()["records"]))
    news = {announcements.directory_topic(genesis_hash): directory}
    return news if head is None else {announcements.heads_topic(genesis_hash): announcements.of_head(head), **news}


def meeting_points(bootstrap: Sequence[str], advertised: str) -> tuple[str, ...]:
    """Those in the genesis that who reaches this node may reach, too: a testnet names its own machine, and is served to others later."""
    here = _is_loopback(advertised)
    return tuple(address for address in bootstrap if here or not _is_loopback(address.split("/")[2]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class MeshRoutes:
    """The nodes that are alive, and where their squares are: looked up again every ROUTES_S. While they are few, those that the genesis
    names count too, unless they are known to be gone. ``records()`` are what the nodes have signed of the same.
    """

    def __init__(
        self, members: Callable[[], Iterable[MemberView]], me: NodeId, bootstrap: Sequence[str], records: peer_record.Records | None = None
    ) -> None:
        self._members, self._me, self._bootstrap = members, me, bootstrap
        self._records = records or peer_record.Records()
        self._routes, self._until = Routes(), -1.0

    def __call__(self) -> Routes:
        self._look()
        return self._routes

    def records(self) -> peer_record.Records:
        """What they have signed of where they are."""
        self._look()
        return self._records

    def _look(self) -> None:
        now = trio.current_time()
        if now < self._until:
            return
        views = list(self._members())
        here = [view for view in views if view.routable or view.node_id == self._me]
        gone = {view.node_id for view in views} - {view.node_id for view in here}
        meeting = [address for address in self._bootstrap if node_at(address) not in gone]
        self._routes = routes_of(_notes(here, TOPIC), meeting)
        self._records.renew(_notes(here, peer_record.TOPIC))
        self._until = now + ROUTES_S


def _notes(views: Iterable[MemberView], topic: str) -> Iterator[tuple[NodeId, bytes]]:
    return ((view.node_id, note) for view in views for said, note in view.notes if said == topic)
