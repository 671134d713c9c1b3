"""What takes its time after a change of whom to believe: the directory lets go of what counts no more, and others hear of newer lists.

Each organisation can change its root as often as it likes, and each change is one for every node. So of each of the two one goes on at a
time, over all organisations that it is about; what is wanted meanwhile is done together when it has ended.
"""

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import trio

from meshos.errors import MeshError
from meshos.ids import NodeId, OrgDid
from meshos.protocols.directory.services import DISOWN
from meshos.protocols.membership.limits import SPREAD
from meshos.protocols.membership.revocations import SPREAD_FLOW

logger = logging.getLogger("meshos.node")

DISOWN_S = 600.0
"""A look at the whole directory takes seconds; more than this, and something is stuck."""
SPREAD_S = 60.0
"""To offer a few peers a list; who takes longer has it from others, or at a sync."""


class Runs(Protocol):
    """What runs Flows: a ``Host``."""

    async def flow(self, service: str, argument: object, *, timeout_s: float) -> Any:
        """See ``Host.flow``."""
        ...


class Peers(Protocol):
    """Who can be told: a ``Membership``."""

    def routable_peers(self) -> Sequence[NodeId]:
        """See ``Membership.routable_peers``."""
        ...


class Sweeping:
    """``host`` is attached once it is there."""

    host: Runs

    def __init__(self, membership: Peers, nursery: trio.Nursery) -> None:
        self._membership = membership
        self._nursery = nursery
        self._due: set[OrgDid] = set()
        self._disowns = False
        self._untold = False
        self._spreads = False

    def disown(self, orgs: Iterable[OrgDid]) -> None:
        """Have the directory let go of what nodes of ``orgs`` have signed by certificates that count no more."""
        self._due.update(orgs)
        if self._due and not self._disowns:
            self._disowns = True
            self._nursery.start_soon(self._disown)

    def spread(self) -> None:
        """Have others hear of the lists from here, and not only when they happen to ask."""
        self._untold = True
        if not self._spreads:
            self._spreads = True
            self._nursery.start_soon(self._spread)

    async def _disown(self) -> None:
        while self._due:
            orgs = frozenset(self._due)
            self._due.clear()
            try:
                gone = await self.host.flow(DISOWN, orgs, timeout_s=DISOWN_S)
            except MeshError as error:
                logger.error("not-disowned", extra={"err": error.name, "detail": error.detail})
            else:
                logger.info("disowned", extra={"records": gone})
        self._disowns = False

    async def _spread(self) -> None:
        while self._untold:
            self._untold = False
            peers = self._membership.routable_peers()
            chosen = random.sample(peers, min(SPREAD, len(peers)))
            try:
                await self.host.flow(SPREAD_FLOW, chosen, timeout_s=SPREAD_S)
            except MeshError as error:
                logger.info("not-spread", extra={"err": error.name, "detail": error.detail})  # the syncs bring them
        self._spreads = False
