"""A recording of a real node, run again: the same machines, given the same, must do the same.

Each machine is stepped by itself with what it was given, so that one that goes astray takes no other with it. Its effects are compared by
number and checksum with those that were recorded. A machine that differs is not followed further (until the recording says again how it
stood); one whose input was not kept whole (too long, or impossible to write) is followed until that shows, and then said to be blind.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshos.effects import Machine, Persist, Put, Report, WriteBack
from meshos.node.runtime.recorder.drawing import Drawing
from meshos.node.runtime.recorder.entries import Built, Class, Entry, Gap, Head, State, Step, effects_hash
from meshos.node.runtime.recorder.graph import restore
from meshos.node.runtime.recorder.values import Reader, Writer, lost_in
from meshos.node.runtime.recorder.watching import Note

Build = Callable[[Head, object, "Disks", Drawing], Mapping[str, Machine]]
"""Builds a node's machines as they were built at a Head, with what they were given; ``Disks`` gives each its View."""


class Astray(Exception):
    """A machine reads what it did not read when it was recorded."""


class Disk:
    """The View of a replayed machine: knows what was noted down, and what the machine has written since."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes | None] = {}
        self._scans: list[tuple[int, bytes]] = []  # of the present step, not begun yet
        self._pairs: dict[int, list[tuple[bytes, bytes | None]]] = {}
        self._ended: set[int] = set()
        self.blank = False
        """While a machine is built that is restored afterwards: there is nothing on the disk."""

    def note(self, notes: Iterable[Note]) -> None:
        """What is read in the step that comes."""
        self._scans.clear()
        for kind, *rest in notes:
            match kind, rest:
                case (0, [bytes(key), bytes() | None as value]):
                    self._values[key] = value
                case (1, [int(number), bytes(prefix)]):
                    self._scans.append((number, prefix))
                    self._pairs[number] = []
                case (2, [int(number), bytes(key), *value]):
                    if value and isinstance(value[0], bytes):
                        self._values[key] = value[0]
                    self._pairs.setdefault(number, []).append((key, self._values.get(key)))
                case (3, [int(number)]):
                    self._ended.add(number)

    def write(self, effects: Iterable[object]) -> None:
        """What the machine has written."""
        for effect in effects:
            if isinstance(effect, Persist | WriteBack):
                for write in effect.writes:
                    self._values[write.key] = write.value if isinstance(write, Put) else None

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        if key not in self._values and not self.blank:
            raise Astray(f"it reads {key[:60]!r}")
        return self._values.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        if self.blank:
            return iter(())
        number = next((number for number, begun in self._scans if begun == prefix), None)
        if number is None:
            raise Astray(f"it scans {prefix[:60]!r}")
        self._scans.remove((number, prefix))
        return self._follow(number)

    def _follow(self, number: int) -> Iterator[tuple[bytes, bytes]]:
        pairs = self._pairs[number]
        while pairs:
            key, value = pairs.pop(0)
            if value is None:
                raise Astray(f"it scans {key[:60]!r}, which it has deleted")
            yield key, value
        if number not in self._ended:
            raise Astray("it scans further")


class Disks(dict[str, Disk]):
    """A Disk for each machine that asks for one."""

    def __missing__(self, machine: str) -> Disk:
        self[machine] = disk = Disk()
        return disk


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
        self._drawing = Drawing(bytes(32))
        self._head: Head | None = None
        self._states: dict[str, State] = {}
        self._machines: dict[str, Machine] = {}
        self._given: object = None
        self._built = True
        self._holed: dict[str, str] = {}  # machines whose inputs had something missing, and what
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
            else:
                if isinstance(entry, Gap) and not self._built:
                    if entry.machine not in self._machines:  # else it is followed from before, and needs no beginning
                        self._lose(entry.machine, f"{entry.name}: {entry.why}")
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
        self._states = {}
        follows = before is not None and before.life == head.life and before.number + 1 == head.number
        self._built = False
        self._holed = {}
        if not follows:
            self.flight.lives += before is None or before.life != head.life
            self._before_s, self._began_s = self.flight.seconds, head.now
            self._machines, self._disks = {}, Disks()

    def _ready(self) -> None:
        """All that a segment says of its beginning has been read: build what is not followed from before."""
        if self._built:
            return
        self._built = True
        head = self._head
        assert head is not None
        first = head.number == 0
        wanted = [name for name in (head.machines if first else self._states) if name not in self._machines]
        self._drawing.rekey(head.key)
        if wanted:
            self._adopt(head, wanted, first)
        self._drawn = self._drawing.drawn if first else 0  # building draws; in a later segment it was done long ago

    def _adopt(self, head: Head, wanted: list[str], first: bool) -> None:
        disks = Disks()
        for name in head.machines:
            disks[name].blank = not first or name in self._holed
            disks[name].note(self._states[name].notes if first and name in self._states else ())
        try:
            fresh = self._build(head, self._given, disks, self._drawing)
        except Astray as error:
            for name in wanted:
                self._lose(name, f"it cannot be built as it was then: {error}")
            return
        for name in wanted:
            if name in fresh and name not in self._holed:
                if not first:
                    restore(fresh[name], self._states[name].graph)
                self._machines[name], self._disks[name] = fresh[name], disks[name]
                self._disks[name].blank = False
                self.flight.blind.pop(name, None)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _one(self, entry: Step | Gap) -> None:
        number = self.flight.steps
        if isinstance(entry, Step):
            self._step(number, entry)
            return
        self._skip(entry.machine)
        self._lose(entry.machine, f"step {number}, {entry.name}, could not be written: {entry.why}")
        self._watch(Seen(number, entry.now, entry.machine, None, None, entry.name))

    def _step(self, number: int, entry: Step) -> None:
        event = self._reader.value(entry.event)
        before, self._drawn = self._drawn, entry.drawn
        machine = self._machines.get(entry.machine)
        if machine is None:
            self._skip(entry.machine)
            self._watch(Seen(number, entry.now, entry.machine, event, None))
            return
        if lost_in(entry.event):
            self._holed.setdefault(entry.machine, f"the input of step {number} was too long to keep")
        self._drawing.drawn = before
        disk = self._disks[entry.machine]
        disk.note(entry.notes)
        effects, raised = self._effects(entry, machine, event)
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
        del self._machines[entry.machine]

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
        self._machines.pop(machine, None)
