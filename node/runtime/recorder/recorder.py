"""The recorder of a node: sees each step of its machines, and writes down what a replay needs.

Theory of operation. A machine is a function of what it is given: its events with their times, what it reads from Views, what it draws,
and, for some, other machines that it looks at. The recorder notes the first three, and a checksum of what came out. ``random`` is the
generator to give to the machines (to these alone), ``view`` wraps their Views, ``observe`` goes into the node's Core. Events are made
plain at once, on the event loop: some microseconds each, since seen later they might be others. Encoding and writing are the sink's, in
a thread of its own.

Machines that are ``left_out`` are not recorded: Flows are coroutines that read what lies around them, and cannot be replayed. Their side
of every exchange shows in the machines that they talk to.

A segment stands alone, as far as it can: it begins with a new key for the draws, forgets what was read before, and holds how each machine
stood, if that can be written (graph.py). So a replay can begin at any of them, when the beginning of the life is gone.

What cannot be written is told by a GAP. Nothing here ever stops a step.
"""

import os
from collections.abc import Collection, Mapping
from typing import Protocol

from meshos.effects import Machine
from meshos.node.runtime.recorder.drawing import Drawing
from meshos.node.runtime.recorder.entries import CLASS, FORMAT, GAP, GIVEN, HEAD, KEY_BYTES, LIFE_BYTES, READ, STATE, STEP, effects_hash
from meshos.node.runtime.recorder.graph import Blueprint, Unwritable, blueprints, written
from meshos.node.runtime.recorder.limits import AGAIN_SEGMENTS, BEGINNING_BYTES, STATE_BYTES, STATES_BYTES
from meshos.node.runtime.recorder.values import FIRST_CLASS, Writer
from meshos.node.runtime.recorder.watching import Notes, Watched
from meshos.storage.store import LiveView, View


class Clock(Protocol):
    """Whoever drives the machines."""

    now: float
    """Of the step that is taken."""


LOOK = 16
"""Steps between two looks whether a segment should begin."""


class Sink(Protocol):
    """Where entries go."""

    def begin(self) -> None:
        """What comes next is the head of a segment."""
        ...

    def put(self, entry: list[object], weight: int = 0) -> bool:
        """Take an entry with so many bytes in long byte strings; False if there is no room for it."""
        ...

    def wants_segment(self) -> bool:
        """Whether a segment should begin: the last is long enough, or there was no room and now there is."""
        ...


class Recorder:
    """See the module's text. Use: ``random`` and ``view`` for the machines, then ``begin``, then ``observe`` for each step."""

    def __init__(self, sink: Sink, *, given: object, node: str, software: str, left_out: Collection[str] = ()) -> None:
        self.random = Drawing(os.urandom(KEY_BYTES))
        self.recorded = self.gaps = self.segments = 0
        self._sink, self._given = sink, given
        self._about = (software, node, os.urandom(LIFE_BYTES))
        self._left_out = frozenset(left_out)
        self._notes = Notes()
        self._views: dict[str, Watched] = {}
        self._writer = Writer()
        self._named = FIRST_CLASS  # the first number whose class this segment has not been told
        self._machines: Mapping[str, Machine] = {}
        self._places: dict[str, int] = {}
        self._blueprints: Mapping[str, Blueprint] = {}
        self._too_large: dict[str, int] = {}  # and from which segment on it may be tried again
        self._hole = False
        self._until_look = LOOK
        self._clock: Clock
        self._wall_ms = 0

    def view(self, machine: str, view: View) -> LiveView:
        """What is to be read in the place of ``view``, which shows the disk of ``machine``."""
        self._views[machine] = watched = Watched(view, len(self._views), self._notes)
        return watched

    def begin(self, machines: Mapping[str, Machine], clock: Clock, now: float, wall_ms: int) -> None:
        """The machines are built, at ``now`` and ``wall_ms``. ``clock`` has the time of the step being observed."""
        self._machines = {name: machine for name, machine in machines.items() if name not in self._left_out}
        self._clock, self._wall_ms = clock, wall_ms
        self._places = {name: place for place, name in enumerate(self._machines)}
        self._blueprints = blueprints(self._machines)
        self._head(now)
        notes = self._notes.take()
        for space, name in enumerate(self._views):
            size = sum(len(part) for note in notes if note[1] == space for part in note if isinstance(part, bytes))
            if size > BEGINNING_BYTES:
                notes = [note for note in notes if note[1] != space]
                self._gap(now, self._places.get(name, 0), "its beginning", f"{size} bytes were read")
        self._put([READ, notes])

    def observe(self, machine: str, event: object, effects: list[object]) -> None:
        """A step: see ``Core``."""
        place = self._places.get(machine)
        if place is None:
            return
        notes, now = self._notes.take(), self._clock.now
        if self._notes.lost:
            self._lost(now, place, type(event).__name__)
        watched = self._views.get(machine)
        if watched is not None:
            watched.wrote(effects)
        writer = self._writer
        writer.weight = 0
        try:
            plain = writer.plain(event)
            weight = writer.weight
            checksum = effects_hash(writer, effects)
        except Exception as error:  # whatever it is, the node goes on
            self._gap(now, place, type(event).__name__, repr(error)[:200])
        else:
            if self._named in writer.classes:
                self._tell_classes()
            self._put([STEP, now, place, self.random.drawn, plain, len(effects), checksum, notes], weight)
        self._until_look -= 1
        if not self._until_look:
            self._until_look = LOOK
            if self._sink.wants_segment():
                self._next_segment()

    def statistics(self) -> dict[str, float]:
        """For metrics."""
        return {"recorded": self.recorded, "gaps": self.gaps, "segments": self.segments}

    # -- segments ----------------------------------------------------------------------------------------------------

    def _next_segment(self) -> None:
        """Every machine is between two steps now; how it stands is what the segment begins with."""
        now = self._clock.now
        self.segments += self._hole  # a number that is missing says that something is missing
        self._hole = False
        self.random.rekey(os.urandom(KEY_BYTES))
        for watched in self._views.values():
            watched.forget()
        self._notes.take()
        self._head(now)
        room = STATES_BYTES
        for name, machine in self._machines.items():
            place = self._places[name]
            if self.segments < self._too_large.get(name, 0):
                self._gap(now, place, "how it stands", "it is too large")
                continue
            try:
                graph, size = written(machine, self._blueprints[name], min(STATE_BYTES, room))
            except Exception as error:  # whatever it is, the node goes on
                if isinstance(error, Unwritable) and error.too_large:
                    self._too_large[name] = self.segments + AGAIN_SEGMENTS
                self._gap(now, place, "how it stands", repr(error)[:200])
            else:
                room -= size
                self._put([STATE, place, graph])

    def _head(self, now: float) -> None:
        software, node, life = self._about
        self._sink.begin()
        self._named = FIRST_CLASS
        names = (list(self._machines), list(self._views))
        self._put([HEAD, FORMAT, software, node, life, self.segments, now, self._wall_ms, self.random.key, *names])
        self.segments += 1
        given = self._writer.plain(self._given)
        self._tell_classes()
        self._put([GIVEN, given])

    def _tell_classes(self) -> None:
        classes = self._writer.classes
        while self._named in classes:
            name, fields = classes[self._named]
            self._put([CLASS, self._named, name, list(fields)])
            self._named += 1

    def _lost(self, now: float, place: int, name: str) -> None:
        why, self._notes.lost = self._notes.lost, ""
        self._gap(now, place, name, why)

    def _gap(self, now: float, place: int, name: str, why: str) -> None:
        self.gaps += 1
        self._put([GAP, now, place, name, why, self.random.drawn])

    def _put(self, entry: list[object], weight: int = 0) -> None:
        if self._sink.put(entry, weight):
            self.recorded += 1
        else:
            self._hole = True
