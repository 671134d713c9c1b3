"""One QUIC connection as a link sees it: a stream of bytes each way, with back-pressure and an end that has a name.

Sending: aioquic takes any amount, so that ``send`` waits while more than QUIC_UNSENT_BYTES have not left for the first time.
Receiving: what has come waits here until it is read; the peer's window opens as it is read (quic_core.py).
Closing: aioquic forgets unacknowledged data when a connection is closed, where TCP's kernel goes on. So ``close`` ends our stream, and
the connection follows when the peer has it all, LINGER_S later at most; nobody waits for that.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import trio
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.stream import QuicStream

from meshos.errors import MeshError, Refused, Unreachable
from meshos.ids import NodeId, Peer
from meshos.node.runtime.links.limits import (
    LINGER_S,
    QUIC_FRAMES_A_DATAGRAM,
    QUIC_PROBES_BYTES,
    QUIC_PROBES_LOOPBACK_BYTES,
    QUIC_UNSENT_BYTES,
)
from meshos.node.runtime.links.quic_core import STREAM, Core
from meshos.node.runtime.links.transport import Transport

REFUSED: Final = 1
"""Our one application error code: the reason is the refusal's name and text. 0 is a close without complaint."""
HANDSHAKE_TOO_LONG: Final = Refused("handshake-too-long", "more came before it was known who is there than any handshake needs")
TOO_MANY_FRAMES: Final = Refused("too-many-frames", "it packs more frames of QUIC into its datagrams than anything needs that a link does")

REASON_BYTES: Final = 400
"""Of a reason: it travels in one datagram, as it is not sent again."""

LARGEST_BYTES: Final = max(*QUIC_PROBES_BYTES, *QUIC_PROBES_LOOPBACK_BYTES)
"""Of a datagram: no node sends larger ones."""

_REASON: Final = re.compile(r"([a-z][a-z-]{0,63}): (.*)", re.DOTALL)
_ALERT: Final = 0x100
_ALERTS: Final = {42: "certificate-refused", 116: "no-certificate", 120: "no-common-version"}


class Driver(Protocol):
    """Who moves datagrams (quic_endpoint.py)."""

    def pump(self, link: "QuicLink") -> None:
        """Send what ``link`` has to send, and set its clock."""

    def issued(self, identifier: bytes, link: "QuicLink") -> None:
        """Datagrams with this connection id are for ``link``."""

    def retired(self, identifier: bytes) -> None:
        """No longer."""


class Owner(Protocol):
    """Who decides about a link (quic.py)."""

    def completed(self, link: "QuicLink") -> None:
        """Both sides have the keys, or it has ended before."""


class QuicLink:
    """See the module's text and ``path.Connection``. ``peer`` and ``check`` are there once the owner has ``admit``ted it."""

    peer: Peer
    _check: Callable[[], Peer]

    def __init__(self, core: Core, driver: Driver, owner: Owner, *, dialled: bool, deadline: float) -> None:
        self.core = core
        self.dialled = dialled
        self.via: NodeId | None = None
        self.deadline: float | None = deadline
        """When patience ends: with the handshake first, with the last acknowledgements in the end."""
        self.handshaken = False
        self.closing = False
        self.changed = trio.Event()
        """Set when the handshake has ended, either way."""
        self.timed_out = False
        self.refusal: MeshError | None = None
        """Why this side closed it, where it was not asked to."""
        self._driver = driver
        self._owner = owner
        self._received: deque[bytes] = deque()
        self._end_of_stream = False
        self._finished = False  # our side of the stream
        self._stream: QuicStream | None = None
        self._readers, self._writers = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()
        self._unheard = True  # the owner has not heard of the handshake's end

    # -- path.Connection ---------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """See ``path.Connection``."""
        self._write(data)
        while self.core.ended is None and not self.closing and self.core.unsent > QUIC_UNSENT_BYTES // 2:
            await self._writers.park()
        if self.core.ended is not None or self.closing:
            raise self.error() or Unreachable("link-lost", "the connection was closed while it was written to")
        await trio.lowlevel.checkpoint()

    def send_now(self, data: bytes) -> bool:
        """See ``path.Connection``."""
        if self.core.ended is not None or self.closing:
            return False
        try:
            self._write(data)
        except MeshError:
            return False  # ``send`` and ``receive`` say it
        return self.core.unsent <= QUIC_UNSENT_BYTES

    async def receive(self, max_bytes: int) -> bytes:
        """See ``path.Connection``."""
        waited = False
        while not self._received:
            if self._end_of_stream or self.closing:
                return b""
            if self.core.ended is not None:
                if (error := self.error()) is not None:
                    raise error
                return b""
            await self._readers.park()
            waited = True
        if not waited:
            await trio.lowlevel.checkpoint()  # what is already here must not starve the other tasks
        return self._taken(max_bytes)

    def check(self) -> None:
        """See ``path.Connection``."""
        self._check()

    def transport(self, now: float) -> Transport:
        """See ``path.Connection``."""
        return self.core.transport(now)

    async def close_after(self, last: bytes) -> None:
        """See ``path.Connection``."""
        with trio.move_on_after(LINGER_S):
            while self.core.stream is None and self.dialled is False and self.core.ended is None:
                await self._readers.park()  # the dialling side opens the stream
            if self.core.ended is None and not self._finished:
                self._finish(last)
                while self.core.ended is None and not self._acknowledged():
                    await self._writers.park()
        await self.close()

    async def close(self) -> None:
        """See ``path.Connection``."""
        if not self.closing:
            self.closing = True
            self._received.clear()
            if self.core.ended is None:
                if self.handshaken and self._stream is not None and not self._acknowledged():
                    self._finish(b"")
                    self.deadline = trio.current_time() + LINGER_S
                else:
                    self.shut()
            self._wake()
        await trio.lowlevel.checkpoint()

    def admit(self, check: Callable[[], Peer]) -> None:
        """``check`` says who is there, now and later; raises as it does."""
        self.peer = check()
        self._check = check
        self.core.admit(largest=LARGEST_BYTES, frames=QUIC_FRAMES_A_DATAGRAM)

    # -- the end -----------------------------------------------------------------------------------------------------

    def shut(self, refusal: MeshError | None = None) -> None:
        """Close the connection now; the other side hears ``refusal``."""
        self.closing = True
        self.deadline = None
        self.refusal = self.refusal or refusal
        if self.refusal is None:
            self.core.close(QuicErrorCode.NO_ERROR)
        else:
            reason = f"{self.refusal.name}: {self.refusal.detail}".encode()[:REASON_BYTES].decode(errors="ignore")
            self.core.close(REFUSED, reason_phrase=reason)
        self._driver.pump(self)
        self._wake()

    def lost(self) -> None:
        """The connection is no more, without a word."""
        self.refusal = self.refusal or Unreachable("link-lost", "the other side knows nothing of this connection any more")
        self.hear()
        self._wake()

    def error(self) -> MeshError | None:
        """How it has ended; None if politely, or not yet."""
        if self.refusal is not None:
            return self.refusal
        ended = self.core.ended
        return None if ended is None else _error_of(ended, self.handshaken)

    def due(self, now: float) -> None:
        """``deadline`` has come."""
        self.timed_out = not self.handshaken
        self.shut()

    # -- for the endpoint --------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """Take what the connection has to tell."""
        while (event := self.core.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self._heard(event)
            elif isinstance(event, ConnectionIdIssued):
                self._driver.issued(event.connection_id, self)
            elif isinstance(event, ConnectionIdRetired):
                self._driver.retired(event.connection_id)
            elif isinstance(event, HandshakeCompleted):
                self.handshaken = True
                self.deadline = None
            elif isinstance(event, StreamReset | StopSendingReceived):
                self.core.close(QuicErrorCode.NO_ERROR)
        if self._stream is None:
            self._stream = self.core.stream
        if self.core.exceeded:
            self.refusal = self.refusal or (TOO_MANY_FRAMES if self.core.admitted else HANDSHAKE_TOO_LONG)
        if self._unheard and (self.handshaken or self.core.ended is not None):
            self._unheard = False
            self._owner.completed(self)
            self.changed.set()
        if self.core.ended is not None:
            self._wake()
        else:
            self._after_acknowledgements()

    def _after_acknowledgements(self) -> None:
        if self._finished and self._acknowledged():
            self._writers.unpark_all()
            if self.closing:
                self.shut()
        elif self._writers and self.core.unsent <= QUIC_UNSENT_BYTES // 2:
            self._writers.unpark_all()
        if self._stream is not None and self._finished and not self.closing:
            self._readers.unpark_all()

    def _heard(self, event: StreamDataReceived) -> None:
        if event.data and not self.closing:
            self._received.append(event.data)
        elif event.data:
            self.core.consumed += len(event.data)  # nobody reads any more
        self._end_of_stream = self._end_of_stream or event.end_stream
        self._readers.unpark_all()

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self.core.ended is not None or self.closing or self._finished:
            raise self.error() or Unreachable("link-lost", "the connection was closed while it was written to")
        if data:
            try:
                self.core.write(data)
            except (ValueError, RuntimeError) as error:  # the peer has reset the stream, or never opened it
                raise Unreachable("link-lost", "the other side takes nothing on this connection") from error
            self._stream = self.core.stream
            self._driver.pump(self)

    def _finish(self, last: bytes) -> None:
        if not self._finished:
            self._finished = True
            try:
                self.core.write(last, end=True)
            except (ValueError, RuntimeError):  # it was reset: there is nobody to tell
                return self.shut()
            self._stream = self.core.stream
            self._driver.pump(self)

    def _acknowledged(self) -> bool:
        """Whether the peer has all that was written."""
        if self._stream is None:
            return True
        sender = self._stream.sender
        return sender.is_finished if self._finished else sender._buffer_start == sender._buffer_stop

    def _taken(self, max_bytes: int) -> bytes:
        """The next bytes, in one piece; the window opens by as many."""
        pieces, left = [], max_bytes
        while self._received and left > 0:
            piece = self._received.popleft()
            if len(piece) > left:
                self._received.appendleft(piece[left:])
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.core.consumed += len(data)
        if self.core.window_due and self.core.ended is None:
            self._driver.pump(self)
        return data

    def _wake(self) -> None:
        self._readers.unpark_all()
        self._writers.unpark_all()


def _error_of(ended: ConnectionTerminated, handshaken: bool) -> MeshError | None:
    """The name under which an end of QUIC is known here; None for a polite one."""
    code, reason = ended.error_code, ended.reason_phrase
    if code == QuicErrorCode.NO_ERROR and ended.frame_type is None:
        return None
    if code == REFUSED and ended.frame_type is None and (told := _REASON.fullmatch(reason)) is not None:
        return Refused(told[1], told[2])
    if reason == "Idle timeout" and code == QuicErrorCode.INTERNAL_ERROR:
        return Unreachable("link-silent", "nothing came from the other side, not even acknowledgements")
    if code - _ALERT in _ALERTS and not handshaken:
        return Refused(_ALERTS[code - _ALERT], "the two sides could not agree on a QUIC connection")
    if _ALERT <= code < 2 * _ALERT and not handshaken:
        return Refused("tls-failed", f"the two sides could not agree on a QUIC connection (alert {code - _ALERT})")
    return Unreachable("link-lost", f"the connection broke (QUIC error {code})", outcome="unknown" if handshaken else "not_done")


assert STREAM == 0
