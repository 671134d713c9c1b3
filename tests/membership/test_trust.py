"""Whose roots a node believes: what the ledger says of its members, as far as it can be so; and what goes with a root."""

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest

from meshos.crypto import certificates
from meshos.crypto.genesis_keys import Root
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.errors import Refused
from meshos.genesis import Genesis, Org
from meshos.ids import OrgDid
from meshos.node import folder
from meshos.node.kernel.group import revoked_of
from meshos.node.trust import TrustBook
from meshos.protocols.membership import limits
from meshos.protocols.membership.commands import Certified

NOW = time.time()
ACME, GLOBEX, NEWCO = (OrgDid(f"did:mesh:enterprise:{name}") for name in ("acme", "globex", "newco"))
ROOTS = {org: SigningKey.generate() for org in (ACME, GLOBEX, NEWCO)}
NODE = SigningKey.generate()


def root_of(org: OrgDid, key: SigningKey | None = None) -> Root:
    key = key or ROOTS[org]
    return Root(key.public, certificates.new_root(key, org, now=NOW))


CERTIFIED = {org: root_of(org) for org in ROOTS}


def members(*orgs: OrgDid, **others: Root) -> dict[str, tuple[str, bytes]]:
    """The ledger's members: these, by the roots that they founded the mesh with or applied with, and ``others``."""
    roots = {org: CERTIFIED[org] for org in orgs} | {OrgDid(f"did:mesh:enterprise:{name}"): root for name, root in others.items()}
    return {org: (multikey(root.key), root.certificate) for org, root in roots.items()}


@pytest.fixture
def genesis() -> Genesis:
    orgs = [Org(org, multikey(ROOTS[org].public), CERTIFIED[org].certificate, None) for org in (ACME, GLOBEX)]
    return replace(folder.template(), orgs=tuple(orgs))


@pytest.fixture
def book(genesis: Genesis, tmp_path: Path) -> TrustBook:
    return TrustBook(genesis, tmp_path, itertools.count(0.0, limits.LIST_EVERY_S).__next__)


def certified(genesis: Genesis, org: OrgDid, root: SigningKey | None = None) -> Certified:
    der = certificates.issue(root or ROOTS[org], mesh_id=genesis.mesh_id, org=org, node=NODE.public, now=NOW)
    return Certified(node_id(NODE.public), org, der)


def refusal(book: TrustBook, one: Certified) -> str:
    with pytest.raises(Refused) as caught:
        book.check(one.certificate)
    return caught.value.name


def test_who_is_admitted_is_believed_and_who_has_left_is_not(book: TrustBook, genesis: Genesis) -> None:
    new, old = certified(genesis, NEWCO), certified(genesis, GLOBEX)
    assert refusal(book, new) == "unknown-org"
    assert book.follow(members(ACME, GLOBEX, NEWCO))
    assert book.check(new.certificate).org == NEWCO and book.roots[NEWCO] == CERTIFIED[NEWCO]
    assert not book.follow(members(ACME, GLOBEX, NEWCO)), "nothing is new"
    assert book.follow(members(ACME, NEWCO))
    assert refusal(book, old) == "unknown-org", "it founded the mesh, and has left"
    assert book.withdrawn([new, old]) == [old] and book.vouched([new, old]) == [new]


def test_of_one_that_leaves_only_the_node_that_votes_is_believed_and_it_speaks_for_nobody(book: TrustBook, genesis: Genesis) -> None:
    votes = certified(genesis, GLOBEX)
    other = SigningKey.generate()
    der = certificates.issue(ROOTS[GLOBEX], mesh_id=genesis.mesh_id, org=GLOBEX, node=other.public, now=NOW)
    late = Certified(node_id(other.public), GLOBEX, der)
    assert book.org_of(votes.node, votes.certificate) == GLOBEX and book.check(der).org == GLOBEX
    before = book.trust
    assert book.follow(members(ACME, GLOBEX), {GLOBEX: votes.node}) and book.trust.revoked is not before.revoked
    assert book.check(votes.certificate).node == votes.node
    assert refusal(book, late) == "unknown-org", "whoever has its root key lets nobody in"
    assert book.withdrawn([votes, late]) == [late]
    with pytest.raises(Refused) as caught:
        book.org_of(votes.node, votes.certificate)
    assert caught.value.name == "unknown-org"
    assert not book.follow(members(ACME, GLOBEX), {GLOBEX: votes.node}), "nothing is new"
    book.learn(ACME, certificates.revoke(ROOTS[ACME], ACME, [1], number=1, now=NOW))
    assert refusal(book, late) == "unknown-org", "a list of another changes nothing of it"
    assert book.follow(members(ACME))
    assert refusal(book, votes) == "unknown-org"


def test_what_the_former_root_signed_counts_no_more_its_lists_neither(book: TrustBook, genesis: Genesis) -> None:
    key = SigningKey.generate()
    before, after = certified(genesis, ACME), certified(genesis, ACME, key)
    former = certificates.revoke(ROOTS[ACME], ACME, [certificates.describe(after.certificate).serial], number=9, now=NOW)
    assert book.learn(ACME, former)
    assert book.follow(members(GLOBEX, acme=root_of(ACME, key)))
    assert refusal(book, before) == "wrong-org-root" and book.check(after.certificate).org == ACME
    assert ACME not in book.trust.revoked, "the thief of the former root would revoke what the new one issues"
    assert book.learn(ACME, certificates.revoke(key, ACME, [1], number=1, now=NOW)), "its numbers begin again"


def test_a_node_keeps_its_vote_while_its_root_is_rotated_and_loses_it_when_it_is_revoked(genesis: Genesis) -> None:
    one = certified(genesis, ACME)
    serial = certificates.describe(one.certificate).serial
    assert revoked_of([one], None) == set()
    for serials, gone in ((frozenset({serial + 1}), set()), (frozenset({serial}), {one.node})):
        assert revoked_of([one], certificates.RevocationList(ACME, 1, serials)) == gone


@pytest.mark.parametrize("der", [b"", b"garbage", CERTIFIED[GLOBEX].certificate, CERTIFIED[ACME].certificate])
def test_a_certificate_that_is_not_the_root_keys_is_not_believed(book: TrustBook, genesis: Genesis, der: bytes) -> None:
    key = SigningKey.generate()
    assert book.follow(members(GLOBEX) | {ACME: (multikey(key.public), der)})
    assert ACME not in book.roots, "neither by this root nor by its last good one"
    assert {refusal(book, certified(genesis, ACME, root)) for root in (None, key)} == {"unknown-org"}
    mended = SigningKey.generate()
    assert book.follow(members(GLOBEX, acme=root_of(ACME, mended)))
    assert book.check(certified(genesis, ACME, mended).certificate).org == ACME


def test_the_root_in_the_folder_stands_until_the_ledger_has_one(genesis: Genesis, tmp_path: Path) -> None:
    own = certified(genesis, NEWCO)
    book = TrustBook(genesis, tmp_path, own={NEWCO: CERTIFIED[NEWCO]})
    assert book.check(own.certificate).org == NEWCO
    book.follow(members(ACME))
    assert book.check(own.certificate).org == NEWCO and set(book.roots) == {ACME, NEWCO}
    book.follow(members(ACME, newco=root_of(NEWCO, SigningKey.generate())))
    assert refusal(book, own) == "wrong-org-root"
    book.follow({NEWCO: (multikey(ROOTS[NEWCO].public), b"garbage"), **members(ACME)})
    assert refusal(book, own) == "unknown-org", "a member's word on the ledger goes before its folder's"


def test_a_list_of_a_root_that_is_not_known_waits_in_the_folder(genesis: Genesis, tmp_path: Path) -> None:
    listed = certificates.revoke(ROOTS[NEWCO], NEWCO, [5], number=3, now=NOW)
    (tmp_path / "new.crl").write_bytes(listed)
    book = TrustBook(genesis, tmp_path)
    assert not book.trust.revoked
    book.follow(members(ACME, GLOBEX, NEWCO))
    assert book.trust.revoked[NEWCO].serials == {5}
    (tmp_path / "new.crl").write_bytes(b"garbage")
    with pytest.raises(Refused, match="no revocation list") as caught:
        book.reload()
    assert caught.value.name == "crl-malformed"


def test_a_list_that_gets_another_name_while_the_folder_is_read_is_found(
    genesis: Genesis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, read = TrustBook(genesis, tmp_path), folder.read_file
    (tmp_path / "a.crl").write_bytes(certificates.revoke(ROOTS[NEWCO], ACME, [1], number=1, now=NOW))
    (tmp_path / "next.crl").write_bytes(certificates.revoke(ROOTS[ACME], ACME, [5], number=3, now=NOW))

    def renamed(path: Path) -> bytes:
        if path.name == "next.crl" and path.exists():
            path.rename(tmp_path / "a.crl")
        return read(path)

    monkeypatch.setattr(folder, "read_file", renamed)
    book.reload()
    assert book.trust.revoked[ACME].serials == {5}
