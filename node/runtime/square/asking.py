"""Asking the square of a node: for a stranger's commands, for joining, and for tests. It dials over TCP or QUIC, and believes nobody.

    async with dial(address) as square:
        description = describe.read_description(await square.ask(describe.NAME, describe.request()))

The address is a multiaddr with the peer id that has to answer (``/ip4/…/tcp/…/p2p/12D3KooW…``), or ``host:port`` where any node will do:
what it says is proven by the light client, or not believed.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from libp2p.peer.id import ID

from meshos.cbor import Value
from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.runtime.square import limits, upgrade
from meshos.node.runtime.square.places import Where as Where
from meshos.node.runtime.square.places import where as where
from meshos.node.runtime.square.quic_core import Core, configuration
from meshos.node.runtime.square.quic_endpoint import Endpoint
from meshos.node.runtime.square.quic_muxed import QuicMuxed
from meshos.node.runtime.square.streams import ENDED, Negotiable, Stream
from meshos.node.runtime.square.wire import TcpWire
from meshos.protocols.square import wire
from meshos.protocols.square.limits import ANSWER_BYTES

logger = logging.getLogger("meshos.square")

NO_SQUARE = "is it a square? `mesh status` at a node says where that one's is"


class Asking:
    """A connection to a node's square."""

    def __init__(self, muxed: upgrade.BoundedYamux | QuicMuxed) -> None:
        self._muxed = muxed
        self._streams: dict[str, Stream] = {}
        self._opening = trio.Semaphore(limits.STREAMS)

    @property
    def peer(self) -> str:
        """The node id that the handshake has proven."""
        return str(self._muxed.peer_id)

    async def ask(self, protocol: str, request: bytes, *, timeout_s: float = limits.ASK_S) -> Value:
        """The answer to one request; raises what the node refused with, Refused ``square-bad-answer``, Unreachable ``square-unreachable``.

        Requests of one protocol share a stream, one after another; the caller does not ask two at once.
        """
        try:
            with trio.fail_after(timeout_s):
                stream = self._streams.pop(protocol, None) or await self.open(protocol)
                await stream.write(wire.frame(request))
                data = await stream.frame(ANSWER_BYTES, idle_s=timeout_s, whole_s=timeout_s)
        except trio.TooSlowError as error:
            raise Unreachable("square-unreachable", f"the node has not answered within {timeout_s:g} s", hint="ask another node") from error
        if data is None:
            raise Unreachable("square-unreachable", "the node has ended the stream instead of answering", hint="ask another node")
        self._streams[protocol] = stream
        return wire.decode_answer(data)

    async def open(self, protocol: str) -> Stream:
        """A stream on which ``protocol`` is spoken; raises Refused ``square-unknown-protocol``, Unreachable."""
        async with self._opening:
            try:
                with trio.fail_after(limits.NEGOTIATE_S):
                    stream = Stream(await self._muxed.open_stream())
                    await Negotiable(stream).ask(protocol)
            except (*ENDED, trio.TooSlowError) as error:
                raise Unreachable("square-unreachable", "the node does not take a stream", hint="ask another node") from error
        return stream


@asynccontextmanager
async def dial(to: Where, seed: bytes | None = None) -> AsyncIterator[Asking]:
    """A connection to the square at ``to``, closed at the end; ``seed`` is the asker's own key, a new one for a stranger.

    Raises Unreachable ``square-unreachable``, Refused ``square-bad-handshake``, ``square-flood`` where a node sends what was not asked for.
    """
    own = upgrade.identity(seed or os.urandom(32))
    flooded, failed = False, False

    def excess(why: str) -> None:
        nonlocal flooded
        flooded = True
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(limits.DIAL_S) as dialling:
                muxed = await (_connected_by_quic if to.quic else _connected)(to, own, nursery, excess)
            if dialling.cancelled_caught:
                raise _unreachable(to, "it has not answered in time")
            try:
                yield Asking(muxed)
            except MeshError:
                failed = True
                raise
            finally:
                with trio.move_on_after(limits.CLOSE_S, shield=True):
                    await muxed.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        cancelled, errors = group.split(trio.Cancelled)
        if errors is None or errors.split(MeshError)[1] is not None:
            raise
        if cancelled is not None and not failed:  # what went wrong while it was called off is nobody's business
            raise cancelled from None
        if len(errors.exceptions) == 1:  # one thing went wrong, and it is what the caller wants to know
            raise errors.exceptions[0] from None
        raise
    if flooded:  # the body was cut off: it must not look as if it had come to its end
        raise Refused("square-flood", f"{to} has sent more than was asked for", hint="ask another node of the mesh")


async def _connected_by_quic(to: Where, own: upgrade.Identity, nursery: trio.Nursery, excess: Callable[[str], None]) -> QuicMuxed:
    try:
        family, _, _, _, address = (await trio.socket.getaddrinfo(to.host, to.port, type=trio.socket.SOCK_DGRAM))[0]
        udp = trio.socket.socket(family, trio.socket.SOCK_DGRAM)
        await udp.bind(("::" if family == trio.socket.AF_INET6 else "0.0.0.0", 0))
    except (OSError, UnicodeError) as error:  # the latter of a name that can be none
        raise _unreachable(to, getattr(error, "strerror", None) or str(error)) from error
    endpoint = Endpoint(udp, lambda _: None, metered=False)
    core = Core(configuration(own.keys, client=True))
    muxed = QuicMuxed(core, endpoint, excess)
    core.connect((str(address[0]), int(address[1])), trio.current_time())
    endpoint.add(muxed)
    nursery.start_soon(_run_endpoint, endpoint)
    nursery.start_soon(muxed.start)
    muxed.send()
    while not (muxed.handshaken.is_set() or muxed.closed.is_set()):
        await muxed.progress.wait()
    if muxed.closed.is_set():
        raise Refused("square-bad-handshake", f"{to} has ended the handshake", hint=NO_SQUARE)
    peer = muxed.prove()
    if to.peer and str(peer) != to.peer:
        raise Refused("square-bad-handshake", f"{to} proves to be {peer}, and should be {to.peer}")
    return muxed


async def _run_endpoint(endpoint: Endpoint) -> None:
    try:
        await endpoint.run()
    finally:
        endpoint.socket.close()


async def _connected(to: Where, own: upgrade.Identity, nursery: trio.Nursery, excess: Callable[[str], None]) -> upgrade.BoundedYamux:
    try:
        stream = await trio.open_tcp_stream(to.host, to.port)
    except (OSError, UnicodeError) as error:  # the latter of a name that can be none
        raise _unreachable(to, getattr(error, "strerror", None) or str(error)) from error
    try:
        peer = ID.from_string(to.peer) if to.peer else None
        muxed = await upgrade.dial(TcpWire(stream), own, peer, excess)
        nursery.start_soon(muxed.start)
        return muxed
    except trio.Cancelled:
        await trio.aclose_forcefully(stream)
        raise
    except MeshError as error:
        await trio.aclose_forcefully(stream)
        raise type(error)(error.name, f"{to}: {error.detail}", hint=error.hint or NO_SQUARE, outcome=error.outcome) from error
    except Exception as error:  # whatever Noise raises at what comes back
        await trio.aclose_forcefully(stream)
        what = f"{to} does not prove the key that it should have: {type(error).__name__}"
        raise Refused("square-bad-handshake", what, hint=NO_SQUARE) from error


def _unreachable(to: Where, why: str) -> Unreachable:
    return Unreachable(
        "square-unreachable", f"no square at {to}: {why}", hint="`mesh run` prints where a node's square is", outcome="not_done"
    )
