"""What the square answers, and that whoever knows the genesis hash alone proves it; every lie in it is refused by name."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.cbor import Value
from meshos.consensus.ledger import light_client
from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.crypto.signing import Ed25519Verifier
from meshos.errors import MeshError, Refused
from meshos.genesis import to_json
from meshos.protocols.directory.search import DiscoverRequest, Found
from meshos.protocols.square import describe, headers, limits, proof, resolve, search, wire
from meshos.protocols.square.answering import Answering, Asker, Protocol
from meshos.protocols.square.budget import Budget
from tests.ledger_tree.chains import founded
from tests.square.mesh import ACCOUNT, ASKER, DID, GENESIS, ME, TEMPLATE, Mesh, answering, done, mesh, signs

VERIFIER = Ed25519Verifier()
MESH = mesh("abcde", "bcdefgh", "abcd")
SQUARE = answering(MESH.known)


def ask(name: str, request: bytes, square: Answering = SQUARE, now: float = 0.0) -> Value:
    square.budget = Budget()
    return wire.decode_answer(done(square.answer(square.protocols[name], ASKER, request, now)))


def refused(name: str, fields: dict[str, object], square: Answering = SQUARE) -> str:
    with pytest.raises(MeshError) as caught:
        ask(name, wire.encode_request(fields), square)
    return caught.value.name


# -- describe ----------------------------------------------------------------------------------------------------------


def test_a_mesh_is_described() -> None:
    said = describe.read_description(ask(describe.NAME, describe.request()))
    assert (said.mesh, said.genesis, said.node, said.org) == (GENESIS.mesh, GENESIS.hash, ME.node, ME.org)
    assert said.head is not None and said.head.header.height == MESH.chain.height
    assert [(org.did, org.seat) for org in said.orgs] == [(org.did, True) for org in GENESIS.orgs]
    assert set(said.protocols) == set(SQUARE.protocols)


def test_a_mesh_without_a_block_is_described_from_its_genesis() -> None:
    said = describe.read_description(ask(describe.NAME, describe.request(), answering(mesh(blocks=False).known)))
    assert said.head is None and len(said.orgs) == 4


def test_the_genesis_comes_in_pieces_and_must_have_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GENESIS_PIECE_BYTES", 1000)
    monkeypatch.setattr(describe, "LEAST_PIECE_BYTES", 1000)
    fetch = describe.GenesisFetch(GENESIS.hash)
    pieces = 0
    while not fetch.done:
        fetch.take(ask(describe.NAME, fetch.request()))
        pieces += 1
    assert pieces > 3 and fetch.genesis() == GENESIS


def test_a_forged_genesis_is_refused() -> None:
    other = founded(TEMPLATE, ["a", "b", "c", "mallory"])
    fetch = describe.GenesisFetch(GENESIS.hash)
    fetch.take(ask(describe.NAME, fetch.request(), answering(mesh(genesis=other).known)))
    with pytest.raises(Refused) as caught:
        fetch.genesis()
    assert caught.value.name == "wrong-genesis"


@pytest.mark.parametrize(
    "value",
    [
        *(None, {}, {"bytes": b"", "size": 10}, {"bytes": b"x", "size": 0}, {"bytes": b"xx", "size": 1}, {"bytes": b"x", "size": 1 << 40}),
        *({"bytes": b"x", "size": 2}, {"bytes": bytes(describe.LEAST_PIECE_BYTES - 1), "size": 1 << 20}),
    ],
)
def test_a_genesis_that_is_too_large_or_hardly_goes_on_is_refused(value: Value) -> None:
    with pytest.raises(Refused) as caught:
        describe.GenesisFetch(GENESIS.hash).take(value)
    assert caught.value.name == "square-bad-answer"


def test_a_genesis_that_changes_its_size_is_refused() -> None:
    fetch, size = describe.GenesisFetch(GENESIS.hash), 3 * describe.LEAST_PIECE_BYTES
    piece = bytes(describe.LEAST_PIECE_BYTES)
    fetch.take({"bytes": piece, "size": size})
    with pytest.raises(Refused):
        fetch.take({"bytes": piece, "size": size + 1})


GOOD = dict(ask(describe.NAME, describe.request()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"genesis": b"short"},
        {"testnet": 1},
        {"mesh": "x" * 300},
        {"node": "\x1b[31m"},
        {"orgs": [["did"]]},
        {"orgs": "abc"},
        {"more_orgs": -1},
        {"head": [1]},
        {"addresses": [1]},
        {"protocols": ["x"] * 2000},
    ],
)
def test_a_description_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Refused) as caught:
        describe.read_description({**GOOD, **change})  # type: ignore[dict-item]
    assert caught.value.name == "square-bad-answer"


# -- headers -----------------------------------------------------------------------------------------------------------


def follow(of: Mesh, genesis_mesh: Mesh = MESH) -> light_client.Trusted:
    trusted = light_client.begin(genesis_mesh.known.genesis)
    square = answering(of.known)
    while True:
        page = headers.read_page(ask(headers.NAME, headers.request(trusted.validators.epoch), square))
        trusted, head = headers.follow(trusted, page, VERIFIER)
        if not page.more:
            assert head is not None and head.header.height == of.chain.height
            return trusted


def test_the_changes_lead_from_genesis_to_the_newest_header() -> None:
    assert follow(MESH).validators == MESH.chain.validators


def test_changes_come_in_pages_of_so_many_and_of_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS_A_PAGE", 2)
    assert follow(MESH).validators.epoch == 3
    monkeypatch.setattr(limits, "STEPS_A_PAGE_BYTES", 1)
    page = headers.read_page(ask(headers.NAME, headers.request(0)))
    assert len(page.steps) == 1 and page.more and page.head is None
    assert follow(MESH).validators.epoch == 3


def test_a_mesh_without_a_block_has_no_header() -> None:
    page = headers.read_page(ask(headers.NAME, headers.request(0), answering(mesh(blocks=False).known)))
    assert page == headers.Page((), False, None)


def test_headers_of_another_mesh_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        follow(mesh("abcde", genesis=founded(TEMPLATE, ["a", "b", "c", "mallory"])))
    assert caught.value.name in ("broken-chain", "bad-signature", "unknown-validator")


def test_a_certificate_that_was_not_checked_is_not_given_back() -> None:
    """The newest header ended an epoch: it is checked as such, and a node could add any certificate to it."""
    last = PAGE.steps[-1]
    thin = replace(last.certificate, signatures=last.certificate.signatures[:1])
    page = headers.Page(PAGE.steps, False, light_client.Signed(last.header, thin))
    trusted, head = headers.follow(light_client.begin(GENESIS), page, VERIFIER)
    assert head == light_client.Signed(last.header, last.certificate)
    _, again = headers.follow(trusted, replace(page, steps=()), VERIFIER)
    assert again == head


def forged(page: headers.Page) -> dict[str, headers.Page]:
    """What a liar could make of an honest page."""
    assert page.head is not None
    head, step = page.head, page.steps[0]
    other = replace(head.header, state_root=bytes(32))
    thin = replace(head.certificate, signatures=head.certificate.signatures[:1])
    return {
        "another state": replace(page, head=replace(head, header=other)),
        "too few signatures": replace(page, head=replace(head, certificate=thin)),
        "a change left out": replace(page, steps=page.steps[1:]),
        "changes in another order": replace(page, steps=page.steps[::-1]),
        "another next set": replace(page, steps=(replace(step, validators=page.steps[1].validators), *page.steps[1:])),
        "none of the changes": replace(page, steps=()),
    }


PAGE = headers.read_page(ask(headers.NAME, headers.request(0)))


@pytest.mark.parametrize("lie", forged(PAGE))
def test_forged_headers_are_refused(lie: str) -> None:
    with pytest.raises(Refused) as caught:
        headers.follow(light_client.begin(GENESIS), forged(PAGE)[lie], VERIFIER)
    assert caught.value.name in ("broken-chain", "epoch-skipped", "no-quorum", "bad-signature")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"steps": [], "more": True, "head": None},
        {"steps": [[1]], "more": False, "head": None},
        {"steps": [], "more": False, "head": [1]},
    ],
)
def test_a_page_that_is_none_is_refused(value: Value) -> None:
    with pytest.raises(Refused) as caught:
        headers.read_page(value)
    assert caught.value.name == "square-bad-answer"


# -- proof, resolve ------------------------------------------------------------------------------------------------------


def test_a_value_is_proven_from_genesis_and_from_where_the_asker_is() -> None:
    bundle = proof.read_bundle(ask(proof.NAME, proof.request(ACCOUNT)), ACCOUNT)
    proven = light_client.verify(GENESIS, bundle, VERIFIER)
    assert proven.value is not None and ACCOUNTS.decode(proven.value).balance == GENESIS.orgs[0].allocation
    later = proof.read_bundle(ask(proof.NAME, proof.request(ACCOUNT, 3)), ACCOUNT)
    assert later.steps == () and light_client.prove_to(follow(MESH), later, VERIFIER).value == proven.value


def test_absence_is_proven() -> None:
    bundle = proof.read_bundle(ask(proof.NAME, proof.request(b"account/nobody")), b"account/nobody")
    assert light_client.verify(GENESIS, bundle, VERIFIER).value is None


def test_a_proof_of_another_key_is_no_answer() -> None:
    with pytest.raises(Refused) as caught:
        proof.read_bundle(ask(proof.NAME, proof.request(b"account/nobody")), ACCOUNT)
    assert caught.value.name == "square-bad-answer"


def test_before_there_is_a_block_nothing_is_proven() -> None:
    assert refused(proof.NAME, {"key": ACCOUNT}, answering(mesh(blocks=False).known)) == "proof-not-yet"


def test_a_document_is_made_again_from_what_is_proven() -> None:
    resolved = resolve.read_resolved(ask(resolve.NAME, resolve.request(DID)), DID)
    document, _ = resolve.prove(light_client.begin(GENESIS), DID, resolved, VERIFIER)
    assert document == resolved.document and document["id"] == DID


def test_a_document_of_other_proofs_is_refused() -> None:
    resolved = resolve.read_resolved(ask(resolve.NAME, resolve.request(DID)), DID)
    with pytest.raises(Refused) as caught:
        resolve.prove(light_client.begin(GENESIS), DID, replace(resolved, org=replace(resolved.org, value=None)), VERIFIER)
    assert caught.value.name == "bad-proof"
    with pytest.raises(Refused) as caught:
        resolve.read_resolved(ask(resolve.NAME, resolve.request(DID)), "did:mesh:enterprise:b")
    assert caught.value.name == "square-bad-answer"


@pytest.mark.parametrize(
    ("name", "fields", "refusal"),
    [
        (describe.NAME, {"genesis": -1}, "square-bad-request"),
        (describe.NAME, {"what": 1}, "square-bad-request"),
        (headers.NAME, {"epoch": "1"}, "square-bad-request"),
        (proof.NAME, {}, "square-bad-request"),
        (proof.NAME, {"key": b""}, "square-bad-request"),
        (proof.NAME, {"key": bytes(129)}, "square-bad-request"),
        (resolve.NAME, {"did": "did:web:example.com"}, "bad-did"),
        (resolve.NAME, {"did": "did:mesh:enterprise:nobody"}, "no-such-did"),
        (resolve.NAME, {"did": "x" * 129}, "square-bad-request"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_by_name(name: str, fields: dict[str, object], refusal: str) -> None:
    assert refused(name, fields) == refusal


# -- search ------------------------------------------------------------------------------------------------------------


async def nothing(request: DiscoverRequest) -> list[Found]:
    return []


SEARCHING = answering(MESH.known, [search.protocol(MESH.known, nothing, signs, lambda: 77)])


def answered(query: str = "x-ray", **other: Any) -> search.SearchAnswer:
    value = ask(search.NAME, search.request("x-ray"), SEARCHING)
    return search.read_answer(value, **{"query": query, "node": ME.node, "genesis_hash": GENESIS.hash, "verifier": VERIFIER, **other})


def test_an_answer_to_a_search_is_signed_by_the_node_that_gave_it() -> None:
    assert answered() == search.SearchAnswer(ME.node, 77, True, ())


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"node": "12D3KooWKo4sfm2UEsZFcFECzGhH7N79etMRSv8j3tLMqQ4eZB3L"}, "bad-signature"),
        ({"genesis_hash": bytes(32)}, "bad-signature"),
        ({"query": "another question"}, "square-bad-answer"),
    ],
)
def test_an_answer_of_another_node_mesh_or_question_is_refused(other: dict[str, Any], name: str) -> None:
    with pytest.raises(Refused) as caught:
        answered(**other)
    assert caught.value.name == name


@pytest.mark.parametrize("fields", [{"query": "  "}, {"query": "x", "limit": 0}])
def test_an_empty_search_is_refused(fields: dict[str, object]) -> None:
    assert refused(search.NAME, fields, SEARCHING) == "bad-query"


def test_a_search_for_too_many_is_refused() -> None:
    assert refused(search.NAME, {"query": "x", "limit": 21}, SEARCHING) == "square-bad-request"


# -- all of them -------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.sampled_from(sorted(SQUARE.protocols)), st.binary(max_size=64))
def test_no_bytes_of_a_stranger_are_answered_with_anything_but_an_answer(name: str, request: bytes) -> None:
    try:
        ask(name, request)
    except MeshError as error:
        assert error.name != "internal"


def test_a_bug_of_ours_is_said_and_counted_and_ends_nothing() -> None:
    async def breaks(fields: wire.Fields, asker: Asker) -> object:
        raise KeyError("ours")

    square = Answering([Protocol("/meshos/breaks/1", 1, breaks)], Budget())
    with pytest.raises(MeshError) as caught:
        ask("/meshos/breaks/1", b"\xa0", square)
    assert caught.value.name == "internal" and square.refused["internal"] == 1


def test_who_has_no_tokens_left_is_refused_before_anything_is_read() -> None:
    square = answering(MESH.known)
    protocol = square.protocols[describe.NAME]
    answers = [done(square.answer(protocol, ASKER, b"no request at all", 0.0)) for _ in range(200)]
    assert square.refused["square-rate"] > 100 and len(answers) == 200


def test_the_largest_page_of_a_genesis_is_the_file() -> None:
    assert len(to_json(GENESIS)) < limits.GENESIS_PIECE_BYTES
