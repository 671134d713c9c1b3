"""The machine "gossip": words of membership that come over a link, in the place of datagrams, from leaves and their anchors.

As at the gossip port (``node/runtime/gossip.py``) a message counts within its sender's budget, and its news once their signatures hold. The
budget is one of its own (limits.py has the sum): a part of the port's could not be had here without a look at what no recording holds.
"""

from collections import Counter

from meshos.crypto.signing import Verifier
from meshos.effects import Heard, Tell
from meshos.errors import MeshError
from meshos.protocols.membership.admission import admit
from meshos.protocols.membership.budget import GossipBudget
from meshos.protocols.membership.codec import decode_datagram
from meshos.protocols.membership.limits import OVER_LINKS_OF_NODE, OVER_LINKS_OF_ORG
from meshos.protocols.membership.machine import Membership
from meshos.protocols.membership.reach import OVER_LINK
from meshos.protocols.membership.voice import MACHINE as MEMBERSHIP

MACHINE = "gossip"


class Lane:
    """A ``meshos.effects.Machine`` without deadlines. What is refused is counted by name, and answered by nothing."""

    def __init__(self, membership: Membership, verifier: Verifier) -> None:
        self._membership = membership
        self._verifier = verifier
        self._budget = GossipBudget(OVER_LINKS_OF_NODE, OVER_LINKS_OF_ORG)
        self._counts: Counter[str] = Counter()

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        assert isinstance(event, Heard), event
        peer = event.peer
        if not self._budget.datagram(peer, now):
            return []
        try:
            message = decode_datagram(event.body)
            heard = admit(
                self._membership, self._verifier, peer.node, OVER_LINK, message, lambda count: self._budget.checks(peer, count, now)
            )
        except MeshError as error:
            self._counts[f"refused_{error.name}"] += 1
            return []
        self._counts["received"] += 1
        return [] if heard is None else [Tell(MEMBERSHIP, heard)]

    def deadline(self) -> float | None:
        """It waits for nothing."""
        return None

    def statistics(self) -> dict[str, int]:
        """Messages received, refused by name, and not heard because their sender had used up its budget."""
        return {**self._counts, **self._budget.statistics()}
