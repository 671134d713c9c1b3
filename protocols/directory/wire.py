"""The messages of ``/meshos/directory/1`` and of its announcement, both ways: canonical CBOR, each field checked.

A request is one of six questions: is your directory like mine (its root); what do you list in these places; give me these entries; which
versions of these do you know; what is new of the summaries of these cells; give me a codebook. Those about places name the layout that
these are numbered by, empty while the directory is whole.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from meshos import cbor
from meshos.cbor import Value
from meshos.errors import Refused
from meshos.ids import AgentId
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import Item, Items, Places

HINT = "/meshos/directory-hint/1"

_MESSAGE_BYTES = 512 << 10
_ID = re.compile(r"a-[0-9a-f]{16}")
_ID_CHARS = 18


@dataclass(frozen=True, slots=True)
class AskDigest:
    """Are our directories alike in these places? ``root`` is the asker's."""

    layout: bytes
    places: Places
    root: bytes


@dataclass(frozen=True, slots=True)
class AskItems:
    """What do you list in these places after this id?"""

    layout: bytes
    places: Places
    after: str


@dataclass(frozen=True, slots=True)
class AskEntries:
    """Give me these."""

    ids: tuple[AgentId, ...]


@dataclass(frozen=True, slots=True)
class AskVersions:
    """Which versions of these do you know? Also those that are withdrawn or have lapsed."""

    ids: tuple[AgentId, ...]


@dataclass(frozen=True, slots=True)
class AskSummaries:
    """Give me the summaries of these cells, but for those that I have (``known``, 8 bytes for each)."""

    layout: bytes
    places: Places
    known: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AskCodebook:
    """Give me the codebook of this hash from this byte on."""

    name: bytes
    offset: int


Request: TypeAlias = AskDigest | AskItems | AskEntries | AskVersions | AskSummaries | AskCodebook


def encode_request(request: Request) -> bytes:
    """A request's bytes."""
    match request:
        case AskDigest(layout, places, root):
            return cbor.encode(["digest", layout, encode_places(places), root])
        case AskItems(layout, places, after):
            return cbor.encode(["items", layout, encode_places(places), after])
        case AskEntries(ids):
            return cbor.encode(["entries", list(ids)])
        case AskVersions(ids):
            return cbor.encode(["versions", list(ids)])
        case AskSummaries(layout, places, known):
            return cbor.encode(["summaries", layout, encode_places(places), b"".join(known)])
        case AskCodebook(name, offset):
            return cbor.encode(["codebook", name, offset])


def decode_request(data: bytes) -> Request:
    """The request in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-message``."""
    match cbor.decode(data, max_bytes=16 << 10):
        case ["digest", bytes() as layout, bytes() as places, bytes() as root] if len(root) == limits.DIGEST_BYTES:
            return AskDigest(_layout(layout), decode_places(places), root)
        case ["items", bytes() as layout, bytes() as places, str() as after] if len(after) <= _ID_CHARS:
            if len(places) <= 2 * limits.PLACES_ASKED:
                return AskItems(_layout(layout), decode_places(places), after)
        case ["entries", list() as ids] if len(ids) <= limits.IDS_A_PAGE:
            return AskEntries(tuple(_id(agent) for agent in ids))
        case ["versions", list() as ids] if len(ids) <= limits.IDS_A_PAGE:
            return AskVersions(tuple(_id(agent) for agent in ids))
        case ["codebook", bytes() as name, int() as offset] if len(name) == 32 and not isinstance(offset, bool):
            if 0 <= offset <= limits.MAX_NUMBER:
                return AskCodebook(name, offset)
        case ["summaries", bytes() as layout, bytes() as places, bytes() as known]:
            found, size = decode_places(places), limits.SUMMARY_NAME_BYTES
            if len(known) == size * len(found):
                return AskSummaries(_layout(layout), found, tuple(known[at : at + size] for at in range(0, len(known), size)))
    raise _bad("a request")


def encode_places(places: Places) -> bytes:
    """Two bytes each."""
    return np.array(places, ">u2").tobytes()


def decode_places(data: bytes) -> Places:
    """Rising numbers of places; raises Refused ``bad-message``."""
    if len(data) % 2 or len(data) > 2 * limits.PLACES:
        raise _bad("a list of places")
    places = tuple(np.frombuffer(data, ">u2").tolist())
    if any(one >= other for one, other in itertools.pairwise(places)):
        raise _bad("a list of places")
    return places


def encode_digests(digests: bytes | None, unsure: Places = ()) -> bytes:
    """The answer to AskDigest: the digest of each place, or None where all are alike; and in which places this node may lack something."""
    return cbor.encode([digests, encode_places(unsure)])


def decode_digests(data: bytes, places: int) -> tuple[list[bytes] | None, Places]:
    """The digest of each of so many places at the other side, None where all are alike; and the places that it is unsure of."""
    size = limits.DIGEST_BYTES
    match cbor.decode(data, max_bytes=_MESSAGE_BYTES):
        case [None, bytes() as unsure]:
            return None, decode_places(unsure)
        case [bytes() as digests, bytes() as unsure] if len(digests) == places * size:
            return [digests[start : start + size] for start in range(0, len(digests), size)], decode_places(unsure)
    raise _bad("an answer with digests")


def encode_items(items: Items) -> bytes:
    """The answer to AskItems."""
    return cbor.encode([items.more, [[item.id, item.version, item.digest] for item in items.items]])


def decode_items(data: bytes) -> Items:
    """The items in ``data``, rising by id."""
    match cbor.decode(data, max_bytes=_MESSAGE_BYTES):
        case [bool() as more, list() as items] if len(items) <= limits.ITEMS_A_PAGE:
            found = tuple(_item(item) for item in items)
            if all(one.id < other.id for one, other in itertools.pairwise(found)) and (found or not more):
                return Items(found, more)
    raise _bad("a list of entries")


@dataclass(frozen=True, slots=True)
class News:
    """An announcement that there is something new in these cells: their holders have it."""

    layout: bytes
    cells: Places


def encode_hint(items: Sequence[Item]) -> bytes:
    """An announcement of new entries; of none: there are many, ask me."""
    return cbor.encode([[item.id, item.version, item.digest] for item in items])


def encode_news(news: News) -> bytes:
    """The other announcement."""
    return cbor.encode(["news", news.layout, encode_places(news.cells)])


def decode_hint(data: bytes) -> tuple[Item, ...] | News:
    """The announced entries, or cells."""
    match cbor.decode(data, max_bytes=16 << 10):
        case ["news", bytes() as layout, bytes() as cells] if len(cells) <= 2 * limits.NEWS_CELLS:
            return News(_layout(layout), decode_places(cells))
        case list() as items if len(items) <= limits.HINT_ITEMS:
            return tuple(_item(item) for item in items)
    raise _bad("an announcement")


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """The answer to AskEntries: sealed entries."""
    return cbor.encode(list(entries))


def decode_entries(data: bytes) -> tuple[bytes, ...]:
    """The sealed entries in ``data``, themselves not read yet."""
    match cbor.decode(data, max_bytes=_MESSAGE_BYTES):
        case list() as entries if len(entries) <= limits.IDS_A_PAGE:
            found = tuple(entry for entry in entries if isinstance(entry, bytes))
            if len(found) == len(entries):
                return found
    raise _bad("a page of entries")


def encode_versions(versions: Sequence[int], sure: Sequence[bool]) -> bytes:
    """The answer to AskVersions: one for each id, 0 where nothing is known; and of which ids this node has all that there is."""
    return cbor.encode([list(versions), list(sure)])


def decode_versions(data: bytes, ids: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """The versions of so many agents, and whether the other side is sure of each."""
    match cbor.decode(data, max_bytes=_MESSAGE_BYTES):
        case [list() as versions, list() as sure] if len(versions) == len(sure) == ids:
            found = tuple(one for one in versions if isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= limits.MAX_NUMBER)
            said = tuple(one for one in sure if isinstance(one, bool))
            if len(found) == len(said) == ids:
                return found, said
    raise _bad("a list of versions")


def _layout(name: bytes) -> bytes:
    if len(name) not in (0, limits.LAYOUT_BYTES):
        raise _bad("the name of a layout")
    return name


def encode_summaries(summaries: Sequence[bytes]) -> bytes:
    """The answer to AskSummaries."""
    return cbor.encode(list(summaries))


def decode_summaries(data: bytes) -> tuple[bytes, ...]:
    """The encoded summaries in ``data``, themselves not read yet."""
    match cbor.decode(data, max_bytes=_MESSAGE_BYTES):
        case list() as summaries if len(summaries) <= limits.PLACES:
            found = tuple(one for one in summaries if isinstance(one, bytes))
            if len(found) == len(summaries):
                return found
    raise _bad("a list of summaries")


def encode_part(total: int, part: bytes) -> bytes:
    """The answer to AskCodebook: how long it is (0: it is not here), and the bytes from where it was asked for on."""
    return cbor.encode([total, part])


def decode_part(data: bytes) -> tuple[int, bytes]:
    """See ``encode_part``."""
    match cbor.decode(data, max_bytes=_MESSAGE_BYTES):
        case [int() as total, bytes() as part] if not isinstance(total, bool) and 0 <= total <= limits.MAX_NUMBER:
            if len(part) <= limits.PART_BYTES:
                return total, part
    raise _bad("a part of a codebook")


def _item(value: Value) -> Item:
    match value:
        case [agent, int() as version, bytes() as digest] if not isinstance(version, bool) and 0 <= version <= limits.MAX_NUMBER:
            if len(digest) == 16:
                return Item(_id(agent), version, digest)
    raise _bad("an entry of a list")


def _id(value: Value) -> AgentId:
    if isinstance(value, str) and _ID.fullmatch(value):
        return AgentId(value)
    raise _bad("an agent's id")


def _bad(what: str) -> Refused:
    return Refused("bad-message", f"{what} of the directory cannot be read")


assert limits.PAGE_BYTES + 64 * 16 < _MESSAGE_BYTES and limits.ITEMS_A_PAGE * 64 < _MESSAGE_BYTES
