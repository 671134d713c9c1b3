"""Boxes: only the receiver opens them, only the sender makes them, only in this mesh."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.crypto.boxes import MAX_MESSAGE_BYTES, OVERHEAD_BYTES, Boxes
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.limits import DATAGRAM_BYTES
from meshos.errors import Refused
from meshos.ids import NodeId

A, B, C = (SigningKey(letter * 32) for letter in (b"a", b"b", b"c"))
NODE_A, NODE_B, NODE_C = (node_id(key.public) for key in (A, B, C))
GENESIS = b"g" * 32


def anybody(_: NodeId) -> bool:
    return True


def refusal(boxes: Boxes, datagram: bytes) -> str:
    with pytest.raises(Refused) as caught:
        boxes.open(datagram, anybody)
    return caught.value.name


def test_the_receiver_learns_message_and_sender() -> None:
    sealed = Boxes(A, GENESIS).seal(NODE_B, b"ping")
    opened = Boxes(B, GENESIS).open(sealed, anybody)
    assert (opened.sender, opened.number, opened.message) == (NODE_A, 1, b"ping")
    assert len(sealed) == OVERHEAD_BYTES + 4 and b"ping" not in sealed


@given(st.binary(max_size=MAX_MESSAGE_BYTES))
def test_messages_come_back(message: bytes) -> None:
    sealed = Boxes(A, GENESIS).seal(NODE_B, message)
    assert len(sealed) <= DATAGRAM_BYTES
    assert Boxes(B, GENESIS).open(sealed, anybody).message == message


def test_what_does_not_fit_is_refused() -> None:
    assert len(Boxes(A, GENESIS).seal(NODE_B, bytes(MAX_MESSAGE_BYTES))) == DATAGRAM_BYTES
    with pytest.raises(Refused) as caught:
        Boxes(A, GENESIS).seal(NODE_B, bytes(MAX_MESSAGE_BYTES + 1))
    assert caught.value.name == "too-large"


def test_no_nonce_is_used_twice() -> None:
    boxes, receiver = Boxes(A, GENESIS), Boxes(B, GENESIS)
    opened = [receiver.open(boxes.seal(NODE_B, b""), anybody) for _ in range(100)]
    again = receiver.open(Boxes(A, GENESIS).seal(NODE_B, b""), anybody)
    assert [item.number for item in opened] == list(range(1, 101))
    assert len({item.session for item in opened}) == 1 and again.session != opened[0].session


def test_nobody_else_opens_it() -> None:
    sealed = Boxes(A, GENESIS).seal(NODE_B, b"ping")
    assert refusal(Boxes(C, GENESIS), sealed) == "bad-datagram"


def test_it_opens_in_no_other_mesh() -> None:
    sealed = Boxes(A, GENESIS).seal(NODE_B, b"ping")
    assert refusal(Boxes(B, b"h" * 32), sealed) == "bad-datagram"


def test_it_is_not_reflected_to_its_sender() -> None:
    """NaCl's shared key is the same in both directions; ours is not."""
    sealed = Boxes(A, GENESIS).seal(NODE_B, b"ping")
    reflected = sealed[:1] + B.public.raw + sealed[33:]
    assert refusal(Boxes(A, GENESIS), reflected) == "bad-datagram"


def test_nobody_passes_for_another() -> None:
    sealed = Boxes(C, GENESIS).seal(NODE_B, b"ping")
    assert refusal(Boxes(B, GENESIS), sealed[:1] + A.public.raw + sealed[33:]) == "bad-datagram"


def test_every_changed_or_lost_byte_is_noticed() -> None:
    sealed, receiver = Boxes(A, GENESIS).seal(NODE_B, b"ping"), Boxes(B, GENESIS)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert refusal(receiver, bytes(changed)) in ("bad-datagram", "bad-public-key")
        assert refusal(receiver, sealed[:place]) == "bad-datagram"
    assert refusal(receiver, sealed + b"\0") == "bad-datagram"
    assert refusal(receiver, sealed + bytes(DATAGRAM_BYTES)) == "bad-datagram"
    assert receiver.open(sealed, anybody).message == b"ping"


@given(st.binary(max_size=1_300))
def test_noise_is_refused(noise: bytes) -> None:
    assert refusal(Boxes(B, GENESIS), noise) in ("bad-datagram", "bad-public-key")
    assert refusal(Boxes(B, GENESIS), b"\x4d" + noise) in ("bad-datagram", "bad-public-key")


def test_a_weak_key_is_no_sender_and_no_receiver() -> None:
    """With a key of low order the shared secret would be known to everybody."""
    assert refusal(Boxes(B, GENESIS), b"\x4d" + bytes(32) + bytes(60)) == "bad-public-key"


def test_a_stranger_costs_no_key_and_no_room() -> None:
    receiver = Boxes(B, GENESIS)
    with pytest.raises(Refused) as caught:
        receiver.open(Boxes(A, GENESIS).seal(NODE_B, b"ping"), lambda node: node == NODE_C)
    assert caught.value.name == "stranger"
    assert receiver.statistics()["peers"] == 0


def test_the_keys_that_are_kept_are_bounded() -> None:
    boxes = Boxes(A, GENESIS, peers=3)
    peers = [SigningKey(bytes([n]) * 32) for n in range(8)]
    for peer in peers:
        boxes.seal(node_id(peer.public), b"")
    assert boxes.statistics() == {"peers": 3, "sealed": 8}
    assert Boxes(peers[0], GENESIS).open(boxes.seal(node_id(peers[0].public), b"again"), anybody).message == b"again"


def test_the_secret_shows_nowhere() -> None:
    assert repr(Boxes(A, GENESIS)) == f"Boxes(of {NODE_A})"
