"""Blocks, headers, certificates and validator sets: what they hash to, how they are encoded, and what is refused."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.pbft.block import (
    Block,
    Certificate,
    Certified,
    Header,
    certificate_claims,
    decode_block,
    decode_certificate,
    decode_certified,
    decode_header,
    header_fields,
    header_of,
    request_hash,
    requests_root,
)
from meshos.consensus.pbft.limits import MAX_BLOCK_BYTES, MAX_BLOCK_REQUESTS, MAX_REQUEST_BYTES
from meshos.consensus.pbft.validators import decode_validators, encode_validators
from meshos.crypto.simulated import SimulatedVerifier
from tests.pbft.making import GENESIS, WORLD, block_of, blocks, certificate_by, certificates, headers, refused, seats


@given(headers)
def test_a_header_is_read_as_it_was_written_and_its_hash_covers_its_tag_and_all_fields(header: Header) -> None:
    assert decode_header(header.encoded) == header
    assert header.hash == hashlib.sha256(b"meshos/header/1\0" + header.encoded).digest()


@given(blocks, certificates)
def test_a_certified_block_is_read_as_it_was_written(block: Block, certificate: Certificate) -> None:
    certified = Certified(block, certificate)
    assert decode_block(block.encoded) == block
    assert decode_certified(certified.encoded) == certified
    assert decode_certificate(cbor.encode([certificate.view, certificate.signatures])) == certificate


def rfc_6962(leaves: list[bytes]) -> bytes:
    """Merkle tree hash as RFC 6962, section 2.1, writes it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + rfc_6962(leaves[:k]) + rfc_6962(leaves[k:])).digest()


@pytest.mark.parametrize("n", range(34))
def test_the_requests_root_is_the_tree_hash_of_rfc_6962(n: int) -> None:
    requests = [bytes([i]) * i for i in range(n)]
    assert requests_root([request_hash(request) for request in requests]) == rfc_6962(requests)


def test_every_field_of_a_header_changes_its_hash() -> None:
    header = block_of(()).header
    others = [replace(header, height=2), replace(header, epoch=1), replace(header, time_ms=6)]
    others += [replace(header, **{name: b"\1" * 32}) for name in ("parent", "state_root", "requests_root", "next_validators")]  # type: ignore[arg-type]
    assert len({header.hash, *(other.hash for other in others)}) == 8


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [1],
        [1, 0, 0, 0, *[bytes(32)] * 4],
        [1, 1, 0, 0, *[bytes(31)] * 4],
        [1, 1, 0, True, *[bytes(32)] * 4],
        [1, 2**60, 0, 0, *[bytes(32)] * 4],
    ],
)
def test_what_is_no_header_is_refused(fields: list[object]) -> None:
    assert refused(decode_header, cbor.encode(fields)) == "header-malformed"


@pytest.mark.parametrize("version", [True, None, "1", 1.0, b"1"])
def test_a_header_whose_version_is_no_number_is_refused(version: object) -> None:
    fields = [version, *header_fields(block_of(()).header)[1:]]
    assert refused(header_of, fields) == "header-malformed", "true is equal to 1, and other bytes"


def test_a_header_of_another_version_is_refused_by_name() -> None:
    assert refused(decode_header, cbor.encode([2, *header_fields(block_of(()).header)[1:]])) == "unknown-version"


def test_truncated_and_oversized_bytes_are_refused_before_they_are_read() -> None:
    encoded = block_of((b"x",)).header.encoded
    assert refused(decode_header, encoded[:-1]) == "bad-encoding"
    assert refused(decode_header, encoded + b"\0") == "bad-encoding"
    assert refused(decode_header, bytes(10_000)) == "too-large"


@pytest.mark.parametrize(
    "requests",
    [
        (b"a", b"a"),
        (bytes(MAX_REQUEST_BYTES + 1),),
        tuple(bytes([i]) + bytes(MAX_REQUEST_BYTES - 1) for i in range(MAX_BLOCK_BYTES // MAX_REQUEST_BYTES + 1)),
        tuple(i.to_bytes(2, "big") for i in range(MAX_BLOCK_REQUESTS + 1)),
    ],
    ids=("twice", "a large request", "many bytes", "many requests"),
)
def test_a_block_beyond_its_bounds_is_refused(requests: tuple[bytes, ...]) -> None:
    assert refused(decode_block, block_of(requests).encoded) in ("block-malformed", "too-large")


def test_a_block_of_other_requests_than_its_header_names_is_refused() -> None:
    assert refused(decode_block, Block(block_of((b"a",)).header, (b"b",)).encoded) == "block-malformed"


@pytest.mark.parametrize(
    "rows", [[[1, bytes(64)], [0, bytes(64)]], [[0, bytes(64)]] * 2, [[100, bytes(64)]], [[0, bytes(63)]], [[True, bytes(64)]]]
)
def test_a_certificate_with_signers_out_of_order_twice_or_unknown_is_refused(rows: list[object]) -> None:
    assert refused(decode_certificate, cbor.encode([0, rows])) == "quorum-malformed"


def test_a_certificate_of_q_votes_is_proven_by_its_claims_and_nothing_else_is() -> None:
    header, verifier = block_of(()).header, SimulatedVerifier(WORLD)
    certificate = certificate_by(range(3), header)
    assert all(verifier.verify_many(certificate_claims(GENESIS, header, certificate, seats(4))))
    for wrong in (replace(certificate, view=4), certificate_by(range(3), replace(header, time_ms=9))):
        assert not any(verifier.verify_many(certificate_claims(GENESIS, header, wrong, seats(4))))
    assert not any(verifier.verify_many(certificate_claims(b"\1" * 32, header, certificate, seats(4))))


def test_too_few_strange_suspended_and_past_signers_are_refused_without_a_look_at_a_signature() -> None:
    header = block_of(()).header
    assert refused(certificate_claims, GENESIS, header, certificate_by(range(2), header), seats(4)) == "no-quorum"
    assert refused(certificate_claims, GENESIS, header, certificate_by((0, 1, 4), header), seats(4)) == "unknown-validator"
    assert refused(certificate_claims, GENESIS, header, certificate_by(range(3), header), seats(4, (1,))) == "validator-suspended"
    assert refused(certificate_claims, GENESIS, header, certificate_by(range(3), header), seats(4, epoch=1)) == "wrong-epoch"


@given(st.integers(1, 12), st.integers(0, 100))
def test_a_validator_set_is_read_as_it_was_written(n: int, epoch: int) -> None:
    validators = seats(n, (0,), epoch)
    assert decode_validators(encode_validators(validators)) == validators


def test_a_suspended_seat_counts_in_n_and_q_and_never_leads() -> None:
    validators = seats(4, (1,))
    assert (validators.n, validators.f, validators.q) == (4, 1, 3)
    assert [validators.primary(view) for view in range(5)] == [0, 2, 2, 3, 0]
    assert seats(4).hash != validators.hash


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [["b", "n1", "k1", False], ["a", "n2", "k2", False]],
        [["a", "n1", "k1", False], ["b", "n1", "k2", False]],
        [["a", "n1", "k1", False], ["b", "n2", "k1", False]],
        [["a", "n1", "k1", 0]],
        [["a" * 129, "n1", "k1", False]],
        [[f"o{i:03d}", f"n{i}", f"k{i}", False] for i in range(101)],
    ],
)
def test_what_is_no_validator_set_is_refused(rows: list[object]) -> None:
    assert refused(decode_validators, cbor.encode([0, rows])) == "validators-malformed"
