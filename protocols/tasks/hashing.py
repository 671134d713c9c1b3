"""SHA-256 of what may be large: in place when small, in a worker thread when not (0.7 ms a MiB)."""

import hashlib

from meshos.flow import Compute
from meshos.protocols.tasks.limits import INLINE_BYTES

_SECONDS_PER_BYTE = 0.7e-9


async def sha256(data: bytes) -> bytes:
    """A Flow: the 32 bytes."""
    if len(data) <= INLINE_BYTES:
        return hashlib.sha256(data).digest()
    return await Compute(lambda: hashlib.sha256(data).digest(), cost_s=len(data) * _SECONDS_PER_BYTE)
