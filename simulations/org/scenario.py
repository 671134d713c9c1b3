"""The scenario "org": a few organisations of three nodes each, whole, under everything that can happen to any world and to leaders."""

from collections.abc import Sequence
from dataclasses import replace

from meshos.consensus.raft.config import LAN as RAFT
from meshos.presets import LAN
from meshos.simulations import mesh_marks
from meshos.simulations.checkers import MembershipChecker, QuietChecker
from meshos.simulations.faults.schedule import Schedule
from meshos.simulations.history import Linearizable
from meshos.simulations.marks import Marks, State
from meshos.simulations.mesh import Mesh
from meshos.simulations.org.asked import StateChecker
from meshos.simulations.org.checkers import OrgChecker
from meshos.simulations.org.work import OrgWork, organisation
from meshos.simulations.raft.scenario import SITUATIONS as RAFT_SITUATIONS
from meshos.simulations.raft.scenario import leaders_suffer
from meshos.simulations.run import Checker, Scenario, swarmed
from meshos.simulations.work import CallChecker, CallWork
from meshos.simulations.world import SimNode, World

NODES_EACH = 3
UNTIL_S, BEGIN_S, SETTLE_S = 75.0, 9.0, 35.0

SELDOM = replace(RAFT, heartbeat_s=0.13)
"""As few heartbeats as there may be: a run costs less."""

SHORT = replace(SELDOM, keep_entries=64, compact_entries=16, chunk_bytes=2 << 10, cached_bytes=4 << 10)
"""A log that is cut all the time, so that whoever was away is sent a state."""


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """``nodes`` of two organisations or more."""
    raft = world.generator("org config").choice((SELDOM, SHORT))
    mesh = Mesh(world, nodes, timing=LAN, orgs=max(2, nodes // NODES_EACH), whole=True, raft=raft)
    until_s = world.until_s - SETTLE_S
    work = CallWork(mesh, until_s=until_s)
    org = OrgWork(mesh, work.asking, until_s=until_s)
    calls = CallChecker(mesh, work)
    return [
        MembershipChecker(mesh),
        calls,
        OrgChecker(mesh, org, calls),
        Linearizable(org.history, organisation()),
        StateChecker(mesh),
        QuietChecker(mesh),
    ]


def mixture(world: World, begin_s: float, end_s: float) -> Schedule:
    """What any world can suffer, and what leaders fear."""
    schedule = [*swarmed(world, begin_s, end_s), *leaders_suffer(world.generator("org faults"), begin_s, end_s)]
    return sorted(schedule, key=lambda row: row[0])


def marks(node: SimNode, machine: str, event: object, effects: list[object]) -> Marks:
    """What a timeline shows: calls, and who leads."""
    yield from mesh_marks.of_calls(node, machine, event, effects)
    if machine == "org":
        replica = mesh_marks.org_of(node).replica
        yield State("role", replica.raft.role)
        yield State("term", str(replica.raft.term))


SCENARIO = Scenario(
    "org",
    "organisations of three nodes: leaders come and go, agents and tasks move with them, nothing acknowledged is lost",
    populate,
    2 * NODES_EACH,
    UNTIL_S,
    BEGIN_S,
    SETTLE_S,
    mixture=mixture,
    marks=marks,
    situations=("a call called off before it came", *RAFT_SITUATIONS),
)
