"""The scenario "ledger": whole meshes whose organisations call, pay, transfer and decide together, under all that any world suffers."""

from collections.abc import Iterator, Sequence

from meshos.consensus.pbft.quorum import faults
from meshos.effects import Tell
from meshos.node.kernel.payments import Terms
from meshos.presets import LAN
from meshos.protocols.ledger.port import LEDGER, Decided
from meshos.simulations import mesh_marks
from meshos.simulations.checkers import MembershipChecker, QuietChecker
from meshos.simulations.ledger.checkers import LedgerChecker
from meshos.simulations.ledger.people import PeopleWork
from meshos.simulations.ledger.work import LedgerWork
from meshos.simulations.marks import Mark, State
from meshos.simulations.mesh import Mesh
from meshos.simulations.run import Checker, Scenario
from meshos.simulations.work import CallChecker, CallWork
from meshos.simulations.world import SimNode, World

NODES, UNTIL_S, BEGIN_S, SETTLE_S = 4, 90.0, 9.0, 35.0
PRICE_MICRO = 20_000
REDEEM_S = 2.0
"""As on a testnet: a tab is redeemed many times in a run."""
LYING = 0.5
"""In so many seeds f validators lie (``pbft/liars.py``)."""

PEOPLE = 0.5
"""In so many seeds people take part: where they do, little is left that coordinators have decided alone."""


def populate(world: World, nodes: int) -> Sequence[Checker]:
    """Each node is an organisation's validator; some of them may lie."""
    mesh = Mesh(world, nodes, timing=LAN, whole=True, terms=Terms(redeem_s=REDEEM_S), people=True)
    rng = world.generator("liars")
    if rng.random() < LYING:
        mesh.liars = frozenset(rng.sample(mesh.ids, k=faults(nodes)))
        world.visited("validators of whole nodes lie")
    until_s = world.until_s - SETTLE_S
    calls = CallWork(mesh, until_s=until_s, price_micro=PRICE_MICRO)
    ledger = LedgerWork(mesh, calls.asking, until_s=until_s)
    if world.generator("people take part").random() < PEOPLE:
        PeopleWork(mesh, calls.asking, until_s=until_s)
        world.visited("people judge and pause")
    return [MembershipChecker(mesh), CallChecker(mesh, calls), LedgerChecker(mesh, ledger), QuietChecker(mesh)]


def marks(node: SimNode, machine: str, event: object, effects: list[object]) -> Iterator[Mark | State]:
    """What a timeline shows: calls, and the blocks that are decided."""
    yield from mesh_marks.of_calls(node, machine, event, effects)
    if machine == LEDGER:
        for effect in effects:
            if type(effect) is Tell and type(effect.event) is Decided:
                yield State("height", str(effect.event.certified.block.header.height))
                return


SCENARIO = Scenario(
    "ledger",
    "organisations pay for calls, transfer and decide together: one ledger, nothing paid twice, nothing done unapproved",
    populate,
    NODES,
    UNTIL_S,
    BEGIN_S,
    SETTLE_S,
    marks=marks,
    situations=("a call called off before it came", "people judge and pause"),
    fewest_nodes=4,
)
