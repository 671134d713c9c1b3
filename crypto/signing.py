"""Signatures: every one covers a domain, so that the same bytes mean one thing only.

What is signed is ``tag ++ CBOR [genesis hash, protocol, epoch, view, height, phase] ++ payload``. The array ends where its
own encoding says, so no two pairs of domain and payload make the same bytes. The tag begins with ``m``; what TLS signs
with the same node key begins with a space (RFC 8446, section 4.4.3), a certificate with 0x30 (DER), libp2p's Noise
payload with ``n``: none of them can be taken for another.

Two ways in. ``sign`` and ``verify`` take keys. ``Signer`` and ``Verifier`` take names (a node id or a Multikey, which hold
the key), so that the simulator can put keyed hashes in their place (``simulated.py``).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from meshos import cbor
from meshos.crypto.keys import PublicKey, SigningKey, multikey, public_key_named, verify_bytes
from meshos.crypto.limits import DOMAIN_TEXT_BYTES, HEADERS_CACHED, SIGNED_BYTES
from meshos.errors import MeshError, Refused
from meshos.values import frozen

GENESIS_HASH_BYTES = 32

_TAG = b"meshos/signed/1\0"
_MAX_NUMBER = 2**63 - 1


@frozen
class Domain:
    """What a signature is for: which mesh (32 bytes), which protocol, and there which epoch, view, height and phase."""

    genesis_hash: bytes
    protocol: str
    epoch: int = 0
    view: int = 0
    height: int = 0
    phase: str = ""

    def __post_init__(self) -> None:
        if len(self.genesis_hash) != GENESIS_HASH_BYTES:
            raise ValueError(f"a genesis hash has {GENESIS_HASH_BYTES} bytes")
        if not self.protocol:
            raise ValueError("a domain names its protocol")
        if max(len(self.protocol.encode()), len(self.phase.encode())) > DOMAIN_TEXT_BYTES:
            raise ValueError(f"a protocol or phase has at most {DOMAIN_TEXT_BYTES} bytes")
        for number in (self.epoch, self.view, self.height):
            if not 0 <= number <= _MAX_NUMBER:
                raise ValueError("epoch, view and height are between 0 and 2**63 - 1")

    def __bytes__(self) -> bytes:
        return _header(self)


@lru_cache(maxsize=HEADERS_CACHED)
def _header(domain: Domain) -> bytes:
    fields = [domain.genesis_hash, domain.protocol, domain.epoch, domain.view, domain.height, domain.phase]
    return _TAG + cbor.encode(fields)


@frozen
class Claim:
    """``signer`` (a node id or a Multikey) is said to have signed ``payload`` for ``domain``."""

    signer: str
    domain: Domain
    payload: bytes
    signature: bytes


def sign(key: SigningKey, domain: Domain, payload: bytes) -> bytes:
    """The 64 bytes by which ``key`` vouches for ``payload`` in ``domain``; raises Refused ``too-large``."""
    return key.sign_bytes(signed_bytes(domain, payload))


def verify(public_key: PublicKey, domain: Domain, payload: bytes, signature: bytes) -> None:
    """Return if the signature holds; raises Refused ``bad-signature`` or ``too-large``."""
    if not verify_bytes(public_key, signed_bytes(domain, payload), signature):
        raise bad_signature(multikey(public_key), domain)


def verify_many(claims: Sequence[Claim]) -> list[bool]:
    """Which of the claims hold, in their order. Releases the interpreter while it computes: for worker threads."""
    return [_holds(claim) for claim in claims]


def signed_bytes(domain: Domain, payload: bytes) -> bytes:
    """What is really signed."""
    if len(payload) > SIGNED_BYTES:
        raise Refused("too-large", f"{len(payload)} bytes to sign, at most {SIGNED_BYTES}; sign their hash")
    return bytes(domain) + payload


def bad_signature(signer: str, domain: Domain) -> Refused:
    """The refusal of a signature that does not hold."""
    return Refused("bad-signature", f"the signature for {domain.protocol} is not that of {signer}")


def _holds(claim: Claim) -> bool:
    try:
        verify(public_key_named(claim.signer), claim.domain, claim.payload, claim.signature)
    except MeshError:
        return False
    return True


class Signer(Protocol):
    """Signs in one name, at once. A node's own signing is I/O and goes through ``keystore.KeyStore`` instead."""

    @property
    def name(self) -> str:
        """The node id or Multikey that verifiers know this signer by."""
        ...

    def sign(self, domain: Domain, payload: bytes) -> bytes:
        """As the function ``sign``."""
        ...


class Verifier(Protocol):
    """Knows whether a name has signed."""

    def verify(self, signer: str, domain: Domain, payload: bytes, signature: bytes) -> None:
        """Return if it holds; raises Refused ``bad-signature``, ``bad-public-key`` or ``too-large``."""
        ...

    def verify_many(self, claims: Sequence[Claim]) -> list[bool]:
        """Which of the claims hold, in their order."""
        ...


class Ed25519Signer:
    """A ``Signer`` on a key that this process holds."""

    __slots__ = ("_key", "name")

    def __init__(self, key: SigningKey, name: str) -> None:
        if public_key_named(name) != key.public:
            raise ValueError(f"{name} is not a name of {key!r}")
        self._key = key
        self.name = name

    def sign(self, domain: Domain, payload: bytes) -> bytes:
        """See ``Signer``."""
        return sign(self._key, domain, payload)


class Ed25519Verifier:
    """The ``Verifier`` of every node."""

    __slots__ = ()

    def verify(self, signer: str, domain: Domain, payload: bytes, signature: bytes) -> None:
        """See ``Verifier``."""
        verify(public_key_named(signer), domain, payload, signature)

    def verify_many(self, claims: Sequence[Claim]) -> list[bool]:
        """See ``Verifier``."""
        return verify_many(claims)
