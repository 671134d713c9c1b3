"""Connections on somebody else's behalf, held to a policy (egress_policy.py).

Checked when a connection is made, on the very address that is connected to, so that a name cannot resolve to one address
for the check and to another for the connection (DNS rebinding). No proxy of the environment is used.
"""

import ipaddress
import socket
import ssl
from collections.abc import Iterable

import httpcore
import trio

from meshos.adapters.onprem.egress_policy import Address, EgressPolicy
from meshos.errors import Refused

MAX_ADDRESSES = 16
"""Of one name; the first that connects is used."""


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
            if not self._policy.permits(address, host, port):
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
