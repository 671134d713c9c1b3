"""As much of protobuf's wire format as two small messages of libp2p need (protobuf.dev, "Encoding").

py-libp2p has classes for these messages, made from an older form of one of them; and the other is sealed before libp2p is loaded.
"""

from collections.abc import Iterator
from typing import TypeAlias

Value: TypeAlias = int | bytes

_VARINT, _BYTES = 0, 2
_VARINT_BYTES = 10


def varint(number: int) -> bytes:
    """An unsigned number, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(tag: int, value: Value) -> bytes:
    """A field with a number, or with bytes, a text or a message."""
    if isinstance(value, int):
        return varint(tag << 3 | _VARINT) + varint(value)
    return varint(tag << 3 | _BYTES) + varint(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Each field of a message with its tag, in their order; raises ValueError for what is no message of numbers and bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        if key & 7 == _VARINT:
            yield key >> 3, value
        elif key & 7 == _BYTES and at + value <= len(message):
            yield key >> 3, message[at : at + value]
            at += value
        else:
            raise ValueError("a field is neither a number nor as many bytes as it says")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(message[at : at + _VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError("a number does not end")
