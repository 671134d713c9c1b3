"""Whom a node believes: the organisations' roots of the genesis, and the revocation lists in the node's folder, read again when asked.

Everything that looks at a certificate asks here, so that a revoked one counts nowhere any more: links, membership, the directory.
"""

import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from meshos.crypto.certificates import RevocationList, Trust, describe, read_revocations, verify_chain
from meshos.crypto.genesis_keys import trust_of
from meshos.crypto.keys import public_key_of_multikey
from meshos.errors import MeshError, Refused
from meshos.genesis import Genesis
from meshos.ids import OrgDid, Peer
from meshos.node import folder
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.limits import LIST_EVERY_S

logger = logging.getLogger("meshos.node")

PROOFS = 1024
"""Checked proofs that are remembered; a directory's records come from few nodes."""
PROOF_S = 600
"""How long a checked proof counts without being looked at again (certificates end meanwhile)."""


class TrustBook:
    """``trust`` is what holds now. Raises as ``reload``."""

    def __init__(self, genesis: Genesis, revocations: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._genesis = genesis
        self._clock = clock
        self._learned: dict[OrgDid, float] = {}  # when the last list came from another node
        self._revocations = revocations
        self._proved = lru_cache(maxsize=PROOFS)(self._prove)
        self._taken = 0  # trusts so far: a proof that was checked under an earlier one is not remembered as one of this
        self.trust = trust_of(genesis)
        self.reload()

    def reload(self) -> None:
        """Read the lists again (blocking).

        Raises Refused ``crl-malformed``, Failed ``cannot-write``, or what the disk raises, and then keeps what held. A list
        below the one that holds changes nothing, or an old copy would pardon whoever was revoked since.
        """
        found, held = lists_in(self._revocations, self._genesis), self.trust.revoked
        for offered in found:
            newest = held.get(offered.org)
            if newest is not None and offered.number <= newest.number and offered.der != newest.der:
                logger.warning("older-list", extra={"org": offered.org, "number": offered.number, "held": newest.number})
        trust, kept = trust_of(self._genesis, [*held.values(), *found]), {listed.der for listed in found}
        for org, listed in trust.revoked.items():
            if listed.der not in kept:  # an older one was copied over it: that file is the operator's, and this one outlives a restart
                folder.write_file(self._revocations / f"held.{folder.list_name(org)}", listed.der)
        self._take(trust)

    def learn(self, org: OrgDid, der: bytes) -> bool:
        """Take over a newer list of ``org`` that another node handed on, and keep it in the folder (blocking); whether it was newer.

        Raises Refused ``unknown-org``, ``crl-malformed`` or ``wrong-org-root``, Failed ``cannot-write``.
        """
        root = self.trust.roots.get(org)
        if root is None:
            raise Refused("unknown-org", f"{org[:100]} is no organisation of this mesh")
        if self._clock() - self._learned.get(org, -LIST_EVERY_S) < LIST_EVERY_S:
            return False  # it is offered again at the next sync
        offered, held = read_revocations(der, org, root), self.trust.revoked.get(org)
        if held is not None and offered.number <= held.number:
            return False
        folder.write_file(self._revocations / folder.list_name(org), der)
        self._learned[org] = self._clock()
        self._take(trust_of(self._genesis, [*self.trust.revoked.values(), offered]))
        return True

    def check(self, der: bytes) -> Peer:
        """Whose certificate this is; raises as ``verify_chain``."""
        return verify_chain([der], self.trust, time.time())

    def org_of(self, signer: str, proof: bytes) -> OrgDid:
        """The organisation of ``signer``, whose certificate ``proof`` is; raises as ``check``, or Refused ``wrong-node-key``."""
        return self._proved(signer, proof, (self._taken, int(time.time()) // PROOF_S))

    def revoked(self, certified: Iterable[Certified]) -> list[Certified]:
        """Those of these whose certificate is on its organisation's list. For worker threads: half a millisecond a certificate."""
        return [one for one in certified if self._is_revoked(one)]

    def pardoned(self, certified: Iterable[Certified]) -> list[Certified]:
        """Those of these whose certificate is on no list. For worker threads, as ``revoked``."""
        return [one for one in certified if not self._is_revoked(one)]

    def _is_revoked(self, certified: Certified) -> bool:
        listed = self.trust.revoked.get(certified.org)
        return listed is not None and describe(certified.certificate).serial in listed.serials

    def _take(self, trust: Trust) -> None:
        self.trust = trust
        self._taken += 1  # only now: whoever has read this number checks against this trust
        self._proved.cache_clear()

    def _prove(self, signer: str, proof: bytes, since: tuple[int, int]) -> OrgDid:
        del since  # part of the key, so that nothing is remembered for longer, or across a change of trust
        peer = self.check(proof)
        if peer.node != signer:
            raise Refused("wrong-node-key", f"the certificate is {peer.node}'s, the signature {signer[:80]}'s")
        return peer.org


def lists_in(directory: Path, genesis: Genesis) -> list[RevocationList]:
    """Every list in the folder. Raises Refused ``crl-malformed``, with its file, for one that is of no organisation of this mesh."""
    found = []
    for path in sorted(directory.glob("*.crl")) if directory.is_dir() else []:
        der = folder.read_file(path)
        for org in genesis.orgs:
            try:
                found.append(read_revocations(der, org.did, public_key_of_multikey(org.root_key)))
                break
            except MeshError as error:
                refusal = error
        else:
            raise Refused("crl-malformed", f"{path} is no revocation list of an organisation of this mesh: {refusal.detail}")
    return found
