"""The audit of ``mesh bench soak``: what clients were told, what agents wrote down and what lies on disks, held against each other.

Pure: everything was read before. Each finding is one sentence that names the operation, so that it can be found in the logs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meshos.bench.soak_books import Books, Moved, Tabbed
from meshos.bench.soak_load import DONE, NOT_DONE, Operation
from meshos.node.cli.testnet.making import ALLOCATION

PRICE_MICRO = 10_000
"""Of the agent in bench/soak_agent/agent.yaml."""


@dataclass(frozen=True, slots=True)
class Run:
    """A line that an agent of ``org`` wrote: the task's key, and the word that only this run gave."""

    org: str
    key: str
    word: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a node of the provider says of a task after all."""

    node: str
    status: str
    result: str
    receipt: str


@dataclass(slots=True)
class Evidence:
    """All of it. ``dids`` are the organisations' by name; ``keys`` the nodes' ids by name; ``asked`` is by the task's key."""

    dids: Mapping[str, str]
    org_of: Mapping[str, str]
    keys: Mapping[str, str]
    transfers: Sequence[Operation]
    tasks: Sequence[Operation]
    runs: Sequence[Run]
    asked: Mapping[str, Sequence[Asked]]
    books: Sequence[Books]


@dataclass(slots=True)
class Findings:
    """What does not hold, by the promise that it breaks."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.twice, *self.apart, *self.tokens, *self.unanswered]


def audit(evidence: Evidence) -> Findings:
    """Everything that is held against what was promised."""
    books = max(evidence.books, key=lambda one: (-one.base, one.height))  # one that has all blocks
    findings = Findings()
    findings.apart += _apart(evidence.books)
    _transfers(evidence, books, findings)
    _tasks(evidence, findings)
    findings.twice += _settled_twice(evidence, books)
    findings.tokens += _tokens(evidence, books)
    for operation in [*evidence.transfers, *evidence.tasks]:
        if not operation.outcome:
            told = f"{operation.key} at {operation.node} was never answered, after {operation.tries} tries: {operation.said}"
            findings.unanswered.append(told)
    return findings


# -- replicas --------------------------------------------------------------------------------------------------------


def _apart(all_books: Sequence[Books]) -> Iterator[str]:
    first = max(all_books, key=lambda one: (-one.base, one.height))
    if first.base > 1:
        yield f"no replica has kept the blocks below {first.base}"
    for books in all_books:
        yield from (f"{books.name}: {fault}" for fault in books.faults)
        if (books.height, books.root) != (first.height, first.root):
            told = f"{books.name} is at block {books.height} with root {books.root[:16]}"
            yield f"{told}, {first.name} at {first.height} with {first.root[:16]}"
        shared = sorted(books.blocks.keys() & first.blocks.keys())
        other = next((height for height in shared if books.blocks[height] != first.blocks[height]), None)
        if other is not None:
            yield f"{books.name} and {first.name} have different blocks {other}"


# -- transfers -------------------------------------------------------------------------------------------------------


def _transfers(evidence: Evidence, books: Books, findings: Findings) -> None:
    asked: Counter[Moved] = Counter()
    for operation in evidence.transfers:
        moved = (evidence.dids[evidence.org_of[operation.node]], operation.to, operation.micro)
        asked[moved] += 1
        times = books.moved[moved]
        what = f"the transfer {operation.key} of {operation.micro} millionths from {operation.node} to {operation.to}"
        if operation.outcome == DONE and (not times or not books.committed[operation.id]):
            findings.lost.append(f"{what} was acknowledged {operation.said} as {operation.id[:16]}, and stands in no block as committed")
        if operation.outcome == NOT_DONE and times:
            findings.lost.append(f"{what} was said not to be done ({operation.said}), and was")
        if times > 1:
            findings.twice.append(f"{what} was committed {times} times")
    for moved, times in books.moved.items():
        if moved not in asked and moved[0] != moved[1]:  # to itself: a filler of a nonce
            findings.twice.append(f"{times} transfers of {moved[2]} millionths from {moved[0]} to {moved[1]} that nobody asked for")
    for id_, times in books.committed.items():
        if times > 1:
            findings.twice.append(f"the transaction {id_} was committed {times} times")


# -- tasks -----------------------------------------------------------------------------------------------------------


def _tasks(evidence: Evidence, findings: Findings) -> None:
    runs: dict[str, list[Run]] = {}
    for run in evidence.runs:
        runs.setdefault(run.key, []).append(run)
    for operation in evidence.tasks:
        ran, what = runs.get(operation.key, []), f"the task {operation.id or operation.key} ({operation.key}) of {operation.to}"
        if len(ran) > 1:
            findings.twice.append(f"{what} was run {len(ran)} times")
        if operation.outcome == DONE and operation.result not in [run.word for run in ran]:
            findings.lost.append(
                f"{what} was acknowledged with {operation.result!r}, and its agent has written {[run.word for run in ran]}"
            )
        if operation.outcome:
            findings.lost += _forgotten(operation, what, evidence.asked.get(operation.key, ()))


def _forgotten(operation: Operation, what: str, asked: Iterable[Asked]) -> Iterator[str]:
    told = (operation.said.partition(":")[0], operation.result, operation.receipt)
    for one in asked:
        if (one.status, one.result, one.receipt) != told:
            yield f"{what} was acknowledged as {told[0]} with {told[1]!r}, and {one.node} says {one.status!r} with {one.result!r}"


# -- tabs ------------------------------------------------------------------------------------------------------------


def _settled_twice(evidence: Evidence, books: Books) -> Iterator[str]:
    nodes = {key: name for name, key in evidence.keys.items()}
    orgs = {did: org for org, did in evidence.dids.items()}
    caller_of = {operation.key: operation.node for operation in evidence.tasks}
    done = Counter((caller_of.get(run.key, ""), run.org) for run in evidence.runs)
    paid: Counter[tuple[str, str]] = Counter()
    for id_, tab in books.tabs.items():
        if any(later <= earlier for earlier, later in zip(tab.redeemed, tab.redeemed[1:], strict=False)):
            yield f"on tab {id_.hex()[:16]} a voucher was redeemed twice: {tab.redeemed}"
        paid[nodes.get(tab.caller, tab.caller), orgs.get(tab.provider, tab.provider)] += _last(tab)
    for (caller, provider), micro in paid.items():
        if micro > done[caller, provider] * PRICE_MICRO:
            yield f"{caller} has paid {provider} {micro} millionths for {done[caller, provider]} tasks of {PRICE_MICRO}"


def _last(tab: Tabbed) -> int:
    return tab.redeemed[-1] if tab.redeemed else 0


def _tokens(evidence: Evidence, books: Books) -> Iterator[str]:
    """The state against the blocks: what each organisation has must follow from what was committed."""
    expected = Counter(dict.fromkeys(evidence.dids.values(), ALLOCATION))
    for (giver, taker, micro), times in books.moved.items():
        expected[giver] -= micro * times
        expected[taker] += micro * times
    for tab in books.tabs.values():
        expected[tab.org] -= _last(tab)
        expected[tab.provider] += _last(tab)
    for did, micro in expected.items():
        if books.wealth[did] != micro:
            yield f"{did} has {books.wealth[did]} millionths, and by the blocks it must have {micro}"
    if sum(books.wealth.values()) != ALLOCATION * len(evidence.dids):
        yield f"there are {sum(books.wealth.values())} millionths, and {ALLOCATION * len(evidence.dids)} were given out"
