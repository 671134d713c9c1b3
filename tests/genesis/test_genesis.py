"""Genesis: one hash for one meaning, and every fault said in one sentence with its place."""

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshos import genesis as g
from meshos.crypto.certificates import Trust, new_root, read_revocations, revoke, verify_root
from meshos.crypto.did import document as did_document
from meshos.crypto.did import keys_of
from meshos.crypto.genesis_keys import check_all, check_keys, trust_of
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.errors import BadInput
from meshos.ids import org_did

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (ROOT / "genesis.json").read_bytes()
SCHEMA = json.loads((ROOT / "meshos" / "genesis.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
NOW = 1_800_000_000
SEED = b"seed" * 8


def key(*name: object) -> SigningKey:
    return SigningKey(repr(name).encode().ljust(32, b".")[:32])


def org(name: str, *, allocation: int = 1_000 * g.MESH) -> g.Org:
    did = org_did("enterprise", name)
    root, node, human = key(name, "root"), key(name, "node"), key(name, "human")
    return g.Org(
        did,
        multikey(root.public),
        new_root(root, did, now=NOW),
        g.Validator(node_id(node.public), multikey(key(name, "vote").public)),
        (g.HumanKey("Ada", multikey(human.public)),),
        allocation,
    )


ORGS = tuple(org(name) for name in ("acme", "beta", "gamma", "delta"))


def made(*orgs: g.Org) -> g.Genesis:
    return g.new(g.parse(SHIPPED), mesh="test", time_ms=NOW * 1_000, placement_seed=SEED, testnet=True, orgs=orgs)


MESH = made(*ORGS)
DOCUMENT: dict[str, Any] = json.loads(g.to_json(MESH))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return json.dumps(document).encode()


def faults(data: bytes) -> list[g.Problem]:
    return [problem for problem in check_all(data) if not problem.note]


# -- what is shipped, made and read -------------------------------------------------------------------------------------


def test_the_shipped_file_lacks_nothing_but_organisations() -> None:
    (problem,) = check_all(SHIPPED)
    assert str(problem) == "$.orgs: this mesh has no organisations yet: add each with `mesh genesis add`"
    assert g.to_json(g.parse(SHIPPED)) == SHIPPED


def test_a_new_mesh_has_no_faults() -> None:
    assert faults(g.to_json(MESH)) == []
    (note,) = [problem for problem in check_all(g.to_json(MESH)) if problem.note]
    assert "nobody sits in" in note.sentence


def test_it_is_read_as_it_was_written() -> None:
    again = g.parse(g.to_json(MESH))
    assert again == MESH and again.hash == MESH.hash
    assert again.org(ORGS[0].did) == ORGS[0] and again.org(org_did("system", "nobody")) is None
    assert [validator.node for validator in again.validators] == [item.validator.node for item in again.orgs if item.validator]


def test_the_hash_is_pinned() -> None:
    """Whatever changes this changes every signature of every mesh."""
    assert g.parse(SHIPPED).hash.hex() == "c95931c432bfca30957a6a1da3c19873f6d99bcac97dd1966b9e3a0968ef8e74"


def test_only_the_meaning_counts_for_the_hash() -> None:
    turned = {name: DOCUMENT[name] for name in reversed(DOCUMENT)}
    assert g.parse(json.dumps(turned, indent=7).encode()).hash == MESH.hash
    assert made(*reversed(ORGS)).hash == MESH.hash


def leaves(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    if isinstance(value, list) and value:
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*path, index))]
    return [path]


def put(document: Any, path: tuple[object, ...], value: object) -> None:
    for step in path[:-1]:
        document = document[step]
    document[path[-1]] = value


def at(document: Any, path: tuple[object, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


PATHS = leaves(DOCUMENT)


@pytest.mark.parametrize("path", [path for path in PATHS if path[0] != "orgs" or path[1] == 0], ids=lambda path: ".".join(map(str, path)))
def test_every_field_counts_for_the_hash(path: tuple[object, ...]) -> None:
    """Take the value of a field from somewhere else; if it can still be read, it is another mesh."""
    old = at(DOCUMENT, path)
    others: list[object] = [not old] if isinstance(old, bool) else [old + 1, old - 1] if isinstance(old, int) else []
    others += ["lan", "wan", "seat", "token", "x", "did:mesh:system:x", "2027-01-01T00:00:00Z", "0" * 64, [], "MAAA"]
    others += [multikey(key("else").public), node_id(key("else").public), ["did:mesh:system:x"]]
    others += [f"{old}x"] if isinstance(old, str) else []
    read = []
    for other in others:
        if other != old:
            data = changed(lambda document, other=other: put(document, path, other))  # type: ignore[misc]
            read += [g.parse(data)] if g.parse_problems(data) == [] else []
    assert read or path == ("schema",) or old == []
    assert all(other.hash != MESH.hash for other in read)


def test_an_organisation_is_added_once() -> None:
    more = g.add(MESH, org("epsilon"), meta_coordinator=False)
    assert len(more.orgs) == 5 and more.hash != MESH.hash and len(more.meta_coordinators) == 4
    with pytest.raises(BadInput) as caught:
        g.add(MESH, org("acme"))
    assert caught.value.name == "org-already-in-genesis"


def test_an_organisation_is_handed_over_as_a_file() -> None:
    data = json.dumps(g.org_document(ORGS[0])).encode()
    assert g.parse_org(data) == ORGS[0]
    for bad in (b"", b"{}", b"[]", data[:-1], data.replace(b"z6Mk", b"z6Mm")):
        with pytest.raises(BadInput) as caught:
            g.parse_org(bad)
        assert caught.value.name == "genesis-malformed"


def test_where_strangers_meet_the_mesh_may_be_said_and_is_hashed() -> None:
    meeting = g.parse(changed(lambda document: document.update(bootstrap=[MEETING])))
    assert meeting.bootstrap == (MEETING,) and meeting.hash != MESH.hash
    VALIDATOR.validate(json.loads(g.to_json(meeting)))
    assert "bootstrap" not in DOCUMENT, "a genesis without has the hash that it had before there was such a list"


# -- what is wrong -------------------------------------------------------------------------------------------------------


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.pop(name)


MEETING = f"/ip4/192.0.2.1/tcp/8401/p2p/{node_id(key('acme', 'node').public)}"
SHAPES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("$.mesh", drop("mesh"), "is missing"),
    ("$.embedding", drop("embedding"), "is missing"),
    ("$", lambda d: d.update(extra=1), "nobody knows"),
    ("$.schema", lambda d: d.update(schema="mesh.genesis/2"), "must be one of mesh.genesis/1"),
    ("$.mesh", lambda d: d.update(mesh="My Mesh"), "lower-case"),
    ("$.testnet", lambda d: d.update(testnet=1), "must be true or false"),
    ("$.time", lambda d: d.update(time="2026-02-30T00:00:00Z"), "no calendar"),
    ("$.timing", lambda d: d.update(timing="slow"), "must be one of lan, wan, local, fast"),
    ("$.placementSeed", lambda d: d.update(placementSeed="00"), "64 lower-case hex digits"),
    ("$.trustWeights.uptime", lambda d: d["trustWeights"].update(uptime=True), "whole number from 0 to 100"),
    ("$.supplyMillionths", lambda d: d.update(supplyMillionths=2**53), "whole number"),
    ("$.governance.minApprovals", lambda d: d["governance"].update(minApprovals=2), "whole number from 3"),
    ("$.orgs", lambda d: d.update(orgs={}), "must be a list"),
    ("$.orgs", lambda d: d.update(orgs=[{}] * 1_025), "may have 1024"),
    ("$.orgs[1].did", lambda d: d["orgs"][1].update(did="did:web:x"), "is not did:mesh"),
    ("$.orgs[1].rootKey", lambda d: d["orgs"][1].update(rootKey="z6Mk"), "Multikey"),
    ("$.orgs[1].rootCertificate", lambda d: d["orgs"][1].update(rootCertificate="AAAA"), "is not the base64 of a certificate"),
    ("$.orgs[1].validator.node", lambda d: d["orgs"][1]["validator"].update(node="n1"), "node id"),
    ("$.orgs[1].humanKeys[0].name", lambda d: d["orgs"][1]["humanKeys"][0].update(name="\x1b[2J"), "name of 1 to 64"),
    ("$.orgs[1].humanKeys[0].name", lambda d: d["orgs"][1]["humanKeys"][0].update(name="\ud800"), "name of 1 to 64"),
    ("$.orgs[1].did", lambda d: d.update(orgs=[d["orgs"][1], d["orgs"][0], *d["orgs"][2:]]), "must stand before"),
    ("$.metaCoordinators[1]", lambda d: d.update(metaCoordinators=["did:mesh:system:b", "did:mesh:system:a"]), "must stand before"),
    ("$.metaCoordinators[0]", lambda d: d.update(metaCoordinators=[7]), "must be did:mesh"),
    ("$.bootstrap", lambda d: d.update(bootstrap=[]), "left out"),
    ("$.bootstrap", lambda d: d.update(bootstrap=[MEETING] * 33), "may have 32"),
    ("$.bootstrap[1]", lambda d: d.update(bootstrap=[MEETING, "/ip4/192.0.2.1/tcp/8401"]), "with its node id"),
    ("$.bootstrap[0]", lambda d: d.update(bootstrap=[MEETING.replace("/tcp/8401", "/tcp/99999")]), "must be a multiaddr"),
    ("$.governance.chambers[0]", lambda d: d["governance"].update(chambers=["council"]), "must be an object"),
]


@pytest.mark.parametrize(("path", "change", "words"), SHAPES, ids=[f"{path} {words}" for path, _, words in SHAPES])
def test_a_wrong_shape_is_said_with_its_place(path: str, change: Callable[[dict[str, Any]], object], words: str) -> None:
    data = changed(change)
    (problem,) = check_all(data)
    assert problem.path == path and words in problem.sentence
    with pytest.raises(BadInput) as caught:
        g.parse(data)
    assert caught.value.name == "genesis-malformed" and path in caught.value.detail


def seat(name: str = "council", did: str = ORGS[0].did, voting: str | None = None) -> dict[str, str]:
    return {"chamber": name, "name": "Ada", "org": did, "key": voting or ORGS[0].human_keys[0].key}


def seats(*taken: dict[str, str]) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["governance"].update(seats=list(taken))


def same_keys(document: dict[str, Any]) -> None:
    document["orgs"][1]["rootKey"] = document["orgs"][0]["rootKey"]


def same_organisation(document: dict[str, Any]) -> None:
    document["metaCoordinators"].remove(document["orgs"][1]["did"])
    document["orgs"][1]["did"] = document["orgs"][0]["did"]


SENSE: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("$.orgs[1].did", same_organisation, "stands twice"),
    ("$.orgs[1].rootKey", same_keys, "used already at $.orgs[0].rootKey"),
    ("$.orgs[0].validator.key", lambda d: d["orgs"][0]["validator"].update(key=d["orgs"][0]["rootKey"]), "key of its own"),
    ("$.orgs[2].validator.node", lambda d: d["orgs"][2]["validator"].update(node=d["orgs"][0]["validator"]["node"]), "already"),
    ("$.orgs", lambda d: [item.update(validator=None) for item in d["orgs"]], "no organisation has a validator"),
    ("$.metaCoordinators[4]", lambda d: d["metaCoordinators"].append("did:mesh:system:zed"), "no organisation of this genesis"),
    ("$.metaCoordinators[1]", lambda d: d["metaCoordinators"].insert(0, d["metaCoordinators"][0]), "stands twice"),
    ("$.supplyMillionths", lambda d: d.update(supplyMillionths=5), "add up to 4000000000"),
    ("$.trustWeights", lambda d: d["trustWeights"].update(uptime=11), "add up to 101"),
    ("$.governance.chambers", lambda d: d["governance"]["chambers"][0].update(points=21), "have 101 points"),
    ("$.governance.chambers[1].name", lambda d: d["governance"]["chambers"][1].update(name="council"), "twice"),
    ("$.governance.minHumanChambers", lambda d: d["governance"].update(minHumanChambers=4), "nothing could pass"),
    ("$.governance.passPercent", lambda d: d["governance"].update(passPercent=40), "decide alone"),
    ("$.governance.overridePercent", lambda d: d["governance"].update(overridePercent=60), "below passPercent"),
    ("$.governance.pause_ms", lambda d: d["governance"].update(pause_ms=86_400_001), "longer than"),
    ("$.governance.seats[0].chamber", seats(seat("senate")), "no chamber called senate"),
    ("$.governance.seats[0].chamber", seats(seat("community")), "votes by token"),
    ("$.governance.seats[0].org", seats(seat(did="did:mesh:system:x")), "no organisation"),
    ("$.governance.seats[0].key", seats(seat(voting=multikey(key("else").public))), "human keys"),
    ("$.governance.seats[1].key", seats(seat(), seat()), "a seat in council already"),
    ("$.embedding.recordDimension", lambda d: d["embedding"].update(recordDimension=383), "below dimension"),
    ("$.directory.maxRecordsPerOrg", lambda d: d["directory"].update(maxRecordsPerOrg=20_001), "above maxRecords"),
    ("$.placementSeed", lambda d: d.update(placementSeed="0" * 64), "all zeros"),
]


@pytest.mark.parametrize(("path", "change", "words"), SENSE, ids=[f"{path} {words}" for path, _, words in SENSE])
def test_what_makes_no_sense_is_said_with_its_place(path: str, change: Callable[[dict[str, Any]], object], words: str) -> None:
    found = [problem for problem in g.check(changed(change)) if not problem.note]
    assert [problem for problem in found if problem.path == path and words in problem.sentence], found
    assert len(found) == 1


NOTES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("$.orgs", lambda d: d["orgs"][0].update(validator=None), "3 of the organisations vote, and none of them may fail"),
    ("$.metaCoordinators", lambda d: d["metaCoordinators"].pop(), ""),
    ("$.orgs", lambda d: [item.update(allocationMillionths=0) for item in d["orgs"]], "no organisation has tokens"),
    ("$.directory.replicas", lambda d: d["directory"].update(replicas=5), "4 organisations can keep one copy each"),
    ("$.timing", lambda d: d.update(timing="fast", testnet=False), "accuses live nodes"),
]


@pytest.mark.parametrize(("path", "change", "words"), NOTES, ids=[f"{path} {words}" for path, _, words in NOTES])
def test_what_may_surprise_is_a_note(path: str, change: Callable[[dict[str, Any]], object], words: str) -> None:
    data = changed(change)
    assert faults(data) == []
    if words:
        assert [problem for problem in g.check(data) if problem.path == path and words in problem.sentence and problem.note]


def test_too_few_coordinators_is_a_note() -> None:
    data = changed(lambda document: document.update(metaCoordinators=document["metaCoordinators"][:2]))
    assert [problem for problem in g.check(data) if problem.note and problem.path == "$.metaCoordinators"]


HOSTILE = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe{}",
    "cut off": g.to_json(MESH)[:-20],
    "not an object": b"[]",
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "huge": b" " * (g.MAX_BYTES + 1),
    "twice": g.to_json(MESH).replace(b'"mesh": "test"', b'"mesh": "other", "mesh": "test"'),
    "fraction": b'{"mesh":1.5}',
    "exponent": b'{"mesh":1e400}',
    "NaN": b'{"mesh":NaN}',
    "long number": b'{"mesh":' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_one_refusal(kind: str) -> None:
    assert 1 <= len(check_all(HOSTILE[kind])) <= 50
    with pytest.raises(BadInput) as caught:
        g.parse(HOSTILE[kind])
    assert caught.value.name == "genesis-malformed" and len(str(caught.value)) < 500


def test_what_is_said_is_bounded_and_fit_for_a_terminal() -> None:
    data = changed(lambda document: document.update({f"\x1b[31m{n}": n for n in range(1_000)}))
    found = g.check(data)
    assert len(found) == 50 and all(str(problem).isprintable() and len(str(problem)) < 300 for problem in found)


# -- keys ------------------------------------------------------------------------------------------------------------------


def test_keys_are_checked_for_what_they_are() -> None:
    weak = "z6Mk" + "1" * 44
    data = changed(lambda document: document["orgs"][0].update(rootKey=weak))
    assert [problem.path for problem in faults(data)] == ["$.orgs[0].rootKey"]
    other = base64.b64encode(ORGS[1].root_certificate).decode()
    data = changed(lambda document: document["orgs"][0].update(rootCertificate=other))
    (problem,) = check_keys(g.parse(data))
    assert problem.path == "$.orgs[0].rootCertificate" and "acme" in problem.sentence


def test_the_genesis_is_the_first_trust_bundle() -> None:
    did, root = ORGS[0].did, key("acme", "root")
    lists = [read_revocations(revoke(root, did, [number], number=number, now=NOW), did, root.public) for number in (2, 3, 1)]
    trust = trust_of(MESH, lists)
    assert isinstance(trust, Trust) and trust.mesh_id == MESH.hash[:16].hex() == MESH.mesh_id
    assert trust.roots[did] == root.public and trust.revoked[did].number == 3
    verify_root(ORGS[0].root_certificate, did, trust.roots[did])


def test_an_organisation_has_a_did_document() -> None:
    found = did_document(ORGS[0].did, keys_of(ORGS[0]))
    assert len(found["verificationMethod"]) == 3  # type: ignore[arg-type]


# -- the schema ------------------------------------------------------------------------------------------------------------


def test_the_schema_is_one_and_accepts_what_is_good() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(json.loads(SHIPPED))
    VALIDATOR.validate(DOCUMENT)


BEYOND = ("no calendar", "is not the base64 of a certificate", "must stand before", "must be a multiaddr")
"""What a schema cannot say."""


@pytest.mark.parametrize(("path", "change", "words"), SHAPES, ids=[f"{path} {words}" for path, _, words in SHAPES])
def test_the_schema_refuses_the_same_shapes(path: str, change: Callable[[dict[str, Any]], object], words: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    assert VALIDATOR.is_valid(document) == (words in BEYOND)


OTHERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**54),
    st.sampled_from(["", "lan", "seat", "acme", "did:mesh:system:x", multikey(key("else").public), node_id(key("else").public), "0" * 64]),
    st.just([]),
    st.just({}),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), OTHERS)
def test_schema_and_reader_agree(path: tuple[object, ...], other: object) -> None:
    document = copy.deepcopy(DOCUMENT)
    put(document, path, other)
    found = g.parse_problems(json.dumps(document).encode())
    assert VALIDATOR.is_valid(document) == all(any(words in problem.sentence for words in BEYOND) for problem in found)
