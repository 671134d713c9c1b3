"""All QUIC connections of a node over one UDP socket: told apart by connection id, driven by datagrams and by one clock.

One socket for listening and dialling: a router's mapping for it serves both, and a peer that was dialled may be told of it. A batch is
taken from the socket, then each connection that it was about sends once; after so many frames other tasks have their turn. Clocks lie in a
heap; one that turns out to be early when it goes off does no harm.

A datagram for nobody goes to ``stranger`` if it could begin a connection. If it belongs to a connection of an earlier start of this
node, the peer is told that it is forgotten (a stateless reset, RFC 9000, section 10.3), now and then; anything else is dropped and counted.
"""

import hashlib
import heapq
import hmac
import logging
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import trio

from meshos.buckets import Bucket, Buckets
from meshos.errors import Refused
from meshos.node.runtime.links.limits import (
    CONNECTIONS,
    QUIC_DATAGRAM_BYTES,
    QUIC_FRAMES_A_TURN,
    QUIC_FRAMES_BURST,
    QUIC_FRAMES_PER_S,
    QUIC_FRAMES_USUAL,
    QUIC_RESETS_PER_S,
)
from meshos.node.runtime.links.quic_link import TOO_MANY_FRAMES, QuicLink
from meshos.node.runtime.links.quic_size import Sizing
from meshos.node.runtime.links.quic_socket import Address, UdpSocket
from meshos.node.runtime.quic.identifiers import ID_BYTES, Identifiers, destination

logger = logging.getLogger("meshos.links")
logging.getLogger("quic").setLevel(logging.CRITICAL)  # aioquic has a line for every packet of a stranger's; ours are counted by name

_RESET_BYTES: Final = 43
"""A reset is shorter than what it answers, and no shorter than any packet: so two nodes never answer each other's for long."""

PUNCH: Final = b"\0punch"
"""What a small datagram begins with that opens a way through a router; a code follows. It is no QUIC."""

NOT_QUIC: Final = Refused("not-quic", "that was no QUIC, or too short to begin a connection")
UNKNOWN_CONNECTION: Final = Refused("unknown-quic-connection", "it belongs to no connection of this node, and begins none")
"""For whoever counts them: none is raised, and strangers are told nothing."""


@dataclass(slots=True, eq=False)
class _Driven:
    """What the endpoint keeps of a link."""

    tokens: set[bytes] = field(default_factory=set)
    """By which the peer may say that it has forgotten the connection; they are those of ``known``."""
    known: object = None
    sizing: Sizing | None = None
    clocks: list[float] = field(default_factory=list)
    """When its clocks in the heap go off, the next one last: another is only set if it is to be earlier, so that there are few."""
    last: list[tuple[bytes, Address]] = field(default_factory=list)
    """Its close, and how often that was asked for again."""
    repeats: int = 0


class Endpoint:
    """``open``, then ``run``. ``stranger`` is offered datagrams that may begin a connection."""

    def __init__(self, host: str, port: int, secret: bytes, stranger: Callable[[bytes, Address], None], largest: int | None = None) -> None:
        """``secret`` is the same at every start of this node, and nobody else's; ``largest`` is that of datagrams."""
        self.host = host
        self.port = port
        self.counts: Counter[str] = Counter()
        self.links: dict[QuicLink, _Driven] = {}
        self._secret = secret
        self._stranger = stranger
        self._largest = largest
        self.punches: dict[bytes, Callable[[Address], None]] = {}
        """By the code in it: who hears where a small datagram came from (punching.py)."""
        self._socket: UdpSocket | None = None
        self._by_id: Identifiers[QuicLink] = Identifiers()
        self._resets: dict[bytes, QuicLink] = {}
        self._dialling: set[QuicLink] = set()
        self._clock: list[tuple[float, int, QuicLink]] = []
        self._number = count()
        self._sleep = trio.CancelScope()
        self._rate = Bucket(QUIC_RESETS_PER_S, QUIC_RESETS_PER_S)
        self._frames = Buckets(QUIC_FRAMES_PER_S, QUIC_FRAMES_BURST, CONNECTIONS)  # beyond the usual, by organisation

    # -- for the path ------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    @property
    def v6(self) -> bool:
        """Whether the socket speaks IPv6."""
        return ":" in self.host

    def open(self) -> None:
        """Bind; raises OSError."""
        self._socket = UdpSocket(self.host, self.port)
        self.port = self._socket.port

    async def run(self) -> None:
        """Move datagrams until cancelled; then every connection is closed."""
        assert self._socket is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, self._socket)
                nursery.start_soon(self._tick)
        finally:
            for link in list(self.links):
                if link.core.ended is None:
                    link.shut()
            self._socket.close()
            self._socket = None

    def reset_token(self, identifier: bytes) -> bytes:
        """By which this node can say that it has forgotten the connection of this id, in this start or a later one."""
        return hmac.digest(self._secret, b"meshos/quic/reset" + identifier, hashlib.sha256)[:16]

    def adopt(self, link: QuicLink, *identifiers: bytes) -> None:
        """Drive ``link`` from now on, to its end; datagrams with these ids are for it."""
        self.links[link] = _Driven()
        if link.dialled:
            self._dialling.add(link)
        for identifier in identifiers:
            self.issued(identifier, link)

    def received(self, link: QuicLink, data: bytes, address: Address) -> None:
        """Give ``link`` a datagram, and let it answer."""
        now = trio.current_time()
        if self._gave(link, data, address, now):
            self._after(link, now)

    def send(self, data: bytes, address: Address) -> None:
        """Send one datagram of no connection, or lose it."""
        if self._socket is not None:
            self._socket.send([(data, address)])

    def statistics(self) -> dict[str, float]:
        """Sizes and counts."""
        dropped = 0 if self._socket is None else self._socket.dropped
        return {**self.counts, "connections": len(self.links), "datagrams_not_sent": dropped}

    # -- for links (quic_link.Driver) --------------------------------------------------------------------------------

    def issued(self, identifier: bytes, link: QuicLink) -> None:
        """See ``quic_link.Driver``."""
        if link in self.links:
            self._by_id.issued(identifier, link)

    def retired(self, identifier: bytes) -> None:
        """See ``quic_link.Driver``."""
        self._by_id.retired(identifier)

    def pump(self, link: QuicLink) -> None:
        """See ``quic_link.Driver``."""
        driven = self.links.get(link)
        if self._socket is None or driven is None:
            return
        now = trio.current_time()
        core, sizing = link.core, driven.sizing
        core.received(now)
        if sizing is not None:
            sizing.follow(now)
        datagrams = core.datagrams_to_send(now)
        if datagrams:
            self.counts["datagrams_out"] += len(datagrams)
            self._socket.send(datagrams)
            if core.ended is not None:
                driven.last = datagrams
        if sizing is not None and sizing.at <= now and (probe := sizing.probe(now)):
            self._socket.send(probe)
        self._schedule(link, driven)

    # -- datagrams ---------------------------------------------------------------------------------------------------

    async def _read(self, socket: UdpSocket) -> None:
        while True:
            await trio.lowlevel.wait_readable(socket.raw)
            datagrams, refused = socket.receive()
            now = trio.current_time()
            self.counts["datagrams_in"] += len(datagrams)
            touched: dict[QuicLink, None] = {}
            frames = 0
            for data, address in datagrams:
                link = self._by_id.get(destination(data))
                if link is None:
                    self._unknown(data, address)
                elif self._gave(link, data, address, now):
                    touched[link] = None
                    frames += link.core.frames_of_last
                if frames > QUIC_FRAMES_A_TURN:
                    for each in touched:
                        self._after(each, now)
                    frames, touched = 0, {}
                    await trio.lowlevel.checkpoint()
                    now = trio.current_time()
            for link in touched:
                self._after(link, now)
            for address in refused:
                self._nobody_at(address)

    def _gave(self, link: QuicLink, data: bytes, address: Address, now: float) -> bool:
        if link.core.ended is not None:
            self._repeat(link)
            return False
        try:
            link.core.receive_datagram(data, address, now)
            more = link.core.frames_of_last - QUIC_FRAMES_USUAL
            if more > 0 and link.core.admitted and not self._frames.of(link.peer.org).take(now, more):
                link.shut(TOO_MANY_FRAMES)
        except Exception as error:  # a bug, ours or aioquic's, that these bytes have met: of this connection, not of the node
            self._bug(link, error)
            return False
        return True

    def _after(self, link: QuicLink, now: float) -> None:
        """``link`` has received: take what it tells, and send what it has to."""
        try:
            link.hear()
            self._know(link)
            self.pump(link)
        except Exception as error:
            self._bug(link, error)

    def _repeat(self, link: QuicLink) -> None:
        """What still comes to a closed connection says that our close was lost: say it again, more and more seldom (RFC 9000, 10.2.1)."""
        driven = self.links.get(link)
        if self._socket is not None and driven is not None and driven.last:
            driven.repeats += 1
            if driven.repeats & (driven.repeats - 1) == 0:
                self._socket.send(driven.last)

    def _unknown(self, data: bytes, address: Address) -> None:
        if data[: len(PUNCH)] == PUNCH and (heard := self.punches.get(data[len(PUNCH) :])) is not None:
            heard(address)
        elif not data or not data[0] & 0x40:
            self.counts[f"refused_{NOT_QUIC.name}"] += 1
        elif data[0] & 0x80:
            try:
                self._stranger(data, address)
            except Exception as error:
                self.counts["bugs"] += 1
                logger.error("bug", exc_info=error, extra={"operation": "quic"})
        elif (link := self._resets.get(data[-16:])) is not None:
            self._forgotten(link)
        elif len(data) > _RESET_BYTES and self._rate.take(trio.current_time()):
            self.counts["resets_out"] += 1
            noise = bytearray(os.urandom(min(len(data) - 1, _RESET_BYTES) - 16))
            noise[0] = noise[0] & 0x3F | 0x40
            self.send(bytes(noise) + self.reset_token(data[1 : 1 + ID_BYTES]), address)
        else:
            self.counts[f"refused_{UNKNOWN_CONNECTION.name}"] += 1

    def _nobody_at(self, address: Address) -> None:
        """ICMP says that nobody listens there. It may be forged, so it ends what has not begun, and nothing else."""
        self._dialling = {link for link in self._dialling if link in self.links and not link.handshaken}
        for link in [link for link in self._dialling if link.core.address == address]:
            self.counts["nobody_there"] += 1
            link.shut()
            self._after(link, trio.current_time())

    def _forgotten(self, link: QuicLink) -> None:
        """The peer has said, by a token that only it and we know, that this connection is none of its own."""
        self.counts["resets_in"] += 1
        link.core.close(reason_phrase="reset")
        link.lost()
        self._forget(link)

    def _bug(self, link: QuicLink, error: Exception) -> None:
        self.counts["bugs"] += 1
        logger.error("bug", exc_info=error, extra={"operation": "quic"})
        link.core.close()
        link.lost()
        self._forget(link)

    # -- time --------------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            until = self._clock[0][0] if self._clock else math.inf
            with trio.CancelScope(deadline=until) as self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            due = []
            while self._clock and self._clock[0][0] <= now:
                _, _, link = heapq.heappop(self._clock)
                if (driven := self.links.get(link)) is not None:
                    driven.clocks.pop()
                    due.append(link)
            for link in dict.fromkeys(due):
                self._time(link, now)
            await trio.lowlevel.checkpoint()

    def _time(self, link: QuicLink, now: float) -> None:
        try:
            if link.deadline is not None and link.deadline <= now:
                link.due(now)
            timer = link.core.get_timer()
            if timer is not None and timer <= now:
                link.core.handle_timer(now)
        except Exception as error:
            self._bug(link, error)
            return
        self._after(link, now)

    def _schedule(self, link: QuicLink, driven: _Driven) -> None:
        timer = link.core.get_timer()
        if timer is None:  # it has ended, and aioquic has nothing more to do for it
            link.hear()
            self._forget(link)
            return
        until = min(timer, link.deadline or math.inf, math.inf if driven.sizing is None else driven.sizing.at)
        if not driven.clocks or until < driven.clocks[-1]:
            driven.clocks.append(until)
            heapq.heappush(self._clock, (until, next(self._number), link))
            if until < self._sleep.deadline:
                self._sleep.deadline = until

    def _know(self, link: QuicLink) -> None:
        """What is only known once the handshake is confirmed: how the peer says that it has forgotten, and what size the path may carry."""
        driven = self.links.get(link)
        if driven is None or not link.core.confirmed or link.core.ended is not None:
            return
        if driven.sizing is None:
            self._dialling.discard(link)
            driven.sizing = Sizing(link.core, self._largest)
        if link.core.peer_ids != driven.known:
            driven.known = link.core.peer_ids
            for token in driven.tokens:
                self._resets.pop(token, None)
            driven.tokens = set(link.core.peer_reset_tokens)
            self._resets.update(dict.fromkeys(driven.tokens, link))

    def _forget(self, link: QuicLink) -> None:
        driven = self.links.pop(link, None)
        self._dialling.discard(link)
        self._by_id.forget(link)
        if driven is not None:
            for token in driven.tokens:
                self._resets.pop(token, None)


assert _RESET_BYTES < QUIC_DATAGRAM_BYTES
