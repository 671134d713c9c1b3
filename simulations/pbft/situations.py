"""What a run has been through: so that one sees which situations no seed has visited."""

from meshos.consensus.pbft.events import Decided, Noticed
from meshos.consensus.pbft.records import ViewRecord
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.effects import Tell
from meshos.ids import NodeId
from meshos.simulations.pbft.group import MACHINE, Group
from meshos.simulations.pbft.liars import TAKEN_BACK, TOLD_EPOCHS, TOLD_LOST, TOLD_OLD
from meshos.simulations.world import SimNode, World

NAMES = (
    "not-carried-over",
    "too-far-ahead",
    "a view was left",
    "a view began",
    "a view began by a certificate alone",
    "a block was carried over",
    "a null block was decided",
    "other validators came into force",
    "a view was left while other validators waited for their boundary",
    "a view was left at a boundary",
    "a block was carried over at a boundary",
    "more validators than before",
    "fewer validators than before",
    "a seat was handed over",
    "a validator was suspended",
    "a state was taken from others",
    TOLD_OLD,
    TOLD_EPOCHS,
    TOLD_LOST,
    TAKEN_BACK,
    "a disk was put back to an old copy",
    "disk-rolled-back",
    "clock-apart",
    "forged-new-view",
    "wrong-state-root",
    "wrong-validators",
)


class Situations:
    """Counts them; finds nothing wrong with any."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._records: dict[NodeId, ViewRecord] = {}
        self._bases: dict[NodeId, int] = {}
        self._times: dict[int, int] = {}
        self._epochs: dict[int, int] = {}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != MACHINE or node.name in self._group.liars:
            return
        for effect in effects:
            if type(effect) is Tell:
                if type(effect.event) is Decided:
                    self._decided(effect.event)
                elif type(effect.event) is Noticed and effect.event.error.name in NAMES:
                    self._group.world.visited(effect.event.error.name)
        self._look(node)

    def _decided(self, decided: Decided) -> None:
        header = decided.certified.block.header
        if header.height in self._times:
            return
        self._times[header.height] = header.time_ms
        before = self._times.get(header.height - 1)
        if before is not None and not decided.certified.block.requests and header.time_ms == before + 1:
            self._group.world.visited("a null block was decided")

    def _look(self, node: SimNode) -> None:
        world = self._group.world
        core = self._group.replicas[node.name].core
        record, chain = core.desk.ballot.record, core.chain
        base, before = chain.base, self._records.get(node.name)
        if base > self._bases.get(node.name, base) and chain.height == base - 1:
            world.visited("a state was taken from others")
        self._bases[node.name] = base
        if record is before:
            return
        self._records[node.name] = record
        if before is None or before.epoch != record.epoch:
            if record.epoch not in self._epochs and record.epoch:
                self._epoch(core.chain.validators_of(record.epoch - 1), chain.validators)
                self._epochs[record.epoch] = chain.validators.n
            return
        interval = self._group.config.checkpoint_interval
        boundary = (chain.height + 1) % interval == 0
        if record.promised > before.promised and record.view < record.promised:
            world.visited("a view was left")
            if boundary:
                world.visited("a view was left at a boundary")
            if chain.pending is not None:
                world.visited("a view was left while other validators waited for their boundary")
        if record.view > before.view:
            world.visited("a view began" if record.choice.height > chain.height else "a view began by a certificate alone")
            if record.choice.hash is not None:
                world.visited("a block was carried over at a boundary" if boundary else "a block was carried over")

    def _epoch(self, before: ValidatorSet | None, now: ValidatorSet) -> None:
        world = self._group.world
        if before is None:
            return
        if now.n != before.n:
            world.visited("more validators than before" if now.n > before.n else "fewer validators than before")
        nodes = {entry.org: entry.node for entry in before.entries}
        if any(nodes.get(entry.org, entry.node) != entry.node for entry in now.entries):
            world.visited("a seat was handed over")
        if sum(entry.suspended for entry in now.entries) > sum(entry.suspended for entry in before.entries):
            world.visited("a validator was suspended")

    def finish(self, world: World) -> None:
        """See ``Checker``."""
