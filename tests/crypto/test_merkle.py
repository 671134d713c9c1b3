"""Merkle trees as RFC 9162, section 2.1, defines them."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.consensus.pbft.block import requests_root
from meshos.crypto import merkle
from meshos.errors import Refused

LISTS = st.lists(st.binary(max_size=40), min_size=1, max_size=40)

# The inputs and root hashes of the test vectors of Certificate Transparency (RFC 6962's reference implementation).
VECTORS = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def refused(root: bytes, leaf: bytes, index: int, size: int, proof: list[bytes]) -> bool:
    try:
        merkle.verify(root, leaf, index, size, proof)
    except Refused as error:
        assert error.name == "bad-proof"
        return True
    return False


def hashes(leaves: list[bytes]) -> list[bytes]:
    return [merkle.leaf_hash(leaf) for leaf in leaves]


@pytest.mark.parametrize(("count", "expected"), ROOTS.items())
def test_the_known_roots_come_out(count: int, expected: str) -> None:
    assert merkle.root(VECTORS[:count]).hex() == expected


def by_the_book(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\1" + by_the_book(leaves[:k]) + by_the_book(leaves[k:])).digest()


@given(st.lists(st.binary(max_size=40), max_size=40))
def test_the_root_is_the_recursive_definition(leaves: list[bytes]) -> None:
    assert merkle.root(leaves) == by_the_book(leaves) == requests_root(hashes(leaves))


@given(LISTS, st.data())
def test_every_string_has_a_proof_of_at_most_log2_hashes(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.prove(hashes(leaves), index)
    assert len(proof) <= (len(leaves) - 1).bit_length()
    merkle.verify(merkle.root(leaves), merkle.leaf_hash(leaves[index]), index, len(leaves), proof)


@given(LISTS, st.data())
def test_no_other_string_place_or_proof_holds(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, leaf, size = merkle.root(leaves), merkle.leaf_hash(leaves[index]), len(leaves)
    proof = merkle.prove(hashes(leaves), index)
    assert refused(root, merkle.leaf_hash(leaves[index] + b"x"), index, size, proof)
    assert refused(sha256(root).digest(), leaf, index, size, proof)
    assert refused(root, leaf, index, size, [*proof, root])
    other = data.draw(st.integers(0, size - 1))
    if leaves[other] != leaves[index]:
        assert refused(root, leaf, other, size, proof)
    if proof:
        step, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
        flipped = bytearray(proof[step])
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(root, leaf, index, size, [*proof[:step], bytes(flipped), *proof[step + 1 :]])
        assert refused(root, leaf, index, size, proof[:-1])
        assert refused(root, leaf, index, size, [*proof[:-1], proof[-1][:-1]])


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0), (0, merkle.MAX_LEAVES + 1)])
def test_a_place_outside_of_the_list_is_refused(index: int, size: int) -> None:
    leaf = merkle.leaf_hash(b"x")
    assert refused(leaf, leaf, index, size, [])


def test_a_node_is_never_taken_for_a_leaf() -> None:
    """RFC 9162, section 2.1.1: the prefixes are required for second preimage resistance."""
    left, right = merkle.leaf_hash(b"l"), merkle.leaf_hash(b"r")
    assert merkle.root([left + right]) != merkle.root([b"l", b"r"])


def test_no_proof_is_made_for_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no string 2"):
        merkle.prove(hashes([b"a", b"b"]), 2)
