"""Canonical CBOR (RFC 8949, section 4.2.1): the only encoding that is signed, hashed or sent between nodes.

The same value always has the same bytes, and only these bytes are accepted: what does not encode back to the
bytes it came from (long lengths, unsorted or repeated keys, trailing bytes) is refused as ``bad-encoding``. Size is
checked before decoding, depth while decoding, and the first tag ends it, so that a stranger's bytes cost little: tags 28 and 29 share
values, by which some hundred bytes stand for billions.
"""

from typing import Any, NoReturn, TypeAlias, cast

import cbor2

from meshos.errors import Refused

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"
"""What may be encoded: no tags, no undefined, text keys only, and integers from MIN_INT to MAX_INT."""

MAX_DEPTH = 16

MIN_INT, MAX_INT = -(2**64), 2**64 - 1
"""What CBOR writes without a tag. Python's integers of thousands of digits are in its tags 2 and 3, and no JSON text is made of them."""


def _tagged(*_: object) -> NoReturn:
    raise ValueError("a tag")


STRICT: dict[str, Any] = {
    "semantic_decoders": dict.fromkeys((*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799), _tagged),
    "tag_hook": _tagged,
    "allow_indefinite": False,
    "allow_duplicate_keys": False,
    "strict_hashable_types": True,
}
"""How cbor2 reads: no tags (the numbers are those that it knows, and has no hook for), nothing without a length, no key that is not text
or bytes, since hashes of others can be made to collide."""


def encode(value: object) -> bytes:
    """The canonical bytes of ``value`` (tuples become lists)."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Value:
    """The value of canonical ``data``; raises Refused ``too-large`` or ``bad-encoding``."""
    if len(data) > max_bytes:
        raise Refused("too-large", f"{len(data)} bytes of CBOR, at most {max_bytes} are read here")
    try:
        value = cbor2.loads(data, max_depth=max_depth + 2, **STRICT)  # the check below counts exactly
        _check(value, max_depth)
        canonical = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORDecodeError, cbor2.CBOREncodeError, RecursionError, OverflowError, ValueError, TypeError, MemoryError) as error:
        raise Refused("bad-encoding", "these bytes are not the canonical CBOR of a plain value") from error
    if canonical != data:
        raise Refused("bad-encoding", "these bytes decode, but are not in canonical form")
    return cast(Value, value)


def loads(data: bytes, *, max_bytes: int) -> object:
    """Whatever value ``data`` begins with, for who compares the bytes with what it would have encoded itself; raises as ``decode``."""
    if len(data) > max_bytes:
        raise Refused("too-large", f"{len(data)} bytes of CBOR, at most {max_bytes} are read here")
    try:
        return cast(object, cbor2.loads(data, max_depth=MAX_DEPTH, **STRICT))
    except (cbor2.CBORDecodeError, RecursionError, OverflowError, ValueError, TypeError, MemoryError) as error:
        raise Refused("bad-encoding", "these bytes are not the canonical CBOR of a plain value") from error


_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


def _check(value: object, depth: int) -> None:
    """Plain values with text keys, nested at most ``depth`` deep. The decoder gives no subclasses, so exact types are looked at; what is
    plain is looked at in place, since a call for each costs three times as much.
    """
    if depth < 0:
        raise ValueError("nested too deep")
    if type(value) is dict:
        for key, inner in value.items():
            if type(key) is not str:
                raise ValueError("a key that is not text")
            if type(inner) not in _PLAIN or not depth:
                _check(inner, depth - 1)
            elif type(inner) is int and not MIN_INT <= inner <= MAX_INT:
                raise ValueError("an integer that is not plain")
    elif type(value) is list:
        for inner in value:
            if type(inner) not in _PLAIN or not depth:
                _check(inner, depth - 1)
            elif type(inner) is int and not MIN_INT <= inner <= MAX_INT:
                raise ValueError("an integer that is not plain")
    elif type(value) is int:
        if not MIN_INT <= value <= MAX_INT:
            raise ValueError("an integer that is not plain")
    elif type(value) not in _PLAIN:
        raise ValueError("a value that is not plain")
