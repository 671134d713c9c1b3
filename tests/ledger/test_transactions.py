"""Transactions: their bytes, and what becomes of those that are forged, replayed, malleated, of another chain, of a wrong nonce, expired,
overflowing, oversized, or too many.
"""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.ledger import kinds, transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.application import Batch
from meshos.consensus.ledger.limits import MAX_AMOUNT, MAX_LIFETIME_MS, MAX_PENDING
from meshos.consensus.ledger.results import COMMITTED, REFUSED, SKIPPED
from meshos.consensus.ledger.tabs import OpenTab
from meshos.errors import MeshError, Refused
from tests.ledger.books import Books, did, genesis

PAY = Transfer(did("beta"), 5)


@pytest.fixture
def books() -> Books:
    return Books()


def refusal(books: Books, request: bytes) -> str:
    """The name by which a request is refused before it is ordered."""
    error = books.ledger.admit(books.store, request, books.time_ms)
    assert error is not None
    return error.name


def envelope(**fields: object) -> bytes:
    whole = {"version": 1, "kind": "transfer", "key": "alpha-root", "nonce": 0, "expires_ms": 10, "body": PAY.fields(), **fields}
    return cbor.encode(list(whole.values()))


# -- what must work ----------------------------------------------------------------------------------------------------


def test_a_transfer_moves_millionths(books: Books) -> None:
    books.do("alpha-root", PAY)
    books.do("alpha-1", PAY)
    assert (books.balance("alpha"), books.balance("beta")) == (999_990, 1_000_010)


def test_the_id_is_the_hash_of_what_is_signed(books: Books) -> None:
    request = books.request("alpha-root", PAY)
    order = kinds.read(request)
    assert isinstance(order, kinds.Order)
    signed, signature = cbor.decode(request, max_bytes=1000)  # type: ignore[misc]
    assert order.transaction.id == hashlib.sha256(signed).digest() == books.block([request])[0].id
    assert order.transaction.envelope == signed and order.transaction.signature == signature
    claim = order.claims(books.genesis.hash)[0]
    assert (claim.signer, claim.payload) == ("alpha-root", signed)
    assert (claim.domain.genesis_hash, claim.domain.protocol, claim.domain.phase) == (books.genesis.hash, "ledger", "transaction")


def test_many_of_one_key_are_executed_in_their_order_within_a_block(books: Books) -> None:
    requests = [books.request("alpha-root", Transfer(did("beta"), amount), nonce) for nonce, amount in enumerate((1_000_000, 1, 2))]
    names = [(result.outcome, result.name) for result in books.block(requests)]
    assert names == [(COMMITTED, ""), (REFUSED, "insufficient-funds"), (REFUSED, "insufficient-funds")]
    assert books.balance("beta") == 2_000_000 and books.nonce("alpha-root") == 3


def test_money_that_comes_in_a_block_can_be_spent_in_it(books: Books) -> None:
    chain = [("alpha-root", "beta", 1_000_000), ("beta-root", "gamma", 2_000_000), ("gamma-root", "delta", 3_000_000)]
    results = books.block([books.request(key, Transfer(did(to), amount)) for key, to, amount in chain])
    assert {result.outcome for result in results} == {COMMITTED}
    assert books.balance("delta") == 4_000_000


# -- refused for good --------------------------------------------------------------------------------------------------


def test_what_is_refused_uses_its_nonce_and_can_never_be_executed_later(books: Books) -> None:
    too_much = books.request("alpha-root", Transfer(did("beta"), 1_000_001))
    assert books.block([too_much])[0].name == "insufficient-funds"
    books.do("beta-root", Transfer(did("alpha"), 500))
    books.skipped(too_much, "nonce-used")
    assert books.balance("alpha") == 1_000_500


def test_a_transfer_to_a_stranger_is_refused(books: Books) -> None:
    books.refused("alpha-root", Transfer(did("nobody"), 1), "account-unknown")


def test_a_refusal_takes_back_what_was_written_before_it_and_no_more(books: Books) -> None:
    mine = books.request("alpha-root", PAY)
    failing = books.request("alpha-root", Transfer(did("nobody"), 10), nonce=1)
    after = books.request("alpha-root", PAY, nonce=2)
    assert [result.outcome for result in books.block([mine, failing, after])] == [COMMITTED, REFUSED, COMMITTED]
    assert (books.balance("alpha"), books.balance("beta")) == (999_990, 1_000_010)


# -- forged, malleated, of another chain -------------------------------------------------------------------------------


def test_a_forged_signature_does_not_hold(books: Books) -> None:
    signed = books.request("alpha-root", PAY)
    other = transaction.decode(signed)
    forged = transaction.request(other.envelope, books.sign("beta-root", transaction.domain(books.genesis.hash), other.envelope))
    assert books.holds(signed) and not books.holds(forged)


@pytest.mark.parametrize("position", range(0, 120, 7))
def test_a_changed_byte_is_unreadable_or_no_longer_signed(books: Books, position: int) -> None:
    request = bytearray(books.request("alpha-root", PAY))
    request[position] ^= 1
    try:
        held = books.holds(bytes(request))
    except MeshError:
        held = False
    assert not held


def test_another_signature_of_the_same_key_makes_no_other_transaction(books: Books) -> None:
    first = books.request("alpha-root", PAY)
    signed = transaction.decode(first)
    second = transaction.request(signed.envelope, b"s" * 64)  # as if the key had signed it again, with another nonce inside
    results = books.block([first, second])
    assert [(result.outcome, result.name) for result in results] == [(COMMITTED, ""), (SKIPPED, "nonce-used")]
    assert results[0].id == results[1].id and books.balance("beta") == 1_000_005


def test_a_transaction_of_another_chain_does_not_hold() -> None:
    here, there = Books(genesis(4)), Books(genesis(5))
    request = there.request("alpha-root", PAY)
    assert there.holds(request) and not here.holds(request)


def test_a_signature_for_something_else_does_not_hold(books: Books) -> None:
    signed = envelope()
    as_voucher = books.sign("alpha-root", transaction.domain(books.genesis.hash, "voucher"), signed)
    assert not books.holds(transaction.request(signed, as_voucher))


# -- replayed, wrong nonce, expired ------------------------------------------------------------------------------------


def test_a_replay_is_refused_for_ever(books: Books) -> None:
    request = books.request("alpha-root", PAY)
    books.block([request])
    assert refusal(books, request) == "nonce-used"
    books.skipped(request, "nonce-used")
    assert [result.name for result in books.block([request, request])] == ["nonce-used", "nonce-used"]


def test_a_nonce_that_is_not_the_next_waits_and_is_not_final(books: Books) -> None:
    second = books.request("alpha-root", PAY, nonce=1)
    books.skipped(second, "nonce-ahead")
    first = books.request("alpha-root", PAY)
    assert [result.outcome for result in books.block([first, second])] == [COMMITTED, COMMITTED]


def test_expired_and_too_long_lived(books: Books) -> None:
    now = books.time_ms
    expired = books.request("alpha-root", PAY, expires_ms=now - 1)
    late = books.request("alpha-root", PAY, expires_ms=now + MAX_LIFETIME_MS + 10)
    assert refusal(books, expired) == "transaction-expired" and refusal(books, late) == "expires-too-late"
    books.skipped(late, "expires-too-late")
    books.skipped(expired, "transaction-expired")
    last = books.request("alpha-root", PAY, expires_ms=books.time_ms + 1_000)
    assert books.block([last], later_ms=1_000)[0].outcome == COMMITTED, "in a block of that very time it counts"
    books.skipped(books.request("alpha-root", PAY, expires_ms=books.time_ms), "transaction-expired")


def test_an_unknown_key_and_one_that_may_not(books: Books) -> None:
    books.skipped(books.request("stranger", PAY), "unknown-signer")
    books.skipped(books.request("alpha-ada", PAY), "signer-not-allowed")
    books.skipped(books.request("alpha-1-votes", PAY), "signer-not-allowed")
    books.skipped(books.request("alpha-root", OpenTab(did("beta"), 5)), "signer-not-allowed")


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_flood_of_one_key_is_cut_off(books: Books) -> None:
    last = books.request("alpha-root", PAY, nonce=MAX_PENDING - 1)
    over = books.request("alpha-root", PAY, nonce=MAX_PENDING)
    assert books.ledger.admit(books.store, last, books.time_ms) is None
    assert refusal(books, over) == "nonce-ahead"


def test_a_batch_holds_only_what_will_be_included(books: Books) -> None:
    requests = [books.request("alpha-root", PAY, nonce) for nonce in (0, 2, 1, 1, 2)] + [books.request("beta-root", PAY), b"rubbish"]
    batch = Batch(books.store, books.time_ms)
    errors = [batch.admit(request) for request in requests]
    names = [None if error is None else error.name for error in errors]
    assert names == [None, "nonce-ahead", None, "nonce-used", None, None, "bad-encoding"]
    chosen = [request for request, error in zip(requests, errors, strict=True) if error is None]
    assert {result.outcome for result in books.block(chosen)} == {COMMITTED}


# -- malformed, overflowing, oversized ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"version": 2}, "unknown-version"),
        ({"version": 2, "body": {"of": "another shape"}}, "unknown-version"),
        ({"version": "1"}, "transaction-malformed"),
        ({"version": True}, "transaction-malformed"),
        ({"kind": "mint"}, "unknown-kind"),
        ({"kind": "k" * 33}, "transaction-malformed"),
        ({"kind": 7}, "transaction-malformed"),
        ({"key": ""}, "transaction-malformed"),
        ({"key": "k" * 65}, "transaction-malformed"),
        ({"key": "two\nlines"}, "transaction-malformed"),
        ({"key": "schlüssel"}, "transaction-malformed"),
        ({"nonce": -1}, "transaction-malformed"),
        ({"nonce": 2**53}, "transaction-malformed"),
        ({"nonce": True}, "transaction-malformed"),
        ({"expires_ms": 2**64 - 1}, "transaction-malformed"),
        ({"expires_ms": 1.0}, "transaction-malformed"),
        ({"body": None}, "transaction-malformed"),
        ({"body": [did("beta")]}, "transaction-malformed"),
        ({"body": [did("beta"), 5, 5]}, "transaction-malformed"),
        ({"body": [b"beta", 5]}, "transaction-malformed"),
        ({"body": [did("beta"), 0]}, "amount-out-of-bounds"),
        ({"body": [did("beta"), -5]}, "amount-out-of-bounds"),
        ({"body": [did("beta"), MAX_AMOUNT + 1]}, "amount-out-of-bounds"),
        ({"body": [did("beta"), 2**64 - 1]}, "amount-out-of-bounds"),
        ({"body": [did("beta"), 5.0]}, "amount-out-of-bounds"),
        ({"body": [did("beta"), True]}, "amount-out-of-bounds"),
        ({"body": [did("beta"), "5"]}, "amount-out-of-bounds"),
        ({"body": [[[[[[1]]]]]]}, "bad-encoding"),
        ({"more": 1}, "transaction-malformed"),
    ],
)
def test_what_is_no_transaction_has_a_name(books: Books, fields: dict[str, object], name: str) -> None:
    request = transaction.request(envelope(**fields), bytes(64))
    with pytest.raises(Refused) as caught:
        books.ledger.claims(request)
    assert caught.value.name == name
    books.skipped(request, name)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (b"", "bad-encoding"),
        (b"\x82", "bad-encoding"),
        (cbor.encode([envelope(), bytes(64)]) + b"\0", "bad-encoding"),
        (cbor.encode([envelope(), bytes(63)]), "transaction-malformed"),
        (cbor.encode([envelope(), bytes(64), b""]), "transaction-malformed"),
        (cbor.encode([envelope()]), "transaction-malformed"),
        (cbor.encode({"a": 1}), "transaction-malformed"),
        (b"\x82\x58\x01\x00\x58\x40" + bytes(64), "bad-encoding"),
        (cbor.encode([b"\x86\x18\x01", bytes(64)]), "bad-encoding"),
        (bytes(65_537), "too-large"),
    ],
)
def test_what_is_no_request_has_a_name(books: Books, request_: bytes, name: str) -> None:
    with pytest.raises(Refused) as caught:
        books.ledger.claims(request_)
    assert caught.value.name == name
    assert refusal(books, request_) == name
    books.skipped(request_, name)


def test_an_oversized_one_is_refused_by_the_bound_of_its_kind(books: Books) -> None:
    request = transaction.request(envelope(body=["x" * 600, 5]), bytes(64))
    assert refusal(books, request) == "too-large"


def test_a_long_encoding_of_the_same_transaction_is_refused(books: Books) -> None:
    short = envelope()
    long = short[:1] + b"\x18\x01" + short[2:]  # the version 1 in two bytes
    assert refusal(books, transaction.request(long, bytes(64))) == "bad-encoding"


@pytest.mark.parametrize("reason", ["", "   ", "two\nlines", "\u202eturned round", "\x1b[2J", "x" * 801, 7, None])
def test_a_reason_says_something_and_harms_no_terminal(books: Books, reason: object) -> None:
    asked = [["quarantine", did("delta")], reason]
    assert refusal(books, transaction.request(envelope(kind="propose", body=asked), bytes(64))) == "transaction-malformed"


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    for request in (data, transaction.request(data, bytes(64))):
        try:
            kinds.read(request)
        except Refused as refused:
            assert refused.name


@given(st.text(min_size=1, max_size=96, alphabet=st.characters(max_codepoint=126, min_codepoint=33)), st.integers(1, MAX_AMOUNT))
def test_a_body_comes_back_from_its_bytes(to: str, micro: int) -> None:
    body = Transfer(did("x").__class__(to), micro)
    order = kinds.read(transaction.request(kinds.envelope_of(body, "k", 7, 9), bytes(64)))
    assert isinstance(order, kinds.Order)
    assert order.body == body and (order.transaction.key, order.transaction.nonce, order.transaction.expires_ms) == ("k", 7, 9)
