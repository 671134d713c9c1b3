"""What a field of a transaction's body may be. Whatever is not exactly that is ``transaction-malformed`` or ``amount-out-of-bounds``."""

from typing import TypeGuard

from meshos import cbor
from meshos.consensus.ledger.limits import MAX_AMOUNT, MAX_KEY_CHARS, MAX_NAME_CHARS, MAX_NUMBER, MAX_REASON_BYTES
from meshos.errors import Refused

HASH_BYTES = 32
SIGNATURE_BYTES = 64


def malformed(what: str) -> Refused:
    """The refusal of a body that is not what its kind says."""
    return Refused("transaction-malformed", f"this is no {what}")


def is_number(value: cbor.Value, least: int = 0, most: int = MAX_NUMBER) -> TypeGuard[int]:
    """A whole number in these bounds; true and false are none."""
    return type(value) is int and least <= value <= most


def is_name(value: cbor.Value) -> TypeGuard[str]:
    """A DID, or a name of something that has one: 1 to MAX_NAME_CHARS printable characters of ASCII."""
    return type(value) is str and 0 < len(value) <= MAX_NAME_CHARS and value.isascii() and value.isprintable()


def is_key(value: cbor.Value) -> TypeGuard[str]:
    """A node id or a Multikey: the same, of at most MAX_KEY_CHARS. That it is a key is proven by its signature, before it counts."""
    return is_name(value) and len(value) <= MAX_KEY_CHARS


def is_text(value: cbor.Value, most: int = MAX_REASON_BYTES) -> TypeGuard[str]:
    """What people read: it says something, in one line, without control or direction characters, in at most ``most`` bytes of UTF-8."""
    return type(value) is str and value.strip() != "" and value.isprintable() and len(value.encode()) <= most


def is_hash(value: cbor.Value) -> TypeGuard[bytes]:
    """32 bytes."""
    return type(value) is bytes and len(value) == HASH_BYTES


def is_signature(value: cbor.Value) -> TypeGuard[bytes]:
    """64 bytes."""
    return type(value) is bytes and len(value) == SIGNATURE_BYTES


def amount(value: cbor.Value) -> int:
    """Millionths of a MESH, at least one; raises Refused ``amount-out-of-bounds``."""
    if type(value) is not int or not 0 < value <= MAX_AMOUNT:
        raise Refused("amount-out-of-bounds", f"an amount is at least one millionth of a MESH, and at most {MAX_AMOUNT} of them")
    return value
