"""Asking the square of a node: for a stranger's commands, for joining, and for tests. It dials over TCP, and believes nobody.

    async with dial(address) as square:
        description = describe.read_description(await square.ask(describe.NAME, describe.request()))

The address is a multiaddr with the peer id that has to answer (``/ip4/…/tcp/…/p2p/12D3KooW…``), or ``host:port`` where any node will do:
what it says is proven by the light client, or not believed.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from libp2p.abc import IMuxedConn
from libp2p.peer.id import ID

from meshos.cbor import Value
from meshos.crypto.keys import public_key_of
from meshos.errors import BadInput, MeshError, Refused, Unreachable
from meshos.ids import NodeId
from meshos.node.config import parse_address
from meshos.node.runtime.square import limits, upgrade
from meshos.node.runtime.square.streams import ENDED, Negotiable, Stream
from meshos.node.runtime.square.wire import TcpWire
from meshos.protocols.square import wire
from meshos.protocols.square.limits import ANSWER_BYTES

logger = logging.getLogger("meshos.square")


@dataclass(frozen=True, slots=True)
class Where:
    """Whom to dial. ``peer`` is empty where any node will do."""

    host: str
    port: int
    peer: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def where(text: str) -> Where:
    """The place that a multiaddr over TCP or ``host:port`` names; raises BadInput ``bad-square-address``."""
    if not text.startswith("/"):
        try:
            address = parse_address(text)
        except ValueError as error:
            raise _bad_address(text) from error
        return Where(address.host, address.port)
    match text.strip("/").split("/"):
        case [("ip4" | "ip6" | "dns" | "dns4" | "dns6"), host, "tcp", port, *rest] if port.isdigit() and int(port) < 65_536:
            if not rest:
                return Where(host, int(port))
            if len(rest) == 2 and rest[0] == "p2p":
                try:
                    public_key_of(NodeId(rest[1]))
                except Refused as error:
                    raise _bad_address(text) from error
                return Where(host, int(port), rest[1])
    raise _bad_address(text)


class Asking:
    """A connection to a node's square."""

    def __init__(self, muxed: IMuxedConn) -> None:
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

    Raises Unreachable ``square-unreachable``, Refused ``square-bad-handshake``.
    """
    own = upgrade.identity(seed or os.urandom(32))
    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(limits.DIAL_S) as dialling:
                muxed = await _connected(to, own, nursery)
            if dialling.cancelled_caught:
                raise _unreachable(to, "it has not answered in time")
            nursery.start_soon(muxed.start)
            try:
                yield Asking(muxed)
            finally:
                with trio.move_on_after(limits.CLOSE_S, shield=True):
                    await muxed.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # one thing went wrong, and it is what the caller wants to know
        if len(group.exceptions) == 1 and isinstance(group.exceptions[0], MeshError):
            raise group.exceptions[0] from None
        raise


async def _connected(to: Where, own: upgrade.Identity, nursery: trio.Nursery) -> upgrade.BoundedYamux:
    try:
        stream = await trio.open_tcp_stream(to.host, to.port)
    except OSError as error:
        raise _unreachable(to, error.strerror or str(error)) from error
    try:
        peer = ID.from_string(to.peer) if to.peer else None
        return await upgrade.dial(TcpWire(stream), own, peer, lambda why: nursery.cancel_scope.cancel())
    except MeshError:
        await trio.aclose_forcefully(stream)
        raise
    except Exception as error:  # whatever Noise raises at what comes back
        await trio.aclose_forcefully(stream)
        raise Refused("square-bad-handshake", f"{to} does not prove the key that it should have: {type(error).__name__}") from error


def _unreachable(to: Where, why: str) -> Unreachable:
    return Unreachable(
        "square-unreachable", f"no square at {to}: {why}", hint="`mesh run` prints where a node's square is", outcome="not_done"
    )


def _bad_address(text: str) -> BadInput:
    return BadInput(
        "bad-square-address",
        f"{text[:120]!r} is no address of a square",
        hint="write /ip4/HOST/tcp/PORT/p2p/NODE_ID, or HOST:PORT where any node will do",
    )
