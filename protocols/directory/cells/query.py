"""The messages of ``/meshos/directory-search/1``: a question to the holder of some cells, and what it found there.

The asker has read the question and weighed its words by the codebook's vocabulary; a holder only compares. Vectors are sent rounded, and
the asker compares with the rounded ones too, so that both come to the same scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from meshos import cbor
from meshos.cbor import Value
from meshos.errors import Refused
from meshos.ids import AgentId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells.limits import CELLS
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.filters import Exclude, Filters
from meshos.protocols.directory.related import AGENT_ID
from meshos.protocols.directory.vector import DENSE, SCALE, Vector
from meshos.protocols.directory.wire import decode_places, encode_places
from meshos.storage.index.limits import PIECES, QUERY_WORDS, WORD_CHARS
from meshos.storage.index.question import Question, Term

SEARCH = "/meshos/directory-search/1"
_MESSAGE_BYTES = 512 << 10
_MOST_RARE = 64.0
_ENDLESS = float(2**31)


@dataclass(frozen=True, slots=True)
class CellSearch:
    """Find what fits in these cells of the layout. ``full``: of so many of the best the records themselves are wanted; ``left_out`` is an
    agent that is not to be found, or empty. ``collapse``: of near-equal ones of an organisation only a few are.
    """

    layout: bytes
    cells: Places
    question: Question
    filters: Filters
    full: int
    left_out: str = ""
    collapse: bool = True


class Brief(NamedTuple):
    """What was found, by name: its score (0..1), its price in millionths of a MESH, and how many near-equal ones of its organisation were
    left out ``behind`` it. A tuple, since an asker reads hundreds for each question."""

    id: AgentId
    version: int
    digest: bytes
    score: float
    price: int
    behind: int = 0


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """Of which cells this is all, the best first; and the sealed records of the first of them."""

    cells: Places
    found: tuple[Brief, ...]
    sealed: tuple[bytes, ...]


def encode_search(asked: CellSearch) -> bytes:
    """A request's bytes."""
    question, filters = _question(asked.question), filters_out(asked.filters)
    return cbor.encode([asked.layout, encode_places(asked.cells), question, filters, asked.full, asked.left_out, asked.collapse])


def decode_search(data: bytes) -> CellSearch:
    """The request in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-message``, and what ``filters.check`` raises."""
    match cbor.decode(data, max_bytes=128 << 10):
        case [
            bytes() as layout,
            bytes() as cells,
            list() as question,
            list() as filters,
            int() as full,
            str() as left_out,
            bool() as collapse,
        ]:
            if len(layout) == limits.LAYOUT_BYTES and 0 <= full <= limits.FOUND and (not left_out or AGENT_ID.fullmatch(left_out)):
                places = decode_places(cells)
                if places and places[-1] < CELLS[1]:
                    return CellSearch(layout, places, _read_question(question), filters_in(filters), full, left_out, collapse)
    raise _bad("a question")


def rounded(question: Question) -> Question:
    """As the other side will have it."""
    return _read_question(_question(question))


def encode_answer(answer: CellAnswer) -> bytes:
    """An answer's bytes."""
    return cbor.encode([encode_places(answer.cells), _encode_briefs(answer.found), list(answer.sealed)])


def decode_answer(data: bytes) -> CellAnswer:
    """The answer in ``data``, its records not read yet; raises Refused ``too-large``, ``bad-encoding`` or ``bad-message``."""
    match cbor.decode(data, max_bytes=_MESSAGE_BYTES):
        case [bytes() as cells, bytes() as briefs, list() as sealed]:
            found, records = _decode_briefs(briefs), tuple(one for one in sealed if isinstance(one, bytes))
            if len(records) == len(sealed) <= len(found):
                return CellAnswer(decode_places(cells), found, records)
    raise _bad("an answer")


_ROW = np.dtype([("id", "V8"), ("digest", "V16"), ("version", ">u8"), ("score", ">f8"), ("price", ">u8"), ("behind", ">u4")])
"""A brief as it is sent; the id without what all begin with. A table is read ten times as fast as a hundred lists are."""


def _encode_briefs(found: Sequence[Brief]) -> bytes:
    rows = np.zeros(len(found), _ROW)
    rows["id"] = np.frombuffer(bytes.fromhex("".join(brief.id[2:] for brief in found)), "V8")
    rows["digest"] = np.frombuffer(b"".join(brief.digest for brief in found), "V16")
    for name in ("version", "score", "price", "behind"):
        rows[name] = [getattr(brief, name) for brief in found]
    return rows.tobytes()


def _decode_briefs(data: bytes) -> tuple[Brief, ...]:
    if len(data) % _ROW.itemsize or len(data) > limits.FOUND * _ROW.itemsize:
        raise _bad("the agents of an answer")
    rows = np.frombuffer(data, _ROW)
    within = (rows["score"] >= 0) & (rows["score"] <= 1) & (rows["behind"] <= limits.ORG_RECORDS)
    if not (within & (rows["version"] <= limits.MAX_NUMBER) & (rows["price"] <= limits.MAX_NUMBER)).all():
        raise _bad("an agent of an answer")
    ids, numbers = rows["id"].tobytes().hex(), (rows[name].tolist() for name in ("version", "digest", "score", "price", "behind"))
    named = (AgentId(f"a-{ids[at : at + 16]}") for at in range(0, len(ids), 16))
    return tuple(map(Brief._make, zip(named, *numbers, strict=True)))


def _question(question: Question) -> list[Value]:
    terms: list[Value] = [[term.stem, term.word, float(term.rarity)] for term in question.terms]
    vector = np.clip(np.rint(question.vector * (SCALE * _FINER)), -(2**15), 2**15 - 1).astype("<i2")
    largest = np.maximum(np.abs(question.pieces).max(axis=1, keepdims=True), np.float32(1e-9)) if len(question.pieces) else 1
    pieces = np.rint(question.pieces * (127 / largest)).astype(np.int8)
    weights: list[Value] = [float(np.float32(weight)) for weight in question.weights]
    return [terms, float(question.mean_length), vector.tobytes(), pieces.tobytes(), weights]


_FINER = 16
"""A question's vector is sent that much finer than vectors are placed by: to 1/8,192."""


def _read_question(value: Sequence[Value]) -> Question:
    match value:
        case [list() as terms, float() as mean_length, bytes() as vector, bytes() as pieces, list() as weights]:
            like = len(vector) == 2 * DENSE and len(pieces) == len(weights) * DENSE
            if like and len(weights) <= PIECES and len(terms) <= QUERY_WORDS and 1 <= mean_length < _ENDLESS:
                numbers = np.array([_within(weight, _MOST_RARE) for weight in weights], np.float32)
                found = np.frombuffer(pieces, np.int8).astype(np.float32).reshape(-1, DENSE)
                dense = _unit(np.frombuffer(vector, "<i2").astype(np.float32)[None, :])[0]
                return Question(tuple(_term(term) for term in terms), mean_length, dense, _unit(found), numbers)
    raise _bad("a question")


def _term(value: Value) -> Term:
    match value:
        case [str() as stem, str() as word, float() as rarity] if len(stem) <= WORD_CHARS and len(word) <= WORD_CHARS:
            return Term(stem, word, _within(rarity, _MOST_RARE))
    raise _bad("a word of a question")


def _within(value: Value, most: float) -> float:
    if isinstance(value, float) and math.isfinite(value) and 0 <= value <= most:
        return value
    raise _bad("a number")


def _unit(rows: Vector) -> Vector:
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-9))
    unit: Vector = (rows / lengths).astype(np.float32)
    return unit


def filters_out(filters: Filters) -> list[Value]:
    """Filters as they are sent."""
    excluded = filters.exclude
    out: list[Value] = [list(part) for part in (excluded.capabilities, excluded.certifications, excluded.regions, excluded.organisations)]
    measured: list[Value] = [
        None if bound is None else float(bound) for bound in (filters.trust_min, filters.trust_max, filters.max_latency_ms)
    ]
    return [list(filters.certifications), list(filters.capabilities), filters.region, filters.max_price_micro, measured, out]


def filters_in(value: Sequence[Value]) -> Filters:
    """Filters as they were sent, not checked yet; raises Refused ``bad-message``."""
    match value:
        case [certifications, capabilities, None | str() as region, None | int() as price, [low, high, latency], [*out]] if len(out) == 4:
            return Filters(
                _bound(low),
                _bound(high),
                _texts(certifications),
                _texts(capabilities),
                region,
                _bound(latency),
                price,
                Exclude(*(_texts(part) for part in out)),
            )
    raise _bad("a filter")


def _bound(value: Value) -> float | None:
    return None if value is None else _within(value, _ENDLESS)


def _texts(value: Value) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > limits.FILTER_ENTRIES:
        raise _bad("a list of a filter")
    texts = tuple(entry for entry in value if isinstance(entry, str) and len(entry) <= limits.FILTER_CHARS)
    if len(texts) != len(value):
        raise _bad("an entry of a filter")
    return texts


def _bad(what: str) -> Refused:
    return Refused("bad-message", f"{what} of a search in the directory cannot be read")
