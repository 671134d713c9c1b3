"""Mutations: the product broken on purpose, in one place at a time, and seeds that must find it.

A checker that cannot fail proves nothing (DeMillo, Lipton, Sayward, "Hints on Test Data Selection", 1978). So each scenario has a
table of mutations beside it: one function of the product exchanged for a wrong one, as a careless change might do. The simulator must
find each within a bounded number of seeds; one that survives shows a checker, or a fault, that is missing.

A mutation is data with a context manager, and is pickled by the name of that: it stands at the top of a module.

    @contextmanager
    def quorum_less_one() -> Iterator[None]:
        with replaced(quorum, "quorum", lambda n: quorum_of(n) - 1):
            yield

    MUTATIONS = (Mutation("quorum-less-one", "a quorum is one vote short", quorum_less_one, verdict="safety"),)
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from meshos.simulations.parallel import Workers, workers
from meshos.simulations.run import Report, Scenario, run

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way to break the product. ``apply()`` breaks it for as long as the block lasts.

    Where ``verdict`` or ``words`` are given, only a run with this verdict and these words in its message counts as found: else a
    mutation could pass by breaking something else. ``nodes`` and ``until_s`` are the size of world in which it shows.
    """

    name: str
    what: str
    apply: Callable[[], AbstractContextManager[None]]
    verdict: str = ""
    words: str = ""
    nodes: int | None = None
    until_s: float | None = None

    def in_(self, scenario: Scenario) -> Scenario:
        """The scenario with the product broken in this way: it is called SCENARIO+MUTATION."""
        name, summary = f"{scenario.name}+{self.name}", f"{scenario.summary}; and {self.what}"
        nodes, until_s = self.nodes or scenario.nodes, self.until_s or scenario.until_s
        return replace(scenario, name=name, summary=summary, nodes=nodes, until_s=until_s, broken=self.apply)

    def shows_in(self, report: Report) -> bool:
        """Whether a run of the broken product found it."""
        return report.verdict != "ok" and self.verdict in ("", report.verdict) and self.words in report.message


@dataclass(frozen=True, slots=True)
class Hunt:
    """What became of one mutation: the seed that found it and that run's report, or None and what the other runs said."""

    mutation: Mutation
    tried: int
    report: Report | None
    others: tuple[str, ...] = ()

    @property
    def seed(self) -> int | None:
        """The first seed that found it."""
        return None if self.report is None else self.report.seed


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """``owner.name`` is ``value`` for as long as the block lasts; what is replaced must be there."""
    own = vars(owner).get(name, _MISSING)
    getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def hunt(mutation: Mutation, scenario: Scenario, seeds: Iterable[int], pool: Workers) -> Hunt:
    """Try seed after seed until one finds it."""
    tried, others = 0, list[str]()
    for report in pool.map(partial(run, mutation.in_(scenario)), seeds, ahead=1):
        tried += 1
        if mutation.shows_in(report):
            return Hunt(mutation, tried, report, tuple(others))
        if report.verdict != "ok":
            others.append(f"seed {report.seed}: {report.verdict}: {report.message}")
    return Hunt(mutation, tried, None, tuple(others))


def found_within(mutation: Mutation, scenario: Scenario, seeds: Iterable[int], *, processes: int | None = 1) -> int | None:
    """The first of ``seeds`` that finds ``mutation``, or None. ``processes=None`` uses all cores."""
    with workers(processes) as pool:
        return hunt(mutation, scenario, seeds, pool).seed


def must_find(mutation: Mutation, scenario: Scenario, seeds: Iterable[int], *, processes: int | None = 1) -> Hunt:
    """For tests: fail with what the seeds said instead, if none finds it."""
    with workers(processes) as pool:
        done = hunt(mutation, scenario, seeds, pool)
    said = "; ".join(done.others) or "nothing was violated"
    assert done.report is not None, f"{mutation.name} ({mutation.what}): none of {done.tried} seeds of {scenario.name} finds it: {said}"
    return done
