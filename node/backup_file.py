"""The file of a backup: files one after the other, and a hash at the end.

    file     line, frame(header), (frame([path, mode, size]), bytes …) …, frame([]), SHA-256 of all before
    frame    length (4 bytes, big-endian), canonical CBOR

The hash tells a damaged copy from a whole one; it does not tell who wrote it. So a reader takes nothing that leads out of the folder it
puts the files into, and what it put there counts only once the end was reached. All of it blocks.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from meshos import cbor
from meshos.errors import Failed, MeshError, Refused

_LINE = b"meshos-backup/1\n"
_DIGEST_BYTES = 32
_PIECE_BYTES = 1 << 20
_MODE = 0o755
"""What a file's mode may be: nobody else writes it, and nothing is set-uid."""

MAX_FRAME_BYTES = 8 << 10
MAX_PATH_CHARS = 1_024
MAX_FILES = 1_000_000
"""LevelDB has a file for each 2 MiB: two terabytes."""

assert 4 * MAX_PATH_CHARS + 64 <= MAX_FRAME_BYTES


class Writer:
    """Writes to ``out`` and hashes."""

    def __init__(self, out: BinaryIO, header: Mapping[str, object]) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self._put(_LINE)
        self._frame(dict(header))

    def add(self, path: str, source: Path) -> None:
        """The file ``source``, to be called ``path`` in the folder; raises OSError, Failed ``cannot-write``."""
        with source.open("rb") as file:
            status = os.fstat(file.fileno())
            rest = status.st_size
            self._frame([path, stat.S_IMODE(status.st_mode), rest])
            while rest:
                piece = file.read(min(rest, _PIECE_BYTES))
                if not piece:
                    raise Failed("cannot-write", f"{source} became shorter while it was read", hint="let nothing work in the folder")
                self._put(piece)
                rest -= len(piece)

    def end(self) -> int:
        """No more files; on disk when this returns. Gives the size in bytes."""
        self._frame([])
        self._out.write(self._digest.digest())
        self._out.flush()
        os.fsync(self._out.fileno())
        return self._out.tell()

    def _frame(self, value: object) -> None:
        data = cbor.encode(value)
        self._put(len(data).to_bytes(4, "big") + data)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._out.write(data)


class Reader:
    """Reads ``source``, a file called ``name``; raises Refused ``not-a-backup`` or ``backup-damaged``, and OSError."""

    def __init__(self, source: BinaryIO, name: Path) -> None:
        self._source = source
        self._name = name
        self._digest = hashlib.sha256()
        if source.read(len(_LINE)) != _LINE:
            raise Refused("not-a-backup", f"{name} is no backup of a node")
        self._digest.update(_LINE)
        header = self._frame()
        if not isinstance(header, dict):
            raise self.damaged("its header cannot be read")
        self.header = header

    def extract(self, top: Path) -> int:
        """Lay all files down below ``top``; gives how many. They count once this has returned."""
        for count in range(MAX_FILES + 1):
            match self._frame():
                case []:
                    if self._source.read(_DIGEST_BYTES + 1) != self._digest.digest():
                        raise self.damaged("its hash does not match")
                    return count
                case [str() as path, int() as mode, int() as size] if _stays_inside(path) and 0 <= mode <= 0o7777 and size >= 0:
                    self._file(top / path, mode & _MODE, size)
                case _:
                    raise self.damaged("a file in it has no proper name")
        raise self.damaged(f"it holds more than {MAX_FILES} files")

    def damaged(self, why: str) -> Refused:
        """The refusal of it."""
        return Refused("backup-damaged", f"{self._name} is damaged: {why}", hint="nothing was made; use another copy")

    def _file(self, path: Path, mode: int, size: int) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise self.damaged("a file stands twice in it") from error
        with os.fdopen(handle, "wb") as out:
            os.fchmod(handle, mode)
            while size:
                piece = self._take(min(size, _PIECE_BYTES))
                out.write(piece)
                size -= len(piece)

    def _frame(self) -> cbor.Value:
        size = int.from_bytes(self._take(4), "big")
        if size > MAX_FRAME_BYTES:
            raise self.damaged("a part of it is too large")
        data = self._take(size)
        try:
            return cbor.decode(data, max_bytes=MAX_FRAME_BYTES, max_depth=2)
        except MeshError as error:
            raise self.damaged("a part of it cannot be read") from error

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) != size:
            raise self.damaged("it is cut off")
        self._digest.update(data)
        return data


def _stays_inside(path: str) -> bool:
    """Whether it stays below the folder it is put into, whoever wrote it."""
    parts = PurePosixPath(path).parts
    plain = 0 < len(path) <= MAX_PATH_CHARS and path.isprintable() and "/".join(parts) == path
    return plain and not path.startswith("/") and ".." not in parts
