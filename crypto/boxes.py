"""Boxes: one datagram from one node to another, secret and authentic, without a connection between them.

A datagram is

    ====  =======  ==================================================================
    1     version  ``0x4d``
    32    sender   the sender's Ed25519 public key: the receiver finds the box key by it before it decrypts
    16    session  random, drawn when the sender started
    8     number   of this datagram within the session, big-endian, from 1
    n+16  box      XSalsa20-Poly1305 of the message (NaCl's box), with session and number as its nonce
    ====  =======  ==================================================================

so the overhead is 73 bytes. The key is not NaCl's shared key itself, which both directions and all meshes would share, but
BLAKE2b of it with the genesis hash, the sender and the receiver: a datagram that is sent back to its sender, under another
sender's key, or into another mesh opens nowhere. The X25519 keys are made from the Ed25519 keys (libsodium, "Ed25519 to
Curve25519"), so a node needs no second identity.

A repeated datagram opens again. ``Opened`` carries session and number, by which a receiver that cares can tell.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from nacl import bindings
from nacl.exceptions import CryptoError

from meshos.crypto.keys import KEY_BYTES, PublicKey, SigningKey, node_id, public_key_of
from meshos.crypto.limits import BOX_PEERS, DATAGRAM_BYTES
from meshos.crypto.signing import GENESIS_HASH_BYTES
from meshos.errors import Refused
from meshos.ids import NodeId

VERSION = b"\x4d"
SESSION_BYTES = 16
NUMBER_BYTES = 8
MAC_BYTES = 16
OVERHEAD_BYTES = len(VERSION) + KEY_BYTES + SESSION_BYTES + NUMBER_BYTES + MAC_BYTES
MAX_MESSAGE_BYTES = DATAGRAM_BYTES - OVERHEAD_BYTES

_NONCE_AT = len(VERSION) + KEY_BYTES
_BOX_AT = _NONCE_AT + SESSION_BYTES + NUMBER_BYTES

assert OVERHEAD_BYTES == 73


@dataclass(frozen=True, slots=True)
class Opened:
    """A message and who sent it. ``session`` and ``number`` together never occur twice for one sender, but by replay."""

    sender: NodeId
    session: bytes
    number: int
    message: bytes


@dataclass(frozen=True, slots=True)
class _Keys:
    """What is kept of one peer: its id, and the keys of the two directions."""

    node: NodeId
    to: bytes
    back: bytes


class Boxes:
    """Seals and opens the datagrams of one node."""

    def __init__(self, key: SigningKey, genesis_hash: bytes, *, peers: int = BOX_PEERS) -> None:
        if len(genesis_hash) != GENESIS_HASH_BYTES:
            raise ValueError(f"a genesis hash has {GENESIS_HASH_BYTES} bytes")
        self._own = key.public.raw
        self._secret = bindings.crypto_sign_ed25519_sk_to_curve25519(key.expanded())
        self._genesis_hash = genesis_hash
        self._limit = peers
        self._peers: OrderedDict[bytes, _Keys] = OrderedDict()
        self._session = bindings.randombytes(SESSION_BYTES)
        self._number = 0

    def __repr__(self) -> str:
        return f"Boxes(of {node_id(PublicKey(self._own))})"

    def seal(self, to: NodeId, message: bytes) -> bytes:
        """The datagram that only ``to`` can open; raises Refused ``too-large`` or ``bad-public-key``."""
        if len(message) > MAX_MESSAGE_BYTES:
            raise Refused("too-large", f"{len(message)} bytes for one datagram, at most {MAX_MESSAGE_BYTES} fit")
        keys = self._keys(public_key_of(to).raw)
        self._number += 1
        nonce = self._session + self._number.to_bytes(NUMBER_BYTES, "big")
        return VERSION + self._own + nonce + bindings.crypto_box_easy_afternm(message, nonce, keys.to)

    def open(self, datagram: bytes, is_known: Callable[[NodeId], bool]) -> Opened:
        """What is in a datagram to this node.

        ``is_known`` is asked before anything that costs more than a few microseconds is done for the sender.
        Raises Refused ``bad-datagram``, ``stranger`` or ``bad-public-key``.
        """
        sender = self.sender(datagram)
        if not is_known(sender):
            raise Refused("stranger", f"a datagram from {sender}, which is no member known here")
        keys = self._keys(datagram[len(VERSION) : _NONCE_AT])
        nonce = datagram[_NONCE_AT:_BOX_AT]
        try:
            message = bindings.crypto_box_open_easy_afternm(datagram[_BOX_AT:], nonce, keys.back)
        except CryptoError as error:
            raise Refused("bad-datagram", f"a datagram that claims to be from {sender} is not, or is not for this node and mesh") from error
        return Opened(sender, nonce[:SESSION_BYTES], int.from_bytes(nonce[SESSION_BYTES:], "big"), message)

    def sender(self, datagram: bytes) -> NodeId:
        """Who is said to have sent it, unproved; raises Refused ``bad-datagram``."""
        if not OVERHEAD_BYTES <= len(datagram) <= DATAGRAM_BYTES or datagram[:1] != VERSION:
            raise Refused("bad-datagram", f"{len(datagram)} bytes that are no datagram of this protocol")
        raw = datagram[len(VERSION) : _NONCE_AT]
        keys = self._peers.get(raw)
        return keys.node if keys is not None else _node_id_of(raw)

    def statistics(self) -> dict[str, int]:
        """How many peers' keys are kept, and how many datagrams were sealed."""
        return {"peers": len(self._peers), "sealed": self._number}

    def _keys(self, raw: bytes) -> _Keys:
        keys = self._peers.get(raw)
        if keys is not None:
            self._peers.move_to_end(raw)
            return keys
        peer = PublicKey(raw)
        shared = bindings.crypto_box_beforenm(bindings.crypto_sign_ed25519_pk_to_curve25519(raw), self._secret)
        keys = _Keys(node_id(peer), self._direction(shared, self._own, raw), self._direction(shared, raw, self._own))
        self._peers[raw] = keys
        if len(self._peers) > self._limit:
            self._peers.popitem(last=False)
        return keys

    def _direction(self, shared: bytes, sender: bytes, receiver: bytes) -> bytes:
        bound = self._genesis_hash + sender + receiver
        return hashlib.blake2b(bound, digest_size=32, key=shared, person=b"meshos/box/1").digest()


def _node_id_of(raw: bytes) -> NodeId:
    """As ``keys.node_id``, without the check that costs 60 µs: the text alone decides whether the sender is known."""
    unchecked = object.__new__(PublicKey)
    object.__setattr__(unchecked, "raw", raw)
    return node_id(unchecked)
