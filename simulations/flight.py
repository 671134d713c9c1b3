"""A recording of a real node, run again: the same machines, given the same, must do the same.

Each machine is stepped by itself with what it was given, so that one that goes astray takes no other with it, but for those that look
at it. Its effects are compared by number and checksum with those that were recorded. A machine that differs is not followed further
(until the recording says again how it stood); one whose input was not kept whole (too long, or impossible to write) is followed until that
shows, and then said to be blind.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from meshos.effects import Machine, Report
from meshos.node.runtime.recorder.drawing import Drawing
from meshos.node.runtime.recorder.entries import Built, Class, Entry, Gap, Head, Read, State, Step, effects_hash
from meshos.node.runtime.recorder.graph import blueprints, looks_at, restore
from meshos.node.runtime.recorder.values import Reader, Writer, lost_in
from meshos.simulations.flight_disks import Astray, Blind, Disks

Build = Callable[[Head, object, Disks, Drawing], Mapping[str, Machine]]
"""Builds a node's machines as they were built at a Head, with what they were given; ``Disks.views`` are those of their disks."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A machine did something else at ``step`` than was recorded; ``why`` says what was seen."""

    step: int
    now: float
    machine: str
    event: object
    effects: tuple[object, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One step, replayed, for whoever wants to look: ``effects`` is None where the machine was not stepped."""

    step: int
    now: float
    machine: str
    event: object
    effects: tuple[object, ...] | None
    name: str = ""


@dataclass(slots=True)
class Flight:
    """What a replay came to."""

    lives: int = 0
    steps: int = 0
    same: dict[str, int] = field(default_factory=dict)
    """Steps of each machine that were as recorded."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Steps of each machine that were not replayed, for whatever reason."""
    differences: list[Difference] = field(default_factory=list)
    crashes: list[Difference] = field(default_factory=list)
    """Steps that raised an error of ours, as recorded."""
    blind: dict[str, str] = field(default_factory=dict)
    """Machines that could not be followed to the end, and why."""
    software: str = ""
    segments: int = 0
    seconds: float = 0.0
    """On the clock of the recording, of all lives together."""


class Replay:
    """Goes through the entries of a recording. ``watch`` sees each step."""

    def __init__(self, build: Build, watch: Callable[[Seen], None] = lambda seen: None) -> None:
        self.flight = Flight()
        self._build = build
        self._watch = watch
        self._writer = Writer()
        self._reader = Reader()
        self._disks = Disks()
        self._looks_at: Mapping[str, set[str]] = {}
        self._read = Read(())
        self._drawing = Drawing(bytes(32))
        self._head: Head | None = None
        self._states: dict[str, State] = {}
        self._machines: dict[str, Machine] = {}
        self._given: object = None
        self._built = True
        self._holed: dict[str, str] = {}  # machines whose inputs had something missing, and what
        self._missing: dict[str, str] = {}  # machines of whose beginning something is missing, and what
        self._drawn = 0
        self._before_s = self._began_s = 0.0

    def run(self, entries: Iterable[Entry], until_s: float | None = None) -> Flight:
        """Replay ``entries``, the first ``until_s`` seconds of them."""
        for entry in entries:
            if isinstance(entry, Head):
                self._begin(entry)
            elif isinstance(entry, Class):
                self._writer.number(self._reader.learn(entry.number, entry.name, entry.fields), entry.number)
            elif isinstance(entry, Built):
                self._given = self._reader.value(entry.given)
            elif isinstance(entry, State):
                self._states[entry.machine] = entry
            elif isinstance(entry, Read):
                self._read = entry
            else:
                if isinstance(entry, Gap) and not self._built:
                    self._missing[entry.machine] = f"{entry.name}: {entry.why}"
                    continue
                self._ready()
                self.flight.seconds = self._before_s + entry.now - self._began_s
                if until_s is not None and self.flight.seconds > until_s:
                    break
                self.flight.steps += 1
                self._one(entry)
        return self.flight

    # -- beginnings --------------------------------------------------------------------------------------------------

    def _begin(self, head: Head) -> None:
        before, self._head = self._head, head
        self.flight.software = head.software
        self.flight.segments += 1
        self._reader, self._writer = Reader(), Writer()
        self._states, self._read = {}, Read(())
        follows = before is not None and before.life == head.life and before.number + 1 == head.number
        self._built = False
        self._holed, self._missing = {}, {}
        if not follows:
            self.flight.lives += before is None or before.life != head.life
            self._before_s, self._began_s = self.flight.seconds, head.now
            self._machines, self._disks = {}, Disks(head.views)

    def _ready(self) -> None:
        """All that a segment says of its beginning has been read: build what is not followed from before."""
        if self._built:
            return
        self._built = True
        head = self._head
        assert head is not None
        self._drawing.rekey(head.key)
        self._drawn = 0  # what building draws was drawn long ago, but in the first segment
        if head.number == 0 or any(name not in self._machines for name in self._states):
            self._build_all(head)

    def _build_all(self, head: Head) -> None:
        """From the beginning of a life, or all whose state is known: those that look at each other stay together."""
        first = head.number == 0
        disks = Disks(head.views)
        disks.note(self._read.notes)
        for name, disk in disks.views.items():
            disk.blank = not first or name in self._missing
        try:
            fresh = self._build(head, self._given, disks, self._drawing)
        except Astray as error:
            for name in head.machines:
                self._lose(name, f"it cannot be built as it was then: {error}")
            return
        self._drawn = self._drawing.drawn if first else 0
        plans = blueprints({name: fresh[name] for name in head.machines if name in fresh})
        wanted = [name for name in plans if name not in self._missing and (first or name in self._states)]
        for name in wanted if not first else ():
            restore(fresh[name], self._states[name].graph, plans[name], disks.snapshot)
        for name, disk in disks.views.items():
            disk.blank = False
            if name not in wanted:
                disk.unknown = f"the disk of {name} is not known here"
        self._disks = disks
        self._machines = {name: fresh[name] for name in wanted}
        self._looks_at = {name: looks_at(plan) for name, plan in plans.items()}
        for name in wanted:
            self.flight.blind.pop(name, None)
        for name in [name for name in plans if name not in wanted]:
            self._lose(name, self._missing.get(name, "how it stood is not in the recording"))

    # -- steps -------------------------------------------------------------------------------------------------------

    def _one(self, entry: Step | Gap) -> None:
        number = self.flight.steps
        if isinstance(entry, Step):
            self._step(number, entry)
            return
        self._drawn = entry.drawn
        self._skip(entry.machine)
        self._lose(entry.machine, f"step {number}, {entry.name}, could not be written: {entry.why}")
        self._watch(Seen(number, entry.now, entry.machine, None, None, entry.name))

    def _step(self, number: int, entry: Step) -> None:
        event = self._reader.value(entry.event)
        before, self._drawn = self._drawn, entry.drawn
        self._disks.note(entry.notes)
        machine = self._machines.get(entry.machine)
        if machine is None:
            self._skip(entry.machine)
            self._watch(Seen(number, entry.now, entry.machine, event, None))
            return
        if lost_in(entry.event):
            self._holed.setdefault(entry.machine, f"the input of step {number} was too long to keep")
        self._drawing.drawn = before
        effects, raised = self._effects(entry, machine, event)
        if isinstance(raised, Blind):
            self._lose(entry.machine, str(raised))
            self._skip(entry.machine)
            self._watch(Seen(number, entry.now, entry.machine, event, None))
            return
        disk = self._disks.views.get(entry.machine)
        if disk is not None:
            disk.write(effects)
        self._watch(Seen(number, entry.now, entry.machine, event, tuple(effects)))
        why = self._unlike(entry, effects, raised)
        if not why:
            self.flight.same[entry.machine] = self.flight.same.get(entry.machine, 0) + 1
            if raised is None:
                return
        if why and entry.machine in self._holed:
            self._lose(entry.machine, self._holed[entry.machine])
            return
        found = self.flight.differences if why else self.flight.crashes
        found.append(Difference(number, entry.now, entry.machine, event, tuple(effects), why or f"it raised {raised!r}"))
        self._let_go(entry.machine)

    def _effects(self, entry: Step, machine: Machine, event: object) -> tuple[list[object], Exception | None]:
        try:
            effects = machine.step(entry.now, event)
            machine.deadline()  # as whoever drives it asks after each step
        except Exception as error:  # recorded as what it is: the machine's end
            return [Report(entry.machine, error)], error
        return effects, None

    def _unlike(self, entry: Step, effects: list[object], raised: Exception | None) -> str:
        """What is not as it was recorded."""
        if effects_hash(self._writer, effects) != entry.hash or len(effects) != entry.effects:
            if raised is not None:
                return f"it raised {raised!r}, and then had {entry.effects} effects"
            return f"its {len(effects)} effects are not the {entry.effects} that it had then"
        if self._drawing.drawn != entry.drawn:
            return f"it has drawn {self._drawing.drawn} times, and then {entry.drawn} times"
        return ""

    def _skip(self, machine: str) -> None:
        self.flight.skipped[machine] = self.flight.skipped.get(machine, 0) + 1

    def _lose(self, machine: str, why: str) -> None:
        """It cannot be followed from here on."""
        self._holed[machine] = why
        self.flight.blind.setdefault(machine, why)
        self._let_go(machine)

    def _let_go(self, machine: str) -> None:
        """It is not followed any more, and neither is what looks at it."""
        self._machines.pop(machine, None)
        if machine in self._disks.views:
            self._disks.views[machine].unknown = f"{machine} is not followed, and so its disk is not known"
        for other, seen in self._looks_at.items():
            if machine in seen and other in self._machines:
                self._lose(other, f"it looks at {machine}, which is not followed")
