"""The core of a node: its machines, wired together, in one place for both drivers.

Theory of operation. Events wait in one queue in the order of arrival. ``_pump`` takes them one by one, steps the machine
that each is for, and carries its effects out at once: ``Tell`` goes to the end of the queue, everything else to
the driver. A machine that emits ``Persist`` *syncs*: from then on its effects are withheld and its events put aside, until the
driver says that the batch is on disk. What was put aside is then stepped together, so that one sync serves many events (group
commit) while the other machines go on: gossip never waits for the ledger's disk.

The driver gives three functions and calls four. It gives ``carry_out(effect)``; ``stage(machine, writes)``, which makes writes
visible to the machine's View at once; and ``sync(machine)``, which begins to write all that is staged. It calls ``deliver``,
``synced``, ``tick`` and ``deadline``.
Everything happens in the driver's one thread.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from meshos.effects import Completed, Err, Machine, Persist, Tell, Tick, Write
from meshos.errors import busy
from meshos.flow_machine import Perform
from meshos.protocols.membership.events import DatagramReceived
from meshos.storage.limits import MAX_PENDING_BATCHES

OUTSIDE = "outside"
"""Who asks for a Flow without being a machine: the API, a scenario. What is told to it goes to the driver."""

BACKLOG_LIMIT = 4096
"""Requests and datagrams that may wait for one machine's disk. A sync takes milliseconds: a full backlog means a stalled disk."""

DRAIN = 1024
"""Events that share one sync; the others wait for the next."""

assert DRAIN <= MAX_PENDING_BATCHES, "each step of a drain may stage a batch, and a View shows all of them"


NEVER = float("inf")
TICK = Tick()


class _Slot:
    """One machine, and what it waits for."""

    __slots__ = ("backlog", "due", "machine", "name", "syncing", "withheld")

    def __init__(self, name: str, machine: Machine) -> None:
        self.name = name
        self.machine = machine
        self.due = NEVER  # the machine's deadline; NEVER too while it waits for its disk
        self.syncing = False
        self.look_at_deadline()
        self.withheld: list[object] = []
        self.backlog: deque[object] = deque()

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
        """``observe(machine, event, effects)`` sees every step: the recorder in a node, the checkers in a simulation."""
        self._slots = {name: _Slot(name, machine) for name, machine in machines.items()}
        self._in_order = tuple(self._slots.values())
        self.due = min((slot.due for slot in self._in_order), default=NEVER)  # when to call ``tick`` at the latest
        self._carry_out = carry_out
        self._stage = stage
        self._sync = sync
        self._observe = observe
        self._queue: deque[tuple[_Slot, object]] = deque()
        self._pumping = False
        self.refused = 0

    def machine(self, name: str) -> Machine:
        """The machine called ``name``, to read from; only its own events change it."""
        return self._slots[name].machine

    def deliver(self, now: float, machine: str, event: object) -> None:
        """``event`` has happened for ``machine``."""
        self._queue.append((self._slots[machine], event))
        if not self._pumping:
            self._pump(now)

    def synced(self, now: float, machine: str) -> None:
        """What ``sync`` was given for ``machine`` is on disk."""
        slot = self._slots[machine]
        assert slot.syncing, f"{machine} was not syncing"
        slot.syncing = False
        slot.look_at_deadline()
        effects, slot.withheld = slot.withheld, []
        backlog, slot.backlog = slot.backlog, deque()
        self._queue.extendleft((slot, event) for event in reversed(backlog))
        was_pumping, self._pumping = self._pumping, True
        self._release(effects)
        self._pumping = was_pumping
        if not was_pumping:
            self._pump(now, together=slot)

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

    def _pump(self, now: float, together: _Slot | None = None) -> None:
        """Step until nothing waits. The events of ``together`` at the queue's head share one sync."""
        self._pumping = True
        queue = self._queue
        try:
            if together is not None:
                self._step_together(now, together)
            while queue:
                slot, event = queue.popleft()
                if slot.syncing:
                    self._put_aside(slot, event)
                    continue
                effects = self._step(now, slot, event)
                if not effects:
                    continue
                for effect in effects:
                    if type(effect) is Persist:
                        self._stage_writes(slot, effects)
                        self._begin_sync(slot, effects)
                        break
                else:
                    self._release(effects)
        finally:
            self._pumping = False
            due = NEVER
            for slot in self._in_order:
                if slot.due < due:
                    due = slot.due
            self.due = due

    def _step_together(self, now: float, slot: _Slot) -> None:
        effects: list[object] = []
        must_sync = False
        for _ in range(DRAIN):
            if not self._queue or self._queue[0][0] is not slot:
                break
            caused = self._step(now, slot, self._queue.popleft()[1])
            must_sync |= self._stage_writes(slot, caused)
            effects += caused
        if must_sync:
            self._begin_sync(slot, effects)
        else:
            self._release(effects)

    def _step(self, now: float, slot: _Slot, event: object) -> list[object]:
        """Step once and give what it caused."""
        machine = slot.machine
        caused = machine.step(now, event)
        due = machine.deadline()
        slot.due = NEVER if due is None else due
        if self._observe is not None:
            self._observe(slot.name, event, caused)
        return caused

    def _stage_writes(self, slot: _Slot, effects: list[object]) -> bool:
        """Let the machine's View show what it has written; whether there was anything."""
        must_sync = False
        for effect in effects:
            if type(effect) is Persist:
                self._stage(slot.name, effect.writes)
                must_sync = True
        return must_sync

    def _begin_sync(self, slot: _Slot, effects: list[object]) -> None:
        slot.syncing = True
        slot.due = NEVER
        slot.withheld = effects
        self._sync(slot.name)

    def _release(self, effects: list[object]) -> None:
        for effect in effects:
            if isinstance(effect, Tell):
                if effect.machine == OUTSIDE:
                    self._carry_out(effect.event)
                else:
                    self._queue.append((self._slots[effect.machine], effect.event))
            elif type(effect) is not Persist:
                self._carry_out(effect)

    def _put_aside(self, slot: _Slot, event: object) -> None:
        """Wait for the disk. Beyond the limit, requests get ``busy`` and datagrams are lost, as datagrams may be; answers to what this
        machine itself has asked for are bounded by what it asked, and always kept."""
        if len(slot.backlog) < BACKLOG_LIMIT or not isinstance(event, Perform | DatagramReceived):
            slot.backlog.append(event)
            return
        self.refused += 1
        if isinstance(event, Perform):
            self._queue.append((self._slots[event.reply_to], Completed(event.op, Err(busy(f"the mailbox of {slot.name}")))))
