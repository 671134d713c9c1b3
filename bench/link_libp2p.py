"""The same echo over py-libp2p, on a long-lived stream: what links are not built on, and what the public square costs."""

from collections.abc import Awaitable, Callable

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_key
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from multiaddr import Multiaddr

ECHO = TProtocol("/bench/echo/1")
READ = 65_536


async def echoes(kind: str, body: bytes, nursery: trio.Nursery) -> Callable[[], Awaitable[object]]:
    """A call that sends ``body`` and waits for it, between two hosts over ``kind``: ``tcp`` (Noise, Yamux) or ``quic``."""
    where = Multiaddr("/ip4/127.0.0.1/tcp/0" if kind == "tcp" else "/ip4/127.0.0.1/udp/0/quic-v1")
    here, there = _host(kind), _host(kind)

    async def serve(stream: INetStream) -> None:
        while data := await stream.read(READ):
            await stream.write(data)

    async def live(host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        async with host.run(listen_addrs=[where]):
            task_status.started()
            await trio.sleep_forever()

    there.set_stream_handler(ECHO, serve)
    for host in (here, there):
        await nursery.start(live, host)
    await here.connect(info_from_p2p_addr(there.get_addrs()[0]))
    stream = await here.new_stream(there.get_id(), [ECHO])

    async def call() -> None:
        await stream.write(body)
        left = len(body)
        while left:
            left -= len(await stream.read(left))

    return call


def _host(kind: str) -> IHost:
    key = create_new_key_pair()
    return new_host(key_pair=key, sec_opt={PROTOCOL_ID: Transport(key, new_noise_key().private_key)}, enable_quic=kind == "quic")
