"""What a field of a transaction's body may be. Whatever is not exactly that is ``transaction-malformed`` or ``amount-out-of-bounds``."""

from typing import TypeGuard

from meshos import cbor
from meshos.consensus.ledger.limits import MAX_AMOUNT, MAX_NAME_CHARS, MAX_NUMBER, MAX_REASON_BYTES
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
    """A DID, a node id, a Multikey: 1 to MAX_NAME_CHARS characters of ASCII."""
    return type(value) is str and 0 < len(value) <= MAX_NAME_CHARS and value.isascii()


def is_reason(value: cbor.Value) -> TypeGuard[str]:
    """What people read: it must say something."""
    return type(value) is str and value.strip() != "" and len(value.encode()) <= MAX_REASON_BYTES


def is_hash(value: cbor.Value) -> TypeGuard[bytes]:
    """32 bytes."""
    return type(value) is bytes and len(value) == HASH_BYTES


def is_signature(value: cbor.Value) -> TypeGuard[bytes]:
    """64 bytes."""
    return type(value) is bytes and len(value) == SIGNATURE_BYTES


def amount(value: cbor.Value) -> int:
    """Millionths of a MESH, at least one; raises Refused ``amount-out-of-bounds``."""
    if type(value) is not int or not 0 < value <= MAX_AMOUNT:
        raise Refused("amount-out-of-bounds", f"an amount is a whole number of millionths from 1 to {MAX_AMOUNT}")
    return value
