"""Where a node connects on somebody else's behalf: public addresses, and those that its owner allows.

Checked when a connection is made, on the very address that is connected to, so that a name cannot resolve to one address
for the check and to another for the connection (DNS rebinding). No proxy of the environment is used.
"""

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import httpcore
import trio

from meshos.errors import BadInput, Refused

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_ADDRESSES = 16
"""Of one name; the first that connects is used."""
_NEVER = tuple(map(ipaddress.ip_network, ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "64:ff9b:1::/48")))
"""Special-purpose networks (RFC 6890) of which some versions of ``ipaddress`` let parts pass as global."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """``allow``: networks beyond the public ones (`egress.allow`). A testnet allows ``LOOPBACK``."""

    allow: tuple[Network, ...] = ()

    @classmethod
    def of(cls, allow: Iterable[str]) -> "EgressPolicy":
        """From the texts of a config; raises BadInput ``bad-value`` for one that is no network."""
        networks: list[Network] = []
        for text in allow:
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise BadInput("bad-value", f"egress.allow: {text[:60]!r} is no network", hint="as in 10.0.0.0/8") from error
        return cls(tuple(networks))

    def permits(self, address: Address) -> bool:
        """Whether a connection to ``address`` may be made."""
        plain = _unwrapped(address)
        if any(plain in network for network in self.allow if network.version == plain.version):
            return True
        if any(plain in network for network in _NEVER if network.version == plain.version):
            return False
        return plain.is_global and not plain.is_multicast and not plain.is_reserved


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address only wraps (mapped, NAT64, 6to4), since that is where a packet ends."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return inner
    return address


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's network, behind a policy: resolve, check every address, connect to one of those checked.

    TLS still verifies the name of the URL. Raises Refused ``egress-refused``.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._resolve(host, port):
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise Refused("egress-refused", "an address elsewhere is no socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await trio.sleep(seconds)

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            found = await trio.socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} is not known") from error
        addresses = list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))[:MAX_ADDRESSES]
        for address in addresses:
            if not self._policy.permits(address):
                what = f"{host[:100]} is {address}, an address that this node does not connect to for others"
                raise Refused("egress-refused", what, hint="its owner may allow it: egress.allow")
        return addresses


def guarded_pool(policy: EgressPolicy, max_connections: int) -> httpcore.AsyncConnectionPool:
    """Connections that obey ``policy``; HTTP/1.1, TLS by the machine's trust store."""
    return httpcore.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(),
        max_connections=max_connections,
        max_keepalive_connections=8,
        keepalive_expiry=60,
        network_backend=GuardedBackend(policy),
    )
