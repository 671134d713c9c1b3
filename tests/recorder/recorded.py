"""A simulated mesh whose nodes are recorded, in memory, and rebuilt from that."""

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import cast

from meshos import cbor
from meshos.consensus.ledger.accounts import Transfer
from meshos.effects import Machine, Ok, Outcome
from meshos.ids import NodeId
from meshos.node.kernel.asking import SEND
from meshos.node.runtime.recorder.drawing import Drawing
from meshos.node.runtime.recorder.entries import Entry, Head, decode, parse
from meshos.node.runtime.recorder.recorder import Recorder
from meshos.presets import LAN
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import Concluded
from meshos.simulations.flight_disks import Disks
from meshos.simulations.mesh import Mesh
from meshos.simulations.node import SimNode
from meshos.simulations.work import CallWork
from meshos.simulations.world import World


class Memory:
    """A Sink that keeps what it is given as it would lie on disk; a segment has ``segment_entries``."""

    def __init__(self, segment_entries: int) -> None:
        self._most = segment_entries
        self._has = 0
        self.segments: list[list[bytes]] = []

    def begin(self) -> None:
        self._has = 0
        self.segments.append([])

    def put(self, entry: list[object], weight: int = 0) -> bool:
        self.segments[-1].append(cbor.encode([entry]))
        self._has += 1
        return True

    def wants_segment(self) -> bool:
        return self._has >= self._most

    def entries(self, first: int = 0, last: int | None = None) -> Iterator[Entry]:
        """All that was recorded, from a segment on, up to another."""
        for segment in self.segments[first:last]:
            machines: tuple[str, ...] = ()
            for data in segment:
                (row,) = decode(data)
                entry = parse(row, machines)
                if isinstance(entry, Head):
                    machines = entry.machines
                yield entry


class Recorded:
    """``nodes`` nodes that call each other, each with a recorder of its own in each of its lives."""

    def __init__(self, seed: int, nodes: int = 3, *, segment_entries: int = 10**9, every_s: float = 0.2) -> None:
        self.world = World(seed)
        self.mesh = Mesh(self.world, nodes, timing=LAN, whole=True)
        self.work = CallWork(self.mesh, until_s=60, every_s=every_s, price_micro=10_000)
        self._sent = 0
        self.transferred = 0
        self.world.at(5.0, self._transfer)
        self._segment_entries = segment_entries
        self.memories: dict[NodeId, list[Memory]] = {node: [] for node in self.mesh.ids}
        self._recorders: dict[NodeId, Recorder] = {}
        self._waiting: dict[NodeId, Callable[[], None]] = {}
        self._whole = {node.name: node.spec.build for node in self.world.nodes.values()}
        for node in self.world.nodes.values():
            node.spec.build = self._built
        self.world.observer = self._observe

    def run(self, until_s: float) -> None:
        """Start what is not alive, and let time pass."""
        for node in self.world.nodes.values():
            if not node.alive:
                node.start()
        self.world.run(until_s)

    def _transfer(self) -> None:
        """One after the other, some node's organisation gives another a little: blocks, and checkpoints of them."""
        self.world.after(0.4, self._transfer)
        self._sent += 1
        ids = self.mesh.ids
        node = self.world.nodes[ids[self._sent % len(ids)]]
        if node.alive:
            to = self.mesh.org_of[ids[(self._sent + 1) % len(ids)]]
            self.work.asking.ask(node, SEND, Send(b"%d" % self._sent, Transfer(to, 1)), 20.0, self._concluded)

    def _concluded(self, outcome: Outcome[object]) -> None:
        self.transferred += isinstance(outcome, Ok) and isinstance(outcome.value, Concluded) and outcome.value.outcome == "committed"

    def _built(self, node: SimNode) -> Mapping[str, Machine]:
        memory = Memory(self._segment_entries)
        self.memories[node.name].append(memory)
        recorder = self._recorders[node.name] = Recorder(memory, given=None, node=node.name, software="test", left_out=("flows",))
        watched = {name: recorder.view(name, view) for name, view in node.views.items()}
        machines = self._whole[node.name](self._outside(node, watched, recorder.random))
        now, wall_ms = node.now(), node.wall_ms()
        self._waiting[node.name] = lambda: recorder.begin(machines, node.core, now, wall_ms)
        return machines

    def _observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        if node.name in self._waiting:
            self._waiting.pop(node.name)()
        self._recorders[node.name].observe(machine, event, effects)

    def _outside(self, node: SimNode, views: Mapping[str, object], chance: object) -> SimNode:
        """``node``, with another disk and another source of chance."""
        stand_in = SimpleNamespace(
            name=node.name, spec=node.spec, views=views, rng=chance, now=node.now, wall_ms=node.wall_ms, handlers=node.handlers
        )
        return cast(SimNode, stand_in)

    def build(self, head: Head, given: object, disks: Disks, chance: Drawing) -> Mapping[str, Machine]:
        """The machines of the node that ``head`` names, as a replay builds them."""
        node = self.world.nodes[NodeId(head.node)]
        stand_in = self._outside(node, disks.views, chance)
        stand_in.now = lambda: head.now  # type: ignore[method-assign]
        stand_in.wall_ms = lambda: head.wall_ms  # type: ignore[method-assign]
        before = dict(self.mesh.assemblies)
        machines = self._whole[node.name](stand_in)
        self.mesh.assemblies.update(before)
        return machines
