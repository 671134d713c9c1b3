"""What the API says of room in the directory, and renting it: from the ledger as this node has it, and from what its own directory holds.

How long a rent is and what it costs is worked out here, by this node's clock, since a ledger in which nothing happens has an old time.
The transaction then names that day and that sum: if the price rises meanwhile, nothing is paid.
"""

import time
from collections.abc import Callable

from meshos.consensus.ledger import queries, tree
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.limits import DAY_MS, RENT_DAYS
from meshos.consensus.ledger.parameters import in_force
from meshos.consensus.ledger.rents import RENTS, Rent, Steps, rent, rented, room
from meshos.errors import Refused
from meshos.ids import OrgDid
from meshos.node.api import shapes
from meshos.node.facade.ledger import LedgerDesk, advice, read_did
from meshos.node.facade.orgs import no_such_org
from meshos.protocols.ledger.port import LedgerView


class RoomDesk:
    """See the module's text. ``held`` says how many records of an organisation this node's directory holds; ``wall`` is Unix time."""

    def __init__(
        self, me: OrgDid, window: LedgerView, desk: LedgerDesk, held: Callable[[OrgDid], int], wall: Callable[[], float] = time.time
    ) -> None:
        self._me = me
        self._window = window
        self._desk = desk
        self._held = held
        self._wall = wall

    async def room(self, did: str) -> shapes.Json:
        """How much room an organisation has, until when, and what more costs.

        Raises BadInput ``bad-did``, Refused ``no-such-org``, Failed ``state-incomplete``.
        """
        org, window = read_did(did), self._ready()
        if queries.org(window, org) is None:
            raise no_such_org(org)
        now, time_ms = in_force(window), window.time_ms
        return {
            "did": org,
            "held": self._held(org),
            **self._now(org),
            "most": now["directory-max-records-per-org"],
            "price_micro": now["directory-record-price"],
            "priceDays": RENT_DAYS,
            "height": window.height,
            "time_ms": time_ms,
        }

    async def quote(self, records: int, days: int) -> shapes.RoomQuote:
        """What room for ``records`` for ``days``, today included, costs this node's organisation beyond what it has paid for.

        Raises Refused ``rent-not-needed`` or ``rent-out-of-bounds``, Failed ``state-incomplete``.
        """
        window = self._ready()
        now_ms = max(window.time_ms + 1, int(self._wall() * 1000))
        day = now_ms // DAY_MS + days - 1
        try:
            _, micro = rent(in_force(window), self._steps(self._me), records, day, now_ms)
        except Refused as refusal:
            raise Refused(refusal.name, refusal.detail, hint=advice(refusal.name)) from refusal
        return shapes.RoomQuote(records, day, micro)

    async def rent(self, quote: shapes.RoomQuote, key: str, timeout_s: float) -> shapes.Json:
        """Rent what ``quote`` says, for no more than it says, once for one ``key``; returns when it is committed. Raises as
        ``LedgerDesk.transfer``. Where all is paid for, nothing is sent. ``added`` says for how many records more there is room at once.
        """
        before = rented(self._steps(self._me), self._window.time_ms)
        said = {"records": quote.records, "until_ms": (quote.day + 1) * DAY_MS, "paid_micro": quote.micro}
        if not quote.micro:
            return {"txId": None, "height": self._window.height, "outcome": "unchanged", **said, **self._now(self._me), "added": 0}
        body: Body = Rent(quote.records, quote.day, quote.micro)
        done = await self._desk.send(body, key, timeout_s)
        added = rented(self._steps(self._me), self._window.time_ms) - before
        return {"txId": done.id.hex(), "height": done.height, "outcome": done.outcome, **said, **self._now(self._me), "added": added}

    def _now(self, org: OrgDid) -> dict[str, object]:
        """For how many records there is room, the free ones included (None: not limited by what is paid), and until when."""
        return {
            "room": room(self._window, org, self._window.time_ms),
            "free": in_force(self._window)["directory-free-records"],
            "rented": [{"records": records, "until_ms": (day + 1) * DAY_MS} for records, day in self._steps(org)],
        }

    def _ready(self) -> LedgerView:
        if self._window.restoring:
            raise tree.incomplete()
        return self._window

    def _steps(self, org: OrgDid) -> Steps:
        return RENTS.read(self._window, org) or ()
