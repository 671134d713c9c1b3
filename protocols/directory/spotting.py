"""Spot checks: whether holders of cells show in their answers what they list, as their owners have signed it, and at the right scores.

A holder is held to its own words, so that nobody else (a publisher, another holder, a slow round) can make it look like a liar. It lists
what it has in a cell, as it does for those that sync with it. Some rounds later it is asked a question, as everybody asks them: some
words of a record that it has listed, sent for all cells that such a question goes to and that it holds. If it still lists the record
afterwards, it has had it all the while; so if it answers for the record's cell and shows an older version, or does not show the record,
which would rank there, it lies; and so it does with a score that its record does not have. A record that its owner has not signed
convinces at once. Nothing follows from an answer that did not come, from cells of which a holder is not sure, from another
layout, from what is in quarantine, or from a record that cannot be verified for any other reason than its signature: certificates end.

Whom is drawn by a secret of this node, so that no holder knows when it is its turn; who was caught before, or is accused on the ledger by
another organisation, has every other turn. A check costs a list, one or two records and a search.
"""

import hashlib
from dataclasses import dataclass
from functools import partial

from meshos.consensus.ledger.testimonies import FORGED, OMITTED, STALE
from meshos.errors import MeshError
from meshos.flow import Ask, Compute, Propose
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.answering import brief_of
from meshos.protocols.directory.asking import plan, routed, share
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.query import SEARCH, Brief, CellAnswer, CellSearch, decode_answer, encode_search
from meshos.protocols.directory.cells.routing import Chart, Route
from meshos.protocols.directory.commands import MACHINE, Item, Read
from meshos.protocols.directory.fetching import entries_of, items_of
from meshos.protocols.directory.filters import UNFILTERED
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord, Entry, Sealed, parse
from meshos.protocols.directory.shelf import candidacy, matching
from meshos.protocols.directory.suspects import Lie, Spot
from meshos.storage.index.facets import ANYTHING
from meshos.storage.index.limits import NEAR
from meshos.storage.index.question import Question

_ROUNDED = 0.005
"""How much less near two vectors may look here than where they were compared."""

USUAL = 10
"""Records that a question wants to show, where nobody says otherwise."""


async def spot(parts: Parts) -> None:
    """One round: begin a check, or go on with the one that is under way. Raises what asking raises, and Failed ``model-missing``."""
    layout, suspects = parts.layout, parts.suspects
    suspects.begin_round()
    chart = parts.charted.chart if parts.charted.layout == layout.name else None
    if not parts.spots or layout.codebook is None or chart is None or _is_blind(parts):
        suspects.spot = None
    elif suspects.spot is None:
        if _drawn(parts, "whether", limits.SPOT_ROUNDS) == 0:
            suspects.spot = await _begun(parts, layout)
    elif suspects.round >= suspects.spot.due:
        begun, suspects.spot = suspects.spot, None
        if begun.layout == layout.name and begun.node in layout.holders[begun.home]:
            await _checked(parts, layout, chart, begun)


def _is_blind(parts: Parts) -> bool:
    """Whether this node cannot know now who is in quarantine, and what holders leave out for it."""
    return parts.behind() or (parts.agreed is not None and parts.agreed().restoring)


def _drawn(parts: Parts, what: str, of: int) -> int:
    """A number below ``of`` that nobody else can know: another one in each round, and for each ``what``."""
    name = f"spot {what} {parts.suspects.round}".encode()
    return int.from_bytes(hashlib.blake2b(name, key=parts.checker.secret[:64], digest_size=8).digest(), "big") % of


# -- beginning -------------------------------------------------------------------------------------------------------


async def _begun(parts: Parts, layout: Layout) -> Spot | None:
    """What a holder lists, one record of it, and when it is asked for it; None where there is nothing to ask for."""
    drawn = _whom(parts, layout)
    if drawn is None:
        return None
    node, cell = drawn
    listed = (await items_of(node, layout, (cell,))).items
    if not listed:
        return None
    item = listed[_drawn(parts, "record", len(listed))]
    sealed = await _found(parts, layout, node, cell, item)
    if sealed is None:
        return None
    home = (await Compute(partial(layout.places_of, [sealed.entry]), cost_s=0.0001))[0][0]
    due = parts.suspects.round + 1 + _drawn(parts, "when", limits.SPOT_WAIT)
    return Spot(layout.name, node, cell, item, sealed, home, due) if node in layout.holders[home] else None


def _whom(parts: Parts, layout: Layout) -> tuple[NodeId, int] | None:
    """A holder, and one of its cells."""
    assert layout.codebook is not None
    alive = frozenset(parts.peers()) - parts.suspects.convinced.keys() - {parts.node}
    holding: dict[NodeId, list[int]] = {}
    for cell in range(layout.codebook.cells):
        for node in layout.holders[cell]:
            if node in alive:
                holding.setdefault(node, []).append(cell)
    first = sorted({node for node in (*parts.accused(), *parts.suspects.suspected()) if node in holding})
    nodes = first if first and _drawn(parts, "of whom", 2) else sorted(holding)
    if not nodes:
        return None
    node = nodes[_drawn(parts, "who", len(nodes))]
    return node, holding[node][_drawn(parts, "where", len(holding[node]))]


async def _found(parts: Parts, layout: Layout, node: NodeId, cell: int, item: Item) -> Sealed | None:
    """The record that was listed, from whoever has it, ``node`` last; None for a tombstone, or what nobody has whole."""
    here: tuple[bytes, ...] = await Propose(Read((item.id,), limits.PAGE_BYTES), MACHINE)
    sealed = await Compute(partial(_vouched, parts, here, item), cost_s=0.0003 * len(here))
    alive = frozenset(parts.peers())
    for holder in (*(one for one in layout.holders[cell] if one in alive and one != node), node):
        if sealed is not None:
            break
        pages = await _handed(holder, (item,))
        sealed = await Compute(partial(_vouched, parts, pages, item), cost_s=0.0003)
    return sealed if sealed is not None and isinstance(sealed.entry, AgentRecord) else None


async def _handed(node: NodeId, items: tuple[Item | Brief, ...]) -> tuple[bytes, ...]:
    """What ``node`` hands over of these; nothing, where it does not answer."""
    try:
        return (await entries_of(node, [item.id for item in items]))[: len(items)]
    except MeshError:
        return ()  # another may have it, or nothing comes of this check


def _vouched(parts: Parts, pages: tuple[bytes, ...], item: Item) -> Sealed | None:
    return next((sealed for sealed in parts.checker.signed(pages[:1]) if sealed.digest == item.digest), None)


# -- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """What an answer, and what was handed over after it, show of themselves: a record that its owner has not signed, or that is not what
    is said of it."""

    unsigned: bool
    wrong: bool


async def _checked(parts: Parts, layout: Layout, chart: Chart, begun: Spot) -> None:
    text = _excerpt(begun.sealed, _drawn(parts, "words", 2**32))
    question, route = await Compute[tuple[Question, Route]](partial(routed, parts, chart, text, UNFILTERED), cost_s=0.012)
    cells = tuple(sorted(cell for cell in route.cells if begun.node in layout.holders[cell]))
    if begun.home not in cells:
        return  # these words lead elsewhere
    wanted = share(USUAL + 1, len(plan(parts, layout, set(route.cells), {})))
    search = CellSearch(layout.name, cells, question, UNFILTERED, wanted)
    data = await Ask(begun.node, SEARCH, encode_search(search), limits.SEARCH_TIMEOUT_S, retries=0)
    answer, name = decode_answer(data), hashlib.sha256(data).digest()
    best = answer.found[: limits.RANKS_HIGH]
    handed = await _handed(begun.node, best) if len(answer.sealed) < len(best) else ()
    read: _Read = await Compute(partial(_read, parts, question, answer, handed), cost_s=0.0006 * (len(answer.sealed) + len(handed)))
    if read.unsigned or read.wrong:
        parts.suspects.catch(begun.node, Lie(FORGED, name), proven=read.unsigned)
    elif begun.home in answer.cells:
        reason = await _hidden(parts, layout, begun, question, answer)
        if reason is not None:
            parts.suspects.catch(begun.node, Lie(reason, name), proven=False)


def _excerpt(sealed: Sealed, drawn: int) -> str:
    """Some words of a record that follow each other, as somebody might ask for it."""
    assert isinstance(sealed.entry, AgentRecord)
    words = sealed.entry.profile.text().split()
    begin = drawn % max(1, len(words) - limits.SPOT_WORDS + 1)
    return " ".join(words[begin : begin + limits.SPOT_WORDS])[: limits.QUERY_CHARS]


def _read(parts: Parts, question: Question, answer: CellAnswer, handed: tuple[bytes, ...]) -> _Read:
    """For worker threads: .6 ms a record."""
    unsigned = wrong = False
    good: dict[bytes, Sealed] = {}
    told = {brief.digest: brief for brief in answer.found}
    for at, data in enumerate((*answer.sealed, *handed)):
        try:
            sealed = parts.checker.vouched(data)
        except MeshError as error:
            unsigned |= error.name == "bad-signature"
            continue  # certificates end, and are revoked
        wrong |= at < len(answer.sealed) and sealed.digest != answer.found[at].digest
        wrong |= sealed.digest in told and not isinstance(sealed.entry, AgentRecord)
        good[sealed.digest] = sealed
    some = [sealed for digest, sealed in good.items() if digest in told and isinstance(sealed.entry, AgentRecord)]
    scored = {match.sealed.digest: brief_of(match) for match in matching(some, question, ANYTHING)}
    wrong |= any(not _alike(told[digest], brief) for digest, brief in scored.items())
    return _Read(unsigned, wrong)


def _alike(said: Brief, found: Brief) -> bool:
    same = (said.id, said.version, said.price) == (found.id, found.version, found.price)
    return same and abs(said.score - found.score) <= limits.SCORES_ALIKE


async def _hidden(parts: Parts, layout: Layout, begun: Spot, question: Question, answer: CellAnswer) -> str | None:
    """How the holder hides what it has listed; None: it does not, as far as one can tell."""
    shown = next((brief for brief in answer.found if brief.id == begun.item.id), None)
    hidden = await _is_left_out(parts, begun, question, answer) if shown is None else shown.version < begun.item.version
    if not hidden or begun.item not in (await items_of(begun.node, layout, (begun.place,))).items:
        return None  # what it lists no more it need not have had when it was asked
    if shown is None and _is_barred(parts, await _handed(begun.node, (begun.item,)), begun.item):
        return None  # another node of the owner has signed what others hold
    return OMITTED if shown is None else STALE


def _is_barred(parts: Parts, pages: tuple[bytes, ...], item: Item) -> bool:
    """Whether what is handed over of ``item`` is in quarantine, as all is that a node there has signed."""
    try:
        found = [parse(data) for data in pages]
    except MeshError:
        return False
    same = [one for one in found if one.digest == item.digest]
    return any(parts.barred(one.entry.mesh_id, one.entry.agent_id, one.signer) is not None for one in same)


async def _is_left_out(parts: Parts, begun: Spot, question: Question, answer: CellAnswer) -> bool:
    """Whether the record, which is not shown, would rank among what is."""
    entry = begun.sealed.entry
    matches = await Compute(partial(matching, [begun.sealed], question, ANYTHING), cost_s=0.0003)
    if not matches or parts.barred(entry.mesh_id, entry.agent_id, begun.sealed.signer) is not None:
        return False
    if len(answer.found) < limits.FOUND - limits.RANKS_HIGH:  # of the first, those go whose vectors turn out to be of another text
        return not await _stands_behind(parts, begun, answer)
    worst = min(answer.found, key=lambda brief: brief.score)
    pages = await entries_of(begun.node, (worst.id,))
    if await Compute(partial(_differs, parts, question, worst, pages), cost_s=0.0006):
        return True
    ranks = matches[0].score > worst.score + limits.SCORES_ALIKE
    if ranks and await Compute(partial(_was_chosen_after, parts, begun.sealed, question, worst, pages), cost_s=0.001):
        return not await _stands_behind(parts, begun, answer)
    drawn = answer.found[_drawn(parts, "which", len(answer.found))]
    return await _is_made_up(parts, begun.node, question, drawn)  # else so many are better


async def _stands_behind(parts: Parts, begun: Spot, answer: CellAnswer) -> bool:
    """Whether one is shown that others of its organisation stand behind, and the record is near it: of a crowd a holder shows a few."""
    for brief in answer.found:
        if brief.behind:
            pages = await entries_of(begun.node, (brief.id,))
            if await Compute(partial(_is_near, parts, begun.sealed.entry, pages), cost_s=0.0003):
                return True
    return False


def _is_near(parts: Parts, entry: Entry, pages: tuple[bytes, ...]) -> bool:
    for sealed in map(parts.checker.vouched, pages[:1]):
        if isinstance(sealed.entry, AgentRecord) and isinstance(entry, AgentRecord) and sealed.entry.mesh_id == entry.mesh_id:
            return float(sealed.entry.meaning() @ entry.meaning()) >= NEAR - _ROUNDED
    return False


def _was_chosen_after(parts: Parts, sealed: Sealed, question: Question, worst: Brief, pages: tuple[bytes, ...]) -> bool:
    """Whether a holder that compares ``worst`` piece by piece has to compare the record too: only so many are chosen for that, before their
    pieces count."""
    other = parts.checker.vouched(pages[0])
    return other.digest == worst.digest and candidacy(sealed, question) > candidacy(other, question) + limits.CHOSEN_ALIKE


async def _is_made_up(parts: Parts, node: NodeId, question: Question, brief: Brief) -> bool:
    """Whether ``node`` cannot hand over what it has just named, or that is not signed or has not this score."""
    pages = await entries_of(node, (brief.id,))
    made_up: bool = await Compute(partial(_differs, parts, question, brief, pages), cost_s=0.0006)
    return made_up


def _differs(parts: Parts, question: Question, brief: Brief, pages: tuple[bytes, ...]) -> bool:
    one = next((parsed for parsed in map(parse, pages[:1]) if parsed.entry.agent_id == brief.id), None)
    if one is None or one.digest != brief.digest:
        return one is None  # else it has changed since
    try:
        sealed = parts.checker.vouched(pages[0])
    except MeshError as error:
        if error.name != "bad-signature":
            raise  # certificates end, and are revoked
        return True
    if not isinstance(sealed.entry, AgentRecord):
        return True  # what is withdrawn is found by no question
    found = matching([sealed], question, ANYTHING)
    return not all(_alike(brief, brief_of(match)) for match in found)
