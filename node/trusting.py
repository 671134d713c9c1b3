"""A running node follows whom to believe: organisations admitted, gone, or with another root by the ledger, and newer revocation lists.

Whatever has changed has the same effects, in the same order. TLS gets the new authorities; links of the organisations that it is about
prove again that they may be there; members whose certificate counts no more are expelled, those whose certificate counts again are
pardoned; the directory lets go of what the former have signed.

Who leaves loses all at once but the link of the node that votes, which others let in until its vote ends with the next checkpoint. It can
ask them for nothing but what keeps the link (``Assembly``), its records are dropped, and its other nodes are expelled.

A root is rotated because it may be in wrong hands, so what the former root has signed counts no more from that block on. An
organisation that wants no outage prepares: ``certificate.next.pem`` in a node's folder holds the certificate that its coming root has
issued. Once that one is good and the node's own is not, the node shows it from then on (docs/decisions/0021-trust-from-the-ledger.md).
The others may have cut the node off before it has the block that says so: a node that nobody else lets in, as they know no root of its
certificate, tries the prepared one, and in turns until one is taken.
"""

import logging
import time
from collections.abc import Sequence

import trio

from meshos.consensus.ledger import queries
from meshos.crypto import certificates
from meshos.crypto.certificates import Trust
from meshos.errors import MeshError
from meshos.ids import OrgDid
from meshos.node import folder
from meshos.node.kernel.assembly import Assembly
from meshos.node.kernel.roots import Roots
from meshos.node.opening import Folder
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.relay import RelayPath
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.node.sweeping import Sweeping
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.membership.events import Expelled, Pardoned, Recertified
from meshos.protocols.membership.revocations import TakeRevocations

logger = logging.getLogger("meshos.node")

TRY_S = 3.0
"""So long a certificate is tried before the other one is again."""
UNKNOWN = frozenset({"unknown-root", *certificates.NOT_VOUCHED})
"""How others refuse a certificate whose root they do not believe."""


class Trusting:
    """``host``, ``paths`` and ``links`` are attached once they are there: they are made with parts of this. ``ledger`` is its own."""

    host: Host
    paths: Sequence[TcpPath | QuicPath | RelayPath]
    links: Links

    def __init__(self, opened: Folder, assembly: Assembly, ledger: LedgerView, nursery: trio.Nursery) -> None:
        self.certificate = opened.certificate
        """By which this node proves who it is, now: the one in its folder, or one that is being tried."""
        self._kept = opened.certificate
        self._next = opened.config.dir / folder.NEXT_CERTIFICATE
        self._tried = -TRY_S
        self._opened = opened
        self._assembly = assembly
        self._ledger = ledger
        self._nursery = nursery
        self._roots = Roots(ledger, lambda: assembly.ledger.core.chain.validators)
        self.sweeping = Sweeping(assembly.membership, nursery)
        self._changing = trio.Lock()
        self._looking = False
        self._vouched = True
        self._admitted = opened.genesis.org(opened.me.org) is not None

    def credentials(self) -> Credentials:
        """What this node shows on links and believes there."""
        opened = self._opened
        authorities = tuple(root.certificate for root in opened.trust.roots.values())
        return Credentials(opened.node, self.certificate, opened.genesis.hash, opened.trust.trust, authorities)

    def _entrust_paths(self) -> None:
        """With what this node shows and believes from now on."""
        for path in self.paths:
            path.trust(self.credentials())

    def problems(self) -> tuple[str, ...]:
        """What keeps others from believing this node, for people; empty where nothing does."""
        if not self._vouched:
            return ("its certificate counts no more, as its organisation's root is another now: it needs one of that root",)
        if self._is_admitted() is False:
            return ("its organisation is no member of this mesh: it waits for admission",)
        return ()

    # -- what may change whom to believe -----------------------------------------------------------------------------

    async def begin(self) -> None:
        """Believe what the ledger on this disk says, before anybody is talked to."""
        self._roots.moved()
        await self._follow()
        if not self._admitted:
            logger.warning("waits-for-admission", extra={"org": self._opened.me.org})

    def look(self) -> None:
        """The ledger may have moved: follow it, if its roots may be others now."""
        if (self._roots.moved() or not self._vouched) and not self._looking:
            self._looking = True  # one that waits is enough: it reads what is newest then
            self._nursery.start_soon(self._follow)

    def refused(self, name: str) -> None:
        """Another node has refused a link by this name: if none lets this one in, and another certificate is prepared, try that."""
        if name not in UNKNOWN or trio.current_time() - self._tried < TRY_S:
            return
        if self.certificate == self._kept and not self._next.exists():
            return
        if all(link.org == self._opened.me.org for link in self.links.states()):
            self._tried = trio.current_time()
            self._nursery.start_soon(self._try_another)

    async def reload(self) -> None:
        """Read the revocation lists in the folder again. Lists that cannot be read change nothing."""
        async with self._changing:
            before = self._opened.trust.trust
            try:
                await trio.to_thread.run_sync(self._opened.trust.reload)
            except MeshError as error:
                logger.error("not-reloaded", extra={"err": error.name, "detail": error.detail})
                return
            await self._changed(before)

    async def take_revocations(self, effect: TakeRevocations) -> bool:
        """Carry out a peer's offer; see there."""
        async with self._changing:
            before = self._opened.trust.trust
            newer = await trio.to_thread.run_sync(self._opened.trust.learn, effect.org, effect.der)
            if newer:
                await self._changed(before)
        return newer

    async def _follow(self) -> None:
        trust = self._opened.trust
        async with self._changing:
            self._looking = False  # what moves from here on may not be seen in this one
            believed = self._roots.read()
            if believed is None:
                return
            before, me = trust.trust, self._opened.me.org
            leaving = {org: node for org, node in believed.leaving.items() if org != me}  # its own nodes go on together
            try:
                await trio.to_thread.run_sync(trust.follow, believed.roots, leaving)
            except MeshError as error:  # of a list in the folder; the roots are changed
                logger.error("not-reloaded", extra={"err": error.name, "detail": error.detail})
            if trust.trust is not before:
                await self._changed(before)
            elif not self._vouched and await self._renew():
                self._entrust_paths()
            if not self._admitted and self._is_admitted():
                self._admitted = True
                logger.info("admitted", extra={"org": self._opened.me.org})

    def _is_admitted(self) -> bool | None:
        """None where this node cannot know now."""
        if self._ledger.restoring:
            return None
        me = self._opened.me.org
        org = queries.org(self._ledger, me)
        return self._opened.genesis.org(me) is not None if not self._ledger.height else org is not None and not org.left_ms

    # -- what then happens -------------------------------------------------------------------------------------------

    async def _changed(self, before: Trust) -> None:
        """Whoever is not vouched for now loses its links and its place in the mesh, until its organisation vouches for it anew."""
        trust, membership = self._opened.trust, self._assembly.membership
        changed = _differ(before, trust.trust)
        await self._renew()
        self._entrust_paths()
        self.links.recheck(changed)
        known = [one for one in membership.certificates() if one.org in changed]
        former = [one for one in membership.expelled() if one.org in changed]
        withdrawn = await trio.to_thread.run_sync(trust.withdrawn, known)
        pardoned = await trio.to_thread.run_sync(trust.vouched, former)
        held = {one.node: one for one in membership.certificates()}
        expelled = [one.node for one in withdrawn if held.get(one.node) is one]  # not who has shown another one meanwhile
        for node in expelled:
            self.host.deliver("membership", Expelled(node))
        for one in pardoned:
            self.host.deliver("membership", Pardoned(one.node))
        self.sweeping.disown(changed)
        self.sweeping.spread()
        told = {"expelled": ",".join(expelled), "pardoned": ",".join(one.node for one in pardoned)}
        logger.info("reloaded", extra={"roots": len(trust.roots), "lists": len(trust.trust.revoked), **told})

    async def _renew(self) -> bool:
        """Keep the certificate that was prepared, if the node's own counts no more and that one is good; whether another is shown now."""
        was, self._vouched = self._vouched, self._is_good(self._kept)
        if self._vouched:
            return False  # one that is being tried is left: the others may know of a block that is not here yet
        try:
            self._kept = await trio.to_thread.run_sync(self._keep_prepared)
        except MeshError as error:
            if was:
                logger.error("not-vouched-for", extra={"err": error.name, "detail": error.detail})
            return False
        self._vouched = True
        logger.warning("certificate-renewed", extra={"serial": f"{certificates.describe(self._kept).serial:x}"})
        return self._show(self._kept)

    def _show(self, certificate: bytes) -> bool:
        if certificate == self.certificate:
            return False
        self.certificate = certificate
        self.host.deliver("membership", Recertified(certificate))
        return True

    async def _try_another(self) -> None:
        async with self._changing:
            other = self._kept
            if self.certificate == self._kept:
                try:
                    other = await trio.to_thread.run_sync(self._prepared)
                except MeshError as error:
                    logger.info("nothing-prepared", extra={"err": error.name, "detail": error.detail})
                    return
            if self._show(other):
                logger.warning("certificate-tried", extra={"serial": f"{certificates.describe(other).serial:x}"})
                self._entrust_paths()

    def _prepared(self) -> bytes:
        """The certificate in ``certificate.next.pem``, which is one of this node; raises what is wrong with it (blocking)."""
        certificate = certificates.chain_from_pem(folder.read_file(self._next))[0]
        self._opened.check_own(certificates.describe(certificate).peer)
        return certificate

    def _keep_prepared(self) -> bytes:
        """The same, if it is good: it is in ``certificate.pem`` from now on."""
        opened, certificate = self._opened, self._prepared()
        me = certificates.verify_chain([certificate], opened.trust.trust, time.time())
        folder.write_chain(opened.config, [certificate, opened.trust.roots[me.org].certificate])
        try:
            self._next.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("not-removed", extra={"file": str(self._next), "err": error.strerror})  # it says the same as the other now
        return certificate

    def _is_good(self, certificate: bytes) -> bool:
        try:
            self._opened.trust.check(certificate)
        except MeshError as error:
            return error.name not in certificates.NOT_VOUCHED
        return True


def _differ(before: Trust, now: Trust) -> set[OrgDid]:
    """The organisations that are not believed as they were."""
    orgs = {*before.roots, *now.roots, *before.revoked, *now.revoked}
    same = {org for org in orgs if (before.roots.get(org), before.leaving.get(org)) == (now.roots.get(org), now.leaving.get(org))}
    return {org for org in orgs if org not in same or before.revoked.get(org) is not now.revoked.get(org)}
