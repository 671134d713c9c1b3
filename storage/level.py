"""The Store port on LevelDB (plyvel): a node's folder, with a key space of its own for each machine.

Theory of operation. One LevelDB holds everything, so that a node has one log to replay and one lock on its folder.
``prefixed(name)`` is a machine's Store: its keys are ``name/…``, and it is written by its own thread, each batch
synced before ``write`` returns. Batches of several machines that meet are grouped by LevelDB into one write and one sync,
so a machine waits for at most the one that is under way when it arrives.

LevelDB is opened so that it checks: a record of its log that does not match its checksum is refused as ``store-corrupt`` instead of being
left out silently, while a torn tail (a kill or a power cut during a write that nobody was told of) is cut off.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import plyvel

from meshos.effects import Put, Write
from meshos.errors import Broken, Refused
from meshos.storage.disk import DiskFailed, disk_failed, said
from meshos.storage.folder import folder_in_use, lock_folder
from meshos.storage.limits import (
    BLOCK_CACHE_BYTES,
    MAX_KEY_BYTES,
    MAX_OPEN_FILES,
    MAX_VALUE_BYTES,
    SCHEMA,
    WRITE_BUFFER_BYTES,
)

_SCHEMA_KEY = b"\x00schema"  # below every machine's keys
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_IN_USE = ("already held by process", "Resource temporarily unavailable")


class LevelStore:
    """The database of a node in the folder ``path``, made if it is not there.

    Raises Refused ``folder-in-use`` (another process has it open), ``schema-too-new`` (a newer program wrote it), ``not-a-store``
    (a LevelDB of somebody else), Failed ``store-corrupt``, and DiskFailed.
    """

    def __init__(self, path: Path | str, *, schema: int = SCHEMA) -> None:
        self.path = Path(path)
        self._failed: DiskFailed | None = None
        self._db: plyvel.DB = None
        try:
            self._lock = lock_folder(self.path)
        except OSError as error:
            raise disk_failed(error, self.path) from error
        try:
            self._db = _open(self.path)
            self._check_schema(schema)
        except BaseException:
            self.close()
            raise

    def prefixed(self, name: str) -> "PrefixedStore":
        """The Store of the machine ``name``; the same name is the same Store."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a machine")
        return PrefixedStore(self, name.encode() + b"/")

    def write_prefixed(self, prefix: bytes, writes: Sequence[Write]) -> None:
        """``writes`` with ``prefix`` before each key, all or none, on disk when this returns."""
        self._usable()
        _check_size(writes)
        try:
            with self._db.write_batch(transaction=True, sync=True) as batch:
                for write in writes:
                    if isinstance(write, Put):
                        batch.put(prefix + write.key, write.value)
                    else:
                        batch.delete(prefix + write.key)
        except plyvel.Error as error:
            # Whatever LevelDB calls it: after a failed write or sync nothing about the disk is known, so nothing is tried twice.
            self._failed = disk_failed(OSError(said(error)), self.path)
            self._db.close()
            raise self._failed from error

    def scan_prefixed(self, prefix: bytes, inner: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All of ``prefix + inner``, the keys without ``prefix``, as they are when this is called."""
        self._usable()
        return _scan(self._db, self.path, prefix, inner)

    def get_prefixed(self, prefix: bytes, key: bytes) -> bytes | None:
        """The value under ``prefix + key``."""
        self._usable()
        return _get(self._db, self.path, prefix + key)

    def snapshot_prefixed(self, prefix: bytes) -> "LevelSnapshot":
        """All under ``prefix`` as it is now, unchanged by later writes."""
        return LevelSnapshot(self._db.snapshot(), self.path, prefix)

    def close(self) -> None:
        """Release the folder."""
        if self._db is not None:
            self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _usable(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _check_schema(self, schema: int) -> None:
        found = _get(self._db, self.path, _SCHEMA_KEY)
        if found is None:
            if next(_scan(self._db, self.path, b"", b""), None) is not None:
                raise Refused("not-a-store", f"{self.path} holds a database of another program", hint="choose another folder")
            self.write_prefixed(b"", [Put(_SCHEMA_KEY, b"%d" % schema)])
        elif not found.isdigit() or int(found) > schema:
            shown = found[:20].decode(errors="replace")
            raise Refused(
                "schema-too-new",
                f"{self.path} was written in layout {shown}, this program reads up to {schema}",
                hint="run the newer version of Mesh OS that wrote it",
            )
        elif int(found) < schema:
            raise Refused(
                "schema-too-old",
                f"{self.path} was written in layout {int(found)}, this program reads {schema}",
                hint="start in a new folder, or run the older version of Mesh OS that wrote it",
            )


class PrefixedStore:
    """The Store of one machine. Closing it leaves the node's database open for the others."""

    __slots__ = ("_prefix", "_store")

    def __init__(self, store: LevelStore, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self._store.get_prefixed(self._prefix, key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``; shows what was there when it was called."""
        return self._store.scan_prefixed(self._prefix, prefix)

    def write(self, writes: Sequence[Write]) -> None:
        """See ``Store.write``; raises DiskFailed, ``disk-full`` or ``disk-failed``, and then again at every later write."""
        self._store.write_prefixed(self._prefix, writes)

    def snapshot(self) -> "LevelSnapshot":
        """This machine's keys as they are now, unchanged by later writes; close it when done."""
        return self._store.snapshot_prefixed(self._prefix)

    def close(self) -> None:
        """See ``Store.close``: the folder is released by the LevelStore."""


class LevelSnapshot:
    """A View that stands still. Held open it keeps old data on disk, so close it."""

    __slots__ = ("_path", "_prefix", "_snapshot")

    def __init__(self, snapshot: "plyvel.Snapshot", path: Path, prefix: bytes) -> None:
        self._snapshot = snapshot
        self._path = path
        self._prefix = prefix

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return _get(self._snapshot, self._path, self._prefix + key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        return _scan(self._snapshot, self._path, self._prefix, prefix)

    def close(self) -> None:
        """Let the old data go."""
        self._snapshot.close()


def _open(path: Path) -> "plyvel.DB":
    try:
        return plyvel.DB(
            str(path),
            create_if_missing=True,
            paranoid_checks=True,
            write_buffer_size=WRITE_BUFFER_BYTES,
            lru_cache_size=BLOCK_CACHE_BYTES,
            max_open_files=MAX_OPEN_FILES,
            bloom_filter_bits=10,
        )
    except plyvel.CorruptionError as error:
        raise _corrupt(path, error) from error
    except OSError as error:
        if any(words in said(error) for words in _IN_USE):
            raise folder_in_use(path) from error
        raise disk_failed(error, path) from error


def _get(reader: "plyvel.DB | plyvel.Snapshot", path: Path, key: bytes) -> bytes | None:
    try:
        value: bytes | None = reader.get(key, verify_checksums=True)
    except plyvel.CorruptionError as error:
        raise _corrupt(path, error) from error
    except OSError as error:
        raise disk_failed(error, path) from error
    return value


def _scan(reader: "plyvel.DB | plyvel.Snapshot", path: Path, prefix: bytes, inner: bytes) -> Iterator[tuple[bytes, bytes]]:
    # The iterator is made here and not at the first item, so that it shows the data of this moment.
    items = reader.iterator(prefix=prefix + inner, verify_checksums=True)
    return _items(items, path, len(prefix))


def _items(items: "plyvel.Iterator", path: Path, cut: int) -> Iterator[tuple[bytes, bytes]]:
    try:
        with items:
            for key, value in items:
                yield key[cut:], value
    except plyvel.CorruptionError as error:
        raise _corrupt(path, error) from error
    except plyvel.IOError as error:
        raise disk_failed(error, path) from error


def _corrupt(path: Path, error: Exception) -> DiskFailed:
    return DiskFailed("store-corrupt", f"the database in {path} is damaged: {said(error)}", hint="restore the folder from a copy")


def _check_size(writes: Sequence[Write]) -> None:
    """A write beyond the limits is a bug of whoever decided it: what comes from outside was bounded long before.

    Each write counts and not their sum: a driver joins what several steps persist into one batch.
    """
    for write in writes:
        size = len(write.value) if isinstance(write, Put) else 0
        if len(write.key) > MAX_KEY_BYTES or size > MAX_VALUE_BYTES:
            raise Broken("store-limit", f"a write with a key of {len(write.key)} and a value of {size} bytes is too large")
