"""Mutual TLS 1.3 on trio, by the standard library's ``ssl`` over memory buffers.

OpenSSL proves that the peer holds the key of a certificate that one of the mesh's roots signed; ``verify_chain`` decides who
it is (that the root is the one of the organisation in its name, revocation, the node id), and fails closed.
``trio.SSLStream`` is not used, as it drops the alert of a failed handshake, so that the other side never learns why.
"""

import os
import ssl
import tempfile
from dataclasses import dataclass
from typing import Final

import trio

from meshos.crypto.certificates import Trust, pem, private_key_pem
from meshos.crypto.keys import SigningKey
from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.runtime.links.carrier import Carrier, SocketCarrier
from meshos.node.runtime.links.limits import LINGER_BYTES, LINGER_S, READ_BYTES


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who this node is, and whom it believes. ``certificate`` and ``roots`` are DER; ``mesh`` is the genesis hash."""

    key: SigningKey
    certificate: bytes
    mesh: bytes
    trust: Trust
    roots: tuple[bytes, ...]


def contexts(credentials: Credentials) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """``(server, client)``: TLS 1.3 only, a certificate from both sides, no resumption (it would skip the certificate)."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.num_tickets = 0
    client.check_hostname = False  # a node is known by its key, not by a host name
    authorities = b"".join(pem(root) for root in credentials.roots).decode("ascii")
    for context in (server, client):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        if authorities:
            context.load_verify_locations(cadata=authorities)
        _load_key(context, credentials)
    return server, client


def _load_key(context: ssl.SSLContext, credentials: Credentials) -> None:
    """``ssl`` reads keys from files only: the key is written encrypted under a password that is never written."""
    password = os.urandom(32).hex().encode()
    descriptor, name = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(private_key_pem(credentials.key, password) + pem(credentials.certificate))
        context.load_cert_chain(name, password=password)
    finally:
        os.unlink(name)


class TlsStream:
    """TLS over one TCP stream, or over what else carries bytes. ``handshake`` first; then one sender and one receiver at a time."""

    def __init__(self, transport: trio.SocketStream | Carrier, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.transport = SocketCarrier(transport) if isinstance(transport, trio.SocketStream) else transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._sending = trio.Lock()
        self._closed = False  # the other side has ended the stream
        self.server_side = server_side

    async def handshake(self) -> bytes:
        """The peer's certificate in DER; raises Refused or Unreachable with a name for what went wrong."""
        while True:
            try:
                self._ssl.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise Unreachable(
                        "link-lost", "the other side closed the connection during the handshake", outcome="not_done"
                    ) from None
            except ssl.SSLError as error:
                refusal = refusal_of(error)
                await self._linger()
                raise refusal from error
        await self._flush()
        certificate = self._ssl.getpeercert(binary_form=True)
        if certificate is None:
            raise Refused("no-certificate", "the other side showed no certificate")
        return certificate

    async def send(self, data: bytes) -> None:
        """All of ``data``."""
        self._encrypt(data)
        await self._flush()

    def send_now(self, data: bytes) -> bool:
        """See ``path.Connection``."""
        try:
            self._encrypt(data)
        except MeshError:
            return False  # the reader meets the same error
        if self._sending.locked():
            return False  # the answer to a key update is on its way
        return self.transport.send_now(self._outgoing.read())

    def _encrypt(self, data: bytes) -> None:
        if data:
            try:
                written = self._ssl.write(data)
                assert written == len(data)
            except ssl.SSLError as error:
                raise refusal_of(error) from error

    async def receive(self, max_bytes: int) -> bytes:
        """Some bytes, or none at the end."""
        waited = False
        while True:
            data = self._decrypted(max_bytes)
            if data:
                if not waited:
                    await trio.lowlevel.checkpoint()  # what is already here must not starve the other tasks
                return data
            if self._closed or not await self._fill():
                return b""
            waited = True
            if self._outgoing.pending:  # the answer to a key update
                await self._flush()

    def _decrypted(self, max_bytes: int) -> bytes:
        """What of the bytes that have come can be read now; OpenSSL gives at most one record (16 KiB) at a time."""
        parts: list[bytes] = []
        left = max_bytes
        try:
            while left > 0 and (self._incoming.pending or self._ssl.pending()):
                parts.append(self._ssl.read(left))
                left -= len(parts[-1])
        except ssl.SSLWantReadError:
            return b"".join(parts)
        except ssl.SSLZeroReturnError:
            self._closed = True
        except ssl.SSLError as error:
            raise refusal_of(error) from error
        return b"".join(parts)

    async def close_after(self, last: bytes) -> None:
        """Send ``last``, let the other side read it, and close: for refusals."""
        with trio.move_on_after(LINGER_S):
            try:
                await self.send(last)
                await self._linger()
            except MeshError:
                pass  # it went away without listening, which is its right
        await self.close()

    async def close(self) -> None:
        """Close it at once."""
        await self.transport.close()

    async def _linger(self) -> None:
        """Hand over what is still to be sent, and read on for a moment: closing with unread bytes would reset the
        connection, and the reset may overtake the last words."""
        with trio.move_on_after(LINGER_S):
            try:
                await self._flush()
                await self.transport.finish()
                left = LINGER_BYTES
                while left > 0 and (data := await self.transport.receive(READ_BYTES)):
                    left -= len(data)
            except MeshError:
                return  # the other side is gone: there is nobody left to tell

    async def _flush(self) -> None:
        async with self._sending:
            await self.transport.send(self._outgoing.read())

    async def _fill(self) -> bool:
        """More bytes from the transport; False at its end."""
        data = await self.transport.receive(READ_BYTES)
        if data:
            self._incoming.write(data)
        return bool(data)


_VERIFY: Final = {9: "certificate-not-yet-valid", 10: "certificate-expired"}
_REASONS: Final = {
    "UNSUPPORTED_PROTOCOL": "tls-too-old",
    "TLSV1_ALERT_PROTOCOL_VERSION": "tls-too-old",
    "HTTP_REQUEST": "not-tls",
    "HTTPS_PROXY_REQUEST": "not-tls",
    "WRONG_VERSION_NUMBER": "not-tls",
    "PACKET_LENGTH_TOO_LONG": "not-tls",
    "UNEXPECTED_MESSAGE": "not-tls",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no-certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "no-certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "unknown-root",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate-expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "certificate-refused",
}
_DETAILS: Final = {
    "certificate-not-yet-valid": "the certificate is not valid yet",
    "certificate-expired": "the certificate has ended",
    "tls-too-old": "only TLS 1.3 is spoken here",
    "not-tls": "that was no TLS",
    "no-certificate": "both sides of a link show a certificate",
    "unknown-root": "the certificate is signed by no root of this mesh",
    "certificate-refused": "the other side did not accept this node's certificate",
    "tls-failed": "the two sides could not agree on a TLS connection",
}


def refusal_of(error: ssl.SSLError) -> MeshError:
    """The name under which an error of OpenSSL is known here."""
    if isinstance(error, ssl.SSLCertVerificationError):
        name = _VERIFY.get(error.verify_code, "unknown-root")
    elif isinstance(error, ssl.SSLEOFError):
        return Unreachable("link-lost", "the connection ended in the middle of a TLS record")
    else:
        name = _REASONS.get(error.reason or "", "tls-failed")
    detail = _DETAILS[name]
    return Refused(name, f"{detail} ({error.reason})" if name == "tls-failed" else detail)
