"""Whom a node believes: the organisations' roots, and the revocation lists in the node's folder, read again when asked.

Everything that looks at a certificate asks here, so that one that is withdrawn counts nowhere any more: links, membership, the directory.

The roots are those of the members on the ledger, once this node has a ledger (``follow``); before that those of the genesis. The root that
came with the node's own certificate stands for its own organisation for as long as the ledger has no such member: a node has to start, and
to be let in by others, before it can read that it was admitted.

An organisation that has left while it had a seat is *leaving* until its vote ends: until then its root is believed of the one node that
votes, so that whoever goes takes no vote along that the others count on.

A certificate on the ledger was looked at by nobody. It counts only if it is one of the very root key that the ledger has
(``verify_root``); otherwise the organisation has no root until it rotates to a good one, the same at all nodes whatever each had believed
before (docs/decisions/0021-trust-from-the-ledger.md).
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from meshos.crypto.certificates import NOT_VOUCHED, RevocationList, Trust, read_revocations, verify_chain, verify_root
from meshos.crypto.genesis_keys import Root, founding_roots, trust_in
from meshos.crypto.keys import PublicKey, public_key_of_multikey
from meshos.errors import MeshError, Refused
from meshos.genesis import Genesis
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node import folder
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.limits import LIST_EVERY_S

logger = logging.getLogger("meshos.node")

PROOFS = 1024
"""Checked proofs that are remembered; a directory's records come from few nodes."""
PROOF_S = 600
"""How long a checked proof counts without being looked at again (certificates end meanwhile)."""


class TrustBook:
    """``trust`` is what holds now, ``roots`` the roots in it. ``own`` is what the node's folder has of its own organisation's.

    Raises as ``reload``.
    """

    def __init__(
        self,
        genesis: Genesis,
        revocations: Path,
        clock: Callable[[], float] = time.monotonic,
        *,
        own: Mapping[OrgDid, Root] = MappingProxyType({}),
    ) -> None:
        self._mesh_id = genesis.mesh_id
        self._own = own
        self.roots: Mapping[OrgDid, Root] = {**founding_roots(genesis), **own}
        self._unbelieved: dict[OrgDid, tuple[str, bytes]] = {}  # what was told of already
        self._clock = clock
        self._learned: dict[OrgDid, float] = {}  # when the last list came from another node
        self._revocations = revocations
        self._proved = lru_cache(maxsize=PROOFS)(self._prove)
        self._taken = 0  # trusts so far: a proof that was checked under an earlier one is not remembered as one of this
        self.trust = trust_in(self._mesh_id, self.roots)
        self.reload()

    def reload(self) -> None:
        """Read the lists again (blocking).

        Raises Refused ``crl-malformed``, Failed ``cannot-write``, or what the disk raises, and then keeps what held. A list
        below the one that holds changes nothing, or an old copy would pardon whoever was revoked since.
        """
        found, held = lists_in(self._revocations, self.trust.roots), self.trust.revoked
        for offered in found:
            newest = held.get(offered.org)
            if newest is not None and offered.number <= newest.number and offered.der != newest.der:
                logger.warning("older-list", extra={"org": offered.org, "number": offered.number, "held": newest.number})
        trust, kept = self._with([*held.values(), *found]), {listed.der for listed in found}
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
        self._take(self._with([*self.trust.revoked.values(), offered]))
        return True

    def follow(self, members: Mapping[str, tuple[str, bytes]], leaving: Mapping[OrgDid, NodeId] = MappingProxyType({})) -> bool:
        """Believe the ``members`` that the ledger has, each by its root key and certificate (blocking); whether that changed anything.

        Of those that are ``leaving``, whose roots are among these, one node each is believed. What another root had revoked counts no
        more. Raises as ``reload``, when the roots are changed already.
        """
        roots = {OrgDid(did): root for did, (key, der) in members.items() if (root := self._root_of(OrgDid(did), key, der)) is not None}
        roots |= {did: root for did, root in self._own.items() if did not in members}
        if roots == self.roots and leaving == self.trust.leaving:
            return False
        kept = [listed for did, listed in self.trust.revoked.items() if did in roots and roots[did].key == self.trust.roots.get(did)]
        self.roots = roots
        self._take(trust_in(self._mesh_id, roots, kept, leaving))
        self.reload()
        return True

    def check(self, der: bytes) -> Peer:
        """Whose certificate this is; raises as ``verify_chain``."""
        return verify_chain([der], self.trust, time.time())

    def org_of(self, signer: str, proof: bytes) -> OrgDid:
        """The member for which ``signer`` may speak, whose certificate ``proof`` is; raises as ``check``, or Refused ``wrong-node-key``.

        Nobody speaks for one that has left, not the node either that is let in since it votes until the next checkpoint.
        """
        return self._proved(signer, proof, (self._taken, int(time.time()) // PROOF_S))

    def withdrawn(self, certified: Iterable[Certified]) -> list[Certified]:
        """Those of these for whose certificate no member's root stands any more. For worker threads: half a millisecond a certificate."""
        return [one for one in certified if not self._vouched(one)]

    def vouched(self, certified: Iterable[Certified]) -> list[Certified]:
        """The others of these. For worker threads, as ``withdrawn``."""
        return [one for one in certified if self._vouched(one)]

    def _vouched(self, certified: Certified) -> bool:
        """What has run out was never taken back: it ends by itself."""
        try:
            self.check(certified.certificate)
        except MeshError as error:
            return error.name not in NOT_VOUCHED
        return True

    def _root_of(self, org: OrgDid, key: str, der: bytes) -> Root | None:
        """The root of ``org`` on the ledger, if its certificate is one."""
        held = self.roots.get(org)
        try:
            root = Root(public_key_of_multikey(key), der)
            if root != held:
                verify_root(der, org, root.key)
        except MeshError as error:
            if self._unbelieved.get(org) != (key, der):
                self._unbelieved[org] = (key, der)
                logger.error("root-not-believed", extra={"org": org, "err": error.name, "detail": error.detail})
            return None
        self._unbelieved.pop(org, None)
        return root

    def _with(self, revoked: Iterable[RevocationList]) -> Trust:
        return trust_in(self._mesh_id, self.roots, revoked, self.trust.leaving)

    def _take(self, trust: Trust) -> None:
        self.trust = trust
        self._taken += 1  # only now: whoever has read this number checks against this trust
        self._proved.cache_clear()

    def _prove(self, signer: str, proof: bytes, since: tuple[int, int]) -> OrgDid:
        del since  # part of the key, so that nothing is remembered for longer, or across a change of trust
        peer = self.check(proof)
        if peer.org in self.trust.leaving:
            raise Refused("unknown-org", f"{peer.org} has left this mesh")
        if peer.node != signer:
            raise Refused("wrong-node-key", f"the certificate is {peer.node}'s, the signature {signer[:80]}'s")
        return peer.org


def lists_in(directory: Path, roots: Mapping[OrgDid, PublicKey]) -> list[RevocationList]:
    """Every list in the folder that one of these roots has signed. One of another root is left alone: its organisation has rotated its root
    or left, or is not admitted yet. Raises Refused ``crl-malformed``, with its file, for what is no list at all.
    """
    found = []
    for path in sorted(directory.glob("*.crl")) if directory.is_dir() else []:
        try:
            data = folder.read_file(path)
        except MeshError:
            if path.exists() or path.is_symlink():
                raise
            return lists_in(directory, roots)  # a rotation takes a list away once it stands under another name: behind this look, maybe
        listed = _list_in(path, data, roots)
        if listed is None:
            logger.warning("list-of-no-root", extra={"file": str(path)})
        else:
            found.append(listed)
    return found


def _list_in(path: Path, der: bytes, roots: Mapping[OrgDid, PublicKey]) -> RevocationList | None:
    for org, root in roots.items():
        try:
            return read_revocations(der, org, root)
        except MeshError as error:
            if error.name != "wrong-org-root":
                raise Refused(error.name, f"{path} is no revocation list of an organisation of this mesh: {error.detail}") from error
    return None
