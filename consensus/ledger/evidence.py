"""Evidence: a validator that signed two things where it must sign one loses its vote (DESIGN.md, "Quorums").

The request is no transaction of anybody: it proves itself, so whoever comes by it may bring it, and there is no nonce to wait for.

    request    [version, "evidence", evidence (its bytes), validator key]

``evidence`` are two votes of one epoch, view, height and phase for different hashes (``pbft/evidence.py``). Both signatures are verified,
under ``key``, before the request counts. The key is burnt then, once and for all, which is also why the same request does nothing twice;
its organisation's vote is suspended, whichever key holds the seat by now, and its seat stays.
"""

from meshos import cbor
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.fields import is_key, is_number, malformed
from meshos.consensus.ledger.keys import KEYS, RETIRED, VALIDATOR, Key
from meshos.consensus.ledger.limits import SMALL_BYTES
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.seats import set_suspended
from meshos.consensus.ledger.transaction import VERSION, transaction_id
from meshos.consensus.pbft.block import PROTOCOL
from meshos.consensus.pbft.evidence import decode_evidence
from meshos.consensus.pbft.messages import Evidence
from meshos.crypto.signing import Claim, Domain
from meshos.errors import Refused
from meshos.values import frozen

KIND = "evidence"


@frozen
class Accusation:
    """``key`` is said to have signed both votes of ``evidence``."""

    evidence: Evidence
    key: str
    id: bytes

    def claims(self, genesis_hash: bytes) -> list[Claim]:
        """That it did."""
        votes = (self.evidence.one, self.evidence.other)
        return [Claim(self.key, Domain(genesis_hash, PROTOCOL, v.epoch, v.view, v.height, v.phase), v.hash, v.signature) for v in votes]


def accuse(evidence: bytes, key: str) -> bytes:
    """The request that accuses ``key``."""
    return cbor.encode([VERSION, KIND, evidence, key])


def is_accusation(request: bytes) -> bool:
    """By its first byte: a list of four, where a transaction is a list of two."""
    return request[:1] == b"\x84"


def read_accusation(request: bytes) -> Accusation:
    """The accusation in ``request``; raises Refused ``unknown-version``, ``transaction-malformed`` and as ``decode_evidence``."""
    match cbor.decode(request, max_bytes=SMALL_BYTES, max_depth=1):
        case [version, *rest] if is_number(version):
            if version != VERSION:
                raise Refused("unknown-version", f"an accusation of version {version}; this mesh knows {VERSION}")
            match rest:
                case ["evidence", bytes() as evidence, key] if is_key(key):
                    return Accusation(decode_evidence(evidence), key, transaction_id(request))
    raise malformed("accusation")


def refusal_to_convict(key: Key | None) -> Refused | None:
    """Why an accusation of ``key`` changes nothing: ``accused-unknown`` or ``already-convicted``."""
    if key is None or key.role not in (VALIDATOR, RETIRED):
        return Refused("accused-unknown", "this is no validator's key, or one that was retired long ago")
    if key.burnt:
        return Refused("already-convicted", "this key was convicted already")
    return None


def convict(draft: Draft, accusation: Accusation) -> None:
    """Burn the key and suspend the vote; ``refusal_to_convict`` has nothing against it."""
    key = draft.read(KEYS, accusation.key)
    assert key is not None
    draft.write(KEYS, accusation.key, Key(key.role, key.org, key.nonce, key.label, True))
    org = draft.read(ORGS, key.org)
    if org is not None and not org.left_ms and not org.suspended:
        set_suspended(draft, key.org, True)
    record(draft, key.org, "suspended", accusation.key)
