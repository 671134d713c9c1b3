"""Chance that can be had again: what a recorded node draws, and a replay draws once more.

Draw number n is BLAKE2b of n under a key, so that whoever sees draws (peers see the ids of requests) learns nothing of the others, and
a replay can begin at any of them. The key lies in the recording. It is of use to nobody who has the node's folder, in which the node's
own key lies; and since each segment of the ring has a new one, a segment that is given away tells nothing of what is drawn after it.
"""

import hashlib
import random

_BLOCK_BITS = 512


class Drawing(random.Random):
    """A generator with a key of 16 to 64 bytes. ``drawn`` is how many draws were made with it, and may be set."""

    drawn: int
    key: bytes

    def __init__(self, key: bytes) -> None:
        self.rekey(key)
        super().__init__()

    def rekey(self, key: bytes) -> None:
        """Go on with another key, from its first draw."""
        self.key = key
        self.drawn = 0

    def random(self) -> float:
        """See ``random.Random``."""
        return (self._block() >> (_BLOCK_BITS - 53)) * 2.0**-53

    def getrandbits(self, k: int, /) -> int:
        """See ``random.Random``."""
        if k < 0:
            raise ValueError("a number of bits is not negative")
        bits = 0
        for _ in range(-(-k // _BLOCK_BITS)):
            bits = bits << _BLOCK_BITS | self._block()
        return bits >> (-k % _BLOCK_BITS)

    def seed(self, *args: object, **kwargs: object) -> None:
        """The key is the seed; this, which ``random.Random`` calls when it is made, does nothing."""

    def _refused(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("the state is the key and ``drawn``")

    getstate = setstate = _refused  # type: ignore[assignment]

    def _block(self) -> int:
        self.drawn += 1
        return int.from_bytes(hashlib.blake2b(self.drawn.to_bytes(8, "big"), key=self.key).digest(), "big")
