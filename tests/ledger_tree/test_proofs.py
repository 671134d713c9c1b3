"""A proof shows one key's value, or that it has none, to somebody who has nothing but the root; and it shows nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.ledger import tree
from meshos.consensus.ledger.nodes import EMPTY
from meshos.consensus.ledger.proofs import Proof, decode_proof, encode_proof, verify
from meshos.consensus.ledger.tree_limits import DEPTH, MAX_PROOF_BYTES
from meshos.errors import MeshError, Refused
from tests.ledger_tree.states import KEYS, Memory, filled

CONTENTS = st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=3))
LARGE = filled(2_000)
LARGE_KEYS = [key[2:] for key in LARGE if key.startswith(b"s/")]


def refusal(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> str | None:
    try:
        verify(root, key, value, proof)
    except Refused as error:
        return error.name
    return None


@settings(max_examples=100)
@given(CONTENTS, st.sampled_from(KEYS), st.none() | st.binary(max_size=3))
def test_a_proof_holds_for_what_is_there_and_for_nothing_else(content: dict[bytes, bytes], key: bytes, claim: bytes | None) -> None:
    view = Memory()
    root = view.change(content)
    proof = decode_proof(encode_proof(tree.prove(view, key)))
    verify(root, key, content.get(key), proof)
    assert (refusal(root, key, claim, proof) is None) == (claim == content.get(key))


@settings(max_examples=100)
@given(st.sampled_from(LARGE_KEYS) | st.binary(min_size=1, max_size=8), st.data())
def test_no_flipped_bit_goes_unnoticed(key: bytes, data: st.DataObject) -> None:
    value = tree.State(LARGE).get(key)
    encoded = bytearray(encode_proof(tree.prove(LARGE, key)))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused) as caught:
        verify(tree.root(LARGE), key, value, decode_proof(bytes(encoded)))
    assert caught.value.name in ("bad-proof", "bad-encoding")


@given(st.sampled_from(LARGE_KEYS), st.sampled_from(LARGE_KEYS))
def test_a_proof_of_one_key_hides_no_other(key: bytes, other: bytes) -> None:
    """A way that ends elsewhere is no proof of absence."""
    proof = tree.prove(LARGE, key)
    if all(entry != other for entry, _ in proof.entries):
        assert refusal(tree.root(LARGE), other, None, proof) == "bad-proof"


def test_a_proof_of_a_state_is_none_of_the_next() -> None:
    view = Memory(LARGE)
    key, value = LARGE_KEYS[0], tree.State(LARGE).get(LARGE_KEYS[0])
    proof = tree.prove(view, key)
    root = view.change({LARGE_KEYS[1]: b"other"})
    assert refusal(root, key, value, proof) == "bad-proof"


def test_the_empty_state_proves_that_nothing_is_there() -> None:
    proof = tree.prove(Memory(), b"key")
    assert proof == Proof((), ())
    verify(EMPTY, b"key", None, proof)
    assert refusal(EMPTY, b"key", b"", proof) == "bad-proof"


def test_an_inner_node_is_never_taken_for_nothing_or_for_a_leaf() -> None:
    """Cutting a proof short must not prove that a key is absent."""
    key = LARGE_KEYS[0]
    proof = tree.prove(LARGE, key)
    for depth in range(len(proof.levels)):
        assert refusal(tree.root(LARGE), key, None, Proof(proof.levels[:depth], ())) == "bad-proof"
        assert refusal(tree.root(LARGE), key, None, Proof(proof.levels[depth + 1 :], proof.entries)) == "bad-proof"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ([], "bad-proof"),
        ([[], [], []], "bad-proof"),
        ([[b"short"], []], "bad-proof"),
        ([[1], []], "bad-proof"),
        ([[], [[b"key", b"short"]]], "bad-proof"),
        ([[], [[b"", bytes(32)]]], "bad-proof"),
        ([[], [[b"k" * 129, bytes(32)]]], "bad-proof"),
        ([[], [[b"key"]]], "bad-proof"),
        ([[], [["key", bytes(32)]]], "bad-proof"),
        ([[], [[b"b", bytes(32)], [b"a", bytes(32)]]], "bad-proof"),
        ([[], [[b"a", bytes(32)], [b"a", bytes(32)]]], "bad-proof"),
        ([[], [[bytes([n + 1]), bytes(32)] for n in range(9)]], "bad-proof"),
        ([[bytes(192)] * (DEPTH + 1), []], "bad-proof"),
        ([[[[[]]]], []], "bad-encoding"),
        ([[bytes(MAX_PROOF_BYTES)], []], "too-large"),
    ],
)
def test_what_is_no_proof_is_refused(value: object, name: str) -> None:
    with pytest.raises(MeshError) as caught:
        decode_proof(cbor.encode(value))
    assert caught.value.name == name


def test_a_proof_fits_a_datagram_at_a_hundred_thousand_keys() -> None:
    """About 1 KiB: four pages of 192 bytes and the leaf. Here three suffice; a fourth has 195 bytes more."""
    sizes = [len(encode_proof(tree.prove(LARGE, key))) for key in LARGE_KEYS]
    assert max(sizes) <= 1_200
