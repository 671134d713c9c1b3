"""Revocation lists between two nodes: what is asked, handed on, kept; and what a peer may send instead."""

import itertools
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from meshos import cbor
from meshos.crypto import certificates
from meshos.crypto.certificates import RevocationList
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.signing import Ed25519Verifier
from meshos.errors import Failed, MeshError, Refused, Unreachable
from meshos.flow import Ask, Compute, Port, Propose
from meshos.genesis import Genesis, Org
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node import folder
from meshos.node.trust import TrustBook
from meshos.protocols.membership import limits
from meshos.protocols.membership.machine import domain
from meshos.protocols.membership.revocations import Revocations, TakeRevocations
from meshos.protocols.membership.sync import Edge
from meshos.protocols.membership.syncing import SyncArgument
from meshos.protocols.rpc.events import Inbound

NOW = time.time()
PEER = Peer(NodeId("12D3KooWpeer"), OrgDid("did:mesh:enterprise:peer"))
ROOTS = {OrgDid(f"did:mesh:enterprise:org{number}"): SigningKey.generate() for number in range(6)}
ACME, GLOBEX, *_ = ROOTS
STRANGER = OrgDid("did:mesh:enterprise:stranger")


def signed(org: OrgDid, number: int, *serials: int, root: SigningKey | None = None) -> bytes:
    return certificates.revoke(root or ROOTS[org], org, serials or (7,), number=number, now=NOW)


@dataclass
class Side:
    """One node's half: the lists that it holds, in a folder of its own."""

    book: TrustBook
    offered: list[TakeRevocations] = field(default_factory=list)
    flow: Revocations = field(init=False)

    def __post_init__(self) -> None:
        self.flow = Revocations(lambda: self.book.trust.revoked)

    def numbers(self) -> Mapping[OrgDid, int]:
        return {org: listed.number for org, listed in self.book.trust.revoked.items()}


@pytest.fixture
def genesis() -> Genesis:
    orgs = [Org(did, multikey(root.public), certificates.new_root(root, did, now=NOW), None) for did, root in ROOTS.items()]
    return replace(folder.template(), orgs=tuple(orgs))


@pytest.fixture
def sides(genesis: Genesis, tmp_path: Path) -> tuple[Side, Side]:
    def book(name: str) -> TrustBook:
        return TrustBook(genesis, tmp_path / name, itertools.count(0.0, limits.LIST_EVERY_S).__next__)

    return Side(book("a")), Side(book("b"))


def carry_out(work: Awaitable[Any], side: Side, answer: Any) -> Any:
    """Run one half; ``answer`` gives the reply to an asked body."""
    steps = work.__await__()
    value: object = None
    while True:
        try:
            operation = steps.send(value)
        except StopIteration as done:
            return done.value
        if isinstance(operation, Ask):
            value = answer(operation.body)
        else:
            assert isinstance(operation, Port) and isinstance(operation.effect, TakeRevocations)
            side.offered.append(operation.effect)
            value = side.book.learn(operation.effect.org, operation.effect.der)


def served(side: Side, body: bytes, asker: Side | None = None) -> bytes:
    """``asker`` is who is asked back, if anybody is."""
    inbound = Inbound(PEER, "/meshos/revocations/1", body, deadline=60.0, trace="")
    reply = carry_out(side.flow.serve(inbound), side, lambda back: served(asker, back, side) if asker else cbor.encode({}))
    assert isinstance(reply, bytes)
    return reply


def fetched(asker: Side, holder: Side) -> int:
    taken = carry_out(asker.flow.fetch(PEER.node), asker, lambda body: served(holder, body, asker))
    assert isinstance(taken, int)
    return taken


def test_newer_lists_are_taken_and_kept(sides: tuple[Side, Side], genesis: Genesis, tmp_path: Path) -> None:
    asker, holder = sides
    assert fetched(asker, holder) == 0 and not asker.offered
    holder.book.learn(ACME, signed(ACME, 3, 1, 2))
    holder.book.learn(GLOBEX, signed(GLOBEX, 1))
    asker.book.learn(GLOBEX, signed(GLOBEX, 2))
    assert fetched(asker, holder) == 1
    assert holder.numbers() == {ACME: 3, GLOBEX: 2}, "who is asked takes what is newer with the asker"
    assert asker.numbers() == {ACME: 3, GLOBEX: 2} and asker.book.trust.revoked[ACME].serials == {1, 2}
    assert fetched(asker, holder) == 0 and len(asker.offered) == len(holder.offered) == 1, "what is known is not sent again"
    again = TrustBook(genesis, tmp_path / "a")
    assert {org: listed.number for org, listed in again.trust.revoked.items()} == {ACME: 3, GLOBEX: 2}, "it is on disk"


def test_a_list_that_is_new_is_spread_at_once(sides: tuple[Side, Side]) -> None:
    new, other = sides
    new.book.learn(ACME, signed(ACME, 1))
    carry_out(new.flow.spread([PEER.node]), new, lambda body: served(other, body, new))
    assert other.numbers() == {ACME: 1} and not new.offered
    assert new.flow.statistics() == other.flow.statistics() == {"failed": 0}


def test_who_claims_newer_lists_and_has_none_is_asked_once_a_question(sides: tuple[Side, Side]) -> None:
    asked: list[bytes] = []
    inbound = Inbound(PEER, "/meshos/revocations/1", cbor.encode({"have": {ACME: 2**62, "x": 9}}), deadline=60.0, trace="")

    def answer(body: bytes) -> bytes:
        asked.append(body)
        if len(asked) < 5:  # asks again instead of an answer: it would go on for ever
            served(sides[0], inbound.body)
        return cbor.encode({})

    assert carry_out(sides[0].flow.serve(inbound), sides[0], answer) == cbor.encode({})
    assert len(asked) == 1


def test_one_sync_takes_a_few_lists_and_the_next_the_rest(sides: tuple[Side, Side]) -> None:
    asker, holder = sides
    for org in ROOTS:
        holder.book.learn(org, signed(org, 1))
    assert fetched(asker, holder) == limits.LISTS < len(ROOTS)
    assert fetched(asker, holder) == len(ROOTS) - limits.LISTS


def test_a_list_that_is_not_taken_keeps_no_other_back(sides: tuple[Side, Side]) -> None:
    _, holder = sides
    for org in ROOTS:
        holder.book.learn(org, signed(org, 1))
    flow, asked = holder.flow, Inbound(PEER, "/meshos/revocations/1", cbor.encode({"have": {}}), deadline=60.0, trace="")
    answers = [cbor.decode(carry_out(flow.serve(asked), holder, None), max_bytes=certificates.CRL_BYTES) for _ in ROOTS]
    assert {answer["org"] for answer in answers if isinstance(answer, dict)} == set(ROOTS)


@pytest.mark.parametrize("error", [Refused("crl-malformed", "no list"), Unreachable("link-lost", "gone", outcome="unknown")])
def test_a_sync_counts_though_no_lists_can_be_had(sides: tuple[Side, Side], error: MeshError) -> None:
    flow = sides[0].flow
    edge = Edge(Ed25519Verifier(), domain(bytes(32)), sides[0].book.check, flow)
    steps = edge.sync(SyncArgument(PEER.node)).__await__()
    value: object = None
    with pytest.raises(StopIteration) as done:
        while True:
            operation = steps.send(value)
            if isinstance(operation, Ask) and operation.protocol == "/meshos/revocations/1":
                steps.throw(error)
            value = cbor.encode({"give": [], "want": b"", "more": False}) if isinstance(operation, Ask) else b""
    assert done.value.value == 0 and flow.statistics() == {"failed": 1}


def test_an_older_list_changes_nothing(sides: tuple[Side, Side]) -> None:
    asker, _ = sides
    new, old = signed(ACME, 5, 1, 2), signed(ACME, 4, 3)
    assert asker.book.learn(ACME, new) and not asker.book.learn(ACME, old) and not asker.book.learn(ACME, new)
    assert asker.book.trust.revoked[ACME].serials == {1, 2}
    replayed = cbor.encode({"org": ACME, "list": old, "more": True})
    assert carry_out(asker.flow.fetch(PEER.node), asker, lambda _: replayed) == 0 and len(asker.offered) == 1, "it goes on asking"


def test_an_older_list_copied_over_a_newer_one_pardons_nobody(
    sides: tuple[Side, Side], genesis: Genesis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    book, file, old = sides[0].book, tmp_path / "a" / folder.list_name(ACME), signed(ACME, 1, 5)
    book.learn(ACME, signed(ACME, 3, 7, 8, 9))
    file.write_bytes(old)
    book.reload()
    assert book.trust.revoked[ACME].serials == {7, 8, 9}
    assert [record.message for record in caplog.records] == ["older-list"]
    assert file.read_bytes() == old, "the operator does not find the file as it was"
    assert TrustBook(genesis, tmp_path / "a").trust.revoked[ACME].number == 3, "a restart goes back"
    (tmp_path / "a" / "new.crl").write_bytes(signed(ACME, 4, 5))
    book.reload()
    assert book.trust.revoked[ACME].number == 4


@pytest.mark.parametrize(
    ("org", "der", "name"),
    [
        (ACME, b"", "crl-malformed"),
        (ACME, signed(ACME, 1)[:-1], "crl-malformed"),
        (ACME, signed(ACME, 1) + b"\0", "crl-malformed"),
        (ACME, b"\x30" * (certificates.CRL_BYTES + 1), "crl-malformed"),
        (ACME, signed(ACME, 1, root=ROOTS[GLOBEX]), "wrong-org-root"),
        (ACME, signed(GLOBEX, 1), "wrong-org-root"),
        (ACME, signed(ACME, 2**70), "crl-malformed"),
        (STRANGER, signed(STRANGER, 1, root=SigningKey.generate()), "unknown-org"),
    ],
)
def test_a_list_that_is_none_is_refused_and_changes_nothing(
    sides: tuple[Side, Side], tmp_path: Path, org: OrgDid, der: bytes, name: str
) -> None:
    asker, _ = sides
    asker.book.learn(ACME, signed(ACME, 0, 9))
    before = (asker.book.trust, sorted((tmp_path / "a").iterdir()))
    with pytest.raises(Refused) as caught:
        carry_out(asker.flow.fetch(PEER.node), asker, lambda _: cbor.encode({"org": org, "list": der, "more": False}))
    assert caught.value.name == name
    assert before == (asker.book.trust, sorted((tmp_path / "a").iterdir()))


@pytest.mark.parametrize(
    "reply", [b"", b"\xff", cbor.encode([]), cbor.encode({"org": 1, "list": b""}), cbor.encode({"org": ACME}), cbor.encode({"list": b"x"})]
)
def test_a_malformed_answer_is_refused(sides: tuple[Side, Side], reply: bytes) -> None:
    asker, _ = sides
    with pytest.raises(Refused):
        carry_out(asker.flow.fetch(PEER.node), asker, lambda _: reply)
    assert not asker.offered


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff", cbor.encode([]), cbor.encode({}), cbor.encode({"have": []}), cbor.encode({"have": {"x": "1"}})),
        *(cbor.encode({"have": {"x": True}}), cbor.encode({"have": {str(n): n for n in range(limits.LISTS_NAMED + 1)}})),
        cbor.encode({"have": {"x" * limits.LISTS_NAMED_BYTES: 1}}),
    ],
)
def test_a_malformed_question_is_refused(sides: tuple[Side, Side], body: bytes) -> None:
    with pytest.raises(Refused):
        served(sides[0], body)


def test_a_question_that_names_as_many_as_it_may_is_answered(sides: tuple[Side, Side]) -> None:
    names = {f"did:mesh:enterprise:{number:063d}": 2**62 for number in range(limits.LISTS_NAMED)}
    assert served(sides[0], cbor.encode({"have": names})) == cbor.encode({})


def test_a_list_that_cannot_be_kept_does_not_count(sides: tuple[Side, Side], tmp_path: Path) -> None:
    asker, _ = sides
    (tmp_path / "a").write_text("no folder")
    with pytest.raises(Failed) as caught:
        asker.book.learn(ACME, signed(ACME, 1))
    assert caught.value.name == "cannot-write" and not asker.numbers()


def test_who_is_on_a_list_and_who_is_not(sides: tuple[Side, Side], genesis: Genesis) -> None:
    book, key = sides[0].book, SigningKey.generate()
    der = certificates.issue(ROOTS[ACME], mesh_id=genesis.mesh_id, org=ACME, node=key.public, now=NOW)
    assert book.check(der) == Peer(node_id(key.public), ACME)
    assert book.learn(ACME, signed(ACME, 1, certificates.describe(der).serial))
    with pytest.raises(MeshError) as caught:
        book.check(der)
    assert caught.value.name == "certificate-revoked"
    assert book.learn(ACME, signed(ACME, 2, 12345)) and book.check(der).org == ACME, "the newest list does not name it"


def test_of_one_organisation_a_list_a_minute_is_taken(genesis: Genesis, tmp_path: Path) -> None:
    now = 0.0
    book = TrustBook(genesis, tmp_path, lambda: now)
    assert book.learn(ACME, signed(ACME, 1)) and book.learn(GLOBEX, signed(GLOBEX, 1))
    now = limits.LIST_EVERY_S - 1
    assert not book.learn(ACME, signed(ACME, 2))
    (tmp_path / folder.list_name(GLOBEX)).write_bytes(signed(GLOBEX, 2))
    book.reload()
    assert book.trust.revoked[GLOBEX].number == 2, "what the operator gives counts at once"
    now = limits.LIST_EVERY_S
    assert book.learn(ACME, signed(ACME, 2))


def test_a_certificate_that_is_revoked_during_its_check_is_not_admitted(sides: tuple[Side, Side], genesis: Genesis) -> None:
    book, key = sides[0].book, SigningKey.generate()
    der = certificates.issue(ROOTS[ACME], mesh_id=genesis.mesh_id, org=ACME, node=key.public, now=NOW)
    edge = Edge(Ed25519Verifier(), domain(bytes(32)), book.check, sides[0].flow)
    body = cbor.encode({"step": "take", "statements": [], "certificates": [der]})
    steps = edge.serve(Inbound(PEER, "/meshos/membership/1", body, deadline=60.0, trace="")).__await__()
    value, merged = None, []
    with pytest.raises(StopIteration):
        while True:
            operation = steps.send(value)
            if isinstance(operation, Compute):
                value = operation.work()
                assert merged or sides[0].numbers() or value, "it is good at first"
                book.learn(ACME, signed(ACME, 1, certificates.describe(der).serial))  # while the worker comes back
            else:
                assert isinstance(operation, Propose)
                merged += getattr(operation.command, "certificates", ())
                value = ()
    assert not merged


def test_a_proof_that_is_checked_while_its_revocation_comes_is_not_remembered(
    sides: tuple[Side, Side], genesis: Genesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, key = sides[0].book, SigningKey.generate()
    der = certificates.issue(ROOTS[ACME], mesh_id=genesis.mesh_id, org=ACME, node=key.public, now=NOW)
    check = book.check

    def slow(proof: bytes) -> Peer:
        peer = check(proof)
        book.learn(ACME, signed(ACME, 1, certificates.describe(der).serial))
        return peer

    with monkeypatch.context() as patch:
        patch.setattr(book, "check", slow)
        assert book.org_of(node_id(key.public), der) == ACME
    with pytest.raises(MeshError) as caught:
        book.org_of(node_id(key.public), der)
    assert caught.value.name == "certificate-revoked"


def test_a_list_remembers_the_bytes_that_its_root_signed() -> None:
    der = signed(ACME, 4)
    assert certificates.read_revocations(der, ACME, ROOTS[ACME].public) == RevocationList(ACME, 4, frozenset({7}), der)
