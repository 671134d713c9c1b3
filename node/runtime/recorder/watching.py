"""What machines read from their disks, noted down: so a replay needs no copy of a disk.

A machine reads a View. Here each key that it reads for the first time in a segment is noted with its value; what it has written itself
since then is known to a replay anyway. Scans are noted pair by pair, as far as they were followed. Each View is a *space* with a number,
from 0 on; a snapshot of one is a space of its own, below 0.

A note is a list: ``[GET, space, key, value or None]``, ``[SCAN, space, number, prefix]``, ``[PAIR, space, number, key]`` or, where the
value is not known yet, ``[PAIR, space, number, key, value]``, ``[END, space, number]`` when a scan has come to its end, and
``[TAKEN, space, number of the snapshot]``.

Reads of other threads are not noted: a replay does not do what they do. Of a snapshot so much is noted and no more, since a whole state may
be read off it, which would be the whole ring; ``lost`` says then that it cannot be followed.
"""

import threading
from collections.abc import Iterable, Iterator

from meshos.effects import Persist, WriteBack
from meshos.node.runtime.recorder.limits import SNAPSHOT_BYTES
from meshos.storage.store import LiveView, Snapshot, View

GET, SCAN, PAIR, END, TAKEN = range(5)

Note = list[object]


class Notes:
    """What was read since the last step, of all Views; and the numbers that go with it."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._thread = threading.get_ident()
        self.scans = self.snapshots = 0
        self.lost = ""
        """Why what was read since the last ``take`` is not all in the notes, if it is not."""

    def here(self) -> bool:
        """Whether this is the machines' thread."""
        return threading.get_ident() == self._thread

    def add(self, note: Note) -> None:
        """One more."""
        self._notes.append(note)

    def take(self) -> list[Note]:
        """The notes since the last time."""
        if not self._notes:
            return []
        notes, self._notes = self._notes, []
        return notes


class Watched:
    """``view``, which is the space of this number, with notes of what is read."""

    def __init__(self, view: View, space: int, notes: Notes) -> None:
        self._view = view
        self._space = space
        self._notes = notes
        self._known: set[bytes] = set()
        self._open: list[WatchedSnapshot] = []

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        value = self._view.get(key)
        if key not in self._known and self._notes.here():
            self._known.add(key)
            self._note([GET, self._space, key, value])
        return value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        if not self._notes.here():
            return self._view.scan(prefix)
        self._notes.scans += 1
        self._note([SCAN, self._space, self._notes.scans, prefix])
        return self._followed(self._notes.scans, prefix)

    def _followed(self, number: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._view.scan(prefix):
            if key in self._known:
                self._note([PAIR, self._space, number, key])
            else:
                self._known.add(key)
                self._note([PAIR, self._space, number, key, value])
            yield key, value
        self._note([END, self._space, number])

    def _note(self, note: Note) -> None:
        self._notes.add(note)

    def snapshot(self) -> "Snapshot":
        """See ``LiveView``."""
        assert isinstance(self._view, LiveView)
        taken = self._view.snapshot()
        if not self._notes.here():
            return taken
        self._notes.snapshots += 1
        self._note([TAKEN, self._space, self._notes.snapshots])
        watched = WatchedSnapshot(taken, self._notes.snapshots, self._notes, self)
        self._open.append(watched)
        return watched

    # -- for the recorder --------------------------------------------------------------------------------------------

    def wrote(self, effects: Iterable[object]) -> None:
        """The machine that owns the disk had these effects: what it writes is known from then on."""
        for effect in effects:
            if type(effect) is Persist or type(effect) is WriteBack:
                self._known.update([write.key for write in effect.writes])

    def forget(self) -> None:
        """From here on nothing is known: a segment begins."""
        self._known.clear()
        for each in self._open:
            each.forget()

    def closed(self, snapshot: "WatchedSnapshot") -> None:
        """A snapshot is needed no more."""
        if snapshot in self._open:
            self._open.remove(snapshot)


class WatchedSnapshot(Watched):
    """A snapshot, with notes of what is read off it."""

    def __init__(self, view: Snapshot, number: int, notes: Notes, of: Watched) -> None:
        super().__init__(view, -number, notes)
        self.number = number
        self._snapshot, self._of = view, of
        self._noted_bytes = 0

    def _note(self, note: Note) -> None:
        self._noted_bytes += sum(len(part) for part in note if isinstance(part, bytes))
        if self._noted_bytes > SNAPSHOT_BYTES:
            self._notes.lost = "a whole state is read off a snapshot"
        else:
            super()._note(note)

    def close(self) -> None:
        """See ``Snapshot.close``."""
        self._snapshot.close()
        self._of.closed(self)
