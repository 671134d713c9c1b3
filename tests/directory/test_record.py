"""Records: what is signed comes back the same, and everything else is refused by name."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.cbor import Value
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.signing import Ed25519Verifier, sign
from meshos.errors import MeshError, Refused
from meshos.protocols.directory import limits
from meshos.protocols.directory.profile import Profile, checked, read_profile
from meshos.protocols.directory.record import (
    AgentRecord,
    Entry,
    Sealed,
    Tombstone,
    body_of,
    buried,
    described,
    domain,
    parse,
    seal,
    vectors_of,
    verify,
)
from meshos.protocols.directory.vector import whole_bytes
from meshos.protocols.tasks.tools import Tool
from tests.directory.world import EMBEDDER, GENESIS, NOW_MS, VERIFIER, changed, org, org_of, record, sealed_record, signed

SCHEMA = cbor.encode({"type": "object"})
words = st.lists(st.text("abc -é", min_size=1, max_size=8).filter(str.strip), max_size=4).map(tuple)
tools = st.lists(
    st.builds(Tool, st.sampled_from(["read", "write"]), st.just("Does it."), st.just(SCHEMA), st.booleans(), st.booleans()), max_size=3
)
profiles = st.builds(
    Profile,
    st.text("abc", min_size=1, max_size=20),
    st.text("abc \n", max_size=60),
    words,
    words,
    words,
    words,
    st.integers(0, 2**53),
    st.integers(0, 2**53),
    st.sampled_from(["", "eu-west-1"]),
    tools.map(tuple),
)


@given(profiles)
@settings(max_examples=60, deadline=None)
def test_a_profile_survives_its_encoding(profile: Profile) -> None:
    fields = cbor.decode(cbor.encode(profile.fields()), max_bytes=limits.RECORD_BYTES)
    assert isinstance(fields, dict) and read_profile(fields) == profile


def test_a_sealed_record_comes_back_as_the_same_bytes_and_is_believed() -> None:
    sealed = sealed_record()
    again = parse(sealed.to_bytes())
    assert again == sealed and again.to_bytes() == sealed.to_bytes()
    verify(again, VERIFIER, GENESIS, org_of)


def test_a_tombstone_comes_back_and_names_the_same_agent() -> None:
    buried = signed(Tombstone(org(0), "clock", 2, NOW_MS), "n0-a")
    again = parse(buried.to_bytes())
    verify(again, VERIFIER, GENESIS, org_of)
    assert again == buried and again.entry.agent_id == sealed_record().entry.agent_id


def test_an_entry_names_the_places_of_those_before_it_the_latest_first_and_not_its_own() -> None:
    clock = record(text="Tells the time.")
    same = described(clock.mesh_id, clock.profile, 2, NOW_MS, "m", EMBEDDER.read([clock.profile.text()])[0], clock)
    assert same.was == ()
    entry: Entry = clock
    for version in range(2, 9):
        profile = Profile("clock", f"Does thing number {version} instead.")
        entry = described(clock.mesh_id, profile, version, NOW_MS, "m", EMBEDDER.read([profile.text()])[0], entry)
    assert isinstance(entry, AgentRecord) and len(entry.was) == limits.FORMER_VECTORS and whole_bytes(entry.dense) not in entry.was
    tombstone = buried(clock.mesh_id, "clock", 9, NOW_MS, entry)
    assert tombstone.was == (whole_bytes(entry.dense), *entry.was[:-1]) == vectors_of(tombstone)
    assert parse(signed(tombstone, "n0-a").to_bytes()).entry == tombstone and parse(signed(entry, "n0-a").to_bytes()).entry == entry


def test_real_keys_sign_and_verify() -> None:
    key = SigningKey.generate()
    signer = node_id(key.public)
    entry = record()
    sealed = seal(entry, signer, sign(key, domain(GENESIS), body_of(entry)), b"certificate")
    verify(parse(sealed.to_bytes()), Ed25519Verifier(), GENESIS, lambda name, proof: org(0))
    with pytest.raises(Refused, match="bad-signature"):
        verify(sealed, Ed25519Verifier(), b"h" * 32, lambda name, proof: org(0))  # another mesh


@pytest.mark.parametrize(
    ("sealed", "name"),
    [
        (changed(sealed_record(), signature=b"x" * 64), "bad-signature"),
        (changed(sealed_record(), body=sealed_record("other").body), "bad-signature"),
        (changed(sealed_record(), signer="n0-b", proof=b"n0-b"), "bad-signature"),
        (signed(record(by=0), "n1-a"), "record-of-another-org"),
        (changed(sealed_record(), proof=b"n9-a"), "bad-record"),
    ],
)
def test_what_the_owner_has_not_signed_is_refused(sealed: Sealed, name: str) -> None:
    with pytest.raises(Refused) as caught:
        verify(sealed, VERIFIER, GENESIS, org_of)
    assert caught.value.name == name


GOOD = sealed_record()


@given(st.binary(max_size=60) | st.integers(0, len(GOOD.to_bytes()) - 1).map(lambda size: GOOD.to_bytes()[:size]))
@settings(max_examples=100, deadline=None)
def test_garbage_and_truncated_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(Refused):
        parse(data)


@given(st.integers(0, len(GOOD.to_bytes()) - 1), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_single_changed_byte_is_never_believed(place: int, flip: int) -> None:
    data = bytearray(GOOD.to_bytes())
    data[place] ^= flip
    with pytest.raises(MeshError):
        verify(parse(bytes(data)), VERIFIER, GENESIS, org_of)


def body(**fields: Value) -> bytes:
    good = cbor.decode(GOOD.body, max_bytes=limits.RECORD_BYTES)
    assert isinstance(good, dict)
    return cbor.encode([cbor.encode({**good, **fields}), GOOD.signer, GOOD.signature, GOOD.proof])


BAD_FIELDS: list[dict[str, Value]] = [
    {"name": ""},
    {"name": "x" * 129},
    {"name": " clock"},
    {"name": 7},
    {"description": "x" * 5000},
    {"description": "bell \a"},
    {"capabilities": ["x"] * 65},
    {"capabilities": ["x" * 65]},
    {"capabilities": "time"},
    {"perQuery": -1},
    {"perHour": 1.5},
    {"perHour": True},
    {"version": -1},
    {"version": 2**60},
    {"updated": "now"},
    {"meshId": "did:web:acme"},
    {"model": ""},
    {"dense": b"x" * 10},
    {"dense": bytes(768)},
    {"pieces": b"x" * 47},
    {"pieces": b"x" * 48 * 97},
    {"pieces": "x" * 48},
    {"tasks": [["a", "b", SCHEMA, True]]},
    {"tasks": [["a", "b", b"\xff", True, True]]},
    {"tasks": [["a", "b", cbor.encode([]), True, True]]},
    {"tasks": [["a", "b", SCHEMA, True, True]] * 257},
    {"was": b"x" * 384},
    {"was": ["x" * 384]},
    {"was": [b"x" * 383]},
    {"was": [b"x" * 384] * 5},
    {"kind": "tombstone"},
    {"kind": "else"},
    {"extra": 1},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=repr)
def test_a_field_out_of_bounds_is_refused(fields: dict[str, Value]) -> None:
    with pytest.raises(Refused) as caught:
        parse(body(**fields))
    assert caught.value.name in ("bad-record", "bad-encoding", "too-large")


def test_an_oversized_record_is_refused_before_it_is_decoded_and_before_it_is_signed() -> None:
    with pytest.raises(Refused, match="too-large"):
        parse(b"\x00" * (limits.RECORD_BYTES + 1))
    huge = Tool("t", "d", cbor.encode({"x": "y" * 16_000}))
    profile = checked(Profile("clock", "", tasks=(huge,) * 5))
    with pytest.raises(Refused, match="record-too-large"):
        body_of(changed_profile(profile))


def changed_profile(profile: Profile) -> AgentRecord:
    return dataclasses.replace(record(), profile=profile)
