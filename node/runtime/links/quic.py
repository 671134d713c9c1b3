"""The QUIC path: the same certificates, rules and bounds as the TCP path, over one UDP socket.

A handshake proves that the peer holds the key of the certificate that it shows. Who that is, and whether to let it in, is decided when the
handshake has completed, by ``verify_chain``; until then nothing of its stream is read, and nothing but a refusal is sent on it.
Refusals go out as the TCP path's do: as a frame on the stream, which the dialling side has opened with its hello; who opens none reads the
name in the close.
"""

import errno
import ipaddress
import logging
import math
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress

import trio
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshos.crypto.certificates import verify_chain
from meshos.errors import MeshError, Refused, Unreachable
from meshos.ids import NodeId, Peer
from meshos.node.runtime.links.counting import name_of
from meshos.node.runtime.links.limits import HANDSHAKE_S, SILENT_S
from meshos.node.runtime.links.path import Accepted
from meshos.node.runtime.links.quic_admission import Admission, read_opening
from meshos.node.runtime.links.quic_core import Core, configuration
from meshos.node.runtime.links.quic_endpoint import Endpoint
from meshos.node.runtime.links.quic_link import QuicLink
from meshos.node.runtime.links.quic_socket import Address
from meshos.node.runtime.links.tcp import AddressOf, Proved
from meshos.node.runtime.links.tls import Credentials
from meshos.node.runtime.quic.identifiers import ID_BYTES
from meshos.protocols.rpc.frames import refusal_frame

logger = logging.getLogger("meshos.links")

ALPN = "meshos/1"

FOUND = 1024
"""Nodes that are known to be at another address than their own."""


class QuicPath:
    """Listens on UDP at ``host`` and ``port`` (0: any free one; ``port`` holds it once ``serve`` has started), and dials from there."""

    name = "quic"

    def __init__(
        self,
        credentials: Credentials,
        host: str,
        port: int,
        address_of: AddressOf,
        *,
        proved: Proved | None = None,
        wall_clock: Callable[[], float] = time.time,
        datagram_bytes: int | None = None,
    ) -> None:
        """``datagram_bytes``: the largest datagram that is tried; None: as the limits say."""
        self.host = host
        self._address_of = address_of
        self._proved = proved
        self._wall_clock = wall_clock
        self._counts: Counter[str] = Counter()
        self._admission = Admission()
        self._entered: dict[QuicLink, Address] = {}  # handshakes of strangers
        self._endpoint = Endpoint(host, port, credentials.key.seed(), self._stranger, datagram_bytes)
        self._accept: Callable[[QuicLink], None] | None = None
        self._found: OrderedDict[NodeId, Address] = OrderedDict()
        self.trust(credentials)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._endpoint.port

    def trust(self, credentials: Credentials) -> None:
        """Use these from now on (a new certificate, a new root, a new revocation list)."""
        self._credentials = credentials
        self._server, self._client = (_configured(credentials, client=client) for client in (False, True))

    def statistics(self) -> dict[str, float]:
        """Dials, connections accepted, those refused by the reason's name, and what the socket has done."""
        counted = {**self._endpoint.statistics()}
        for name, count in self._counts.items():
            counted[name] = counted.get(name, 0) + count
        return {**{f"quic_{name}": count for name, count in counted.items()}, "quic_unauthenticated": self._admission.waiting}

    @property
    def endpoint(self) -> Endpoint:
        """Its socket, with all its connections."""
        return self._endpoint

    def found(self, node: NodeId, address: Address) -> None:
        """``node`` is at ``address`` as well, as long as a dial there leads to it: its own says nothing of the port of its router."""
        self._found[node] = address
        if len(self._found) > FOUND:
            self._found.popitem(last=False)

    # -- from outside ------------------------------------------------------------------------------------------------

    async def serve(self, accepted: Accepted, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See ``path.Path``; raises OSError if the port cannot be had."""
        self._endpoint.open()
        async with trio.open_nursery() as nursery:
            self._accept = lambda link: nursery.start_soon(self._take, link, accepted)
            task_status.started()
            try:
                await self._endpoint.run()
            finally:
                self._accept = None

    def _stranger(self, data: bytes, address: Address) -> None:
        """A datagram that belongs to no connection: the first of one, or nothing."""
        opening = read_opening(data)
        if isinstance(opening, Refused):
            self._counts[f"refused_{opening.name}"] += 1
            return
        now = trio.current_time()
        refusal = self._admission.refusal(opening, address, now)
        if refusal == "retry":
            self._counts["retries"] += 1
            self._endpoint.send(self._admission.retry(opening, address, os.urandom(ID_BYTES), now), address)
            return
        if refusal is not None or self._accept is None:
            self._counts[f"refused_{refusal or 'link-closed'}"] += 1
            return
        core = Core(self._server, self._endpoint.reset_token, original_destination=opening.original, retry_source=opening.retry)
        link = QuicLink(core, self._endpoint, self, dialled=False, deadline=now + HANDSHAKE_S)
        self._admission.enter(address)
        self._entered[link] = address
        self._endpoint.adopt(link, opening.destination, core.host_cid)
        self._endpoint.received(link, data, address)

    def completed(self, link: QuicLink) -> None:
        """See ``quic_link.Owner``."""
        if link.dialled:
            return  # ``dial`` looks
        if (address := self._entered.pop(link, None)) is not None:
            self._admission.leave(address)
        if link.handshaken and self._accept is not None:
            self._accept(link)
        elif link.timed_out:
            self._counts["refused_handshake-timeout"] += 1
        else:
            error = link.error()
            self._counts[f"refused_{'link-lost' if error is None else name_of(error)}"] += 1

    async def _take(self, link: QuicLink, accepted: Accepted) -> None:
        """One connection from outside, from the end of its handshake to its own."""
        try:
            try:
                self._authenticate(link)
            except Refused as refusal:
                self._counts[f"refused_{name_of(refusal)}"] += 1
                link.refusal = refusal
                await link.close_after(refusal_frame(refusal))
                return
            self._counts["accepted"] += 1
            await accepted(link)
        except Exception as error:  # a bug that this peer's bytes have met: it ends this connection, not the node
            self._counts["bugs"] += 1
            logger.error("bug", exc_info=error, extra={"operation": "link"})
        finally:
            if not link.closing:
                link.shut()

    # -- to others ---------------------------------------------------------------------------------------------------

    async def dial(self, to: NodeId) -> QuicLink:
        """See ``path.Path``."""
        address = self._found.pop(to, None) or self._address_of(to)
        if address is None:
            raise Unreachable("no-address", f"no address of {to} is known", outcome="not_done")
        if not self._endpoint.is_open:
            raise Unreachable("link-closed", "this node's QUIC socket is not open", outcome="not_done")
        self._counts["dials"] += 1
        try:
            with trio.fail_after(HANDSHAKE_S):
                link = await self._connect(to, *address)
        except (OSError, ValueError, OverflowError) as error:  # the latter two for what is no address at all
            raise _unreachable(to, address, getattr(error, "strerror", None) or "no connection") from error
        except trio.TooSlowError as error:
            raise Unreachable("handshake-timeout", f"{to} did not finish the handshake in time", outcome="not_done") from error
        if address != self._address_of(to):
            self.found(to, address)
        return link

    async def _connect(self, to: NodeId, host: str, port: int) -> QuicLink:
        address = await self._resolved(host, port)
        core = Core(self._client, self._endpoint.reset_token)
        link = QuicLink(core, self._endpoint, self, dialled=True, deadline=math.inf)
        self._endpoint.adopt(link, core.host_cid)
        try:
            core.connect(address, trio.current_time())
            self._endpoint.pump(link)
            await link.changed.wait()
            if not link.handshaken:
                error = link.error()
                raise error if error is not None else _unreachable(to, (host, port), "nobody listens")
            self._authenticate(link)
            if link.peer.node != to:
                raise Refused("node-mismatch", f"{link.peer.node} answered where {to} was expected")
        except BaseException as error:
            link.shut(error if isinstance(error, Refused) else None)
            raise
        return link

    async def _resolved(self, host: str, port: int) -> Address:
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no port")
        with suppress(ValueError):
            literal = ipaddress.ip_address(host)
            if literal.version == 6 and not self._endpoint.v6:
                raise OSError(errno.EAFNOSUPPORT, "this node's QUIC socket has no IPv6")
            return str(literal), port
        family = trio.socket.AF_UNSPEC if self._endpoint.v6 else trio.socket.AF_INET
        found = await trio.socket.getaddrinfo(host, port, family=family, type=trio.socket.SOCK_DGRAM)
        return str(found[0][4][0]), port

    # -- who it is ---------------------------------------------------------------------------------------------------

    def _authenticate(self, link: QuicLink) -> None:
        """Whose connection it is; raises Refused."""
        chain = link.core.chain

        def check() -> Peer:
            if not chain:
                raise Refused("no-certificate", "both sides of a link show a certificate")
            return verify_chain(list(chain), self._credentials.trust, self._wall_clock())

        link.admit(check)
        if self._proved is not None:
            self._proved(link.peer, chain[0])


def _configured(credentials: Credentials, *, client: bool) -> QuicConfiguration:
    key = Ed25519PrivateKey.from_private_bytes(credentials.key.seed())
    return configuration(x509.load_der_x509_certificate(credentials.certificate), key, ALPN, SILENT_S, client=client)


def _unreachable(to: NodeId, address: tuple[str, int], why: str) -> MeshError:
    return Unreachable("peer-unreachable", f"{to} does not answer at {address[0]}:{address[1]} ({why})", outcome="not_done")
