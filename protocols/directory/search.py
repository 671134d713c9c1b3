"""From a question to agents: every cell that may know is asked, what they found is merged and ranked, and said to be partial where it is.

In this form there is one cell, and every node is in it, so that the asking node answers itself. ``Cell`` is the interface at which
the directory will be sharded: a question goes in, candidates come out, and merging does not care from where.

What is in quarantine (an agent, its organisation, the node that publishes it) is not found. Records are held all the same: once it is
lifted they are there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from meshos.effects import Ok, Outcome
from meshos.errors import BadInput, Failed
from meshos.flow import Compute, Flow, Gather, Propose
from meshos.ids import AgentId
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import MACHINE, Find, Held
from meshos.protocols.directory.keeping import judge
from meshos.protocols.directory.parts import Measured, Parts
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.directory.shelf import Match


@dataclass(frozen=True, slots=True)
class Filters:
    """What an answer must fulfil; None and empty are no condition. Words are compared without regard to case."""

    trust_min: float | None = None
    trust_max: float | None = None
    certifications: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    region: str | None = None
    max_latency_ms: float | None = None
    max_price_micro: int | None = None

    def any(self) -> bool:
        """Whether there is a condition at all."""
        return self != Filters()


@dataclass(frozen=True, slots=True)
class DiscoverRequest:
    """A question in plain words, how many answers are wanted, and what they must fulfil."""

    query: str
    limit: int = 10
    filters: Filters = Filters()


@dataclass(frozen=True, slots=True)
class Found:
    """A record that fits, with what the mesh measured of it; ``matched`` says why in a few words each."""

    sealed: Sealed
    record: AgentRecord
    measured: Measured
    score: float
    matched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiscoverAnswer:
    """The best first."""

    agents: tuple[Found, ...]
    cells_asked: int
    cells_missing: int

    @property
    def complete(self) -> bool:
        """Whether every cell that was asked has answered."""
        return self.cells_missing == 0


Cell: TypeAlias = Callable[[DiscoverRequest], Flow[Sequence[Found]]]
"""Gives its best candidates for a request, at most ``limit``."""


async def discover(parts: Parts, request: DiscoverRequest) -> DiscoverAnswer:
    """Answer a question. Raises BadInput ``bad-query``, or Failed ``model-missing`` if no cell could answer for that reason."""
    check(request)

    async def here(asked: DiscoverRequest) -> Sequence[Found]:
        return await local_cell(parts, asked)

    return await ask_cells([here], request)


async def discover_here(parts: Parts, request: DiscoverRequest) -> Sequence[Found]:
    """What this node holds itself that fits. Raises BadInput ``bad-query``, Failed ``model-missing``."""
    check(request)
    return await local_cell(parts, request)


async def ask_cells(cells: Sequence[Cell], request: DiscoverRequest) -> DiscoverAnswer:
    """Ask all ``cells`` side by side, and merge what they found: of an agent that several know the highest version counts."""
    outcomes: list[Outcome[Sequence[Found]]] = await Gather(*(cell(request) for cell in cells), each=True)
    answers = [outcome.value for outcome in outcomes if isinstance(outcome, Ok)]
    if not answers:
        raise next(outcome.error for outcome in outcomes if not isinstance(outcome, Ok))
    best: dict[AgentId, Found] = {}
    for found in (found for answer in answers for found in answer):
        known = best.get(found.record.agent_id)
        if known is None or found.record.version > known.record.version:
            best[found.record.agent_id] = found
    ranked = sorted(best.values(), key=lambda found: -found.score)
    return DiscoverAnswer(tuple(ranked[: request.limit]), len(cells), len(cells) - len(answers))


async def local_cell(parts: Parts, request: DiscoverRequest) -> Sequence[Found]:
    """What this node holds that fits. A record that ranks high for the first time has its vector checked before."""
    matches = await _matches(parts, request)
    wrong = await _check_high(parts, [match.sealed for match in matches[: limits.RANKS_HIGH]])
    good = [match for match in matches if match.sealed.digest not in wrong][: request.limit]
    return [_found(parts, request.filters, match) for match in good]


async def _matches(parts: Parts, request: DiscoverRequest) -> list[Match]:
    """What fits and is not in quarantine, the best first. The ledger is read between the searches, which worker threads do."""
    keep = acceptor(parts, request.filters) if request.filters.any() else None
    wanted, out = request.limit + limits.RANKS_HIGH, frozenset[str]()
    for _ in range(limits.BARRED_ROUNDS):
        accepts = _without(out, keep)
        matches = await Compute(partial(parts.shelf.search, request.query, wanted, accepts), cost_s=0.015)
        barred = {match.record.agent_id: _barred(parts, match) for match in matches}
        matches = [match for match in matches if barred[match.record.agent_id] is None]
        more = {name for name in barred.values() if name is not None}
        if not more:
            break
        out |= more
    return matches


def _barred(parts: Parts, match: Match) -> str | None:
    """Who is to be left out, so that the agent is not found: its organisation, or itself."""
    record = match.record
    found = parts.barred(record.mesh_id, record.agent_id, match.sealed.signer)
    return record.agent_id if found == match.sealed.signer else found


def _without(out: frozenset[str], keep: Callable[[AgentRecord], bool] | None) -> Callable[[AgentRecord], bool] | None:
    if not out:
        return keep
    return lambda record: record.mesh_id not in out and record.agent_id not in out and (keep is None or keep(record))


async def _check_high(parts: Parts, records: Sequence[Sealed]) -> frozenset[bytes]:
    """The digests of those of ``records`` whose vectors turn out not to be of their text."""
    found: tuple[Held | None, ...] = await Propose(Find(tuple(sealed.entry.agent_id for sealed in records), brief=True), MACHINE)
    doubtful = tuple(sealed for sealed, held in zip(records, found, strict=True) if held is not None and not held.checked)
    try:
        return await judge(parts, doubtful)
    except Failed:
        return frozenset()  # a model that was there a moment ago is gone; the search will say so


def check(request: DiscoverRequest) -> None:
    """Return if the request can be answered; raises BadInput ``bad-query``."""
    if not request.query.strip():
        raise BadInput("bad-query", "the question is empty", hint='ask in plain words, as in "read a chest x-ray"')
    if len(request.query) > limits.QUERY_CHARS:
        raise BadInput("bad-query", f"the question has {len(request.query)} characters, at most {limits.QUERY_CHARS} are read")
    if not 1 <= request.limit <= limits.FOUND:
        raise BadInput("bad-query", f"the limit is {request.limit}, not from 1 to {limits.FOUND}")


def acceptor(parts: Parts, filters: Filters) -> Callable[[AgentRecord], bool]:
    """Whether a record fulfils the filters. What was not measured yet fulfils no bound on it."""
    certifications, capabilities = _folded(filters.certifications), _folded(filters.capabilities)
    region = None if filters.region is None else filters.region.casefold()

    def accepts(record: AgentRecord) -> bool:
        profile = record.profile
        if region is not None and profile.region.casefold() != region:
            return False
        if filters.max_price_micro is not None and profile.per_query > filters.max_price_micro:
            return False
        if not certifications <= _folded(profile.certifications) or not capabilities <= _folded(profile.capabilities):
            return False
        if filters.trust_min is None and filters.trust_max is None and filters.max_latency_ms is None:
            return True
        measured = parts.measures(record.agent_id)
        if filters.trust_min is not None and measured.trust_score < filters.trust_min:
            return False
        if filters.trust_max is not None and measured.trust_score > filters.trust_max:
            return False
        latency = measured.avg_latency_ms
        return filters.max_latency_ms is None or (latency is not None and latency <= filters.max_latency_ms)

    return accepts


def _folded(entries: Sequence[str]) -> frozenset[str]:
    return frozenset(entry.casefold() for entry in entries)


def _found(parts: Parts, filters: Filters, match: Match) -> Found:
    reasons = list(match.words[:4])
    reasons += [entry for entry in (*filters.capabilities, *filters.certifications) if entry not in reasons]
    if filters.region is not None:
        reasons.append(f"in {filters.region}")
    if not match.words or match.meaning >= 0.4:
        reasons.append(f"meaning {match.meaning:.2f}")
    return Found(match.sealed, match.record, parts.measures(match.record.agent_id), match.score, tuple(reasons))
