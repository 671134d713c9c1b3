"""A state's keys as commands see them: those of the Store under one prefix, with what the batch wrote so far laid over them."""

from collections.abc import Iterator, Sequence

from meshos.effects import Delete, Put, Write
from meshos.storage.overlay import merge
from meshos.storage.store import View

_ABSENT = object()


class Within:
    """The keys of ``view`` under ``prefix``, without it."""

    __slots__ = ("_prefix", "_view")

    def __init__(self, view: View, prefix: bytes) -> None:
        self._view = view
        self._prefix = prefix

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self._view.get(self._prefix + key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        cut = len(self._prefix)
        return ((key[cut:], value) for key, value in self._view.scan(self._prefix + prefix))


class Draft:
    """``Within(view, prefix)`` after the writes of several commands."""

    __slots__ = ("_below", "_prefix", "_written")

    def __init__(self, view: View, prefix: bytes) -> None:
        self._below = Within(view, prefix)
        self._prefix = prefix
        self._written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        if key in self._written:
            return self._written[key]
        return self._below.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        laid = {key: value for key, value in self._written.items() if key.startswith(prefix)}
        below = self._below.scan(prefix)
        return merge(below, laid) if laid else below

    def write(self, writes: Sequence[Write]) -> None:
        """Show ``writes`` from now on."""
        for write in writes:
            self._written[write.key] = write.value if type(write) is Put else None

    def writes(self) -> list[Write]:
        """What the Store has to be written for all that; of a key that was written often, only the last."""
        prefix = self._prefix
        return [Delete(prefix + key) if value is None else Put(prefix + key, value) for key, value in self._written.items()]
