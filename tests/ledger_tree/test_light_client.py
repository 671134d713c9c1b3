"""Genesis and a bundle are enough to know what the ledger says of a key; nothing that a liar leaves out or changes passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.ledger import light_client, tree
from meshos.consensus.ledger.bundles import bundle
from meshos.consensus.ledger.light_client import Bundle, Proven, Signed, begin, decode_bundle, encode_bundle, follow, verify
from meshos.consensus.ledger.tree_limits import MAX_BUNDLE_BYTES, MAX_EPOCHS
from meshos.consensus.pbft.block import Block, Certificate, Certified, header_fields, requests_root
from meshos.consensus.pbft.codec import step_fields
from meshos.consensus.pbft.records import HEAD, HeadRecord, block_key, encode_head, epoch_key
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Ed25519Verifier
from meshos.effects import Put
from meshos.errors import MeshError, Refused
from meshos.genesis import parse
from tests.ledger_tree.chains import Chain, entry, founded
from tests.ledger_tree.states import Memory, filled

TEMPLATE = parse((Path(__file__).resolve().parent.parent.parent / "genesis.json").read_bytes())
GENESIS = founded(TEMPLATE, ["a", "b", "c", "d"])
STATE = filled(100)
ROOT = tree.root(STATE)
KEY = b"account/7"
VALUE = STATE[b"s/account/7"]
VERIFIER = Ed25519Verifier()


def chain_of(*sets: str) -> Chain:
    """With a change of the validators for each of ``sets`` (a letter an organisation)."""
    chain = Chain(GENESIS)
    for names in sets:
        chain.signed(chain.header(bytes(32)))
        chain.hand_over(list(names))
    return chain


def bundle_of(chain: Chain, key: bytes = KEY, value: bytes | None = VALUE) -> Bundle:
    return chain.bundle(chain.signed(chain.header(ROOT)), key, value, tree.prove(STATE, key))


def proven(bundle: Bundle) -> Proven:
    return verify(GENESIS, decode_bundle(encode_bundle(bundle)), VERIFIER)


def refusal(bundle: Bundle) -> str:
    with pytest.raises(Refused) as caught:
        proven(bundle)
    return caught.value.name


GOOD = bundle_of(chain_of("abcde", "bcdefgh"))


@pytest.mark.parametrize("sets", [(), ("abcde",), ("abc",), ("abcde", "bcdefgh", "xyz")])
def test_genesis_and_the_changes_of_the_set_lead_to_the_value(sets: tuple[str, ...]) -> None:
    found = proven(bundle_of(chain_of(*sets)))
    assert (found.key, found.value, found.height) == (KEY, VALUE, 2 * len(sets))
    assert found.validators.epoch == len(sets) and len(found.signers) == found.validators.q


def test_absence_is_proven_too() -> None:
    assert proven(bundle_of(chain_of("abcde"), b"nobody", None)).value is None


def test_header_h_proves_the_state_after_the_block_before() -> None:
    found = proven(GOOD)
    assert found.height == GOOD.signed.header.height - 1
    assert found.time_ms == GOOD.signed.header.time_ms


def test_a_client_that_stays_goes_on_from_where_it_was() -> None:
    chain = chain_of("abcde")
    trusted = follow(begin(GENESIS), chain.steps, VERIFIER)
    chain.signed(chain.header(bytes(32)))
    chain.hand_over(["f", "g", "h", "i"])
    trusted = follow(trusted, chain.steps[1:], VERIFIER)
    assert (trusted.height, trusted.validators.epoch) == (4, 2)
    assert light_client.prove_to(trusted, bundle_of(chain), VERIFIER).value == VALUE


def changed(bundle: Bundle, **fields: object) -> Bundle:
    """With another end header, its signatures as they were."""
    return replace(bundle, signed=replace(bundle.signed, header=replace(bundle.signed.header, **fields)))  # type: ignore[arg-type]


def resigned(seats: list[int], view: int = 0) -> Bundle:
    """The end signed by these seats of seven."""
    chain = chain_of("abcde", "bcdefgh")
    return chain.bundle(chain.signed(chain.header(ROOT), seats, view), KEY, VALUE, GOOD.proof)


def suspended() -> Bundle:
    """A set in which the first seat is suspended, and signs all the same."""
    chain = Chain(GENESIS)
    following = ValidatorSet(1, tuple(replace(entry(name), suspended=name == "a") for name in "abcd"))
    chain.end_epoch(following)
    return bundle_of(chain)


def by_a_past_set() -> Bundle:
    """The first epoch's validators sign a header of the third."""
    chain = chain_of("abcde", "wxyz")
    now, chain.validators = chain.validators, begin(GENESIS).validators
    header = replace(chain.header(ROOT), epoch=now.epoch, next_validators=now.hash)
    return chain.bundle(chain.signed(header, [0, 1, 2, 3]), KEY, VALUE, GOOD.proof)


def of_a_past_epoch() -> Bundle:
    """The first epoch's validators sign another header after they have handed over."""
    chain = chain_of("abcde", "bcdefgh")
    chain.validators = begin(GENESIS).validators
    return bundle_of(chain)


def other_next_set() -> Bundle:
    mine = ValidatorSet(1, tuple(entry(name) for name in "wxyz"))
    return replace(GOOD, steps=(replace(GOOD.steps[0], validators=mine), *GOOD.steps[1:]))


def skipping_epoch() -> Bundle:
    chain = Chain(GENESIS)
    following = ValidatorSet(5, tuple(entry(name) for name in "abcd"))
    chain.end_epoch(following)
    return bundle_of(chain)


def next_with_another_parent() -> Bundle:
    chain = chain_of("abcde")
    chain.parent = bytes(32)
    return bundle_of(chain)


def first_with_another_parent() -> Bundle:
    chain = chain_of()
    chain.parent = bytes(32)
    return bundle_of(chain)


def signature_of_another_height() -> Bundle:
    chain = chain_of("abcde", "bcdefgh")
    before = chain.signed(chain.header(ROOT))
    after = chain.signed(chain.header(ROOT))
    return chain.bundle(Signed(after.header, before.certificate), KEY, VALUE, GOOD.proof)


LIES: dict[str, tuple[Callable[[], Bundle], str]] = {
    "another mesh": (lambda: replace(GOOD, genesis_hash=bytes(32)), "wrong-genesis"),
    "a change left out": (lambda: replace(GOOD, steps=GOOD.steps[1:]), "epoch-skipped"),
    "the last change left out": (lambda: replace(GOOD, steps=GOOD.steps[:1]), "epoch-skipped"),
    "all changes left out": (lambda: replace(GOOD, steps=()), "epoch-skipped"),
    "changes twice": (lambda: replace(GOOD, steps=GOOD.steps * 2), "broken-chain"),
    "changes the wrong way round": (lambda: replace(GOOD, steps=GOOD.steps[::-1]), "epoch-skipped"),
    "a set of my own": (other_next_set, "broken-chain"),
    "an epoch that is not the next": (skipping_epoch, "epoch-skipped"),
    "a header of before the last change": (
        lambda: replace(GOOD, signed=Signed(GOOD.steps[0].header, GOOD.steps[0].certificate)),
        "broken-chain",
    ),
    "another parent": (next_with_another_parent, "broken-chain"),
    "a first header that is not genesis' child": (first_with_another_parent, "broken-chain"),
    "one signature less than a quorum": (lambda: resigned([0, 1, 2, 3]), "no-quorum"),
    "no signature": (lambda: resigned([]), "no-quorum"),
    "a seat that nobody has": (lambda: with_seat(99), "unknown-validator"),
    "a suspended signer": (suspended, "validator-suspended"),
    "a set of the past": (by_a_past_set, "bad-signature"),
    "an epoch of the past": (of_a_past_epoch, "epoch-skipped"),
    "a signature of another height": (signature_of_another_height, "bad-signature"),
    "another view": (
        lambda: replace(GOOD, signed=replace(GOOD.signed, certificate=Certificate(1, certificate().signatures))),
        "bad-signature",
    ),
    "another root": (lambda: changed(GOOD, state_root=bytes(32)), "bad-signature"),
    "another time": (lambda: changed(GOOD, time_ms=1), "bad-signature"),
    "another value": (lambda: replace(GOOD, value=b"more money"), "bad-proof"),
    "absence": (lambda: replace(GOOD, value=None), "bad-proof"),
    "another key": (lambda: replace(GOOD, key=b"account/8"), "bad-proof"),
    "a proof of another state": (lambda: replace(GOOD, proof=tree.prove(filled(99), KEY)), "bad-proof"),
}


def certificate() -> Certificate:
    return GOOD.signed.certificate


def with_seat(seat: int) -> Bundle:
    signatures = (*certificate().signatures[:-1], (seat, certificate().signatures[-1][1]))
    return replace(GOOD, signed=replace(GOOD.signed, certificate=Certificate(0, signatures)))


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_refused_by_name(lie: str) -> None:
    make, name = LIES[lie]
    assert refusal(make()) == name


def test_a_quorum_in_a_later_view_counts() -> None:
    assert proven(resigned([1, 2, 4, 5, 6], view=7)).value == VALUE


ENCODED = encode_bundle(GOOD)


@settings(max_examples=60)
@given(st.integers(0, 8 * len(ENCODED) - 1))
def test_no_flipped_bit_passes(bit: int) -> None:
    data = bytearray(ENCODED)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MeshError):
        verify(GENESIS, decode_bundle(bytes(data)), VERIFIER)


@settings(max_examples=30)
@given(st.integers(0, len(ENCODED) - 1))
def test_no_truncated_bundle_is_read(size: int) -> None:
    with pytest.raises(Refused) as caught:
        decode_bundle(ENCODED[:size])
    assert caught.value.name == "bad-encoding"


def fields() -> list[cbor.Value]:
    value = cbor.decode(ENCODED, max_bytes=MAX_BUNDLE_BYTES)
    assert isinstance(value, list)
    return value


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [
        (0, 2, "unknown-version"),
        (1, b"short", "bundle-malformed"),
        (2, None, "bundle-malformed"),
        (2, [[1]], "bundle-malformed"),
        (2, [[header_fields(GOOD.signed.header), [0, []]]], "bundle-malformed"),
        (2, [[header_fields(GOOD.signed.header), [0, []], [1, []]]], "validators-malformed"),
        (2, [0] * (MAX_EPOCHS + 1), "bundle-malformed"),
        (3, [1], "header-malformed"),
        (4, [0, [[1, b"short"]]], "quorum-malformed"),
        (5, b"", "bundle-malformed"),
        (5, b"k" * 129, "bundle-malformed"),
        (6, "text", "bundle-malformed"),
        (6, bytes(25 << 10), "bundle-malformed"),
        (7, [], "bad-proof"),
    ],
)
def test_what_is_no_bundle_is_refused_by_name(place: int, value: object, name: str) -> None:
    data = [*fields()[:place], value, *fields()[place + 1 :]]
    with pytest.raises(MeshError) as caught:
        decode_bundle(cbor.encode(data))
    assert caught.value.name == name


def test_a_file_too_large_is_not_even_decoded() -> None:
    with pytest.raises(Refused) as caught:
        decode_bundle(bytes(MAX_BUNDLE_BYTES + 1))
    assert caught.value.name == "too-large"


def test_a_node_gives_what_proves_the_state_before_its_newest_block() -> None:
    view = Memory(STATE)
    chain = chain_of("abcde", "bcdefgh")
    view.lay([Put(epoch_key(step.validators.epoch), cbor.encode(step_fields(step))) for step in chain.steps])
    with pytest.raises(Refused) as caught:
        bundle(view, GENESIS.hash, KEY)
    assert caught.value.name == "proof-not-yet"
    signed = chain.signed(replace(chain.header(ROOT), requests_root=requests_root([])))
    certified = Certified(Block(signed.header, ()), signed.certificate)
    head = HeadRecord(signed.header.height, signed.header.hash, 0, 0, ROOT, 1, 1, chain.validators, None)
    view.lay([Put(HEAD, encode_head(head)), Put(block_key(head.height), certified.encoded)])
    view.change({KEY: b"what the newest block wrote"})
    found = proven(bundle(view, GENESIS.hash, KEY))
    assert (found.value, found.height, found.validators.epoch) == (VALUE, head.height - 1, 2)
