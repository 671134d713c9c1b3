"""Idempotency keys: a POST that is repeated gets the recorded answer, and does nothing twice.

One entry a (API key, path, idempotency key). While the first runs, a repetition waits for its answer; after it, the
recorded answer is given again. An attempt that ended without a definite answer (its client went away, or the error's
outcome is unknown) leaves nothing behind, and a repetition is a new attempt, which the service deduplicates in its turn.
Everything is bounded: the oldest finished entry goes first, and if all are running, the answer is ``busy``.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import trio

from meshos.errors import Refused, busy
from meshos.node.api import limits


@dataclass(frozen=True, slots=True)
class Answer:
    """A recorded answer."""

    status: int
    body: bytes


@dataclass(slots=True)
class Entry:
    """``answer`` is None while the first attempt runs, and after it if the answer was too large to be kept."""

    digest: bytes
    ended: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None


Name = tuple[str, str, str]
"""(API key's id, path, idempotency key)."""


class Replays:
    """See the module's text."""

    def __init__(self, entries: int = limits.REPLAYS, size: int = limits.REPLAY_BYTES) -> None:
        self._most, self._most_bytes = entries, size
        self._entries: OrderedDict[Name, Entry] = OrderedDict()
        self._bytes = 0

    async def begin(self, name: Name, body: bytes) -> Answer | None:
        """The recorded answer, or None: go on, and call ``end`` or ``drop``.

        Raises Refused ``idempotency-conflict`` if the key came with another body, ``busy`` if too many are running.
        """
        digest = hashlib.sha256(body).digest()
        while True:
            entry = self._entries.get(name)
            if entry is None:
                self._make_room()
                self._entries[name] = Entry(digest)
                return None
            if entry.digest != digest:
                raise Refused(
                    "idempotency-conflict",
                    "this idempotencyKey was already used with another body",
                    hint="repeat the same request, or take a new key for a new one",
                )
            if not entry.ended.is_set():
                await entry.ended.wait()
                continue
            if entry.answer is not None:
                return entry.answer
            entry.ended = trio.Event()
            return None

    def end(self, name: Name, answer: Answer | None) -> None:
        """The attempt ended; its answer is kept if there is a final one that is not too large.

        Without one, a repetition goes to the service again, but the key stays bound to its body.
        """
        entry = self._entries[name]
        if answer is not None and len(answer.body) <= limits.REPLAY_BODY_BYTES:
            entry.answer = answer
            self._bytes += len(answer.body)
        entry.ended.set()
        self._entries.move_to_end(name)
        self._shrink()

    def drop(self, name: Name) -> None:
        """The attempt left nothing definite."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.ended.set()

    def _shrink(self) -> None:
        while self._bytes > self._most_bytes:
            self._forget_oldest()

    def _make_room(self) -> None:
        while len(self._entries) >= self._most:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        for name, entry in self._entries.items():
            if entry.ended.is_set():
                self._bytes -= len(entry.answer.body) if entry.answer is not None else 0
                del self._entries[name]
                return
        raise busy("the list of requests under way")
