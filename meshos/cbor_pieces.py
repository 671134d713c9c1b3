"""Large values of canonical CBOR, written and read so that no single step holds the interpreter for long.

A worker thread does not help where one call of C holds the interpreter's lock for the whole of 128 MiB: every other thread, the event
loop's too, stands for 0.3 s. Here long texts and byte strings go in pieces of PIECE, between which others have their turn. The
bytes are the same as ``cbor.encode`` gives, and what is read is what ``cbor.decode`` takes; tests hold them together.
"""

import base64
import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeAlias

import cbor2

from meshos import cbor
from meshos.errors import Refused

PIECE = 1 << 20
"""A piece of a text or byte string: 0.3 ms to copy, and about a millisecond to encode."""

FEW = 64
"""Containers of more entries are encoded in one call, since entry by entry in Python costs ten times as much. What makes results
large is a long text; a list of a million numbers takes some 50 ms a call."""

LEVELS = 2
"""How deep a long text is looked for when it is read: MCP's own wrapping, and one level more."""

_BYTES, _TEXT, _LIST, _MAP = 2, 3, 4, 5


def encode(value: object) -> bytes:
    """As ``cbor.encode``; raises what it raises."""
    out = BytesIO()
    _write(out, value, cbor.MAX_DEPTH)
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Large:
    """A text, or a byte string, that stays as it came."""

    is_text: bool
    data: memoryview

    def texts(self, size: int) -> Iterator[str]:
        """The text in pieces of about ``size`` bytes; of a byte string, its base64."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        step = max(size // 3, 1) * 3  # so that base64 needs no padding but at the end
        for start in range(0, len(self.data), step):
            piece = self.data[start : start + step]
            yield decoder.decode(piece) if self.is_text else base64.b64encode(piece).decode()


Tree: TypeAlias = "Large | cbor.Value | list[Tree] | dict[str, Tree]"


def decode(data: bytes, *, max_bytes: int) -> Tree:
    """As ``cbor.decode``, with ``Large`` in the place of long texts and byte strings; raises what it raises."""
    if len(data) > max_bytes:
        raise Refused("too-large", f"{len(data)} bytes of CBOR, at most {max_bytes} are read here")
    reader = _Reader(data)
    tree = reader.item(LEVELS)
    if reader.at != len(data):
        raise _bad()
    return tree


def joined(parts: Sequence[bytes]) -> bytes:
    """As ``b"".join``."""
    out = BytesIO()
    for part in parts:
        _copy(out, memoryview(part))
    return out.getvalue()


def copied(data: memoryview) -> bytes:
    """As ``bytes(data)``."""
    out = BytesIO()
    _copy(out, data)
    return out.getvalue()


def _copy(out: BytesIO, data: memoryview) -> None:
    for start in range(0, len(data), PIECE):
        out.write(data[start : start + PIECE])


def _write(out: BytesIO, value: object, depth: int) -> None:
    if isinstance(value, str) and len(value) > PIECE:
        _write_text(out, value)
    elif isinstance(value, bytes) and len(value) > PIECE:
        out.write(_head(_BYTES, len(value)))
        _copy(out, memoryview(value))
    elif isinstance(value, dict) and len(value) <= FEW and depth:
        out.write(_head(_MAP, len(value)))
        for key, inner in sorted(((cbor.encode(key), inner) for key, inner in value.items()), key=_order):
            out.write(key)
            _write(out, inner, depth - 1)
    elif isinstance(value, list | tuple) and len(value) <= FEW and depth:
        out.write(_head(_LIST, len(value)))
        for inner in value:
            _write(out, inner, depth - 1)
    else:
        out.write(cbor.encode(value))


def _order(entry: tuple[bytes, object]) -> tuple[int, bytes]:
    """Of the entries of a map, by their encoded keys: the shorter first, as cbor2 has it."""
    return len(entry[0]), entry[0]


def _write_text(out: BytesIO, text: str) -> None:
    pieces = range(0, len(text), PIECE)
    size = len(text) if text.isascii() else sum(len(text[start : start + PIECE].encode()) for start in pieces)
    out.write(_head(_TEXT, size))
    for start in pieces:
        out.write(text[start : start + PIECE].encode())


def _head(major: int, count: int) -> bytes:
    """The first bytes of an item: RFC 8949, section 3, in the shortest form."""
    for width, mark in ((0, 0), (1, 24), (2, 25), (4, 26), (8, 27)):
        if width == 0 and count < 24:
            return bytes([major << 5 | count])
        if width and count < 1 << 8 * width:
            return bytes([major << 5 | mark]) + count.to_bytes(width, "big")
    raise OverflowError("no container is so long")


class _Reader:
    """Reads ``data`` from ``at`` on."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data
        self._file = BytesIO(data)  # shares the bytes

    def item(self, levels: int) -> Tree:
        """The next item; containers of few entries are entered so many levels deep."""
        begin, depth = self.at, cbor.MAX_DEPTH - LEVELS + levels
        major, count = self._head()
        if major in (_TEXT, _BYTES) and count > PIECE:
            return self._large(major == _TEXT, count)
        if major == _LIST and count <= FEW and levels:
            return [self.item(levels - 1) for _ in range(count)]
        if major == _MAP and count <= FEW and levels:
            return self._map(count, levels - 1)
        return self._whole(begin, depth)

    def _map(self, count: int, levels: int) -> dict[str, Tree]:
        found: dict[str, Tree] = {}
        before = (0, b"")
        for _ in range(count):
            begin = self.at
            key = self._whole(begin, 0)
            encoded = self._data[begin : self.at]
            if not isinstance(key, str) or _order((encoded, None)) <= before:
                raise _bad()
            before = _order((encoded, None))
            found[key] = self.item(levels)
        return found

    def _large(self, is_text: bool, count: int) -> Large:
        if self.at + count > len(self._data):
            raise _bad()
        large = Large(is_text, memoryview(self._data)[self.at : self.at + count])
        self.at += count
        if is_text:
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                for start in range(0, count, PIECE):
                    decoder.decode(large.data[start : start + PIECE])
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise _bad() from error
        return large

    def _whole(self, begin: int, depth: int) -> cbor.Value:
        """The item at ``begin`` in one call, nested at most ``depth`` deep; it is decoded once to see where it ends."""
        self._file.seek(begin)
        try:
            cbor2.CBORDecoder(self._file, max_depth=cbor.MAX_DEPTH + 2, **cbor.STRICT).decode()
        except (cbor2.CBORDecodeError, RecursionError, OverflowError, ValueError, TypeError, MemoryError) as error:
            raise _bad() from error
        self.at = self._file.tell()
        return cbor.decode(self._data[begin : self.at], max_bytes=len(self._data), max_depth=depth)

    def _head(self) -> tuple[int, int]:
        """Major type and count of the next item, which is then behind; the count of what has none is its value."""
        if self.at >= len(self._data):
            raise _bad()
        first = self._data[self.at]
        major, count, width = first >> 5, first & 31, 0
        if 24 <= count < 28:
            width = 1 << count - 24
            count = int.from_bytes(self._data[self.at + 1 : self.at + 1 + width], "big")
        head = self._data[self.at : self.at + 1 + width]
        self.at += 1 + width
        if _BYTES <= major <= _MAP and head != _head(major, count):
            raise _bad()  # not in the shortest form, cut off, or of no stated length
        return major, count


def _bad() -> Refused:
    return Refused("bad-encoding", "these bytes are not the canonical CBOR of a plain value")
