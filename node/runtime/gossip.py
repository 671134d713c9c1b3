"""The gossip port: UDP datagrams, each a NaCl box between two nodes' keys.

What a stranger can send costs a look at 33 bytes: a sender whose certificate was never checked on a link is dropped before any
key is computed. A box that does not open, a message that does not decode and a signature that does not hold are counted by the
name of their refusal and dropped; none of them is answered. A repeated datagram opens again; it is news to nobody (statements
carry incarnations, acks their sequence). What a member can send is bounded by its budget and its organisation's
(protocols/membership/budget.py).
"""

import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import trio

from meshos.crypto.boxes import Boxes
from meshos.crypto.limits import DATAGRAM_BYTES
from meshos.crypto.signing import Verifier
from meshos.errors import MeshError, Refused
from meshos.ids import NodeId, Peer
from meshos.protocols.membership.admission import admit
from meshos.protocols.membership.budget import GossipBudget
from meshos.protocols.membership.codec import decode_datagram, encode_datagram
from meshos.protocols.membership.events import DatagramReceived, SendDatagram
from meshos.protocols.membership.machine import Membership

logger = logging.getLogger("meshos.gossip")

BATCH = 64
"""Datagrams taken from the socket before other tasks run."""
RECEIVE_BUFFER_BYTES = 1 << 20
"""About 900 datagrams: what arrives while the process is stopped for a second or two in a mesh of a few hundred nodes."""


@lru_cache(maxsize=4096)
def _parsed(address: str) -> tuple[str, int] | None:
    """``host:port`` with a numeric host; None for anything else: names are not resolved on the way of a datagram, and the zone of an
    IPv6 address, which can be any text, is of one machine."""
    host, _, port = address.rpartition(":")
    if "%" in host:
        return None
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
        return (str(ip), int(port)) if 0 < int(port) < 65536 else None
    except ValueError:
        return None


class Gossip:
    """The socket of one node. ``send`` carries out ``SendDatagram``; what arrives goes to ``deliver``."""

    def __init__(
        self,
        boxes: Boxes,
        membership: Membership,
        verifier: Verifier,
        deliver: Callable[[DatagramReceived], None],
        is_cut: Callable[[NodeId], bool],
    ) -> None:
        self._boxes = boxes
        self._membership = membership
        self._verifier = verifier
        self._deliver = deliver
        self._is_cut = is_cut
        self._socket: socket.socket | None = None
        self._counts: Counter[str] = Counter()
        self._budget = GossipBudget()

    def open(self, host: str, port: int) -> None:
        """Bind; raises Refused ``port-taken``."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        try:
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            detail = f"UDP port {port} on {host} cannot be had: {error.strerror}"
            raise Refused("port-taken", detail, hint="end what uses it, or choose another") from error
        self._socket = sock

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled; the socket is open already."""
        assert self._socket is not None
        task_status.started()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                self._drain(self._socket)
        finally:
            self._socket.close()
            self._socket = None

    def send(self, effect: SendDatagram) -> None:
        """Box and send, or lose it."""
        address = _parsed(effect.address)
        if self._socket is None or address is None or self._is_cut(effect.to):
            self._counts["not_sent"] += 1
            return
        try:
            self._socket.sendto(self._boxes.seal(effect.to, encode_datagram(effect.message)), address)
            self._counts["sent"] += 1
        except (OSError, MeshError) as error:  # full buffer, unreachable network: a datagram may be lost
            self._counts[f"not_sent_{type(error).__name__}"] += 1

    def statistics(self) -> dict[str, int]:
        """Datagrams sent, received, refused by name, and not heard because their sender had used up its budget."""
        return {**self._counts, **self._budget.statistics()}

    def _drain(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                datagram, source = sock.recvfrom(DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error of an earlier send (ECONNREFUSED): about that peer, not about this socket
                self._counts[f"error_{error.errno}"] += 1
                continue
            try:
                event = self._heard(datagram, f"{source[0]}:{source[1]}")
            except Exception as error:  # a bug that these bytes have met: of this datagram, not of the node
                self._counts["bugs"] += 1
                logger.error("bug", exc_info=error, extra={"operation": "gossip", "source": source[0]})
                continue
            if event is not None:
                self._counts["received"] += 1
                self._deliver(event)

    def _heard(self, datagram: bytes, source: str) -> DatagramReceived | None:
        """What it says, if anything that counts; what is refused is counted by name."""
        try:
            opened = self._boxes.open(datagram, self._membership.admitted)
            org = self._membership.organisation_of(opened.sender)
            if org is None or self._is_cut(opened.sender):
                return None
            sender, now = Peer(opened.sender, org), trio.current_time()
            if not self._budget.datagram(sender, now):
                return None
            message = decode_datagram(opened.message)
            return admit(
                self._membership, self._verifier, sender.node, source, message, lambda count: self._budget.checks(sender, count, now)
            )
        except MeshError as error:
            self._counts[f"refused_{error.name}"] += 1
            return None
