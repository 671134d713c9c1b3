"""What is spoken on a stream of the square: our questions and answers, and libp2p's own identify and ping."""

from collections.abc import Callable, Sequence
from functools import partial

import trio
from libp2p.identity.identify.pb.identify_pb2 import Identify
from multiaddr import Multiaddr

from meshos.errors import MeshError, Refused
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.host import Handler, SquareHost
from meshos.node.runtime.square.places import ip
from meshos.node.runtime.square.streams import Stream
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Answering, Asker, Protocol, too_slow

IDENTIFY = "/ipfs/id/1.0.0"
PING = "/ipfs/ping/1.0.0"
PING_BYTES = 32
PING_TOKENS = 1
IDENTIFY_TOKENS = 2


def handlers(answering: Answering) -> dict[str, Handler]:
    """One for each protocol of ``answering``, and ping."""
    spoken: dict[str, Handler] = {name: partial(_questions, answering, protocol) for name, protocol in answering.protocols.items()}
    return {**spoken, PING: partial(_ping, answering)}


async def _questions(answering: Answering, protocol: Protocol, stream: Stream, asker: Asker) -> None:
    """Requests and their answers, one after another, until the other side ends or is quiet."""
    while True:
        try:
            request = await stream.frame(protocol.most, idle_s=limits.STREAM_IDLE_S, whole_s=limits.REQUEST_S)
        except Refused as refusal:
            await stream.write(wire.frame(answering.refusal(refusal)))
            return  # nobody knows where the next frame would begin
        if request is None:
            return
        await stream.write(wire.frame(await _answer(answering, protocol, asker, request)))


async def _answer(answering: Answering, protocol: Protocol, asker: Asker, request: bytes) -> bytes:
    with trio.move_on_after(protocol.timeout_s):
        return await answering.answer(protocol, asker, request, trio.current_time())
    return answering.refusal(too_slow(protocol))


async def _ping(answering: Answering, stream: Stream, asker: Asker) -> None:
    while True:
        with trio.move_on_after(limits.STREAM_IDLE_S):
            try:
                payload = await stream.exactly(PING_BYTES)
            except MeshError:
                return
            answering.budget.take(trio.current_time(), PING_TOKENS, address=asker.address, peer=asker.peer)
            await stream.write(payload)
            continue
        return


def identify(host: SquareHost, answering: Answering, agent: str, addresses: Callable[[], Sequence[str]]) -> Handler:
    """libp2p's identify: who this is, where it is, and what it speaks. It takes nothing from the other side."""

    async def handle(stream: Stream, asker: Asker) -> None:
        answering.budget.take(trio.current_time(), IDENTIFY_TOKENS, address=asker.address, peer=asker.peer)
        said = Identify(
            protocol_version="meshos/1",
            agent_version=agent,
            public_key=host.identity.public,
            listen_addrs=[_bare(address) for address in addresses()],
            observed_addr=Multiaddr(f"{ip(asker.address.partition('%')[0])}/tcp/0").to_bytes(),  # without the zone, which is ours alone
            protocols=sorted(host.handlers),
        )
        await stream.write(wire.frame(said.SerializeToString()))

    return handle


def _bare(address: str) -> bytes:
    """A multiaddr without its peer id, as bytes."""
    return bytes(Multiaddr(address.partition("/p2p/")[0]).to_bytes())
