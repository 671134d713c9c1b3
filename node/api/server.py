"""The API on a socket: hypercorn inside the node's nursery, with bounds on clients that are slow or say nothing.

Theory of operation. Hypercorn shields its writes from cancellation, so a client that stops reading could hold a
connection for ever; TCP_USER_TIMEOUT on the listening socket (inherited by what it accepts) makes the kernel reset it
after STALLED_S. A connection that is open without a request, or dribbles its headers, ends after IDLE_S; a body has
its own time in the gate. HTTP/1.1 and HTTP/2 (by ALPN over TLS, by prior knowledge on loopback) share one port.

What speaks HTTP is hypercorn's own connection (connection.py); listening and leaving are done here, as hypercorn's ``serve`` has
no bound on connections, and this node needs none of its processes and lifespans.
"""

import ipaddress
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework

from meshos.errors import BadInput, Refused
from meshos.node.api import limits
from meshos.node.api.connection import Connections, Stream
from meshos.node.api.gate import Application, Settings
from meshos.node.api.keys import KeyRing

SAVE_S = 1.0
"""How often spent budgets are written down: a crash forgets at most this much spending."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen. ``port`` 0 takes any. ``certificate`` and ``key`` are PEM files; without them only loopback is allowed."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None


def is_loopback(host: str) -> bool:
    """Whether ``host`` can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def settings(listen: Listen) -> Settings:
    """What the gate expects of requests that come here: loopback's own names, or any where TLS proves the name."""
    return Settings() if is_loopback(listen.host) else Settings(hosts=None)


def open_socket(listen: Listen) -> socket.socket:
    """The bound socket; raises BadInput ``plain-api`` or ``bad-address``, Refused ``port-taken``."""
    if listen.certificate is None and not is_loopback(listen.host):
        raise BadInput(
            "plain-api",
            f"the API would be open to others on {listen.host} without TLS",
            hint="give it a certificate, or listen on 127.0.0.1",
        )
    host = "127.0.0.1" if listen.host == "localhost" else listen.host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.STALLED_S * 1000))
        sock.bind((host, listen.port))
    except OSError as error:
        sock.close()
        if isinstance(error, socket.gaierror):
            raise BadInput("bad-address", f"{listen.host!r} is no address of this machine") from error
        detail = f"port {listen.port} on {listen.host} cannot be had: {os.strerror(error.errno or 0)}"
        raise Refused("port-taken", detail, hint="end what uses it, or choose another") from error
    return sock


async def serve(
    app: Application,
    listen: Listen,
    *,
    shutdown_trigger: Callable[[], Awaitable[None]] | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``shutdown_trigger`` returns (or this is cancelled); starts with the API's URL."""
    sock = open_socket(listen)
    config = _config(listen)
    sock.listen(config.backlog)
    host, port = sock.getsockname()[:2]
    scheme = "http" if listen.certificate is None else "https"
    context = WorkerContext(None)
    connections = Connections(ASGIWrapper(cast(ASGIFramework, app)), config, context, most=_room())
    async with trio.open_nursery() as open_ones:
        async with trio.open_nursery() as accepting:
            listeners = [_listener(sock, config)]
            accepting.start_soon(partial(trio.serve_listeners, connections.take, listeners, handler_nursery=open_ones))
            task_status.started(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
            await (shutdown_trigger or trio.sleep_forever)()
            accepting.cancel_scope.cancel()
        await context.terminated.set()  # idle connections end now, others when they have answered
        open_ones.cancel_scope.deadline = trio.current_time() + config.graceful_timeout


def _room() -> int:
    """How many connections this process has file descriptors for."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limits.CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(limits.CONNECTIONS, descriptors // limits.DESCRIPTORS_SHARE)


def _listener(sock: socket.socket, config: Config) -> trio.abc.Listener[Stream]:
    plain = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    tls = config.create_ssl_context()
    return cast(trio.abc.Listener[Stream], plain) if tls is None else trio.SSLListener(plain, tls, https_compatible=True)


async def keep_keys(ring: KeyRing, path: Path) -> None:
    """Write the ring down whenever a budget was spent from, at most every SAVE_S, and once more at the end."""
    written = _spent(ring)
    try:
        while True:
            await trio.sleep(SAVE_S)
            now = _spent(ring)
            if now != written:
                await trio.to_thread.run_sync(ring.save, path)
                written = now
    finally:
        if _spent(ring) != written:
            ring.save(path)


def _spent(ring: KeyRing) -> int:
    return sum(key.spent_micro for key in ring.all_keys() if key.kept)


def _config(listen: Listen) -> Config:
    config = Config()
    quiet = logging.getLogger("meshos.api.http")
    quiet.setLevel(logging.WARNING)
    config.errorlog = quiet
    config.accesslog = None
    config.certfile = str(listen.certificate) if listen.certificate else None
    config.keyfile = str(listen.key) if listen.key else None
    config.h11_max_incomplete_size = limits.HEADER_BYTES
    config.h2_max_header_list_size = limits.HEADER_BYTES
    config.h2_max_concurrent_streams = limits.STREAMS_PER_CONNECTION
    config.keep_alive_timeout = limits.IDLE_S
    config.keep_alive_max_requests = 1_000_000
    config.ssl_handshake_timeout = limits.BODY_S
    config.graceful_timeout = 3.0
    config.include_server_header = False
    return config
