"""A question to a directory in cells: holders are asked side by side, slow ones hedged, and what they found is made sure of.

Each cell is asked of one holder: this node itself where it holds it, otherwise whoever holds many of the cells and is near. Where one
refuses, or has not answered in ``HEDGE_S``, others that hold its cells are asked too, of these a silent one's stand-in after twice as
long, and the first answer counts; cells that a holder could not answer for go to another in the next wave. What no holder answered for is
said to be missing.

Holders answer with names and scores, and with the records of their best. Those that are shown have their signatures checked and
are scored again here, so that nobody can make up any; where what one holder says of an agent does not hold, what another says of it counts.
Against leaving out and out-of-date records the ``SECONDED`` nearest cells, where most of the best lie, are asked of two holders
at once, and cells of which a holder shows less than half of what their summaries say, of others after it.

While the directory goes from one codebook to the next, the holders by the former one are asked beside them for what they have: what was
there before is found with them, what has come since with those of the present cells, and only these say what is complete.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from meshos.effects import Ok, Outcome
from meshos.errors import MeshError, Refused
from meshos.flow import Ask, Compute, Flow, Gather, Propose, Sleep, successes
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.answering import answered, brief_of
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.query import SEARCH, Brief, CellAnswer, CellSearch, decode_answer, encode_search, rounded
from meshos.protocols.directory.cells.routing import Chart, Route
from meshos.protocols.directory.commands import MACHINE, Places, Read
from meshos.protocols.directory.fetching import entries_of
from meshos.protocols.directory.filters import UNFILTERED, Filters, condition_of
from meshos.protocols.directory.matching import matches
from meshos.protocols.directory.parts import Former, Parts
from meshos.protocols.directory.record import AgentRecord, parse
from meshos.protocols.directory.shelf import Match, matching
from meshos.storage.index.question import Question

Tried = dict[int, set[NodeId]]
"""The holders of each cell that need not be asked again."""


@dataclass(slots=True)
class Gathered:
    """What the holders said: each agent's newest entry, of whom it was heard, and the records that came along, by their digests.

    ``asked`` are the cells that may know, of which some are ``missing``: nobody has answered for them, or told of them yet.
    ``others`` is what else was said of an agent, which counts where the newest does not hold.
    """

    question: Question
    filters: Filters
    asked: int
    missing: int
    briefs: dict[AgentId, tuple[Brief, NodeId]] = field(default_factory=dict)
    others: dict[AgentId, list[tuple[Brief, NodeId]]] = field(default_factory=dict)
    sealed: dict[bytes, bytes] = field(default_factory=dict)
    mute: set[NodeId] = field(default_factory=set)
    """Those that did not hand over what they had named: they are not waited for again."""

    def take(self, node: NodeId, answer: CellAnswer) -> None:
        """Note what ``node`` says, one thing of each agent."""
        for brief in answer.found:
            known = self.briefs.get(brief.id)
            if known is None:
                self.briefs[brief.id] = brief, node
                continue
            others = self.others.setdefault(brief.id, [])
            if all(node != who for _, who in (known, *others)):
                newer = brief.version > known[0].version
                self.briefs[brief.id] = (brief, node) if newer else known
                others.append(known if newer else (brief, node))
        for data, brief in zip(answer.sealed, answer.found, strict=False):
            self.sealed.setdefault(brief.digest, data)

    def disproved(self, agent: AgentId) -> bool:
        """The newest that was said of ``agent`` does not hold, or what came with it is something else: what another says counts from
        here on. Whether there is one.
        """
        self.sealed.pop(self.briefs[agent][0].digest, None)
        others = self.others.get(agent)
        if not others:
            return False
        best = max(others, key=lambda other: other[0].version)
        others.remove(best)
        self.briefs[agent] = best
        return True


async def gather(
    parts: Parts, chart: Chart, asked: str | AgentRecord, filters: Filters, *, full: int, left_out: str, collapse: bool = True
) -> Gathered:
    """Ask the holders of the cells that may know; ``full``: so many records will be shown; ``collapse``: of near-equal ones of an
    organisation a few are enough. Raises Failed ``model-missing``."""
    layout = parts.layout
    question, route = await Compute[tuple[Question, Route]](partial(routed, parts, chart, asked, filters), cost_s=0.012)
    gathered = Gathered(question, filters, len(route.cells) + route.untold, 0)
    search = CellSearch(layout.name, (), question, filters, full, left_out, collapse)
    if parts.former is None:
        await _gather(parts, layout, chart, route, search, gathered)
    else:
        both = _gather(parts, layout, chart, route, search, gathered), _gather_former(parts, parts.former, search, gathered)
        successes(await Gather(*both, each=True))
    gathered.missing += route.untold
    return gathered


async def _gather(parts: Parts, layout: Layout, chart: Chart, route: Route, wanted: CellSearch, gathered: Gathered) -> None:
    filters = wanted.filters
    left, silent, tried = set(route.cells), set(route.cells), Tried()
    seconded = set(route.cells[: limits.SECONDED])
    for wave in range(limits.WAVES):
        planned = plan(parts, layout, left, tried)
        if not planned:
            break
        search = replace(wanted, full=share(wanted.full, len(planned)))
        note(tried, planned)
        others = {cell for node, cells in planned.items() if node != parts.node for cell in cells}
        second = plan(parts, layout, seconded & others, tried, planned)
        also = {node: cells for node, cells in second.items() if node in planned and _fits(chart, planned[node], cells)}
        firsts = [_group(parts, layout, node, replace(search, cells=cells), tried, also.get(node, ())) for node, cells in planned.items()]
        seconds = {node: replace(search, cells=cells, full=0) for node, cells in second.items() if node not in also}
        outcomes, seconded_by = await _heard(firsts, seconds)
        for (node, cells), outcome in zip(planned.items(), outcomes, strict=True):
            if isinstance(outcome, Ok) and all(node != who for who, _ in outcome.value):
                for cell in set(cells).difference(*(answer.cells for _, answer in outcome.value)):
                    tried[cell].discard(node)  # it was only slower than others, who could not say
        said = [*(outcome.value for outcome in outcomes if isinstance(outcome, Ok)), seconded_by]
        for node, answer in (one for answers in said for one in answers):
            silent -= set(answer.cells)
            few = node != parts.node and _too_few(chart, filters, answer, also.get(node, ()), again=wave > 0)
            left -= set(answer.cells) if not few else set()
            gathered.take(node, answer)
        heard = {node for answers in said for node, _ in answers}
        note(tried, {node: cells for node, cells in second.items() if node in heard})  # who is only slow may be asked once more
        if not left:
            break
    gathered.missing = len(silent)
    if silent:  # what this node has of them, as it has while the directory is laid anew, is better than nothing
        out = frozenset({wanted.left_out}) if wanted.left_out else frozenset[str]()
        mine = await matches(parts, wanted.question, filters, out, tuple(sorted(silent)), collapse=wanted.collapse)
        gathered.take(parts.node, CellAnswer((), tuple(brief_of(match) for match in mine), ()))


async def _gather_former(parts: Parts, former: Former, wanted: CellSearch, gathered: Gathered) -> None:
    """What the holders have by how the directory was laid before; of one that does not answer, another is asked."""
    route: Route = await Compute(partial(former.chart.route, wanted.question, condition_of(wanted.filters)), cost_s=0.001)
    left, tried = set(route.cells), Tried()
    for _ in range(limits.WAVES):
        planned = plan(parts, former.layout, left, tried)
        search = replace(wanted, layout=former.layout.name, full=share(wanted.full, len(planned)))
        groups = [_group(parts, former.layout, node, replace(search, cells=cells), tried) for node, cells in planned.items()]
        note(tried, planned)
        for cells, outcome in zip(planned.values(), await Gather(*groups, each=True) if groups else (), strict=True):
            if isinstance(outcome, Ok):
                left -= set(cells)
                for node, answer in outcome.value:
                    gathered.take(node, answer)


def note(tried: Tried, asked: Mapping[NodeId, Places]) -> None:
    """Those were asked."""
    for node, cells in asked.items():
        for cell in cells:
            tried.setdefault(cell, set()).add(node)


def _fits(chart: Chart, first: Places, second: Places) -> bool:
    """Whether a holder can be asked for both at once: within what it may name it has to show half of ``first`` beside all of ``second``."""
    return 2 * chart.promised(second) + min(limits.FOUND, chart.promised(first)) <= 2 * limits.FOUND


def _too_few(chart: Chart, filters: Filters, answer: CellAnswer, also: Places, *, again: bool) -> bool:
    """Whether less was found than half of what the summaries of these cells promise: all of it fits a question without conditions. What a
    holder says it left out behind others counts where others were asked ``again``, as one of them may only say so. What is promised of
    cells that it was ``also`` asked for is taken for found, so that it hides nothing of its own behind them.
    """
    found = len(answer.found) + (sum(brief.behind for brief in answer.found) if again else 0)
    second = frozenset(also).intersection(answer.cells)
    first = [cell for cell in answer.cells if cell not in second]
    return filters == UNFILTERED and 2 * (found - chart.promised(sorted(second))) < min(limits.FOUND, chart.promised(first))


def share(full: int, nodes: int) -> int:
    """Of so many records that will be shown, how many are wanted from each of ``nodes`` that are asked."""
    return min(full, 2 * full // max(1, nodes) + limits.RANKS_HIGH)


def routed(parts: Parts, chart: Chart, asked: str | AgentRecord, filters: Filters) -> tuple[Question, Route]:
    """The question as it is sent, and the cells that it is sent to (a worker thread)."""
    question = rounded(parts.shelf.question(asked, chart.codebook.vocabulary, chart.has))
    return question, chart.route(question, condition_of(filters))


def plan(parts: Parts, layout: Layout, cells: set[int], tried: Tried, asked: Collection[NodeId] = ()) -> dict[NodeId, Places]:
    """Whom to ask for which cells: this node for what it holds, then whoever is ``asked`` in any case, then whoever holds most of the rest
    for the way to it; those of whom it is convinced that they lie for what nobody else holds."""
    alive = frozenset(parts.peers()) | {parts.node}
    here = frozenset(parts.sure_of(sorted(cells)) if layout is parts.layout else cells)
    holding: dict[NodeId, set[int]] = {}
    for cell in cells:
        for node in layout.holders[cell]:
            if node in alive and node not in tried.get(cell, ()) and (node != parts.node or cell in here):
                holding.setdefault(node, set()).add(cell)
    chosen: dict[NodeId, Places] = {}
    if parts.node in holding:
        _choose(chosen, holding, parts.node)
    liars = parts.suspects.convinced

    def worth(node: NodeId) -> tuple[bool, bool, float, NodeId]:
        return node not in liars, node in asked, len(holding[node]) / _way(parts, node), node

    while holding:
        _choose(chosen, holding, max(holding, key=worth))
    return chosen


def _way(parts: Parts, node: NodeId) -> float:
    return limits.NEAR_S + parts.distance_s(node)


def _choose(chosen: dict[NodeId, Places], holding: dict[NodeId, set[int]], node: NodeId) -> None:
    cells = holding.pop(node)
    chosen[node] = tuple(sorted(cells))
    for other in [other for other in holding if holding[other] & cells]:
        holding[other] -= cells
        if not holding[other]:
            del holding[other]


Answers = list[tuple[NodeId, CellAnswer]]


async def _group(
    parts: Parts,
    layout: Layout,
    node: NodeId,
    search: CellSearch,
    tried: Tried,
    also: Places = (),
    hedge_s: float = limits.HEDGE_S,
) -> Answers:
    """What ``node`` answers, or the others that hold its cells, whoever is first: they are asked as soon as it refuses, or after
    ``hedge_s``; of these a silent one is hedged in its turn, after twice as long. ``also``: cells of which it is the second to be asked, so
    that nobody is in its stead. Raises what asking raises if nobody answers; the others are ``tried`` then."""
    if node == parts.node:
        return [(node, await answered(parts, search))]
    before = {cell: {node, *tried.get(cell, ())} for cell in search.cells}
    instead = plan(parts, layout, set(search.cells), before)
    of_both = replace(search, cells=tuple(sorted({*search.cells, *also})))
    if not instead:
        return await _asked(node, of_both)

    hedged, refused = False, list[MeshError]()

    async def first() -> Answers:
        try:
            return await _asked(node, of_both)
        except MeshError as error:
            if hedged:
                raise
            refused.append(error)
            return await others()

    async def hedge() -> Answers:
        nonlocal hedged
        await Sleep(hedge_s)
        if refused:
            raise refused[0]  # the others are asked already
        hedged = True
        return await others()

    async def others() -> Answers:
        groups = (_group(parts, layout, other, replace(search, cells=cells), before, (), 2 * hedge_s) for other, cells in instead.items())
        outcomes = await Gather(*groups, each=True)
        note(before, instead)  # where the first was quicker nobody comes to here: these are only slow then
        for cell, nodes in before.items():
            tried.setdefault(cell, set()).update(nodes)
        return [answer for answers in successes(outcomes) for answer in answers]

    outcomes = await Gather(first(), hedge(), need=1)
    answers: list[Answers] = successes(outcomes)
    return answers[0]


async def _heard(firsts: Sequence[Flow[Answers]], seconds: Mapping[NodeId, CellSearch]) -> tuple[list[Outcome[Answers]], Answers]:
    """What the holders that are first for some cells answer, and what those do that are asked as seconds: these are not waited for longer
    than it takes the former, or a slow holder to be hedged."""
    outcomes: list[Outcome[Answers]] = []
    said: Answers = []

    async def first() -> None:
        outcomes.extend(await Gather(*firsts, each=True))

    async def second(node: NodeId, search: CellSearch) -> None:
        try:
            said.extend(await _asked(node, search))
        except MeshError:
            return  # others are asked the same

    async def patience() -> None:
        await Sleep(limits.HEDGE_S)
        while not outcomes:
            await Sleep(limits.SECONDS_S)

    async def all_seconds() -> None:
        await Gather(*(second(node, search) for node, search in seconds.items()))

    successes(await Gather(first(), Gather(all_seconds(), patience(), need=1))) if seconds else await first()
    return outcomes, said


async def _asked(node: NodeId, search: CellSearch) -> Answers:
    answer = decode_answer(await Ask(node, SEARCH, encode_search(search), limits.SEARCH_TIMEOUT_S, retries=0))
    if not set(answer.cells) <= set(search.cells):
        raise Refused("bad-message", "a holder answered for cells that it was not asked for")
    return [(node, answer)]


async def confirmed(parts: Parts, gathered: Gathered, wanted: Sequence[AgentId]) -> dict[AgentId, Match]:
    """Those of ``wanted`` that are what their holders said: signed by their owners, fulfilling what was asked, and worth their scores."""
    lacking: dict[NodeId, list[AgentId]] = {}
    for agent in wanted:
        brief, node = gathered.briefs[agent]
        if brief.digest not in gathered.sealed and node not in gathered.mute:
            lacking.setdefault(node, []).append(agent)
    pages = successes(await Gather(*(_fetched(parts, node, ids) for node, ids in lacking.items()))) if lacking else []
    for node, page in zip(lacking, pages, strict=True):
        gathered.sealed.update(page)
        if not page:
            gathered.mute.add(node)
    briefs = [gathered.briefs[agent][0] for agent in wanted]
    some = [(brief, gathered.sealed[brief.digest]) for brief in briefs if brief.digest in gathered.sealed]
    found: list[Match] = await Compute(partial(_confirmed, parts, gathered, some), cost_s=0.0006 * len(some))
    return {match.record.agent_id: match for match in found if _allowed(parts, match)}


def _allowed(parts: Parts, match: Match) -> bool:
    return parts.barred(match.record.mesh_id, match.record.agent_id, match.sealed.signer) is None


async def _fetched(parts: Parts, node: NodeId, ids: Sequence[AgentId]) -> dict[bytes, bytes]:
    """The sealed records of these agents by their digests, as ``node`` has them; nothing where it does not answer."""
    try:
        pages: list[bytes] = []
        for start in range(0, len(ids), limits.IDS_A_PAGE):
            some = tuple(ids[start : start + limits.IDS_A_PAGE])
            if node == parts.node:
                pages += await Propose[tuple[bytes, ...]](Read(some, limits.PAGE_BYTES), MACHINE)
            else:
                pages += await entries_of(node, some)
        return {parse(data).digest: data for data in pages}
    except MeshError:
        return {}  # what it has named is left out of the answer


def _confirmed(parts: Parts, gathered: Gathered, some: Sequence[tuple[Brief, bytes]]) -> list[Match]:
    named = {(brief.id, brief.digest): brief.score for brief, _ in some}
    signed = parts.checker.signed([data for _, data in some])
    sealed = [one for one in signed if isinstance(one.entry, AgentRecord) and (one.entry.agent_id, one.digest) in named]
    found = matching(sealed, gathered.question, condition_of(gathered.filters))
    return [match for match in found if abs(match.score - named[match.record.agent_id, match.sealed.digest]) <= limits.SCORES_ALIKE]
