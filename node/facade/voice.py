"""This node's organisation speaking on the ledger: what it says is tried before it is sent, and who said something is named for people.

A body is tried on the newest state that this node knows (``Body.apply`` on a Draft that is thrown away): what the ledger would refuse is
refused at once, with the reason in words, and costs no nonce. What is decided is decided by the ledger all the same.
"""

from collections.abc import Iterable

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.audit import Entry
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender
from meshos.consensus.ledger.keys import HUMAN, KEYS
from meshos.consensus.ledger.parameters import PARAMETERS
from meshos.errors import Refused, Unreachable
from meshos.ids import NodeId
from meshos.node.facade.ledger import LedgerDesk, advice
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.ledger.slots import Concluded

TRAIL = 512
"""Entries of the audit trail that are searched for what was said of one thing, newest first: some 10 ms."""


class Voice:
    """See the module's text. ``me`` is this node."""

    def __init__(self, me: NodeId, window: LedgerView, desk: LedgerDesk) -> None:
        self._me = me
        self._window = window
        self._desk = desk

    @property
    def org(self) -> str | None:
        """The organisation that the ledger has this node in."""
        key = KEYS.read(self._window, self._me)
        return None if key is None else key.org

    def check_ready(self) -> None:
        """Raise Unreachable ``not-ready`` while the ledger's state is being fetched."""
        if PARAMETERS.read(self._window, b"") is None:
            what = "this node is fetching the ledger's state, and cannot tell yet"
            raise Unreachable("not-ready", what, hint="ask again in a moment, or another node", outcome="not_done")

    async def send(self, body: Body, key: str, timeout_s: float) -> Concluded:
        """Try it and send it, once for one ``key``. What was sent for it before is not tried again: the ledger would now refuse what it has
        done. Raises Refused as the body's ``apply``, and as ``LedgerDesk.send``.
        """
        if not await self._desk.knows(key):
            self._try(body)
        return await self._desk.send(body, key, timeout_s)

    def who(self, by: str) -> str:
        """Who did it, for people: a node or a root key by its organisation; a person by name too, since many are called the same."""
        found = KEYS.read(self._window, by)
        if found is None:
            return by.rpartition(":")[2]
        org = found.org.rpartition(":")[2]
        return f"{found.label} ({org}, {by[:12]})" if found.role == HUMAN else org

    def trail(self, entries: Iterable[Entry]) -> list[dict[str, object]]:
        """Entries of the audit trail, for people."""
        return [
            {
                "time_ms": entry.time_ms,
                "by": entry.by,
                "who": self.who(entry.by),
                "what": entry.what,
                "why": entry.why or None,
                "height": entry.height,
            }
            for entry in entries
        ]

    def _try(self, body: Body) -> None:
        window = self._window
        key = KEYS.read(window, self._me)
        if key is None:
            return  # the sender of transactions says so
        draft = Draft(window, window.height + 1, window.time_ms + 1)
        try:
            body.apply(draft, Sender(self._me, key.role, key.org, bytes(32)))
        except Refused as refusal:
            raise Refused(refusal.name, refusal.detail, hint=refusal.hint or self._advice(refusal, key.org)) from refusal

    def _advice(self, refusal: Refused, org: str) -> str:
        seat = next((entry for entry in queries.seats(self._window).entries if entry.org == org), None)
        if refusal.name == "no-voice" and seat is not None:
            return f"ask the node that does: {self._desk.name_of(seat.node)}"
        return "" if ";" in refusal.detail else advice(refusal.name)
