"""Raft in the simulator: a few seeds, and each mutation found at the first seed that finds it (``mesh sim mutants raft``, ``raft-core``).

What seeds found meanwhile, and is mended: a read was answered from a View that did not show yet what the same step had applied;
nobody could be elected, since the only complete log was that of a leader that had removed itself; a disk that failed within a command was
taken for the command's answer, and the states parted.
"""

import pytest

from meshos.simulations.mutations import Mutation, must_find
from meshos.simulations.raft import scenario, storm
from meshos.simulations.raft.mutations import CORE, MUTATIONS
from meshos.simulations.run import Scenario, run

FINDS = {
    "quorum-one-less": 1,
    "entries-not-synced": 1,
    "dedup-off": 1,
    "votes-given-twice": 4,
}
CORE_FINDS = {
    "quorum-one-less": 1,
    "vote-not-persisted": 89,
    "old-terms-heard": 19,
    "old-entries-counted": 23,
    "reads-ask-nobody": 53,
    "reads-of-a-new-leader": 1,
    "no-joint-consensus": 136,
    "conflicts-kept": 1,
    "logs-not-compared": 3,
    "votes-given-twice": 2,
    "leader-counts-itself": 7,
}
"""The first seed of 200 that finds each."""

ALL = [(scenario.SCENARIO, mutation, FINDS) for mutation in MUTATIONS] + [(storm.SCENARIO, mutation, CORE_FINDS) for mutation in CORE]
NAMES = [f"{each.name}-{mutation.name}" for each, mutation, _ in ALL]


@pytest.mark.parametrize("nodes", [3, 5])
def test_nothing_is_violated(nodes: int) -> None:
    report = run(scenario.SCENARIO, nodes, nodes=nodes)
    assert (report.verdict, report.message) == ("ok", "")
    assert report.figures["acknowledged"] > 20, "a group that answers nothing violates nothing either"


def test_nothing_is_violated_in_a_storm() -> None:
    led = committed = 0.0
    for seed in range(1, 21):
        report = run(storm.SCENARIO, seed)
        assert (report.verdict, report.message) == ("ok", ""), f"seed {seed}"
        led, committed = led + report.figures["terms led"], committed + report.figures["entries committed"]
    assert led > 50 and committed > 500


@pytest.mark.parametrize(("where", "mutation", "finds"), ALL, ids=NAMES)
def test_a_broken_raft_is_found(where: Scenario, mutation: Mutation, finds: dict[str, int]) -> None:
    must_find(mutation, where, [finds[mutation.name]])


@pytest.mark.slow
@pytest.mark.parametrize(("where", "mutation", "finds"), ALL, ids=NAMES)
def test_a_broken_raft_is_found_within_200_seeds(where: Scenario, mutation: Mutation, finds: dict[str, int]) -> None:
    done = must_find(mutation, where, range(1, 201), processes=None)
    assert done.seed == finds[mutation.name]
