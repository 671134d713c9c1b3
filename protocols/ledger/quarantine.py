"""Who is in quarantine, as calls and searches ask it: a point lookup in the ledger's newest state for each name, never a scan.

A call is looked at on both sides. The caller's node makes none to an agent, a node or an organisation in quarantine, before it promises any
money; the provider's node takes none for such an agent, and none from a caller that is in quarantine itself. So it holds as soon as one of
the two has the block, whatever the other knows. How a task ended that was begun before is told all the same, and paid for.

While a node lays down a state that it fetched, it can read nothing off it, and obeys as one that has not heard of any quarantine: the
other side of each call still knows, and a node that went silent whenever it fetched a state would be a fault of its own.
"""

from typing import Protocol

from meshos.consensus.ledger.quarantine import QUARANTINE
from meshos.errors import Refused
from meshos.protocols.ledger.port import LedgerView

REMEMBERED = 10_000
"""Names of which is remembered whether they are in quarantine, until the next block."""

HINT = "`mesh quarantine list` says since when, `mesh approvals --all` by which decision"


class Barred(Protocol):
    """Which of these names (a DID, a node id, an agent id) is the first that is in quarantine; None: none of them."""

    def __call__(self, *names: str) -> str | None:
        """See the class."""
        ...


def nobody(*names: str) -> str | None:
    """Of a node without a ledger."""
    return None


def barred_by(ledger: LedgerView) -> Barred:
    """As ``ledger`` says. What it said of a name is remembered until the next block, as a search asks for a hundred agents of a few."""
    known: dict[str, bool] = {}
    height = -1

    def is_barred(name: str) -> bool:
        if name not in known:
            known[name] = QUARANTINE.read(ledger, name) is not None
        return known[name]

    def barred(*names: str) -> str | None:
        nonlocal height
        if height != ledger.height or len(known) > REMEMBERED:
            known.clear()
            height = ledger.height
        found = next((name for name in names if is_barred(name)), None)
        return None if found is None or ledger.restoring else found

    return barred


def quarantined(name: str, what: str) -> Refused:
    """The refusal of a call since ``name`` is in quarantine; ``what`` follows from that."""
    return Refused("quarantined", f"the {kind_of(name)} {name[:96]} is in quarantine: {what}", hint=HINT)


def kind_of(name: str) -> str:
    """What ``name`` is the name of."""
    if name.startswith("did:"):
        return "organisation"
    return "agent" if name.startswith("a-") else "node"
