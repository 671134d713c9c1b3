"""Where JSON begins and ends: between HTTP bodies and the canonical CBOR that travels inside.

A large result is turned into JSON in pieces, in a worker thread, so that neither the event loop nor the interpreter is
held for long by one answer of many megabytes.
"""

import base64
import json
import math
from collections.abc import Iterator

from meshos import cbor, cbor_pieces
from meshos.errors import BadInput, Refused
from meshos.node.api import limits

_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def dumps(value: object) -> bytes:
    """Compact JSON. What JSON cannot say becomes the nearest that it can: bytes base64, NaN and infinities null."""
    try:
        return _compact(value).encode()
    except (ValueError, TypeError):
        return _compact(_plain(value)).encode()


def arguments(value: dict[str, object]) -> bytes:
    """Canonical CBOR of a task's arguments; raises BadInput ``bad-request`` or Refused ``too-large``."""
    _check(value, limits.JSON_DEPTH)
    try:
        data = cbor.encode(value)
    except (UnicodeEncodeError, ValueError) as error:
        raise BadInput("bad-request", "data holds text that is not valid Unicode") from error
    if len(data) > limits.DATA_BYTES:
        raise Refused("too-large", f"data is {len(data)} bytes, at most {limits.DATA_BYTES} are taken", hint="send large input as a file")
    return data


def result_pieces(result: bytes) -> Iterator[bytes]:
    """The JSON text of a task's result, in pieces."""
    return _pieces(_plain(cbor_pieces.decode(result, max_bytes=limits.RESULT_BYTES)))


def result_text(result: bytes) -> bytes:
    """The JSON text of a small result."""
    return dumps(cbor.decode(result, max_bytes=limits.RESULT_BYTES))


def _pieces(value: object) -> Iterator[bytes]:
    if isinstance(value, str) and len(value) > limits.PIECE_CHARS:
        yield b'"'
        for start in range(0, len(value), limits.PIECE_CHARS):
            yield _compact(value[start : start + limits.PIECE_CHARS])[1:-1].encode()
        yield b'"'
    elif isinstance(value, cbor_pieces.Large):
        yield b'"'
        for text in value.texts(limits.PIECE_CHARS):
            yield _compact(text)[1:-1].encode()
        yield b'"'
    elif isinstance(value, dict):
        mark = b"{"
        for key, inner in value.items():
            yield mark + _compact(key).encode() + b":"
            yield from _pieces(inner)
            mark = b","
        yield b"{}" if mark == b"{" else b"}"
    elif isinstance(value, list) and len(value) > 256:
        mark = b"["
        for start in range(0, len(value), 256):
            for inner in value[start : start + 256]:
                yield mark
                yield from _pieces(inner)
                mark = b","
        yield b"]"
    elif isinstance(value, list) and any(isinstance(inner, str | dict | list | cbor_pieces.Large) for inner in value):
        mark = b"["
        for inner in value:
            yield mark
            yield from _pieces(inner)
            mark = b","
        yield b"]"
    else:
        yield _compact(value).encode()


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _check(value: object, depth: int) -> None:
    """What CBOR and the tools take: bounded nesting, finite numbers, integers of 64 bits."""
    if depth < 0:
        raise BadInput("bad-request", f"data is nested deeper than {limits.JSON_DEPTH}")
    if isinstance(value, dict):
        for inner in value.values():
            _check(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadInput("bad-request", "data holds a number that is not finite")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise BadInput("bad-request", "data holds an integer of more than 64 bits")
