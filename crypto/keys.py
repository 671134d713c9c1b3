"""Ed25519 keys, and the two texts that stand for one: a node id and a Multikey.

All of Mesh OS signs and verifies with libsodium (PyNaCl), and with nothing else: libraries differ on which odd
signatures they accept, and what one replica accepts all must ("Taming the many EdDSAs", Chalkias et al. 2020).

A public key is checked once, when it is made: 32 bytes, canonical, on the curve, of the main subgroup. Hence no key of
low order, under which one signature fits many messages, is ever held.

A node id is the libp2p peer id of its key (libp2p specs, peer-ids: the identity multihash of the key's protobuf, in
base58btc), a Multikey the form that DID documents use (W3C Controlled Identifiers, section 2.2.2: multicodec 0xed01).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from nacl import bindings
from nacl.exceptions import BadSignatureError

from meshos.crypto import base58
from meshos.crypto.limits import KEYS_CACHED, NAME_CHARS
from meshos.errors import Refused
from meshos.ids import NodeId

KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64

_PEER_ID_PREFIX = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))  # identity multihash of 36 bytes: type Ed25519, 32 bytes of key
_MULTIKEY_PREFIX = bytes((0xED, 0x01))  # the multicodec of an Ed25519 public key, as a varint


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A checked Ed25519 public key; raises Refused ``bad-public-key`` for anything else."""

    raw: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != KEY_BYTES:
            raise Refused("bad-public-key", f"an Ed25519 public key has {KEY_BYTES} bytes")
        if not bindings.crypto_core_ed25519_is_valid_point(self.raw):
            raise Refused("bad-public-key", "these 32 bytes are not a canonical Ed25519 public key of full order")

    def __repr__(self) -> str:
        return f"PublicKey({multikey(self)})"


class SigningKey:
    """An Ed25519 key pair. The secret half never shows in ``repr``, cannot be pickled, and is given out only by ``seed``."""

    __slots__ = ("_secret", "public")

    public: PublicKey

    def __init__(self, seed: bytes) -> None:
        if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
            raise Refused("bad-public-key", f"an Ed25519 seed has {SEED_BYTES} bytes")
        raw, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.public = PublicKey(raw)

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key from the operating system's randomness."""
        return cls(bindings.randombytes(SEED_BYTES))

    def seed(self) -> bytes:
        """The 32 secret bytes, for the libraries (TLS, boxes, key files) that must hold the key themselves."""
        return self._secret[:SEED_BYTES]

    def expanded(self) -> bytes:
        """Seed and public key, 64 bytes, as libsodium wants them; as secret as the seed."""
        return self._secret

    def sign_bytes(self, message: bytes) -> bytes:
        """The bare signature of exactly these bytes; use ``signing.sign``, which separates domains, wherever possible."""
        return bindings.crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey(of {multikey(self.public)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not pickled or copied")


def verify_bytes(public_key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is the key's bare signature of exactly these bytes (strict: RFC 8032 with canonical S and R)."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public_key.raw)
    except BadSignatureError:
        return False
    return True


def node_id(public_key: PublicKey) -> NodeId:
    """The node id of a key: ``12D3KooW…``."""
    return NodeId(base58.encode(_PEER_ID_PREFIX + public_key.raw))


def public_key_of(node: NodeId) -> PublicKey:
    """The key that a node id holds; raises Refused ``bad-public-key``."""
    return _decoded(node, "", _PEER_ID_PREFIX, "node id")


def multikey(public_key: PublicKey) -> str:
    """The Multikey of a key: ``z6Mk…``."""
    return "z" + base58.encode(_MULTIKEY_PREFIX + public_key.raw)


def public_key_of_multikey(text: str) -> PublicKey:
    """The key that a Multikey holds; raises Refused ``bad-public-key``."""
    return _decoded(text, "z", _MULTIKEY_PREFIX, "Multikey")


def public_key_named(name: str) -> PublicKey:
    """The key of a node id or of a Multikey, whichever ``name`` is; raises Refused ``bad-public-key``."""
    if name.startswith("z"):
        return public_key_of_multikey(name)
    return public_key_of(NodeId(name))


@lru_cache(maxsize=KEYS_CACHED)
def _decoded(text: str, base: str, prefix: bytes, what: str) -> PublicKey:
    """The key in ``text``. Only one text stands for a key: whatever decodes but encodes differently is refused."""
    if len(text) > NAME_CHARS:
        raise Refused("bad-public-key", f"this {what} has {len(text)} characters, at most {NAME_CHARS} are read")
    try:
        data = base58.decode(text[len(base) :])
    except ValueError as error:
        raise Refused("bad-public-key", f"{text!r} is no {what}: {error}") from error
    if not text.startswith(base) or not data.startswith(prefix) or len(data) != len(prefix) + KEY_BYTES:
        raise Refused("bad-public-key", f"{text!r} is not the {what} of an Ed25519 key")
    return PublicKey(data[len(prefix) :])
