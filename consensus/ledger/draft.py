"""The state as one block changes it: each entry is read and decoded once, changed as a value, and encoded once at the end.

A transaction that is refused must change nothing, so all that was written since ``begin`` can be taken back by ``undo``.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from meshos.storage.store import View
from meshos.values import frozen

T = TypeVar("T")


@frozen
class Table(Generic[T]):
    """The entries under ``prefix``, and how their values are written."""

    prefix: bytes
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]

    def key(self, name: str | bytes) -> bytes:
        """Where the entry of this name lies."""
        return self.prefix + (name if isinstance(name, bytes) else name.encode())

    def read(self, view: View, name: str | bytes) -> T | None:
        """The entry of this name in ``view``; for questions, which look at few."""
        value = view.get(self.key(name))
        return None if value is None else self.decode(value)


@frozen
class Sender:
    """Whose word a transaction is: the key, what it may do (``keys.py``), the organisation it belongs to; and the transaction's id."""

    key: str
    role: str
    org: str
    id: bytes


class Draft:
    """The state before a block, with what the block has changed so far."""

    __slots__ = ("_changed", "_journal", "_values", "height", "time_ms", "view")

    def __init__(self, view: View, height: int, time_ms: int) -> None:
        self.view = view
        self.height = height
        self.time_ms = time_ms
        self._values: dict[bytes, object] = {}
        self._changed: dict[bytes, Callable[[object], bytes]] = {}
        self._journal: list[tuple[bytes, object, bool]] = []

    def read(self, table: Table[T], name: str | bytes) -> T | None:
        """The entry of this name, if there is one."""
        key = table.key(name)
        try:
            return self._values[key]  # type: ignore[return-value]  # a key begins with its table's prefix, so it is a T
        except KeyError:
            value = self.view.get(key)
            found = None if value is None else table.decode(value)
            self._values[key] = found
            return found

    def write(self, table: Table[T], name: str | bytes, value: T | None) -> None:
        """Set the entry of this name, or remove it."""
        key = table.key(name)
        before = self.read(table, name)
        self._journal.append((key, before, key in self._changed))
        self._values[key] = value
        self._changed[key] = table.encode  # type: ignore[assignment]  # as above

    def begin(self) -> None:
        """What was written so far stays."""
        self._journal.clear()

    def undo(self) -> None:
        """Take back all that was written since ``begin``."""
        for key, value, changed in reversed(self._journal):
            self._values[key] = value
            if not changed:
                del self._changed[key]
        self._journal.clear()

    def changes(self) -> dict[bytes, bytes | None]:
        """The new value of each entry that was written, in the order of the keys; None where it was removed."""
        values = self._values
        changed = sorted(self._changed.items())
        return {key: None if (value := values[key]) is None else encode(value) for key, encode in changed}
