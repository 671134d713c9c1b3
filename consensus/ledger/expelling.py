"""Expulsion: the others decide by motion that an organisation is a member no longer (``motions.py``).

It is as if it had left, but for its word: its seat is given up, its keys are retired, what is in its account stays there. Who provides for
it redeems what it has signed, on its open tabs. They are closed by the provider, or by any other member, which leaves the provider its
dispute window (``tabs.py``); what is left of them goes back to the account. It comes back as whoever has left does, by another motion.
"""

from collections.abc import Sequence

from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.members import member
from meshos.consensus.ledger.orgs import part
from meshos.crypto.signing import Claim
from meshos.values import frozen


@frozen
class Expel:
    """``did`` is a member no longer. A ``motions.Subject``."""

    did: str

    def fields(self) -> list[object]:
        """See ``Subject.fields``."""
        return ["expel", self.did]

    def words(self) -> str:
        """See ``Subject.words``."""
        return f"expel {self.did}"

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """See ``Subject.claims``."""
        return ()

    def check(self, draft: Draft) -> None:
        """Raises Refused ``not-a-member``."""
        member(draft, self.did)

    def carry(self, draft: Draft, by: str) -> None:
        """As ``check``, and raises Refused ``last-seat`` or ``seat-needed``."""
        self.check(draft)
        part(draft, self.did)
