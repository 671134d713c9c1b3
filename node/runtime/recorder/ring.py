"""The ring on disk: segments that a thread writes, the oldest removed when there are too many.

    <folder>/<number>.flight          salt 16 | frames (storage/framing.py), each a run of: length 4, a few entries (entries.py)

Nothing is synced. What was written survives the process, killed or not; a power cut may take the last seconds, which costs a replay its end
and nothing else. A torn frame ends a segment when it is read.

The event loop only appends to a queue; encoding is the thread's, which lets go of the interpreter every few entries, so that the loop
never waits for more than these. When more than ``PENDING`` entries wait (the disk is slow), entries are dropped and counted until the
disk has taken what waits; then a segment begins, since a replay must not go on over a hole. A disk that fails leaves such a hole too,
and is tried again after a while: the node goes on.
"""

import logging
import os
import threading
import time
from collections import deque
from pathlib import Path

from meshos import cbor
from meshos.node.runtime.recorder.entries import GAP, STEP
from meshos.node.runtime.recorder.limits import BATCH, BATCH_S, IN_A_ROW, PENDING, PENDING_BYTES, RETRY_S, RING_BYTES, SEGMENT_BYTES
from meshos.storage.framing import SALT_BYTES, frame

logger = logging.getLogger("meshos.recorder")

SUFFIX = ".flight"
LENGTH_BYTES = 4
_BEGIN: list[object] = []
"""Among the entries that wait: a segment begins here. No entry is empty."""


def segments(folder: Path) -> list[Path]:
    """The segments in ``folder``, oldest first."""
    return sorted((path for path in folder.glob("*" + SUFFIX) if path.stem.isdigit()), key=lambda path: int(path.stem))


class Ring:
    """A Sink that writes to ``folder``; begins at once, and ends with ``close``. Raises OSError if there can be no folder."""

    def __init__(self, folder: Path, *, ring_bytes: int = RING_BYTES, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._ring_bytes, self._segment_bytes = ring_bytes, segment_bytes
        self._queue: deque[tuple[list[object], int]] = deque()
        self._many = threading.Event()
        self._closing = False
        # Each of these is written by one thread alone: the first four by the event loop's.
        self._hole = False
        self._put_bytes = 0
        self._begun = 0  # segments
        self.dropped = 0
        self._taken_bytes = 0
        self._beginning = 0  # segments that the thread has met
        self._segment_has = 0  # bytes
        self._bytes = 0
        self._retry_at = 0.0
        self._failing = False
        self.failures = 0
        self._file = -1
        self._salt = b""
        self._sequence = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    # -- on the event loop -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """See ``Sink``."""
        self._queue.append((_BEGIN, 0))
        self._begun += 1
        self._hole = False

    def put(self, entry: list[object], weight: int = 0) -> bool:
        """See ``Sink``."""
        full = len(self._queue) >= PENDING or self._put_bytes - self._taken_bytes > PENDING_BYTES
        if full or self._hole or (self._failing and self._begun == self._beginning):
            self._hole = True
            self.dropped += 1
            return False
        self._queue.append((entry, weight))
        self._put_bytes += weight
        if len(self._queue) == BATCH:
            self._many.set()
        return True

    def wants_segment(self) -> bool:
        """See ``Sink``."""
        if self._hole:
            return not self._queue and time.monotonic() >= self._retry_at
        return self._segment_has >= self._segment_bytes and self._begun == self._beginning

    def close(self) -> None:
        """Come back when everything is written (blocking, for as long as the disk takes)."""
        self._closing = True
        self._many.set()
        self._thread.join()

    def statistics(self) -> dict[str, float]:
        """For metrics."""
        return {"bytes": self._bytes, "dropped": self.dropped, "disk_failures": self.failures}

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            self._many.wait(BATCH_S)
            self._many.clear()
            self._take()
        self._take()
        self._end_segment()

    def _take(self) -> None:
        """Write all that waits, as one frame a segment."""
        run: list[bytes] = []
        few: list[list[object]] = []
        taken = 0
        while self._queue:
            entry, weight = self._queue.popleft()
            if entry is _BEGIN:
                self._encode(run, few)
                self._write(run)
                run = []
                self._begin_segment()
                continue
            few.append(entry)
            taken += weight
            if len(few) == IN_A_ROW:
                self._encode(run, few)
                time.sleep(0)  # the event loop may want to go on
        self._encode(run, few)
        self._write(run)
        self._taken_bytes += taken

    def _encode(self, run: list[bytes], few: list[list[object]]) -> None:
        if not few:
            return
        try:
            data = cbor.encode(few)
        except (ValueError, TypeError, OverflowError) as error:  # text with half of a surrogate pair, say
            data = cbor.encode([_encodable(entry, error) for entry in few])
        few.clear()
        run += (len(data).to_bytes(LENGTH_BYTES, "big"), data)

    def _write(self, run: list[bytes]) -> None:
        if not run or self._failing:
            return
        try:
            data = frame(self._salt, self._sequence, b"".join(run))
            self._write_all(data)
            self._sequence += 1
            self._segment_has += len(data)
            self._bytes += len(data)
        except OSError as error:
            self._failed(error)

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def _begin_segment(self) -> None:
        self._end_segment()
        self._segment_has = 0
        try:
            present = segments(self._folder)
            while present and sum(path.stat().st_size for path in present) > self._ring_bytes - self._segment_bytes:
                present.pop(0).unlink()
            number = int(present[-1].stem) + 1 if present else 0
            self._file = os.open(self._folder / f"{number:08d}{SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._salt, self._sequence = os.urandom(SALT_BYTES), 0
            self._write_all(self._salt)
            self._failing = False
        except OSError as error:
            self._failed(error)
        self._beginning += 1

    def _end_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        self._failing, self._retry_at = True, time.monotonic() + RETRY_S
        logger.warning("recorder-disk-failed", extra={"err": error.strerror or str(error)})


def _encodable(entry: list[object], error: Exception) -> list[object]:
    """``entry`` if CBOR takes it, else a gap in its place."""
    try:
        cbor.encode(entry)
    except (ValueError, TypeError, OverflowError):
        now, place, drawn = (entry[1], entry[2], entry[3]) if entry[0] == STEP else (0, entry[1], 0)
        return [GAP, now, place, "something", ascii(error)[:200], drawn]
    return entry
