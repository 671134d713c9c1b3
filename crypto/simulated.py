"""Signatures for the simulator: keyed hashes, some twenty times cheaper than Ed25519 and worth nothing outside.

They hold exactly where real ones hold: for the same name, domain and payload, within one simulated world. They need a
``SimulatedWorld``, which only ``simulations/`` and tests may make (a test reads every import); a node's ports take a
``KeyStore``, which this is not; and no Ed25519 verifier accepts one.
"""

import hashlib
from collections.abc import Sequence

from meshos.crypto.keys import SIGNATURE_BYTES
from meshos.crypto.signing import Claim, Domain, bad_signature, signed_bytes
from meshos.errors import Refused


class SimulatedWorld:
    """The secret that all signatures of one simulated world share, from its seed."""

    __slots__ = ("key",)

    def __init__(self, seed: int) -> None:
        self.key = hashlib.blake2b(b"meshos/simulated/1\0" + str(seed).encode(), digest_size=32).digest()

    def __repr__(self) -> str:
        return "SimulatedWorld()"


class SimulatedSigner:
    """A ``signing.Signer`` for any name, with signatures as long as real ones."""

    __slots__ = ("_world", "name")

    def __init__(self, world: SimulatedWorld, name: str) -> None:
        if not isinstance(world, SimulatedWorld):
            raise TypeError("simulated signatures exist in a SimulatedWorld only")
        self._world = world
        self.name = name

    def sign(self, domain: Domain, payload: bytes) -> bytes:
        """See ``signing.Signer``."""
        return _signature(self._world, self.name, domain, payload)


class SimulatedVerifier:
    """A ``signing.Verifier`` for the signers of one simulated world."""

    __slots__ = ("_world",)

    def __init__(self, world: SimulatedWorld) -> None:
        if not isinstance(world, SimulatedWorld):
            raise TypeError("simulated signatures exist in a SimulatedWorld only")
        self._world = world

    def verify(self, signer: str, domain: Domain, payload: bytes, signature: bytes) -> None:
        """See ``signing.Verifier``."""
        if _signature(self._world, signer, domain, payload) != signature:
            raise bad_signature(signer, domain)

    def verify_many(self, claims: Sequence[Claim]) -> list[bool]:
        """See ``signing.Verifier``."""
        return [self._holds(claim) for claim in claims]

    def _holds(self, claim: Claim) -> bool:
        try:
            self.verify(claim.signer, claim.domain, claim.payload, claim.signature)
        except Refused:
            return False
        return True


def _signature(world: SimulatedWorld, name: str, domain: Domain, payload: bytes) -> bytes:
    who = name.encode()
    message = len(who).to_bytes(4, "big") + who + signed_bytes(domain, payload)
    return hashlib.blake2b(message, key=world.key, digest_size=SIGNATURE_BYTES).digest()
