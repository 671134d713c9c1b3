"""Who is who: members, the certificates that vouch for their organisations, and every statement held.

The rule that keeps organisations apart (docs/decisions/0003-membership.md): a node's organisation is what its certificate says,
and a certificate is checked by this node before anything about or by that node counts. A statement about or by a node whose
certificate is not here yet is a *stranger's*: it changes nothing, and is a reason to sync with whoever sent it.
"""

import random
from collections.abc import Sequence
from enum import Enum
from itertools import islice
from struct import unpack_from

from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership import limits
from meshos.protocols.membership.commands import Certified, Difference
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.ring import Ring
from meshos.protocols.membership.statements import Kind, Statement

NO_DIFFERENCE = Difference((), b"", False)


class Verdict(Enum):
    """What a statement is to this node."""

    NEWS = "news"
    OLD = "old"
    STRANGER = "stranger"
    REFUSED = "refused"


class Table:
    """See the module's text."""

    __slots__ = (
        "_of_org",
        "_stale",
        "buried",
        "credentials",
        "expelled",
        "held",
        "known",
        "me",
        "members",
        "org",
        "reachable",
        "ring",
    )

    def __init__(self, mine: Certified, rng: random.Random) -> None:
        self.me = mine.node
        self.org = mine.org
        self.members: dict[NodeId, Member] = {}
        self.ring = Ring(rng)
        self.credentials: dict[NodeId, Certified] = {mine.node: mine}
        self.held: dict[bytes, Statement] = {}  # by digest
        self.known: dict[bytes, None] = {}  # the bytes of what is held
        self.buried: dict[NodeId, int] = {}  # incarnations of those that are no longer listed
        self.expelled: dict[NodeId, Certified] = {}  # with the certificate that was revoked
        self.reachable: dict[OrgDid, int] = {}  # live, routable members of each organisation, this node included
        self._of_org: dict[OrgDid, int] = {}
        self._stale: dict[bytes, None] = {}

    # -- certificates ------------------------------------------------------------------------------------------------

    def admit(self, certified: Certified) -> bool:
        """Remember a checked certificate; False if there is no room, or if it is the one that its node was expelled with."""
        if certified.node == self.me or self.expelled.get(certified.node) == certified:
            return False
        if certified.node not in self.credentials and len(self.credentials) >= limits.CREDENTIALS:
            idle = next((node for node in self.credentials if node not in self.members and node != self.me), None)
            if idle is None:
                return False
            del self.credentials[idle]
        former = self.credentials.get(certified.node)
        if former is not None and former.org != certified.org:
            return False  # a node belongs to one organisation; in another it needs another key
        self.credentials[certified.node] = certified
        if self.expelled.pop(certified.node, None) is not None:  # its organisation has vouched for it anew
            self.buried.pop(certified.node, None)  # it never left: what it said last counts again
        return True

    def recertify(self, certificate: bytes) -> None:
        """What this node shows of itself from now on."""
        self.credentials[self.me] = Certified(self.me, self.org, certificate)

    def expel(self, node: NodeId) -> None:
        """Let go of a certificate that was revoked, and remember it: until all have heard, others will offer it again."""
        certified = self.credentials.pop(node, None)
        if certified is None:
            return
        if len(self.expelled) >= limits.EXPELLED:
            del self.expelled[next(iter(self.expelled))]
        self.expelled[node] = certified

    # -- statements --------------------------------------------------------------------------------------------------

    def recognised(self, blob: bytes) -> bool:
        """These very bytes were met before and change nothing."""
        return blob in self.known or blob in self._stale

    def judge(self, said: Statement) -> Verdict:
        """What ``said`` is to this node; changes nothing."""
        if said.blob in self.known:
            return Verdict.OLD
        member = self.members.get(said.subject)
        if member is None:
            if said.subject in self.expelled or said.incarnation <= self.buried.get(said.subject, -1):
                return Verdict.OLD
            subject = self.credentials.get(said.subject)
            if subject is None or said.kind is not Kind.ALIVE:
                return Verdict.STRANGER
            assert said.facts is not None
            room = len(self.members) < limits.MEMBERS and self._of_org.get(subject.org, 0) < limits.MEMBERS_OF_ORG
            return Verdict.NEWS if said.facts.org == subject.org and room else Verdict.REFUSED
        signer = self.credentials.get(said.signer)
        if signer is None:
            return Verdict.OLD if said.signer in self.expelled else Verdict.STRANGER
        if said.facts is not None and said.facts.org != member.org:
            return Verdict.REFUSED
        return Verdict.NEWS if member.would_change(said, signer.org) else Verdict.OLD

    def absorb(self, said: Statement, now: float) -> Verdict:
        """Take ``said`` over if it is news. A new member is in ``members`` then, and nowhere else yet."""
        verdict = self.judge(said)
        if verdict is not Verdict.NEWS:
            return verdict
        member = self.members.get(said.subject)
        if member is None:
            org = self.credentials[said.subject].org
            self.members[said.subject] = Member(said, org, now)
            self._of_org[org] = self._of_org.get(org, 0) + 1
            self.buried.pop(said.subject, None)
        else:
            for gone in member.absorb(said, self.credentials[said.signer].org):
                self._let_go(gone)
            if said.kind is Kind.NOTE and member.notes.get(said.topic) is not said:
                return Verdict.OLD  # its topic came last by name among too many
        self.held[said.digest] = said
        self.known[said.blob] = None
        return verdict

    def forget(self, member: Member) -> None:
        """``member`` is no longer listed; its incarnation is remembered."""
        for said in member.statements():
            self._let_go(said)
        del self.members[member.node]
        self._of_org[member.org] -= 1
        if not self._of_org[member.org]:
            del self._of_org[member.org]
        if len(self.buried) >= limits.BURIED:
            del self.buried[next(iter(self.buried))]
        self.buried[member.node] = member.incarnation

    def _let_go(self, said: Statement) -> None:
        self.held.pop(said.digest, None)
        self.known.pop(said.blob, None)
        if len(self._stale) >= limits.STALE:
            del self._stale[next(iter(self._stale))]
        self._stale[said.blob] = None

    # -- who can be reached ------------------------------------------------------------------------------------------

    def count_reachable(self, org: OrgDid, change: int) -> bool:
        """One more or less of ``org`` is live and routable; True if that changed which organisations can be reached."""
        count = self.reachable.get(org, 0) + change
        if count:
            self.reachable[org] = count
            return count == change
        del self.reachable[org]
        return True

    def others_reachable(self, org: OrgDid) -> int:
        """How many organisations beside ``org`` have a live, routable member (this node's own has: itself)."""
        return len(self.reachable) - (org in self.reachable)

    # -- syncs -------------------------------------------------------------------------------------------------------

    def digests(self) -> bytes:
        """The digests of what is held, joined."""
        return b"".join(islice(self.held, limits.DIGESTS))

    def compare(self, have: bytes) -> Difference:
        """See ``commands.Compare``."""
        theirs = dict.fromkeys(_digests(have))
        if theirs.keys() == self.held.keys():
            return NO_DIFFERENCE  # as it is at rest
        give: list[bytes] = []
        size, more = 0, False
        for digest, said in self.held.items():
            if digest in theirs:
                continue
            if size + len(said.blob) > limits.PAGE_BYTES:
                more = True
                break
            size += len(said.blob) + 3
            give.append(said.blob)
        want = [digest for digest in theirs if digest not in self.held][: limits.MEMBERS // 2]
        return Difference(tuple(give), b"".join(want), more)

    def supply(self, want: bytes) -> tuple[bytes, ...]:
        """See ``commands.Supply``."""
        give: list[bytes] = []
        size = 0
        for digest in _digests(want):
            said = self.held.get(digest)
            if said is not None:
                size += len(said.blob) + 3
                if size > limits.PAGE_BYTES:
                    break
                give.append(said.blob)
        return tuple(give)

    def certificates_of(self, nodes: Sequence[NodeId]) -> tuple[bytes, ...]:
        """See ``commands.ReadCertificates``."""
        found: list[bytes] = []
        size = 0
        for node in nodes:
            certified = self.credentials.get(node)
            if certified is not None:
                size += len(certified.certificate) + 3
                if size > limits.PAGE_BYTES:
                    break
                found.append(certified.certificate)
        return tuple(found)


def _digests(joined: bytes) -> tuple[bytes, ...]:
    count = len(joined) // limits.DIGEST_BYTES
    return unpack_from(f"{limits.DIGEST_BYTES}s" * count, joined)
