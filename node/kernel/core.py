"""The core of a node: its machines, wired together, in one place for both drivers.

Theory of operation. Events wait in one queue in the order of arrival. ``_pump`` takes them one by one, steps the machine
that each is for, and carries its effects out at once: ``Tell`` goes to the end of the queue, everything else to
the driver. A machine that emits ``Persist`` *drains*: from then on its effects are withheld, while it steps on through what else
waits for it in the queue. When the queue is empty it *syncs*: its events are put aside until the driver says that the batch is
on disk. Then its effects are carried out, and what was put aside is queued again. So one sync serves many events (group commit) while the
other machines go on: gossip never waits for the ledger's disk.

``Ahead`` effects are carried out before their drain's sync begins. What a ``WriteBack`` stages goes to the disk with the machine's next
sync; if none comes within WRITE_BACK_S, or too much has been staged, the core begins one for it.

The driver gives three functions and calls four. It gives ``carry_out(effect)``; ``stage(machine, writes)``, which makes writes
visible to the machine's View at once; and ``sync(machine)``, which begins to write all that is staged. It calls ``deliver``,
``synced``, ``tick`` and ``deadline``.
Everything happens in the driver's one thread.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from meshos.effects import Ahead, Cast, Completed, Err, Machine, Persist, Put, Report, Tell, Tick, Write, WriteBack
from meshos.errors import busy
from meshos.flow_machine import Perform
from meshos.node.kernel.backlog import Backlog
from meshos.storage.limits import MAX_PENDING_BATCHES, WRITE_BACK_BATCHES, WRITE_BACK_BYTES, WRITE_BACK_S

OUTSIDE = "outside"
"""Who asks for a Flow without being a machine: the API, a scenario. What is told to it goes to the driver."""

RPC = "rpc"
"""The machine that carries casts, in the cores that have one."""

DRAIN = 1024
"""Steps of a machine that share one sync; what else waits for it waits for the next."""

assert WRITE_BACK_BATCHES + 2 * DRAIN <= MAX_PENDING_BATCHES, "each step of a drain may stage two batches, and a View shows all of them"


NEVER = float("inf")
WRITES = frozenset({Persist, WriteBack})
TICK = Tick()


class _Slot:
    """One machine, and what it waits for."""

    __slots__ = ("backlog", "draining", "due", "machine", "name", "syncing", "withheld", "written_back", "written_back_bytes")

    def __init__(self, name: str, machine: Machine) -> None:
        self.name = name
        self.machine = machine
        self.due = NEVER  # the machine's deadline; NEVER too while it waits for its disk
        self.draining = 0  # steps since the one that must be synced, itself included; 0 where there was none
        self.syncing = False
        self.look_at_deadline()
        self.withheld: list[object] = []
        self.backlog = Backlog()
        self.written_back = 0  # batches that wait for the next sync with nobody waiting for them
        self.written_back_bytes = 0

    def look_at_deadline(self) -> None:
        due = self.machine.deadline()
        self.due = NEVER if due is None else due


class Core:
    """The machines of one node; see the module's text."""

    def __init__(
        self,
        machines: Mapping[str, Machine],
        *,
        carry_out: Callable[[object], None],
        stage: Callable[[str, Sequence[Write]], None],
        sync: Callable[[str], None],
        observe: Callable[[str, object, list[object]], None] | None = None,
    ) -> None:
        """``observe(machine, event, effects)`` sees every step: the recorder in a node, the checkers in a simulation. Of a step that
        raises it sees a ``Report``; what was raised leaves the core."""
        self.now = 0.0  # of the step being taken
        self._slots = {name: _Slot(name, machine) for name, machine in machines.items()}
        self._in_order = tuple(self._slots.values())
        self.due = min((slot.due for slot in self._in_order), default=NEVER)  # when to call ``tick`` at the latest
        self._carry_out = carry_out
        self._stage = stage
        self._sync = sync
        self._observe = observe
        self._queue: deque[tuple[_Slot, object]] = deque()
        self._pumping = False
        self._drained: list[_Slot] = []  # those that sync once the queue is empty
        self._write_back_at: dict[_Slot, float] = {}  # when a sync begins for what is written back, if none has by then
        self.refused = 0

    def machine(self, name: str) -> Machine:
        """The machine called ``name``, to read from; only its own events change it."""
        return self._slots[name].machine

    def deliver(self, now: float, machine: str, event: object) -> None:
        """``event`` has happened for ``machine``."""
        self._queue.append((self._slots[machine], event))
        if not self._pumping:
            self._pump(now)

    def deliver_all(self, now: float, happened: Iterable[tuple[str, object]]) -> None:
        """The same for several (machine, event) at once: what they have synced is one batch a machine."""
        slots = self._slots
        self._queue.extend([(slots[machine], event) for machine, event in happened])
        if not self._pumping:
            self._pump(now)

    def synced(self, now: float, machine: str) -> None:
        """What ``sync`` was given for ``machine`` is on disk."""
        slot = self._slots[machine]
        assert slot.syncing, f"{machine} was not syncing"
        slot.syncing = False
        slot.look_at_deadline()
        effects, slot.withheld = slot.withheld, []
        self._queue.extendleft((slot, event) for event in reversed(slot.backlog.take()))
        was_pumping, self._pumping = self._pumping, True
        self._release(effects)
        self._pumping = was_pumping
        if not was_pumping:
            self._pump(now)

    def tick(self, now: float) -> None:
        """Tell every machine whose deadline has passed."""
        for slot in self._in_order:
            if slot.due <= now:
                self._queue.append((slot, TICK))
        if not self._pumping:
            self._pump(now)

    def deadline(self) -> float | None:
        """When to call ``tick`` at the latest; ``due`` is the same, with NEVER for None."""
        return None if self.due == NEVER else self.due

    def _pump(self, now: float) -> None:
        """Step until nothing waits but for disks."""
        self._pumping = True
        try:
            self._step_through(now)
            while (self._drained or self._write_back_at) and self._sync_drained(now):
                self._step_through(now)  # there is something only where a disk was written at once
        finally:
            self._pumping = False
            due = min(self._write_back_at.values()) if self._write_back_at else NEVER
            for slot in self._in_order:
                if slot.due < due:
                    due = slot.due
            self.due = due

    def _step_through(self, now: float) -> None:
        """Step until the queue is empty. Everything that happens in a node passes here: few words, no calls that can be spared."""
        queue, observe = self._queue, self._observe
        self.now = now
        while queue:
            slot, event = queue.popleft()
            if slot.syncing:
                self._put_aside(slot, event)
                continue
            machine = slot.machine
            try:
                effects = machine.step(now, event)
                due = machine.deadline()
            except Exception as error:
                if observe is not None:
                    observe(slot.name, event, [Report(slot.name, error)])
                raise
            slot.due = NEVER if due is None else due
            if observe is not None:
                observe(slot.name, event, effects)
            if slot.draining:
                self._drain(now, slot, effects)
                continue
            for effect in effects:
                if type(effect) in WRITES:
                    if self._stage_writes(now, slot, effects):
                        self._drained.append(slot)
                        self._withhold(slot, effects)
                    else:
                        self._release(effects)
                    break
            else:
                self._release(effects)

    def _drain(self, now: float, slot: _Slot, effects: list[object]) -> None:
        """One more step of a machine that must sync."""
        self._stage_writes(now, slot, effects)
        self._withhold(slot, effects)
        if slot.draining >= DRAIN:
            self._drained.remove(slot)
            self._begin_sync(slot)

    def _sync_drained(self, now: float) -> bool:
        """The queue is empty: begin the syncs that this turn has made necessary, and those that are due; whether there were any."""
        due, self._drained = self._drained, []
        if self._write_back_at:
            due += [slot for slot, at in self._write_back_at.items() if at <= now and not slot.draining]
        for slot in due:
            self._begin_sync(slot)
        return bool(due)

    def _stage_writes(self, now: float, slot: _Slot, effects: list[object]) -> bool:
        """Let the machine's View show what it has written; whether a sync must begin for it."""
        must_sync = False
        for effect in effects:
            if isinstance(effect, Persist):
                self._stage(slot.name, effect.writes)
                must_sync = True
            elif isinstance(effect, WriteBack):
                must_sync |= self._stage_write_back(now, slot, effect.writes)
        return must_sync

    def _stage_write_back(self, now: float, slot: _Slot, writes: tuple[Write, ...]) -> bool:
        """The same for writes that keep nothing waiting, until there are too many."""
        self._stage(slot.name, writes)
        self._write_back_at.setdefault(slot, now + WRITE_BACK_S)
        slot.written_back += 1
        slot.written_back_bytes += sum(len(write.key) + (len(write.value) if type(write) is Put else 0) for write in writes)
        return slot.written_back >= WRITE_BACK_BATCHES or slot.written_back_bytes >= WRITE_BACK_BYTES

    def _withhold(self, slot: _Slot, effects: list[object]) -> None:
        slot.draining += 1
        slot.withheld += self._go_ahead(effects)

    def _begin_sync(self, slot: _Slot) -> None:
        slot.syncing = True
        slot.draining = 0
        slot.due = NEVER
        if slot.written_back:
            del self._write_back_at[slot]
            slot.written_back = slot.written_back_bytes = 0
        self._sync(slot.name)

    def _go_ahead(self, effects: list[object]) -> list[object]:
        """Carry out what does not wait for the sync; gives the rest."""
        ahead = [effect.effect for effect in effects if type(effect) is Ahead]
        if not ahead:
            return effects
        self._release(ahead)
        return [effect for effect in effects if type(effect) is not Ahead]

    def _release(self, effects: list[object]) -> None:
        slots, queue = self._slots, self._queue
        for effect in effects:
            if isinstance(effect, Tell):
                slot = slots.get(effect.machine)
                if slot is not None:
                    queue.append((slot, effect.event))
                else:
                    assert effect.machine == OUTSIDE, f"{effect.machine} is no machine of this node"
                    self._carry_out(effect.event)
            elif isinstance(effect, Cast):
                queue.append((slots[RPC], effect))
            elif isinstance(effect, Ahead):
                self._release([effect.effect])
            elif type(effect) not in WRITES:
                self._carry_out(effect)

    def _put_aside(self, slot: _Slot, event: object) -> None:
        """Wait for the disk, if there is room."""
        if slot.backlog.add(event):
            return
        self.refused += 1
        if isinstance(event, Perform):
            self._queue.append((self._slots[event.reply_to], Completed(event.op, Err(busy(f"the mailbox of {slot.name}")))))
