"""Keys: published vectors, one text for one key, and no weak keys."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.crypto import base58
from meshos.crypto.keys import (
    PublicKey,
    SigningKey,
    multikey,
    node_id,
    public_key_named,
    public_key_of,
    public_key_of_multikey,
    verify_bytes,
)
from meshos.errors import Refused
from meshos.ids import NodeId

# RFC 8032, section 7.1, tests 1 and 2: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
WEAK = {
    "order 1": (1).to_bytes(32, "little"),
    "order 2": (P - 1).to_bytes(32, "little"),
    "order 4": bytes(32),
    "order 8": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "order 8, other": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "not canonical": (P + 3).to_bytes(32, "little"),
    "not on the curve": (2).to_bytes(32, "little"),
}


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    key = SigningKey(bytes.fromhex(seed))
    assert key.public.raw.hex() == public
    assert key.sign_bytes(bytes.fromhex(message)).hex() == signature
    assert verify_bytes(key.public, bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_public_key_is_refused(kind: str) -> None:
    with pytest.raises(Refused) as caught:
        PublicKey(WEAK[kind])
    assert caught.value.name == "bad-public-key"


def test_a_key_of_mixed_order_is_refused() -> None:
    from nacl import bindings

    mixed = bindings.crypto_core_ed25519_add(SigningKey(bytes(32)).public.raw, WEAK["order 2"])
    with pytest.raises(Refused, match="full order"):
        PublicKey(mixed)


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), "x" * 32])
def test_a_key_of_another_length_or_type_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused, match="32 bytes"):
        PublicKey(raw)


def test_a_signature_has_one_form_only() -> None:
    """S and S + L satisfy the same equation (malleability); RFC 8032, section 5.1.7 accepts S below L only."""
    key = SigningKey(bytes(32))
    signature = key.sign_bytes(b"message")
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert verify_bytes(key.public, b"message", signature)
    assert not verify_bytes(key.public, b"message", other)


@pytest.mark.parametrize("length", [0, 32, 63, 65, 128])
def test_a_signature_of_another_length_does_not_hold(length: int) -> None:
    key = SigningKey(bytes(32))
    signature = (key.sign_bytes(b"") + bytes(64))[:length]
    assert not verify_bytes(key.public, b"", signature)


def test_multikeys_are_those_of_the_did_key_method() -> None:
    # did:key method, test vectors, Ed25519: the seed of 32 zero bytes.
    assert multikey(SigningKey(bytes(32)).public) == "z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


def test_a_published_peer_id_holds_its_key() -> None:
    # libp2p specs, peer-ids: an Ed25519 peer id with the identity multihash.
    published = NodeId("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
    assert node_id(public_key_of(published)) == published


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", ""), (b"Hello World!", "2NEpo7TZRRrLZSi2U"), (bytes.fromhex("0000287fb4cd"), "11233QC4"), (b"\0", "1"), (b"\0\0", "11")],
)
def test_base58_is_that_of_the_draft(data: bytes, text: str) -> None:
    # draft-msporny-base58, section 5
    assert base58.encode(data) == text
    assert base58.decode(text) == data


@given(st.binary(max_size=64))
def test_base58_comes_back(data: bytes) -> None:
    assert base58.decode(base58.encode(data)) == data


@given(st.binary(min_size=32, max_size=32))
def test_the_names_of_a_key_come_back(seed: bytes) -> None:
    public = SigningKey(seed).public
    assert public_key_of(node_id(public)) == public == public_key_of_multikey(multikey(public))
    assert public_key_named(node_id(public)) == public == public_key_named(multikey(public))


GOOD = node_id(SigningKey(bytes(32)).public)


OTHER_TEXT = ["", "1", "z", GOOD[:-1], GOOD + "1", "1" + GOOD, GOOD.replace("K", "0"), GOOD.lower(), GOOD + "\n", " " + GOOD, "z" + GOOD]


@pytest.mark.parametrize("text", [*OTHER_TEXT, "ä" * 52, "1" * 10_000])
def test_other_text_is_no_node_id(text: str) -> None:
    with pytest.raises(Refused) as caught:
        public_key_of(NodeId(text))
    assert caught.value.name == "bad-public-key"
    with pytest.raises(Refused):
        public_key_of_multikey(text)


def test_a_node_id_of_a_weak_key_is_refused() -> None:
    weak = base58.encode(bytes.fromhex("002408011220") + bytes(32))
    with pytest.raises(Refused, match="full order"):
        public_key_of(NodeId(weak))


def test_the_secret_shows_nowhere() -> None:
    key = SigningKey(b"secret!!" * 4)
    assert "secret" not in repr(key) and key.seed().hex() not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
