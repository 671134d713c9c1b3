"""Whole Replicas in the simulator's world, for tests that say what happens when."""

from collections.abc import Callable

from meshos.consensus.raft.config import LAN, Config
from meshos.consensus.raft.events import ChangeMembers
from meshos.consensus.raft.membership import Change
from meshos.consensus.raft.replica import Replica
from meshos.effects import Err, Ok
from meshos.ids import NodeId
from meshos.simulations.raft.checkers import DurabilityChecker, RaftChecker
from meshos.simulations.raft.group import MACHINE, Group
from meshos.simulations.raft.registers import Read, Set
from meshos.simulations.world import SimNode, World

Observer = Callable[[SimNode, str, object, list[object]], None]


class Nodes:
    """A group in a world: ``founders`` of ``count`` nodes found it. Everything is checked on the way."""

    def __init__(self, count: int, *, founders: int | None = None, seed: int = 1, config: Config = LAN, begin_s: float = 2.0) -> None:
        self.world = World(seed)
        self.group = Group(self.world, count, founders=founders or count, config=config)
        checkers = [self.group, RaftChecker(self.group), DurabilityChecker(self.group)]
        self.watchers: list[Observer] = [checker.observe for checker in checkers]
        self.world.observer = self._observe
        for node in self.world.nodes.values():
            node.start()
        self.run(begin_s)

    def _observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        for watcher in self.watchers:
            watcher(node, machine, event, effects)

    def run(self, seconds: float) -> None:
        """Time passes."""
        self.world.run(self.world.now + seconds)

    def __getitem__(self, name: NodeId) -> Replica:
        return self.group.replica(name)

    @property
    def leader(self) -> NodeId:
        """Whoever leads."""
        leader = self.group.leader()
        assert leader is not None, "nobody leads"
        return leader

    @property
    def followers(self) -> list[NodeId]:
        """The others that live."""
        return [node for node in self.group.living() if node != self.leader]

    def begin(self, node: NodeId, command: object) -> list[object]:
        """Ask; the outcome is in the list once there is one."""
        outcomes: list[object] = []
        self.group.propose(node, command, outcomes.append)
        return outcomes

    def ask(self, node: NodeId, command: object, *, within_s: float = 20.0) -> object:
        """Ask and wait: the value, or the error's name."""
        outcomes = self.begin(node, command)
        until = self.world.now + within_s
        while not outcomes and self.world.now < until:
            self.run(0.01)
        assert outcomes, f"{command} was not answered"
        (outcome,) = outcomes
        assert isinstance(outcome, Ok | Err)
        return outcome.value if isinstance(outcome, Ok) else outcome.error.name

    def set(self, node: NodeId, name: str, value: str, ballast: int = 0) -> object:
        """Write a register."""
        return self.ask(node, Set(name, value, ballast))

    def read(self, node: NodeId, name: str) -> object:
        """Read it."""
        return self.ask(node, Read(name))

    def change(self, *changes: Change) -> object:
        """Change the members."""
        return self.ask(self.leader, ChangeMembers(changes))

    def crash(self, node: NodeId) -> None:
        """The power goes."""
        self.world.nodes[node].crash()

    def restart(self, node: NodeId) -> None:
        """And comes back."""
        self.world.nodes[node].start()

    def cut(self, *sides: list[NodeId]) -> None:
        """Nothing passes between the sides."""
        self.world.network.faults.partition(list(sides))

    def heal(self) -> None:
        """Everything passes."""
        self.world.network.faults.heal()

    def states(self) -> list[list[tuple[bytes, bytes]]]:
        """The state of each living node."""
        return [list(self[node].view().scan(b"")) for node in self.group.living()]

    def store(self, node: NodeId) -> dict[bytes, bytes]:
        """What lies on a node's disk."""
        return dict(self.world.nodes[node].stores[MACHINE].scan(b""))
