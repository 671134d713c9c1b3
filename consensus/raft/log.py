"""The log: entries in the Store, the newest of them in memory, and for each index its term without a look at the disk.

What is appended is in memory at once; ``take_writes`` gives what has to be written for it, once, and the core emits that as one
``Persist``. A View shows writes that are on their way to the disk, so an entry that left memory can be read whether it has arrived or not.

Terms never fall along the log, and a log spans few terms, so that (first index, term) of each run answers every question for a term.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from meshos import cbor
from meshos.consensus.raft.entries import Entry, is_number, read_entry
from meshos.consensus.raft.keys import BASE, LOG, log_key
from meshos.effects import Delete, Put, Write
from meshos.errors import Broken
from meshos.storage.store import View


class Log:
    """Entries ``first`` to ``last``; before them lies what a state stands for, up to (``base``, ``base_term``)."""

    def __init__(self, view: View, *, cached_bytes: int) -> None:
        """The log as it lies in ``view``; raises Broken ``raft-log-broken``."""
        self._view = view
        self._limit = cached_bytes
        self._cache: deque[Entry] = deque()  # the newest, without a gap
        self._cached_bytes = 0
        self.base, self.base_term = _read_base(view)
        self.last = self.base
        self.bytes = 0
        self._sizes: deque[int] = deque()  # of every entry's raw bytes
        self._runs: list[tuple[int, int]] = []  # (first index, term), ascending in both
        self._unsaved = self.last + 1  # what from here on has to be written
        self._written = self.last  # the highest index of which something may lie on the disk
        for key, raw in view.scan(LOG):
            if key > log_key(self.base):  # what a cut has not deleted yet is no part of the log
                self._recover(read_entry(raw))
        self._unsaved, self._written = self.last + 1, self.last

    def _recover(self, entry: Entry) -> None:
        if entry.index != self.last + 1 or entry.term < self.last_term:
            raise Broken("raft-log-broken", f"entry {entry.index} of term {entry.term} follows {self.last} of {self.last_term}")
        self.append((entry,))
        self._shrink()

    @property
    def first(self) -> int:
        """The index of the first entry, if there is one."""
        return self.base + 1

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self._runs[-1][1] if self._runs else self.base_term

    def term(self, index: int) -> int | None:
        """The term of entry ``index``; None where it is not known: before the base, or after the last."""
        if index == self.base:
            return self.base_term
        if not self.base < index <= self.last:
            return None
        return self._runs[bisect_right(self._runs, (index, 1 << 64)) - 1][1]

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry ``index`` is here and of ``term``."""
        return self.term(index) == term

    def up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so holds all that may be committed here (Raft, section 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add what follows the last entry."""
        for entry in entries:
            if not self._runs or self._runs[-1][1] != entry.term:
                self._runs.append((entry.index, entry.term))
            size = len(entry.raw)
            self._cache.append(entry)
            self._cached_bytes += size
            self._sizes.append(size)
            self.bytes += size
            self.last = entry.index

    def truncate(self, index: int) -> None:
        """Forget the entries from ``index`` on: they conflict with the leader's (Raft, section 5.3)."""
        while self.last >= index:
            self.bytes -= self._sizes.pop()
            self.last -= 1
        while self._cache and self._cache[-1].index >= index:
            self._cached_bytes -= len(self._cache.pop().raw)
        while self._runs and self._runs[-1][0] >= index:
            self._runs.pop()
        self._unsaved = min(self._unsaved, index)

    def entry(self, index: int) -> Entry:
        """The entry ``index``, which must be in the log."""
        if self._cache and index >= self._cache[0].index:
            return self._cache[index - self._cache[0].index]
        raw = self._view.get(log_key(index))
        if raw is None:
            raise Broken("raft-log-broken", f"entry {index} is missing between {self.base} and {self.last}")
        return read_entry(raw)

    def entries(self, low: int, high: int, max_bytes: int) -> list[Entry]:
        """The entries ``low`` to ``high``, as far as they fit into ``max_bytes``, but at least one."""
        found: list[Entry] = []
        size = 0
        for index in range(low, min(high, self.last) + 1):
            entry = self.entry(index)
            size += len(entry.raw)
            if found and size > max_bytes:
                break
            found.append(entry)
        return found

    def take_writes(self) -> list[Write]:
        """What has to be on disk for the log to be as it is; each write is given once."""
        writes: list[Write] = [Delete(log_key(index)) for index in range(self.last + 1, self._written + 1)]
        behind = self.last - self._unsaved + 1
        if behind > 0:
            entries = [self._cache[-back] for back in range(behind, 0, -1)]
            writes += [Put(log_key(entry.index), entry.raw) for entry in entries]
            self._unsaved = self.last + 1
        self._written = self.last
        self._shrink()
        return writes

    def _shrink(self) -> None:
        while self._cached_bytes > self._limit and len(self._cache) > 1:
            self._cached_bytes -= len(self._cache.popleft().raw)

    def surplus(self, keep_entries: int, keep_bytes: int, upto: int) -> int:
        """The highest index up to ``upto`` that may be cut so that at most so much is kept of what lies up to there."""
        index, size = self.base, self.bytes
        for entry_size in self._sizes:
            if index >= upto or (upto - index <= keep_entries and size <= keep_bytes):
                break
            index += 1
            size -= entry_size
        return index

    def cut(self, index: int) -> list[Write]:
        """Forget the entries up to ``index``, for which a state stands now; what has to be written for that."""
        term = self.term(index)
        assert term is not None and index < self._unsaved
        writes: list[Write] = [Delete(log_key(old)) for old in range(self.first, index + 1)]
        for _ in writes:
            self.bytes -= self._sizes.popleft()
        while self._cache and self._cache[0].index <= index:
            self._cached_bytes -= len(self._cache.popleft().raw)
        while len(self._runs) > 1 and self._runs[1][0] <= index + 1:
            self._runs.pop(0)
        if self.last == index:
            self._runs.clear()
        self.base, self.base_term = index, term
        return [*writes, write_base(index, term)]

    def restart(self, index: int, term: int) -> list[Write]:
        """Begin anew after a state at ``index``; what has to be written for that."""
        writes: list[Write] = [Delete(log_key(old)) for old in range(self.first, max(self.last, self._written) + 1)]
        for kept in (self._cache, self._runs, self._sizes):
            kept.clear()
        self._cached_bytes = self.bytes = 0
        self.base, self.base_term = index, term
        self.last = self._written = index
        self._unsaved = index + 1
        return [*writes, write_base(index, term)]


def write_base(index: int, term: int) -> Put:
    """What says that a log begins after ``index``."""
    return Put(BASE, cbor.encode([index, term]))


def _read_base(view: View) -> tuple[int, int]:
    raw = view.get(BASE)
    if raw is None:
        return 0, 0
    value = cbor.decode(raw, max_bytes=64)
    if type(value) is list and len(value) == 2 and all(is_number(number) for number in value):
        index, term = value
        assert isinstance(index, int) and isinstance(term, int)
        return index, term
    raise Broken("raft-log-broken", "what says where the log begins cannot be read")
