"""The square of a node, living: its port is open from the start, and the rest of it comes with the first stranger.

libp2p takes a second to load and some 40 MiB, and most nodes are visited seldom. So the socket is opened by us, and libp2p is loaded, in a
worker thread, when somebody has knocked; who knocked waits that long once. Nothing of this module imports it.

What goes wrong inside ends the square and not the node: it is said in the log and in ``mesh status``, and the square begins again, after a
pause that doubles.
"""

import gc
import importlib
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import trio

from meshos.buckets import block_of
from meshos.errors import first_of
from meshos.ids import NodeId
from meshos.node.runtime.square import lan, limits, places
from meshos.node.runtime.square.offer import Offer

if TYPE_CHECKING:
    from meshos.node.runtime.square.host import SquareHost

logger = logging.getLogger("meshos.square")

_HOST = "meshos.node.runtime.square.opening"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a square listens, and what it says of that: ``advertised`` is the host that others reach it at."""

    host: str
    port: int
    advertised: str
    node: NodeId

    def addresses(self, port: int) -> tuple[str, ...]:
        """Its multiaddrs, where it listens on this port."""
        return (places.tcp(self.advertised, port, self.node), places.quic(self.advertised, port, self.node))


@dataclass(slots=True)
class _Open:
    """An open square: ``host`` is there once somebody has knocked."""

    port: int
    host: "SquareHost | None" = None
    knocking: Counter[str] = field(default_factory=Counter)
    """Who waits for it, by address."""
    loading: trio.Lock = field(default_factory=trio.Lock)


class Square:
    """See the module's text. ``seed`` is the node's key, which libp2p has to hold (``upgrade.identity``)."""

    def __init__(self, place: Place, seed: bytes, offer: Offer) -> None:
        self._place, self._seed, self._offer, self._answering = place, seed, offer, offer.answering
        self._open: _Open | None = None
        self.problem = ""
        """Why there is no square now, in a sentence; empty where there is one."""
        self._restarts = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """The multiaddrs that it is at now."""
        return () if self._open is None else self._place.addresses(self._open.port)

    @property
    def configured(self) -> tuple[str, ...]:
        """The multiaddrs that it is meant to be at; none for any port."""
        return self._place.addresses(self._place.port) if self._place.port else ()

    @property
    def visitors(self) -> int:
        """Connections of strangers now."""
        host = None if self._open is None else self._open.host
        return 0 if host is None else len(host.table.connections)

    async def run(self) -> None:
        """Have a square until cancelled."""
        pause = limits.RESTART_S
        while True:
            began = trio.current_time()
            try:
                await self._live()
            except* OSError as group:
                self._ended(f"port {self._place.port} on {self._place.host} cannot be had: {first_of(group)}", pause)
            except* Exception as group:  # libp2p's, or ours: the node goes on without a square
                logger.error("square-failed", exc_info=group)
                self._ended(f"it has ended by an error: {type(first_of(group)).__name__}", pause)
            self._restarts += 1
            if trio.current_time() - began > limits.RESTART_MOST_S:
                pause = limits.RESTART_S
            await trio.sleep(pause)
            pause = min(2 * pause, limits.RESTART_MOST_S)

    def _ended(self, why: str, pause: float) -> None:
        self.problem = f"strangers cannot reach the square of this node: {why}"
        logger.warning("square-ended", extra={"err": why, "again_s": pause})

    async def _live(self) -> None:
        listeners = await trio.open_tcp_listeners(self._place.port, host=self._place.host)
        opened = _Open(listeners[0].socket.getsockname()[1])
        try:
            udp = await _udp(self._place.host, opened.port)
        except OSError:
            for listener in listeners:
                await listener.aclose()
            raise
        self._open, self.problem = opened, ""
        self._offer.opened(self.addresses)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._knock_by_quic, opened, nursery, udp)
                if lan.is_local(self._place.advertised):
                    nursery.start_soon(lan.tell, self._place.advertised, lambda: self.addresses)
                knock = partial(self._knock, opened, nursery)
                nursery.start_soon(partial(trio.serve_listeners, knock, listeners, handler_nursery=nursery))
        finally:
            self._open = None
            udp.close()

    async def _knock_by_quic(self, opened: _Open, nursery: trio.Nursery, udp: trio.socket.SocketType) -> None:
        await trio.lowlevel.wait_readable(udp)
        await (await self._loaded(opened, nursery)).serve_quic(udp)

    async def _knock(self, opened: _Open, nursery: trio.Nursery, stream: trio.SocketStream) -> None:
        host = opened.host
        if host is None:
            block = _block(stream)
            if opened.knocking[block] >= limits.HANDSHAKES_AN_ADDRESS or opened.knocking.total() >= limits.CONNECTIONS:
                await trio.aclose_forcefully(stream)
                return
            opened.knocking[block] += 1
            try:
                host = await self._loaded(opened, nursery)
            finally:
                opened.knocking[block] -= 1
        await host.accept(stream)

    async def _loaded(self, opened: _Open, nursery: trio.Nursery) -> "SquareHost":
        async with opened.loading:
            if opened.host is None:
                module = await trio.to_thread.run_sync(self._load)
                opened.host = module.open_host(self._seed, self._offer)
                nursery.start_soon(opened.host.run)
                logger.info("square-open", extra={"addresses": list(self.addresses)})
            return opened.host

    def _load(self) -> ModuleType:
        """In a worker thread: what is loaded lives for ever, so it is frozen as after the node's own start (node/process.py), once, and
        without what is garbage by then.
        """
        loaded = _HOST in sys.modules
        module = importlib.import_module(_HOST)
        if not loaded:
            gc.collect()
            gc.freeze()
        return module

    def statistics(self) -> dict[str, float]:
        """Figures for the metrics."""
        host = None if self._open is None else self._open.host
        there: dict[str, float] = {"connections": 0.0, "streams": 0.0} if host is None else host.statistics()
        return {"up": float(self._open is not None), "restarts": float(self._restarts), **there, **self._answering.statistics()}


def _block(stream: trio.SocketStream) -> str:
    try:
        return block_of(str(stream.socket.getpeername()[0]))
    except OSError:  # it is gone already
        return ""


async def _udp(host: str, port: int) -> trio.socket.SocketType:
    """A socket for QUIC at the port that TCP has."""
    udp = trio.socket.socket(trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    try:
        await udp.bind((host, port))
    except BaseException:
        udp.close()
        raise
    return udp
