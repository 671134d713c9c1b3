"""The nodes of one group, put together from the machines that a process runs: rpc, and a Replica of registers."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from meshos.consensus.raft.applying import founding
from meshos.consensus.raft.config import LAN, Config
from meshos.consensus.raft.events import Unlinked
from meshos.consensus.raft.replica import Replica, protocol_of
from meshos.effects import Completed, Machine
from meshos.flow import Propose
from meshos.flow_machine import Flows, Perform
from meshos.ids import NodeId, OrgDid, Peer, org_did
from meshos.node.kernel.core import OUTSIDE
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.events import LinkDown
from meshos.protocols.rpc.machine import Rpc
from meshos.simulations.raft.registers import Registers
from meshos.simulations.run import node_ids
from meshos.simulations.world import SimNode, Spec, World

MACHINE = "raft"
GROUP = "registers"
ORG: OrgDid = org_did("enterprise", "acme")

SELDOM = replace(LAN, heartbeat_s=0.13)
"""The same with as few heartbeats as there may be: a run costs less."""

SMALL = replace(SELDOM, keep_entries=8, compact_entries=4, chunk_bytes=2 << 10, chunks_inflight=2, cached_bytes=4 << 10)
"""A log that is cut all the time, and states of many chunks: what is rare with the ordinary sizes."""

NARROW = replace(SELDOM, append_bytes=256, entry_commands=2, inflight_messages=2, inflight_bytes=512)
"""Small messages, and few of them at a time."""

CONFIGS = (SELDOM, SMALL, NARROW, replace(SMALL, append_bytes=256, inflight_messages=2, inflight_bytes=512))


class Group:
    """``count`` nodes; the first of them (by the seed 1, 3, or all) found the group, and the others may be added to it."""

    def __init__(self, world: World, count: int, *, founders: int | None = None, config: Config | None = None) -> None:
        self.world = world
        self.ids = node_ids(count)
        rng = world.generator("group")
        self.config = config or rng.choice(CONFIGS)
        self.founders = self.ids[: founders or rng.choice([size for size in (1, 3, 3, count) if size <= count])]
        self._waiting: dict[int, Callable[[object], None]] = {}
        self._ops = 0
        for node in self.ids:
            added = world.add(Spec(node, ORG, self._build, stores=(MACHINE,)))
            if node in self.founders:
                added.stores[MACHINE].write(founding(self.founders))
        world.noticed = self._noticed

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        replica = Replica(
            MACHINE,
            GROUP,
            node.name,
            Registers(),
            node.views[MACHINE],
            org=ORG,
            config=self.config,
            rng=node.rng,
            now=node.now(),
            wall_ms=node.wall_ms(),
        )
        listeners = {protocol_of(GROUP): Listener(MACHINE, lambda peer: peer.org == ORG)}
        rpc = Rpc(Peer(node.name, ORG), {}, node.rng, listeners=listeners)
        return {MACHINE: replica, "rpc": rpc, "flows": Flows({}, limit=16)}

    def replica(self, node: NodeId) -> Replica:
        """The Replica of a living node."""
        machine = self.world.nodes[node].core.machine(MACHINE)
        assert isinstance(machine, Replica)
        return machine

    def living(self) -> list[NodeId]:
        """Those whose process runs."""
        return [node for node in self.ids if self.world.nodes[node].alive]

    def leader(self) -> NodeId | None:
        """Whoever leads in the highest term, if anybody does."""
        leading = [(self.replica(node).raft.term, node) for node in self.living() if self.replica(node).raft.role == "leader"]
        return max(leading)[1] if leading else None

    def propose(self, node: NodeId, command: object, ended: Callable[[object], None]) -> None:
        """Put ``command`` to a living ``node``; ``ended`` hears the outcome, if there is one."""
        self._ops += 1
        self._waiting[self._ops] = ended
        self.world.nodes[node].deliver(MACHINE, Perform(self._ops, Propose(command), None, OUTSIDE))

    def _noticed(self, node: SimNode, effect: object) -> None:
        if isinstance(effect, Completed):
            ended = self._waiting.pop(effect.op, None)
            if ended is not None:
                ended(effect.outcome)

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """Not a checker, but who tells the Replica of broken links, as a node's links do."""
        if machine == "rpc" and isinstance(event, LinkDown):
            self.world.after(0.0, node._later, node.epoch, MACHINE, Unlinked(event.node))

    def finish(self, world: World) -> None:
        """Nothing is left to do."""
