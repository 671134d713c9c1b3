"""News waiting to ride on datagrams (SWIM, Das et al. 2002, section 4.1), in two classes.

*Membership* is what decides who is routable: words, departures, new incarnations. *User* is the rest: changed facts and notes. While
both wait, ``USER_SHARE_BYTES`` of each datagram belong to the user class and all else to membership, so that neither starves the
other; what one does not use the other may.

In a class, what has been sent least goes first, and of that the newest. What has been sent ``limit`` times is dropped. A newer
statement in the same slot takes the place of the older one, from zero.
"""

from collections.abc import Hashable, Iterator
from math import ceil, log10

from meshos.protocols.membership.limits import QUEUE, UPDATES, USER_SHARE_BYTES

_LOOKS = 6
"""How many waiting updates of a bucket are tried for the last gap of a datagram."""


class Lane:
    """One class: buckets of key -> bytes by how often each was sent. ``at`` says in which bucket a key is."""

    __slots__ = ("_buckets", "at")

    def __init__(self) -> None:
        self.at: dict[Hashable, int] = {}
        self._buckets: list[dict[Hashable, bytes]] = [{}]

    def __len__(self) -> int:
        return len(self.at)

    def put(self, key: Hashable, blob: bytes) -> None:
        """Newest of all; takes the place of what waits under ``key``."""
        self.drop(key)
        if len(self.at) >= QUEUE:
            worst = next(bucket for bucket in reversed(self._buckets) if bucket)
            self.drop(next(iter(worst)))
        self.at[key] = 0
        self._buckets[0][key] = blob

    def drop(self, key: Hashable) -> None:
        """Forget what waits under ``key``, if anything does."""
        at = self.at.pop(key, None)
        if at is not None:
            del self._buckets[at][key]

    def fill(self, room: int, count: int, limit: int, chosen: list[bytes]) -> int:
        """Add to ``chosen`` what fits into ``room`` bytes and ``count`` updates; gives the room that is left."""
        sent: list[tuple[int, Hashable, bytes]] = []
        for at, bucket in enumerate(self._buckets):
            if count <= len(sent):
                break
            looks = _LOOKS
            for key in reversed(bucket):
                blob = bucket[key]
                if len(blob) + 3 <= room:
                    room -= len(blob) + 3
                    sent.append((at, key, blob))
                    if count <= len(sent):
                        break
                else:
                    looks -= 1
                    if not looks:
                        break
        for at, key, blob in sent:
            chosen.append(blob)
            del self._buckets[at][key]
            if at + 1 >= limit:
                del self.at[key]
                continue
            if at + 1 == len(self._buckets):
                self._buckets.append({})
            self._buckets[at + 1][key] = blob
            self.at[key] = at + 1
        return room

    def waiting_bytes(self, most: int) -> int:
        """What it would take to send all that waits, but no more than ``most``."""
        total = 0
        for blob in self._blobs():
            total += len(blob) + 3
            if total >= most:
                return most
        return total

    def _blobs(self) -> Iterator[bytes]:
        for bucket in self._buckets:
            yield from bucket.values()


class Piggyback:
    """Both classes, and how often each update is sent: ``ceil(retransmit_mult * log10(n + 1))`` times."""

    __slots__ = ("_membership_at", "_mult", "_user_at", "limit", "membership", "user")

    def __init__(self, retransmit_mult: int) -> None:
        self._mult = retransmit_mult
        self.limit = retransmit_mult
        self.membership = Lane()
        self.user = Lane()
        self._membership_at, self._user_at = self.membership.at, self.user.at

    def resize(self, members: int) -> None:
        """There are now so many members."""
        self.limit = max(self._mult, ceil(self._mult * log10(members + 1)))

    def put(self, key: Hashable, blob: bytes, *, user: bool = False) -> None:
        """``blob`` is news in the slot ``key``."""
        (self.membership if user else self.user).drop(key)
        (self.user if user else self.membership).put(key, blob)

    def drop(self, key: Hashable) -> None:
        """It is no news any more."""
        self.membership.drop(key)
        self.user.drop(key)

    def __len__(self) -> int:
        return len(self.membership) + len(self.user)

    def take(self, room: int, first: tuple[bytes, ...] = ()) -> tuple[bytes, ...]:
        """What rides on the next datagram, at most ``room`` bytes with each one's head (3), after ``first``."""
        if not (self._membership_at or self._user_at):
            return first  # by far the most frequent case
        chosen = list(first)
        for blob in first:
            room -= len(blob) + 3
        reserved = self.user.waiting_bytes(USER_SHARE_BYTES) if self.user else 0
        if self.membership:
            room = self.membership.fill(room - reserved, UPDATES - len(chosen), self.limit, chosen) + reserved
        if self.user:
            room = self.user.fill(room, UPDATES - len(chosen), self.limit, chosen)
        return tuple(dict.fromkeys(chosen))
