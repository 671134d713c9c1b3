"""A fault that only agreement minds: a disk that is put back to an older copy of itself."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from meshos.effects import Put, Write
from meshos.ids import NodeId
from meshos.simulations.faults.fields import Node
from meshos.simulations.faults.schedule import fault
from meshos.simulations.world import SimNode, World
from meshos.storage.memory import MemoryStore

_copies: "WeakKeyDictionary[SimNode, dict[str, tuple[Write, ...]]]" = WeakKeyDictionary()


@fault("back up the disk of {node}")
@dataclass(frozen=True, slots=True)
class BackUp:
    """What is durable now is copied."""

    node: Node

    def do(self, world: World) -> None:
        node = world.nodes[NodeId(self.node)]
        if node.alive:
            _copies[node] = {name: _all(store) for name, store in node.stores.items()}


@fault("put the disk of {node} back")
@dataclass(frozen=True, slots=True)
class PutBack:
    """The process dies and starts again on the copy, if there is one."""

    node: Node

    def do(self, world: World) -> None:
        node = world.nodes[NodeId(self.node)]
        copy = _copies.get(node)
        if copy is None:
            return
        if node.alive:
            node.crash()
        for name, writes in copy.items():
            store = MemoryStore(world.generator(f"put back/{self.node}/{name}"))
            store.write(writes)
            node.stores[name] = store
        world.visited("a disk was put back to an old copy")
        node.start()


def _all(store: MemoryStore) -> tuple[Write, ...]:
    return tuple(Put(key, value) for key, value in store.snapshot().scan(b""))
