"""From a TCP connection to a multiplexed one: Noise, and nothing but Noise; then Yamux, and nothing but Yamux.

libp2p's own host would also take PLAINTEXT and SECIO, and its swarm keeps a task and a place for each connection that ever came
(py-libp2p 0.8.1, ``Swarm._do_handle_inbound_connection`` waits for the swarm's end). So the steps are taken here one by one, with its Noise
and its Yamux, within the time and the bounds of this folder.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from libp2p.abc import ISecureConn
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_x25519
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from meshos.node.runtime.square import limits
from meshos.node.runtime.square.streams import Negotiable, Raw
from meshos.node.runtime.square.wire import TcpWire


@dataclass(frozen=True)
class Identity:
    """The key of a host, and the handshake that proves it. ``peer`` is its peer id, ``public`` its public key as protobuf."""

    keys: KeyPair
    noise: NoiseTransport
    peer: ID
    public: bytes


def identity(seed: bytes) -> Identity:
    """The host of the Ed25519 key with this seed. libp2p signs its handshakes itself, so it has to hold the key: where the node's key is in
    a TPM or an HSM and cannot be read, a node has no square.
    """
    private = Ed25519PrivateKey.new(seed)
    keys = KeyPair(private, private.get_public_key())
    noise = NoiseTransport(keys, new_x25519().private_key)
    return Identity(keys, noise, ID.from_pubkey(keys.public_key), keys.public_key.serialize())


class BoundedYamux(Yamux):
    """Yamux that keeps a bound on what was received and not yet read, and on streams; ``excess`` is called where a peer goes beyond it."""

    def __init__(self, conn: ISecureConn, peer: ID, *, initiator: bool, excess: Callable[[str], None]) -> None:
        super().__init__(conn, peer, is_initiator=initiator)
        self._excess = excess

    async def _read_data_body(self, length: int) -> bytes:
        waiting = sum(map(len, self.stream_buffers.values()))
        if length > limits.PIECE_BYTES or waiting + length > limits.BACKLOG_BYTES:
            self._excess("square-flood")
        return await super()._read_data_body(length)


class MeteredSession:
    """A secured connection of which each read is paid for: Yamux reads every header by itself, and every body."""

    def __init__(self, secure: ISecureConn, pay: Callable[[], Awaitable[None]]) -> None:
        self._secure, self._pay = secure, pay

    async def read(self, n: int | None = None) -> bytes:
        """See ``ISecureConn``."""
        await self._pay()
        return await self._secure.read(n)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._secure, name)


async def accept(wire: TcpWire, own: Identity, excess: Callable[[str], None]) -> BoundedYamux:
    """The other side has dialled: let it prove its key. Raises Refused, Unreachable, or what libp2p's handshake raises."""
    raw = RawConnection(wire, initiator=False)
    await Negotiable(Raw(raw)).listen(frozenset({NOISE}))
    secure = await own.noise.secure_inbound(raw)
    await Negotiable(Raw(secure)).listen(frozenset({YAMUX}))
    metered = cast(ISecureConn, MeteredSession(secure, wire.pay_frame))
    return BoundedYamux(metered, secure.get_remote_peer(), initiator=False, excess=excess)


async def dial(wire: TcpWire, own: Identity, peer: ID | None, excess: Callable[[str], None]) -> BoundedYamux:
    """This side has dialled: the other has to prove the key of ``peer``, or any (None). Raises as ``accept``."""
    raw = RawConnection(wire, initiator=True)
    await Negotiable(Raw(raw)).ask(NOISE)
    secure = await own.noise.get_pattern().handshake_outbound(raw, peer)
    await Negotiable(Raw(secure)).ask(YAMUX)
    return BoundedYamux(secure, secure.get_remote_peer(), initiator=True, excess=excess)
