"""Evidence that a validator has lied: two votes of it that exclude each other, kept, passed on, and put before the ledger.

Only equivocation is punished: it is proven by two signatures and by nothing else, and cannot happen to an honest validator, which
writes its vote down before it signs (``ballot.py``). What is merely late, wrong or missing proves nothing. There is one vote for each
(epoch, view, height, phase), so a validator that votes for another block in a later view has not lied.

The ledger judges evidence as a transaction like any other, and suspends the vote. The seat stays, and with it n, f and q: were the quorum
to shrink with every suspension, f liars could make f more.
"""

from collections.abc import Callable

from meshos import cbor
from meshos.consensus.pbft.claims import check_evidence, claims
from meshos.consensus.pbft.codec import vote_fields, vote_of
from meshos.consensus.pbft.limits import MAX_EVIDENCE
from meshos.consensus.pbft.messages import Evidence
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Claim
from meshos.errors import Refused

_MAX_BYTES = 512


def encode_evidence(evidence: Evidence) -> bytes:
    """Canonical CBOR ``[vote, vote]``, the lower hash first: the same lie has the same bytes."""
    return cbor.encode([vote_fields(evidence.one), vote_fields(evidence.other)])


def decode_evidence(data: bytes) -> Evidence:
    """The evidence again; raises Refused ``too-large``, ``bad-encoding`` or ``no-evidence``. No signature has been checked."""
    match cbor.decode(data, max_bytes=_MAX_BYTES, max_depth=2):
        case [list() as one, list() as other]:
            try:
                evidence = Evidence(vote_of(one), vote_of(other))
            except ValueError as error:
                raise Refused("no-evidence", "these are no two votes") from error
            check_evidence(evidence)
            return evidence
    raise Refused("no-evidence", "these are no two votes")


def evidence_claims(evidence: Evidence, genesis_hash: bytes, validators: ValidatorSet) -> list[Claim]:
    """What must be verified before ``evidence`` convicts the validator ``evidence.one.index`` of ``validators``, those of its epoch."""
    sets: Callable[[int], ValidatorSet | None] = {validators.epoch: validators}.get
    return claims(evidence, genesis_hash, sets)


class EvidenceBook:
    """What was found: the first lie of each validator in each epoch."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], Evidence] = {}

    def add(self, evidence: Evidence) -> bool:
        """Whether it was new."""
        key = (evidence.one.epoch, evidence.one.index)
        if key in self._found:
            return False
        self._found[key] = evidence
        while len(self._found) > MAX_EVIDENCE:
            del self._found[next(iter(self._found))]
        return True

    def knows(self, epoch: int, index: int) -> bool:
        """Whether there is evidence against a validator of an epoch."""
        return (epoch, index) in self._found

    def all(self) -> list[Evidence]:
        """Oldest first."""
        return list(self._found.values())
