"""The state in chunks that prove themselves: for a node that fell behind or joins, and for snapshots in files.

    chunk   [path, first, last, [page, …], [[key, value], …]]

A chunk is all that stands below the digits ``first`` to ``last`` of the page at ``path``; the pages from the root down to that one (16
hashes each) come along. Whoever has the root can check it by itself: each page is the one that the page above names, and the tree of
the keys and values, built anew, has the hashes that the last page names. So what a lying sender made is noticed at the chunk, as
``bad-chunk``, and nothing of it is kept. A state that fits in one chunk has no pages in it.

Where a chunk begins and ends follows from what was checked, not from what the sender says, so no part can be passed over. Places are
beginnings of positions without zeros at their end; ``END`` comes after all. Chunks may be taken in any order and from several senders at
once: what is still missing is kept as gaps, in the record of the root (``tree.ROOT``), written with the chunk. A restore that was
broken off goes on after the restart; one that turns to a newer root begins anew, over whatever is there. Memory is bounded by a chunk and
by what the old state had in its place.

The state has a root again, and may be used, in the same batch that lays down the last chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise, takewhile

from meshos import cbor
from meshos.consensus.ledger.nodes import EMPTY, LEAF, PAGE, RECORD_BYTES, entries_of, hash_of, page, position, record, slot
from meshos.consensus.ledger.tree import ROOT, STATE, TREE, Batch, load, root, state_corrupt
from meshos.consensus.ledger.tree_limits import (
    DEPTH,
    HASH_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_ENTRIES,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
)
from meshos.effects import Write
from meshos.errors import MeshError, Refused
from meshos.storage.store import View

START, END = "", "g"
"""The first place, and what comes after the last: places are compared as text."""

_ENTRY_BYTES = 10
"""CBOR's heads around a key and its value."""
_PAGE_BYTES = RECORD_BYTES - 1
_HEAD_BYTES = 128
_DIGITS = frozenset("0123456789abcdef")

_Entry = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk whose hashes were checked; from the place ``start`` to before ``end``."""

    path: str
    first: int
    last: int
    pages: tuple[bytes, ...]
    entries: tuple[_Entry, ...]

    @property
    def start(self) -> str:
        """The first place that it covers."""
        return f"{self.path}{self.first:x}".rstrip("0") if self.pages else START

    @property
    def end(self) -> str:
        """The first place after it."""
        return _after(f"{self.path}{self.last:x}") if self.pages else END


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a chunk comes to: the writes that lay it down, and the first place that is still missing (None: the state is whole)."""

    writes: tuple[Write, ...]
    next: bytes | None


# -- giving -------------------------------------------------------------------------------------------------------------


def serve(view: View, at: bytes) -> bytes:
    """The chunk that holds the place ``at``, for whoever restores ``root(view)``: as much from there on as one chunk takes.

    ``view`` stands still. Raises Refused ``bad-place``, Failed ``state-corrupt``.
    """
    place = at.decode("ascii", errors="replace")
    if not is_place(place):
        raise Refused("bad-place", "this is no place in a state")
    node = load(view, "", root(view))
    if place == START or not _is_page(node):
        everything = _below(view, "", _Room())
        if everything is not None:
            return _encode("", 0, 15, (), everything)
    path, pages = "", list[bytes]()
    while node is not None and _is_page(node):
        pages.append(record(node)[1:])
        digit = int(place[len(path) : len(path) + 1] or "0", 16)
        child = load(view, f"{path}{digit:x}", slot(node, digit))
        if not place[len(path) + 1 :] or not _is_page(child):  # begins with this child, or lies inside of a leaf, which is not divided
            run = _run(view, path, digit, len(pages))
            if run:
                return _encode(path, digit, digit + len(run) - 1, pages, [entry for part in run for entry in part])
        path, node = f"{path}{digit:x}", child
    raise state_corrupt("its nodes are not those that their parents name")


def chunks(view: View) -> Iterator[bytes]:
    """The whole state, chunk after chunk: a snapshot."""
    place = START
    while place != END:
        data = serve(view, place.encode())
        yield data
        place = parse(data).end


class _Room:
    """What still fits into a chunk."""

    __slots__ = ("bytes", "entries")

    def __init__(self, pages: int = 0) -> None:
        self.bytes = MAX_CHUNK_BYTES - _HEAD_BYTES - pages * (_PAGE_BYTES + 3)
        self.entries = MAX_CHUNK_ENTRIES

    def takes(self, key: bytes, value: bytes) -> bool:
        self.bytes -= len(key) + len(value) + _ENTRY_BYTES
        self.entries -= 1
        return self.bytes >= 0 and self.entries >= 0


def _is_page(node: bytes | None) -> bool:
    return node is not None and node[0] == PAGE


def _run(view: View, path: str, digit: int, pages: int) -> list[list[_Entry]]:
    """What stands below ``digit`` and the digits after it, for as many as fit into one chunk."""
    room = _Room(pages)
    parts = (_below(view, f"{path}{number:x}", room) for number in range(digit, 16))
    return [part for part in takewhile(lambda part: part is not None, parts) if part is not None]


def _below(view: View, path: str, room: _Room) -> list[_Entry] | None:
    """All keys and values below ``path``, by position; None if ``room`` is too small for them."""
    found = []
    for _, stored in view.scan(TREE + path.encode()):
        if stored[0] == LEAF:
            entries = entries_of(stored)
            if len(entries) > room.entries:
                return None
            for key, value_hash in sorted(entries.items(), key=lambda entry: position(entry[0])):
                value = view.get(STATE + key)
                if value is None or sha256(value).digest() != value_hash:
                    raise state_corrupt(f"the value of {key!r} is not the one that the tree names")
                if not room.takes(key, value):
                    return None
                found.append((key, value))
    return found


def _encode(path: str, first: int, last: int, pages: Sequence[bytes], entries: Sequence[_Entry]) -> bytes:
    return cbor.encode([path, first, last, pages, entries])


# -- taking -------------------------------------------------------------------------------------------------------------


def is_place(place: str) -> bool:
    """Whether a stranger's ``place`` is one."""
    return len(place) <= DEPTH and _DIGITS.issuperset(place) and not place.endswith("0")


def accept(view: View, wanted: bytes, data: bytes) -> Accepted:
    """Lay down a chunk of the state with the root ``wanted``, whoever sent it; raises Refused ``bad-chunk``, and nothing changes.

    The first chunk of another root than the one that is being restored takes the root away from the state in ``view``.
    """
    chunk = parse(data)
    batch = Batch(view)
    _check(batch, chunk, wanted)
    _replace(view, batch, chunk)
    gaps = _without(gaps_of(view, wanted), chunk.start, chunk.end)
    batch.written[ROOT] = cbor.encode([wanted, gaps]) if gaps else (wanted if wanted != EMPTY else None)
    return Accepted(batch.writes(), gaps[0][0].encode() if gaps else None)


def gaps_of(view: View, wanted: bytes) -> list[tuple[str, str]]:
    """What of the state ``wanted`` is still missing in ``view``: (place, place after it), in order."""
    progress = view.get(ROOT)
    if progress == wanted or (progress is None and wanted == EMPTY):
        return []
    if progress is not None and len(progress) != HASH_BYTES:
        match cbor.decode(progress, max_bytes=len(progress)):
            case [bytes() as restored, [*rows]] if restored == wanted:
                return [(str(row[0]), str(row[1])) for row in rows if isinstance(row, list)]
    return [(START, END)]


def parse(data: bytes) -> Chunk:
    """A chunk of good shape, of which nothing is proven yet; raises Refused ``bad-chunk``."""
    try:
        value = cbor.decode(data, max_bytes=MAX_CHUNK_BYTES, max_depth=3)
    except MeshError as error:
        raise _bad(error.detail) from error
    match value:
        case [str() as path, int() as first, int() as last, [*pages], [*rows]]:
            if 0 <= first <= last <= 15 and _DIGITS.issuperset(path) and len(path) < DEPTH and len(rows) <= MAX_CHUNK_ENTRIES:
                hashes = tuple(page for page in pages if isinstance(page, bytes) and len(page) == _PAGE_BYTES)
                whole = not pages and (path, first, last) == ("", 0, 15)
                if len(hashes) == len(pages) and (whole or len(pages) == len(path) + 1):
                    return Chunk(path, first, last, hashes, tuple(_entry(row) for row in rows))
    raise _bad("it is not well formed")


def _entry(row: object) -> _Entry:
    match row:
        case [bytes() as key, bytes() as value] if 1 <= len(key) <= MAX_KEY_BYTES and len(value) <= MAX_VALUE_BYTES:
            return key, value
    raise _bad("it is not well formed")


def _check(batch: Batch, chunk: Chunk, wanted: bytes) -> None:
    """Build the chunk's part of the tree in ``batch``; raises Refused ``bad-chunk`` unless it is part of the state ``wanted``."""
    places = [position(key) for key, _ in chunk.entries]
    if not all(one < other for one, other in pairwise(places)):
        raise _bad("its keys are not in order")
    if not chunk.pages:
        if batch.put_entries("", _hashed(chunk.entries)) != wanted:
            raise _bad("it is another state")
        return
    expected, path = wanted, ""
    for number, hashes in enumerate(chunk.pages):
        path, node = chunk.path[:number], page(hashes)
        if hash_of(node) != expected:
            raise _bad("its pages do not lead to the root")
        batch.written[TREE + path.encode()] = record(node)
        if number < len(chunk.path):
            expected = slot(node, int(chunk.path[number], 16))
    parts: dict[str, list[_Entry]] = {f"{chunk.path}{digit:x}": [] for digit in range(chunk.first, chunk.last + 1)}
    for place, entry in zip(places, chunk.entries, strict=True):
        part = parts.get(place[: len(path) + 1])
        if part is None:
            raise _bad("it has a key of another part")
        part.append(entry)
    for below, entries in parts.items():
        if batch.put_entries(below, _hashed(entries)) != slot(node, int(below[-1], 16)):
            raise _bad("its content has another hash")


def _hashed(entries: Sequence[_Entry]) -> dict[bytes, bytes]:
    return {key: sha256(value).digest() for key, value in entries}


def _replace(view: View, batch: Batch, chunk: Chunk) -> None:
    """What stood in the chunk's place goes, and its values come."""
    old: dict[bytes, bytes | None] = {}
    above = [chunk.path[:depth] for depth in range(len(chunk.pages))]
    for path in above:  # a leaf that stood above is a page now; its keys come with the chunks that they belong to
        stored = view.get(TREE + path.encode())
        if stored is not None and stored[0] == LEAF:
            old |= dict.fromkeys(STATE + key for key in entries_of(stored))
    below = [f"{chunk.path}{digit:x}" for digit in range(chunk.first, chunk.last + 1)] if chunk.pages else [""]
    for path in below:
        for tree_key, stored in view.scan(TREE + path.encode()):
            old[tree_key] = None
            if stored[0] == LEAF:
                old |= dict.fromkeys(STATE + key for key in entries_of(stored))
    for key, value in chunk.entries:
        batch.written[STATE + key] = value
    batch.written = old | batch.written


def _without(gaps: Sequence[tuple[str, str]], start: str, end: str) -> list[tuple[str, str]]:
    """``gaps`` less what lies from ``start`` to before ``end``."""
    rest = [part for low, high in gaps for part in ((low, min(high, start)), (max(low, end), high))]
    return [(low, high) for low, high in rest if low < high]


def _after(path: str) -> str:
    """The first place behind all that begin with ``path``."""
    path = path.rstrip("f")
    return path[:-1] + f"{int(path[-1], 16) + 1:x}" if path else END


def _bad(why: str) -> Refused:
    return Refused("bad-chunk", f"this is no part of the state: {why}", hint="it was dropped; another node is asked")
