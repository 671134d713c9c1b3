"""What a connection's transport knows of its path, and what is made of it: losses, how long it takes to notice one, what waits.

TCP's figures are the kernel's (``TCP_INFO``, Linux; tcp(7)). Where there are none, a path is judged by pings alone, and one that fails is
noticed when it has been silent for too long.
"""

import socket
import struct
from collections import deque
from typing import Final

import trio

from meshos.protocols.rpc.paths import Measured
from meshos.values import frozen

LOSS_WEIGHT: Final = 0.1
"""Of the newest look in the share of losses: some ten looks are remembered."""
ROUND_TRIPS: Final = 5
"""So many of the last round trips are remembered, and the shortest counts: what a busy node adds to one says nothing of the path."""

_INFO: Final = struct.Struct("=8x I 12x I 28x I 40x I 52x I Q")
"""Of ``struct tcp_info`` (linux/tcp.h): tcpi_rto (microseconds), tcpi_unacked, tcpi_last_ack_recv (milliseconds), tcpi_total_retrans,
tcpi_data_segs_out, tcpi_delivery_rate (bytes a second)."""


@frozen
class Transport:
    """``sent`` and ``lost`` count packets since the connection began; ``recovery_s`` is what it takes to notice the loss of the last one;
    ``waits`` whether anything is not acknowledged, ``acknowledged_s`` how long ago the last acknowledgement came, ``rate`` the bytes a
    second that the path has carried last (TCP), or that its congestion window lets through (QUIC)."""

    sent: int = 0
    lost: int = 0
    recovery_s: float = 0.0
    waits: bool = False
    acknowledged_s: float = 0.0
    rate: float = 0.0


NOTHING: Final = Transport()


def of_tcp(raw: trio.socket.SocketType) -> Transport:
    """What the kernel knows of this connection now; ``NOTHING`` where it does not say."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return NOTHING
    try:
        info = raw.getsockopt(socket.IPPROTO_TCP, option, 192)
    except OSError:
        return NOTHING  # closed meanwhile: whoever reads it finds it so
    if len(info) < _INFO.size:
        return NOTHING
    rto_us, unacked, last_ack_ms, retransmitted, segments, rate = _INFO.unpack_from(info)
    return Transport(segments, retransmitted, rto_us / 1e6, unacked > 0, last_ack_ms / 1e3, rate)


class Measuring:
    """Keeps what was seen of one connection's path."""

    __slots__ = ("_before", "_round_trips", "loss")

    def __init__(self) -> None:
        self.loss = 0.0
        self._before = NOTHING
        self._round_trips: deque[float] = deque(maxlen=ROUND_TRIPS)

    @property
    def rtt_s(self) -> float | None:
        """A round trip; None before the first."""
        return min(self._round_trips, default=None)

    def ponged(self, rtt_s: float) -> None:
        """A round trip."""
        self._round_trips.append(rtt_s)

    def look(self, now: Transport) -> None:
        """Look at the losses since the look before."""
        sent, lost = now.sent - self._before.sent, now.lost - self._before.lost
        if sent > 0:
            self._before = now
            self.loss += LOSS_WEIGHT * (min(1.0, lost / sent) - self.loss)

    def measured(self, now: Transport, waits_s: float) -> Measured:
        """``waits_s`` is how long ago the first thing was written since anything last came."""
        unanswered_s = min(waits_s, now.acknowledged_s) if now.waits else 0.0
        return Measured(self.rtt_s, self.loss, now.recovery_s, unanswered_s)
