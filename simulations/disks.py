"""The disks of a simulated node: one store for each of its machines that has one, and what they do wrong.

A sync takes its time, and may take much of it, fail, or not answer until the disk is mended. A *trap* cuts the power at one write or
sync that is named by its number, so that a schedule can say "before the third sync" where chance would seldom be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from meshos.effects import Write
from meshos.storage.disk import DiskFailed
from meshos.storage.memory import DiskFaults, MemoryStore, Reached

if TYPE_CHECKING:
    from meshos.simulations.world import World

ANY = "any"
REACHED: dict[str, Reached] = {"before": "none", "torn": "torn", "after": "all"}


@dataclass(frozen=True, slots=True)
class Trap:
    """The power goes ``point`` (before, torn, after) the ``number``-th ``operation`` (write, sync) of the store ``machine`` (or any)."""

    machine: str
    operation: str
    number: int
    point: str


class Disks:
    """All stores of one node. ``stores`` may be read, and a store exchanged for another (an amnesia)."""

    def __init__(self, world: "World", node: str, machines: Sequence[str]) -> None:
        self.stores = {name: MemoryStore(world.generator(f"disk/{node}/{name}")) for name in machines}
        self.slow_s = 0.0
        self.syncing = 0  # syncs that were begun and have not ended
        self._world = world
        self._trap: Trap | None = None
        self._stalled_until = 0.0
        self._kept: list[Callable[[], None]] = []  # syncs that would have ended while the disk stalled
        self._reached: Reached = "some"

    # -- what the driver calls ---------------------------------------------------------------------------------------

    def begin(self, machine: str, writes: Sequence[Write]) -> None:
        """Hand a batch to the disk; raises DiskFailed where the power goes."""
        trap = self._sprung(machine, "write")
        if trap is not None and trap.point == "before":
            self._cut(trap)
        self.stores[machine].begin(writes)
        if trap is not None:
            self._cut(trap)

    def begin_sync(self) -> float:
        """A sync begins; how long it will take."""
        self.syncing += 1
        if not self.slow_s:
            return self._world.disk_s()
        self._world.visited("a sync on a slow disk")
        return self.slow_s * (0.5 + self._world.disk_share() / 2)

    def hold(self, again: Callable[[], None]) -> bool:
        """Whether the disk stalls; then ``again`` is called when it does not any more."""
        if self._world.now >= self._stalled_until:
            return False
        self._world.visited("a sync that met a stalled disk")
        self._kept.append(again)
        return True

    def sync(self, machine: str) -> None:
        """A sync ends, well or by raising DiskFailed."""
        trap = self._sprung(machine, "sync")
        if trap is not None and trap.point != "after":
            self._cut(trap)
        try:
            self.stores[machine].sync()
        except DiskFailed:
            self._world.visited("a sync that failed")
            raise
        self.syncing -= 1
        if trap is not None:
            self._cut(trap)

    def crash(self) -> None:
        """The power is gone."""
        world = self._world
        begun = sum(store.begun for store in self.stores.values())
        survived = sum(store.crash(self._reached) for store in self.stores.values())
        if self.syncing:
            world.visited("a crash while syncing")
        if begun:
            world.visited("a crash that lost all that was not synced" if not survived else "a crash that kept some of what was not synced")
        self._kept.clear()
        self.syncing = 0
        self._reached = "some"

    # -- faults ------------------------------------------------------------------------------------------------------

    def fail(self, share: float) -> None:
        """From now on a share of the syncs fails."""
        for store in self.stores.values():
            store.faults = replace(store.faults, error_rate=share)

    def set_trap(self, trap: Trap) -> None:
        """It takes the place of one before."""
        self._trap = trap

    def stall(self, for_s: float) -> None:
        """No sync answers for so long."""
        self._stalled_until = max(self._stalled_until, self._world.now + for_s)
        self._world.after(for_s, self._go_on)

    def corrupt(self, machine: str) -> None:
        """Let a value of ``machine`` (or of any store that has one) rot."""
        for name in sorted(self.stores) if machine == ANY else [machine] if machine in self.stores else []:
            if self.stores[name].corrupt() is not None:
                self._world.visited("a value rotted")
                return

    def mend(self) -> None:
        """Good disks again."""
        self.slow_s, self._trap, self._stalled_until = 0.0, None, 0.0
        for store in self.stores.values():
            store.faults = DiskFaults()
            store.mend()
        self._go_on()

    def _go_on(self) -> None:
        if self._world.now < self._stalled_until:
            return
        kept, self._kept = self._kept, []
        for again in kept:
            again()

    def _sprung(self, machine: str, operation: str) -> Trap | None:
        """The trap, if this is the operation that it waits for."""
        trap = self._trap
        if trap is None or trap.operation != operation or trap.machine not in (machine, ANY):
            return None
        if trap.number > 1:
            self._trap = replace(trap, number=trap.number - 1)
            return None
        self._trap = None
        return trap

    def _cut(self, trap: Trap) -> None:
        self._reached = REACHED[trap.point]
        self._world.visited(f"a crash {trap.point} a {trap.operation}" if trap.point != "torn" else f"a crash with a torn {trap.operation}")
        raise DiskFailed("disk-failed", f"the power went {trap.point} a {trap.operation}")
