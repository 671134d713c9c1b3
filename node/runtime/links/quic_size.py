"""How large a connection's datagrams may be: found by sending larger ones that carry nothing (RFC 8899).

Every path carries 1,200 bytes. Once the handshake is confirmed, larger sizes are tried from the largest; the first that is acknowledged is
used. A probe's loss says nothing of congestion, so a few are sent of each size. Where the peer's address changes, or timeouts follow each
other (a path that swallows what is too large for it looks like that), all begins anew from 1,200.
"""

import ipaddress
import math
from typing import Any, Final

from meshos.node.runtime.links.limits import (
    QUIC_DATAGRAM_BYTES,
    QUIC_PROBE_TIMES,
    QUIC_PROBES_BYTES,
    QUIC_PROBES_LOOPBACK_BYTES,
)
from meshos.node.runtime.links.quic_core import Core

PROBE_S: Final = 0.2
"""Between probes."""
AGAIN_S: Final = 60.0
"""After a path swallowed what it had carried: that long nothing larger is tried."""
SWALLOWED_TIMEOUTS: Final = 3


class Sizing:
    """``follow`` before anything is sent, ``probe`` after it; ``at`` is when it wants to be asked again."""

    def __init__(self, core: Core, largest: int | None = None) -> None:
        self._core = core
        self._largest = largest
        self.at = 0.0
        self._begin()

    def _begin(self) -> None:
        self._address = self._core.address
        self._to_try = candidates(self._address, self._largest)
        self._times = 0
        self._found = False
        self._round = object()  # a probe of an earlier round says nothing

    def follow(self, now: float) -> None:
        """Notice what makes the present size doubtful."""
        core = self._core
        if core.address != self._address:
            core.resize(QUIC_DATAGRAM_BYTES)
            self._begin()
            self.at = now
        elif core.datagram_bytes > QUIC_DATAGRAM_BYTES and core.timeouts >= SWALLOWED_TIMEOUTS:
            core.resize(QUIC_DATAGRAM_BYTES)
            self._begin()
            self.at = now + AGAIN_S

    def probe(self, now: float) -> list[tuple[bytes, Any]]:
        """A probe, if it is time for one."""
        if self._found or not self._to_try or self._core.ended is not None:
            self.at = math.inf
            return []
        if now < self.at:
            return []
        self.at = now + PROBE_S
        if self._times == QUIC_PROBE_TIMES:
            self._to_try, self._times = self._to_try[1:], 0
            if not self._to_try:
                return []
        self._times += 1
        size, this = self._to_try[0], self._round

        def answered(arrived: bool) -> None:
            if arrived and this is self._round and size > self._core.datagram_bytes:
                self._found = True
                self._core.resize(size)

        return self._core.probe(size, now, answered)


def candidates(address: object, largest: int | None = None) -> tuple[int, ...]:
    """Sizes to try to ``(host, port)``, the largest first, and none above ``largest``."""
    assert isinstance(address, tuple)
    loopback = ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
    sizes = (*QUIC_PROBES_BYTES, *(QUIC_PROBES_LOOPBACK_BYTES if loopback else ()))
    return tuple(sorted((size for size in sizes if largest is None or size <= largest), reverse=True))
