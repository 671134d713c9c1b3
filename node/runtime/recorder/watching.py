"""What a machine reads from its disk, noted down: so a replay needs no copy of the disk.

A machine reads a View. Here each key that it reads for the first time in a segment is noted with its value; what it has written itself
since then is known to a replay anyway. Scans are noted pair by pair, as far as they were followed.

A note is a list: ``[GET, key, value or None]``, ``[SCAN, number, prefix]``, ``[PAIR, number, key]`` or, where the value is not known yet,
``[PAIR, number, key, value]``, and ``[END, number]`` when a scan has come to its end.

Reads of other threads are not noted: a replay does not do what they do. A snapshot is not noted either, since it is taken to send or look
through a whole state, which would be the whole ring; ``lost`` says then that the machine cannot be followed.
"""

import threading
from collections.abc import Iterable, Iterator

from meshos.effects import Persist, WriteBack
from meshos.storage.store import Snapshot, View

GET, SCAN, PAIR, END = range(4)

Note = list[object]


class Watched:
    """``view``, with notes of what is read."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: set[bytes] = set()
        self._notes: list[Note] = []
        self._scans = 0
        self._thread = threading.get_ident()
        self.lost = ""
        """Why what was read since the last ``take`` is not all in the notes, if it is not."""

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        value = self._view.get(key)
        if key not in self._known and threading.get_ident() == self._thread:
            self._known.add(key)
            self._notes.append([GET, key, value])
        return value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        if threading.get_ident() != self._thread:
            return self._view.scan(prefix)
        self._scans += 1
        self._notes.append([SCAN, self._scans, prefix])
        return self._followed(self._scans, prefix)

    def _followed(self, number: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._view.scan(prefix):
            if key in self._known:
                self._notes.append([PAIR, number, key])
            else:
                self._known.add(key)
                self._notes.append([PAIR, number, key, value])
            yield key, value
        self._notes.append([END, number])

    def snapshot(self) -> Snapshot:
        """See ``Overlay.snapshot``, of a View that has it."""
        self.lost = "it took a snapshot of its disk"
        taken: Snapshot = self._view.snapshot()  # type: ignore[attr-defined]
        return taken

    # -- for the recorder --------------------------------------------------------------------------------------------

    def take(self, effects: Iterable[object] = ()) -> list[Note]:
        """The notes of a step that had these ``effects``: what it writes is known from then on."""
        for effect in effects:
            if type(effect) is Persist or type(effect) is WriteBack:
                self._known.update([write.key for write in effect.writes])
        notes, self._notes, self.lost = self._notes, [], ""
        return notes

    def forget(self) -> None:
        """From here on nothing is known: a segment begins."""
        self._known.clear()
        self._notes.clear()
