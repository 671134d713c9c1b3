"""A write-ahead log: numbered batches in segment files, each on disk when ``append`` returns.

Plain segment files were chosen over LevelDB after measuring both side by side (``bench/storage_bases.py``; docs/decisions). A segment's
space is reserved when it is made: so a full disk is met there and not in the middle of a batch, and a sync need not move the file's end.

    <folder>/in-use.lock              held while the log is open
    <folder>/<first number>.log       salt 16 | frames (framing.py) | zeros

A segment is made under another name, synced and renamed, so its head is always whole. The next one is made only after the last
frame of the one before it is on disk. Hence, at opening: a bad frame is a torn tail, and cut off, only in the last segment and with nothing
good after it; anything else is refused as ``log-corrupt``.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from meshos.cbor import decode, encode
from meshos.errors import Broken, Failed
from meshos.storage.disk import DiskFailed, disk_failed
from meshos.storage.folder import lock_folder
from meshos.storage.framing import HEAD_BYTES, SALT_BYTES, Frame, frame, good_frame_after, read_frames
from meshos.storage.limits import MAX_RECORD_BYTES, MAX_SEGMENTS, SEGMENT_BYTES


class Log:
    """The log in ``folder``, made if it is not there; ``cut_bytes`` is what of a torn tail was cut off at this opening.

    Raises Refused ``folder-in-use``, Failed ``log-corrupt``, DiskFailed ``disk-full`` or ``disk-failed``. After a failed write the log is
    closed, and every later call raises the same.
    """

    def __init__(self, folder: Path | str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = Path(folder)
        self.cut_bytes = 0
        self._segment_bytes = segment_bytes
        self._failed: DiskFailed | None = None
        self._file = -1
        try:
            self._lock = lock_folder(self.folder)
        except OSError as error:
            raise disk_failed(error, self.folder) from error
        try:
            self._open()
        except OSError as error:
            self.close()
            raise disk_failed(error, self.folder) from error
        except BaseException:
            self.close()
            raise

    @property
    def first(self) -> int:
        """The number of the oldest batch that is still here."""
        return self._firsts[0]

    @property
    def next(self) -> int:
        """The number that the next batch will have."""
        return self._next

    def append(self, batch: list[bytes]) -> int:
        """Put ``batch`` at the end, all or none; gives its number once it is on disk (blocking: call it in a worker thread)."""
        if self._failed is not None:
            raise self._failed
        if self._file < 0:
            raise ValueError("the log is closed")
        payload = encode(batch)
        if len(payload) > MAX_RECORD_BYTES:
            raise Broken("store-limit", f"a batch of {len(payload)} bytes for a log that takes {MAX_RECORD_BYTES}")
        data = frame(self._salt, self._next, payload)
        try:
            if self._end + len(data) > self._size:
                self._roll(len(data))
                data = frame(self._salt, self._next, payload)
            _write_at(self._file, data, self._end)
            os.fdatasync(self._file)
        except OSError as error:
            self._failed = disk_failed(error, self.folder)
            self.close()
            raise self._failed from error
        self._end += len(data)
        self._next += 1
        return self._next - 1

    def read(self, start: int) -> Iterator[tuple[int, list[bytes]]]:
        """The batches from number ``start`` on, in order, checked again as they are read."""
        if start < self.first:
            raise ValueError(f"batch {start} was dropped, the oldest is {self.first}")
        for position, first in enumerate(self._firsts):
            end = self._firsts[position + 1] if position + 1 < len(self._firsts) else self._next
            if end <= start:
                continue
            salt, data = _read_segment(self._path(first))
            number = first
            for found in read_frames(salt, data, SALT_BYTES):
                if number == end or found.sequence != number:
                    break
                if number >= start:
                    yield number, _records(found)
                number += 1
            if number != end:
                raise _corrupt(self._path(first), f"batch {number} is damaged")

    def drop_before(self, number: int) -> None:
        """Give back the segments that hold only batches before ``number`` (a snapshot has made them needless)."""
        try:
            while len(self._firsts) > 1 and self._firsts[1] <= number:
                self._path(self._firsts[0]).unlink()
                self._firsts.pop(0)
            _sync_folder(self.folder)
        except OSError as error:
            raise disk_failed(error, self.folder) from error

    def close(self) -> None:
        """Release the folder. Closing twice is no error."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        for left in self.folder.glob("*.new"):  # a segment that was being made when the process ended
            left.unlink()
        self._firsts = sorted(int(path.stem) for path in self.folder.glob("*.log"))
        if not self._firsts:
            self._next = 0
            self._begin(0, self._segment_bytes)
            return
        number = self._firsts[0]
        for first in self._firsts:
            if first != number:
                raise _corrupt(self._path(first), f"the segment with batch {number} is missing")
            number, end = self._check(first, last=first == self._firsts[-1])
        self._next = number
        path = self._path(self._firsts[-1])
        self._file = os.open(path, os.O_RDWR)
        self._size = os.fstat(self._file).st_size
        self._salt = os.pread(self._file, SALT_BYTES, 0)
        self._end = end
        if self.cut_bytes:
            # Zeros instead of a shorter file: the space stays reserved, and nothing of the tail can be met again.
            _write_at(self._file, bytes(self._size - end), end)
            os.fdatasync(self._file)

    def _check(self, first: int, *, last: bool) -> tuple[int, int]:
        """The number after the last batch of the segment, and where its frames end."""
        path = self._path(first)
        salt, data = _read_segment(path)
        number, end = first, SALT_BYTES
        for found in read_frames(salt, data, SALT_BYTES):
            if found.sequence != number:
                raise _corrupt(path, f"batch {found.sequence} stands where {number} belongs")
            number, end = number + 1, found.end
        if not last:
            following = self._firsts[self._firsts.index(first) + 1]
            if number != following:
                raise _corrupt(path, f"batch {number} is damaged")
            return number, end
        if good_frame_after(salt, data, end) is not None:
            raise _corrupt(path, f"batch {number} is damaged and later ones are whole")
        self.cut_bytes = len(data[end:].rstrip(b"\0"))
        return number, end

    # -- segments ----------------------------------------------------------------------------------------------------

    def _path(self, first: int) -> Path:
        return self.folder / f"{first:020d}.log"

    def _roll(self, wanted: int) -> None:
        if len(self._firsts) >= MAX_SEGMENTS:
            raise Broken("store-limit", f"the log in {self.folder} was never shortened: {MAX_SEGMENTS} segments")
        os.close(self._file)
        self._file = -1
        self._begin(self._next, max(self._segment_bytes, SALT_BYTES + wanted))

    def _begin(self, first: int, size: int) -> None:
        """Make the segment whose first batch is ``first``, wholly on disk before it has its name."""
        path = self._path(first)
        new = path.with_suffix(".new")
        self._salt = os.urandom(SALT_BYTES)
        self._file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.posix_fallocate(self._file, 0, max(size, SALT_BYTES + HEAD_BYTES))
        _write_at(self._file, self._salt, 0)
        os.fsync(self._file)
        new.rename(path)
        _sync_folder(self.folder)
        self._size = os.fstat(self._file).st_size
        self._end = SALT_BYTES
        if first not in self._firsts:
            self._firsts.append(first)


def _read_segment(path: Path) -> tuple[bytes, bytes]:
    data = path.read_bytes()
    if len(data) < SALT_BYTES + HEAD_BYTES:
        raise _corrupt(path, "it is shorter than any segment")
    return data[:SALT_BYTES], data


def _records(found: Frame) -> list[bytes]:
    value = decode(found.payload, max_bytes=MAX_RECORD_BYTES)
    assert isinstance(value, list)
    return [record for record in value if isinstance(record, bytes)]


def _write_at(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _corrupt(path: Path, what: str) -> Failed:
    return Failed("log-corrupt", f"{path}: {what}", hint="restore the folder from a copy; nothing was changed")
