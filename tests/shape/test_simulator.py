"""The shape under the simulator: a call Flow, and a machine that persists before it sends."""

from collections.abc import Mapping

import pytest

from meshos.effects import Err, Machine, Ok
from meshos.flow_machine import CancelFlow, FlowEnded, StartFlow
from meshos.ids import NodeId
from meshos.node.kernel.core import OUTSIDE
from meshos.simulations.network import NetworkFaults
from meshos.simulations.record import Recorder
from meshos.simulations.world import SimNode, Spec, World
from tests.shape.parts import ORG, Services, machines, quiet, stored


class Bench:
    def __init__(self, seed: int, nodes: int = 3, faults: NetworkFaults | None = None) -> None:
        self.world = World(seed, faults)
        self.ids = [NodeId(f"n{number}") for number in range(nodes)]
        self.services = {node: Services() for node in self.ids}
        self.ended: dict[object, FlowEnded] = {}
        self.world.noticed = self._noticed
        for node in self.ids:
            self.world.add(Spec(node, ORG, self._build, stores=("org",))).start()

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        return machines(node.name, node.views["org"], node.rng, self.services[node.name])

    def _noticed(self, node: SimNode, effect: object) -> None:
        assert isinstance(effect, FlowEnded)
        self.ended[effect.flow] = effect

    def start(self, service: str, argument: object, deadline: float | None = None, flow: int = 1) -> None:
        self.world.nodes[self.ids[0]].deliver("flows", StartFlow(flow, service, argument, deadline, OUTSIDE))

    def value(self, flow: int = 1) -> object:
        outcome = self.ended[flow].outcome
        assert isinstance(outcome, Ok), outcome
        return outcome.value

    def error(self, flow: int = 1) -> str:
        outcome = self.ended[flow].outcome
        assert isinstance(outcome, Err), outcome
        return outcome.error.name

    def quiet(self) -> bool:
        return all(quiet([node.core.machine("flows")]) for node in self.world.nodes.values() if node.alive)


@pytest.mark.parametrize("seed", range(20))
def test_a_fan_out_reaches_all_through_loss_and_reordering(seed: int) -> None:
    bench = Bench(seed, faults=NetworkFaults(loss=0.1, duplication=0.1, spike=0.2))
    bench.start("fan_out", tuple(bench.ids))
    bench.world.run(30)
    assert bench.value() == [b"1", b"1", b"1"] and bench.quiet()


def test_a_hedge_takes_the_faster_and_cancels_the_other_over_the_wire() -> None:
    bench = Bench(1)
    bench.start("hedge", (bench.ids[1], bench.ids[2]))
    bench.world.run(30)
    assert bench.value() == b"1"
    assert bench.services[bench.ids[1]].cancelled == 1 and bench.quiet()


def test_a_deadline_ends_the_work_on_the_other_node_too() -> None:
    bench = Bench(1)
    bench.start("wait_for", bench.ids[1], deadline=2.0)
    bench.world.run(30)
    assert bench.error() in ("deadline-exceeded", "timeout")
    assert bench.services[bench.ids[1]].cancelled == 1 and bench.quiet()


def test_a_cancel_reaches_the_other_node() -> None:
    bench = Bench(1)
    bench.start("wait_for", bench.ids[1])
    bench.world.run(1)
    bench.world.nodes[bench.ids[0]].deliver("flows", CancelFlow(1))
    bench.world.run(2)
    assert bench.error() == "cancelled"
    assert bench.services[bench.ids[1]].cancelled == 1 and bench.quiet()


@pytest.mark.parametrize("seed", range(30))
def test_what_was_answered_survives_a_crash_at_any_moment(seed: int) -> None:
    bench = Bench(seed, nodes=2)
    node = bench.world.nodes[bench.ids[1]]
    for flow in range(1, 21):
        bench.start("fan_out", (bench.ids[1],), flow=flow)
    bench.world.run(0.0005 * (seed + 1))
    answered = max((int(bytes(value[0])) for flow in bench.ended if isinstance(value := bench.value(flow), list)), default=0)
    node.crash()
    node.start()
    assert len(stored(node.stores["org"])) >= answered
    bench.world.run(60)
    assert len(bench.ended) == 20 and bench.quiet()


def test_the_same_seed_gives_the_same_run() -> None:
    def digest(seed: int) -> str:
        recorder = Recorder(None)
        bench = Bench(seed, faults=NetworkFaults(loss=0.2))
        for node in bench.world.nodes.values():
            node.crash()
            bench.world.observer = recorder.observe
            node.start()
        bench.start("fan_out", tuple(bench.ids))
        bench.world.run(30)
        return recorder.digest()

    assert digest(7) == digest(7) and digest(7) != digest(8)
