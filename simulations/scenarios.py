"""The scenarios that ``mesh sim run`` knows: which mesh, which work, which checkers; and how each one's product may be broken."""

import difflib
from collections.abc import Sequence

from meshos.errors import BadInput
from meshos.presets import LAN
from meshos.simulations import call_mutations, mesh_marks
from meshos.simulations.checkers import LEAVES, MembershipChecker, QuietChecker
from meshos.simulations.ledger import mutations as ledger_mutations
from meshos.simulations.ledger import scenario as ledger
from meshos.simulations.mesh import SEEDS, Mesh
from meshos.simulations.mutations import Mutation
from meshos.simulations.org import mutations as org_mutations
from meshos.simulations.org import scenario as org
from meshos.simulations.pbft import mutations as pbft_mutations
from meshos.simulations.pbft import scenario as pbft
from meshos.simulations.pbft import storm as pbft_storm
from meshos.simulations.raft import mutations as raft_mutations
from meshos.simulations.raft import scenario as raft
from meshos.simulations.raft import storm
from meshos.simulations.run import Checker, Scenario, node_ids
from meshos.simulations.work import CallChecker, CallWork, DirectoryChecker, DirectoryWork
from meshos.simulations.world import World


def _membership(world: World, nodes: int) -> Sequence[Checker]:
    rng = world.generator("leaves")
    dialled = node_ids(nodes)[SEEDS:]
    leaves = rng.sample(dialled, k=int(len(dialled) * rng.choice((0.0, 0.0, 0.2, 0.5))))
    return [MembershipChecker(Mesh(world, nodes, timing=LAN, orgs=min(nodes, 8), whole=False, leaves=leaves))]


def _directory(world: World, nodes: int) -> Sequence[Checker]:
    mesh = Mesh(world, nodes, timing=LAN, whole=True)
    work = DirectoryWork(mesh)
    return [MembershipChecker(mesh), DirectoryChecker(mesh, work)]


def _calls(world: World, nodes: int) -> Sequence[Checker]:
    mesh = Mesh(world, nodes, timing=LAN, whole=True)
    work = CallWork(mesh)
    return [MembershipChecker(mesh), CallChecker(mesh, work), QuietChecker(mesh)]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "membership",
            "who is alive, under crashes, pauses, partitions, loss",
            _membership,
            *(30, 120.0, 10.0, 60.0),
            marks=mesh_marks.of_membership,
            situations=LEAVES,
        ),
        Scenario(
            "directory",
            "records published and withdrawn everywhere, found everywhere in the end",
            _directory,
            *(8, 180.0, 10.0, 90.0),
            marks=mesh_marks.of_membership,
        ),
        Scenario(
            "calls",
            "tasks across organisations: none run twice, every caller told the truth",
            _calls,
            *(6, 120.0, 10.0, 60.0),
            marks=mesh_marks.of_calls,
            situations=("a call called off before it came",),
        ),
        org.SCENARIO,
        ledger.SCENARIO,
        raft.SCENARIO,
        storm.SCENARIO,
        pbft.SCENARIO,
        pbft.FULL,
        pbft_storm.SCENARIO,
    )
}

MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "calls": call_mutations.MUTATIONS,
    "ledger": ledger_mutations.MUTATIONS,
    "org": org_mutations.MUTATIONS,
    "raft": raft_mutations.MUTATIONS,
    "raft-core": raft_mutations.CORE,
    "pbft-full": pbft_mutations.MUTATIONS,
    "pbft-core": pbft_mutations.CORE,
}
"""By scenario: what it must find (``mesh sim mutants``, tests/simulations/test_broken.py)."""


def scenario_named(name: str) -> Scenario:
    """The scenario, or with the name of a mutation behind a plus sign (``calls+keys-are-forgotten``) the one in which the product is
    broken; raises BadInput ``unknown-scenario`` and ``unknown-mutation``."""
    name, broken, mutation = name.partition("+")
    if name not in SCENARIOS:
        meant = difflib.get_close_matches(name, SCENARIOS, 1)
        hint = f"did you mean {meant[0]}?" if meant else "`mesh sim list` names them"
        raise BadInput("unknown-scenario", f"there is no scenario {name[:60]!r}", hint=hint)
    return mutation_named(name, mutation).in_(SCENARIOS[name]) if broken else SCENARIOS[name]


def mutation_named(scenario: str, name: str) -> Mutation:
    """The mutation that the scenario must find; raises BadInput ``unknown-mutation``."""
    there = {mutation.name: mutation for mutation in MUTATIONS.get(scenario, ())}
    if name not in there:
        hint = f"there are: {', '.join(there)}" if there else f"scenarios with mutations: {', '.join(MUTATIONS)}"
        raise BadInput("unknown-mutation", f"{scenario} has no mutation {name[:60]!r}", hint=hint)
    return there[name]
