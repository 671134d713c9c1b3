"""What the ledger says of one key, for somebody who has genesis.json and trusts nobody.

A bundle carries all that is needed: for each change of the validator set since genesis the header that ended an epoch, its certificate
and the next set; then one more header with its certificate; then the key, its value and the proof.

    bundle   [version, genesis hash, [[header, certificate, set], …], header, certificate, key, value or null, proof]

The sets are a chain: genesis names the first; each header is signed by a quorum of the set that decides its epoch, and names, by hash,
the set that decides the next block. So whoever could forge a link holds q keys of an epoch. What this cannot show is that nothing came
after: a bundle proves what was so at its ledger time, and says this time.

**Header h proves the state after block h - 1**: its ``state_root`` was made before the block was executed. A value that block
h wrote is proven by header h + 1.

A client that stays need not begin at genesis each time: what ``follow`` gives is what to begin with next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meshos import cbor
from meshos.consensus.ledger import proofs
from meshos.consensus.ledger.proofs import Proof, proof_fields, proof_of
from meshos.consensus.ledger.tree_limits import MAX_BUNDLE_BYTES, MAX_EPOCHS, MAX_KEY_BYTES, MAX_VALUE_BYTES
from meshos.consensus.pbft.block import (
    Certificate,
    Header,
    certificate_claims,
    certificate_fields,
    certificate_of,
    header_fields,
    header_of,
)
from meshos.consensus.pbft.codec import step_fields, step_of
from meshos.consensus.pbft.messages import EpochStep
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.signing import Verifier, bad_signature
from meshos.errors import Refused
from meshos.genesis_content import Genesis

VERSION = 1


@dataclass(frozen=True, slots=True)
class Signed:
    """A header and the signatures of its quorum."""

    header: Header
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Bundle:
    """See the module's text; nothing of it is proven yet."""

    genesis_hash: bytes
    steps: tuple[EpochStep, ...]
    signed: Signed
    key: bytes
    value: bytes | None
    proof: Proof


@dataclass(frozen=True, slots=True)
class Trusted:
    """What is known for certain: who decides after ``height``, and the last header that was checked and its signatures (None: genesis)."""

    genesis_hash: bytes
    validators: ValidatorSet
    header: Header | None = None
    certificate: Certificate | None = None

    @property
    def height(self) -> int:
        """Of the last header that was checked."""
        return 0 if self.header is None else self.header.height


@dataclass(frozen=True, slots=True)
class Proven:
    """That ``key`` had ``value`` (None: was not there) after block ``height``, at the ledger time of the header after it, ``time_ms``."""

    key: bytes
    value: bytes | None
    height: int
    time_ms: int
    header: Header
    signers: tuple[str, ...]
    """The organisations whose signatures were checked on the header."""
    validators: ValidatorSet


def genesis_validators(genesis: Genesis) -> ValidatorSet:
    """Who decides the first epoch."""
    seats = [ValidatorEntry(org.did, org.validator.node, org.validator.key) for org in genesis.orgs if org.validator is not None]
    return ValidatorSet(0, tuple(seats))


def begin(genesis: Genesis) -> Trusted:
    """What genesis alone gives."""
    return Trusted(genesis.hash, genesis_validators(genesis))


def follow(trusted: Trusted, steps: Sequence[EpochStep], verifier: Verifier) -> Trusted:
    """``trusted`` after these steps, oldest first; raises as ``check``, and Refused ``broken-chain`` or ``epoch-skipped``."""
    for step in steps:
        header, following = step.header, step.validators
        check(trusted, Signed(header, step.certificate), verifier)
        if header.next_validators != following.hash:
            raise Refused("broken-chain", f"header {header.height} names other validators for the next block than these")
        if following.epoch != trusted.validators.epoch + 1:
            raise Refused("epoch-skipped", f"epoch {following.epoch} is said to come after {trusted.validators.epoch}")
        trusted = Trusted(trusted.genesis_hash, following, header, step.certificate)
    return trusted


def check(trusted: Trusted, signed: Signed, verifier: Verifier) -> None:
    """Return if a quorum of the trusted set decided for this header, above all that was checked before.

    Raises Refused ``broken-chain``, ``epoch-skipped``, ``no-quorum``, ``unknown-validator``, ``validator-suspended`` or ``bad-signature``.
    """
    header = signed.header
    if header.height <= trusted.height:
        raise Refused("broken-chain", f"header {header.height} does not come after {trusted.height}")
    if header.height == trusted.height + 1 and header.parent != (trusted.genesis_hash if trusted.header is None else trusted.header.hash):
        raise Refused("broken-chain", f"header {header.height} has another parent than the header before it")
    if header.epoch != trusted.validators.epoch:
        what = f"header {header.height} is of epoch {header.epoch}, and the validators known for it are those of {trusted.validators.epoch}"
        raise Refused("epoch-skipped", what)
    claims = certificate_claims(trusted.genesis_hash, header, signed.certificate, trusted.validators)
    for claim, holds in zip(claims, verifier.verify_many(claims), strict=True):
        if not holds:
            raise bad_signature(claim.signer, claim.domain)


def verify(genesis: Genesis, bundle: Bundle, verifier: Verifier) -> Proven:
    """What ``bundle`` proves; raises Refused ``wrong-genesis``, as ``follow`` and ``check``, or ``bad-proof``."""
    if bundle.genesis_hash != genesis.hash:
        raise Refused(
            "wrong-genesis",
            f"this is about the mesh {bundle.genesis_hash.hex()[:16]}, and the genesis is that of {genesis.hash.hex()[:16]}",
            hint="give the genesis of the mesh that it is about",
        )
    return prove_to(follow(begin(genesis), bundle.steps, verifier), bundle, verifier)


def prove_to(trusted: Trusted, bundle: Bundle, verifier: Verifier) -> Proven:
    """What the end of ``bundle`` proves to whoever has followed the sets up to it; raises as ``check``, or Refused ``bad-proof``."""
    check(trusted, bundle.signed, verifier)
    header, validators = bundle.signed.header, trusted.validators
    proofs.verify(header.state_root, bundle.key, bundle.value, bundle.proof)
    signers = tuple(validators.entries[index].org for index, _ in bundle.signed.certificate.signatures)
    return Proven(bundle.key, bundle.value, header.height - 1, header.time_ms, header, signers, validators)


# -- codec -------------------------------------------------------------------------------------------------------------


def encode_bundle(bundle: Bundle) -> bytes:
    """Canonical CBOR."""
    steps = [step_fields(step) for step in bundle.steps]
    end = [header_fields(bundle.signed.header), certificate_fields(bundle.signed.certificate), bundle.key, bundle.value]
    return cbor.encode([VERSION, bundle.genesis_hash, steps, *end, proof_fields(bundle.proof)])


def decode_bundle(data: bytes) -> Bundle:
    """The bundle again; raises Refused ``too-large``, ``bad-encoding``, ``bundle-malformed``, ``unknown-version``, and as its parts do."""
    match cbor.decode(data, max_bytes=MAX_BUNDLE_BYTES, max_depth=6):
        case [version, *_] if type(version) is not int:  # true and 1.0 are equal to 1, and are other bytes
            pass
        case [version, *_] if version != VERSION:
            raise Refused("unknown-version", f"a bundle of version {version!r}; this program knows {VERSION}")
        case [_, bytes() as genesis_hash, [*rows], header, certificate, bytes() as key, value, proof]:
            if len(genesis_hash) == 32 and len(rows) <= MAX_EPOCHS and 1 <= len(key) <= MAX_KEY_BYTES and _is_value(value):
                signed = Signed(header_of(header), certificate_of(certificate))
                known = value if isinstance(value, bytes) else None
                return Bundle(genesis_hash, tuple(map(_step, rows)), signed, key, known, proof_of(proof))
    raise Refused("bundle-malformed", "this is no proof of the ledger's state")


def _step(row: object) -> EpochStep:
    try:
        if isinstance(row, list):
            return step_of(row)
    except ValueError as error:
        raise Refused("bundle-malformed", "a change of the validator set in it cannot be read") from error
    raise Refused("bundle-malformed", "a change of the validator set in it cannot be read")


def _is_value(value: object) -> bool:
    return value is None or (isinstance(value, bytes) and len(value) <= MAX_VALUE_BYTES)
