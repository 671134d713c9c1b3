"""What this node lets strangers see, put together: its square, on the node's own key."""

from collections.abc import Awaitable, Callable, Sequence

import trio

from meshos.crypto.signing import Domain
from meshos.genesis import to_json
from meshos.node.facade.door import Door
from meshos.node.facade.ledger import Books, LedgerDesk
from meshos.node.facade.moving import MotionDesk
from meshos.node.kernel.assembly import Assembly
from meshos.node.opening import Folder
from meshos.node.runtime.host import Host
from meshos.node.runtime.square.square import Place, Square
from meshos.protocols.directory.search import DiscoverRequest, Found
from meshos.protocols.directory.services import DISCOVER_HERE
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.square import describe, headers, proof, resolve, search
from meshos.protocols.square.answering import Answering, Protocol
from meshos.protocols.square.budget import Budget
from meshos.protocols.square.knowledge import Known
from meshos.storage.store import LiveView, View


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
    store: View,
    ledger: LedgerView,
    sign: Callable[[Domain, bytes], Awaitable[bytes]],
    wall_ms: Callable[[], int],
    also: Sequence[Protocol] = (),
) -> Square | None:
    """The square of this node, or None where its configuration wants none. ``also`` are protocols beside those that only read."""
    config, genesis = opened.config, opened.genesis
    if config.square is None:
        return None
    known = Known(opened.me, version, genesis, to_json(genesis), store, ledger, lambda: square.addresses)

    async def search_here(request: DiscoverRequest) -> Sequence[Found]:
        found: Sequence[Found] = await host.flow(DISCOVER_HERE, request, timeout_s=search.TIMEOUT_S)
        return found

    spoken = [
        describe.protocol(known, lambda: tuple(answering.protocols)),
        headers.protocol(known),
        proof.protocol(known),
        resolve.protocol(known),
        search.protocol(known, search_here, sign, wall_ms),
        *also,
    ]
    answering = Answering(spoken, Budget())
    place = Place(config.square.host, config.square.port, config.advertise or config.square.host, opened.me.node)
    square = Square(place, opened.node.seed(), answering, f"meshos/{version}")
    return square
