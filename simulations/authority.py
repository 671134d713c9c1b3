"""Certificates of a simulated world: ``[[node, organisation], the organisation's signature]``, and who checks them."""

from meshos import cbor
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.membership.commands import Certified

GENESIS = bytes(32)
MAX_BYTES = 4096


class Authority:
    """Every organisation's root in one."""

    def __init__(self, seed: int) -> None:
        self.secret = SimulatedWorld(seed)
        self.verifier = SimulatedVerifier(self.secret)
        self._domain = Domain(GENESIS, "certificate")
        self._good: dict[bytes, Peer] = {}  # a thousand nodes check a thousand certificates each

    def signer(self, name: str) -> SimulatedSigner:
        """What a node signs with, or the key of this name."""
        return SimulatedSigner(self.secret, name)

    def issue(self, node: NodeId, org: OrgDid) -> Certified:
        """``org`` certifies ``node``."""
        payload = cbor.encode([node, org])
        signature = SimulatedSigner(self.secret, org).sign(self._domain, payload)
        return Certified(node, org, cbor.encode([payload, signature]))

    def check(self, certificate: bytes) -> Peer:
        """Whom a certificate names; raises Refused ``certificate-malformed`` or ``bad-signature``."""
        if certificate not in self._good:
            self._good[certificate] = self._read(certificate)
        return self._good[certificate]

    def _read(self, certificate: bytes) -> Peer:
        match cbor.decode(certificate, max_bytes=MAX_BYTES):
            case [bytes() as payload, bytes() as signature]:
                match cbor.decode(payload, max_bytes=MAX_BYTES):
                    case [str() as node, str() as org]:
                        self.verifier.verify(org, self._domain, payload, signature)
                        return Peer(NodeId(node), OrgDid(org))
        raise Refused("certificate-malformed", "this is no certificate of a simulated world")

    def org_of(self, signer: str, proof: bytes) -> OrgDid:
        """For which organisation ``signer`` speaks by ``proof``."""
        peer = self.check(proof)
        if peer.node != signer:
            raise Refused("wrong-node-key", f"the certificate is {peer.node}'s, the signature {signer[:80]}'s")
        return peer.org
