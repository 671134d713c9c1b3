"""A member that lies: its papers are in order, so it is let in, and says what no honest node would."""

import time
from collections.abc import Callable
from pathlib import Path

import trio

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.founding import validators
from meshos.consensus.pbft.claims import vote_domain
from meshos.consensus.pbft.codec import encode
from meshos.consensus.pbft.messages import Message, Phase, Vote
from meshos.consensus.pbft.replica import CAST
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.signing import sign
from meshos.effects import Cast
from meshos.ids import NodeId
from meshos.node import folder
from meshos.node.config import load
from meshos.node.opening import open_folder
from meshos.node.runtime.links.tls import Credentials
from tests.links.mesh import Mesh, Node
from tests.mesh.testnet import PATIENCE_S, Net

AGAIN_S = 0.2
LIVES_MS = 600_000


class Insider:
    """Has the folder of a node of the testnet that does not run, and speaks in its name."""

    def __init__(self, net: Net, org: str) -> None:
        self._net = net
        self._config = load(Path(net.node(org).dir))
        self.genesis = folder.read_genesis(self._config.genesis)
        self._validator: SigningKey = folder.open_identity(self._config).validator
        self._index = validators(self.genesis).index_of(NodeId(net.node(org).node_id))

    def vote(self, phase: Phase, view: int, height: int, hash_: bytes) -> Vote:
        """Its vote in epoch 0, rightly signed."""
        assert self._index is not None
        bare = Vote(phase, 0, view, height, hash_, self._index, bytes(64))
        return Vote(phase, 0, view, height, hash_, self._index, sign(self._validator, vote_domain(self.genesis.hash, bare), hash_))

    def transfer(self, to: str, nonce: int) -> bytes:
        """A transaction of its organisation's root key."""
        root = folder.open_root(self._config)
        expires_ms = int(time.time() * 1000) + LIVES_MS
        envelope = transaction.envelope("transfer", multikey(root.public), nonce, expires_ms, [to, 1])
        return transaction.request(envelope, sign(root, transaction.domain(self.genesis.hash), envelope))

    def say(self, *messages: Message, until: Callable[[], bool]) -> None:
        """Cast these to all others, again and again until something is so."""
        trio.run(self._say, messages, until)

    async def _say(self, messages: tuple[Message, ...], done: Callable[[], bool]) -> None:
        opened = await open_folder(self._config)
        roots = tuple(root.certificate for root in opened.trust.roots.values())
        credentials = Credentials(opened.node, opened.certificate, self.genesis.hash, opened.trust.trust, roots)
        node = Node(_Others(self._net), opened.me.org, credentials, {})
        casts = [Cast(NodeId(other.node_id), CAST, encode(said)) for other in self._net.nodes() for said in messages]
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                await node.start(nursery)
                while not await trio.to_thread.run_sync(done):
                    node.cast(*(cast for cast in casts if cast.to != node.id))
                    await trio.sleep(AGAIN_S)
                node.kill()


class _Others(Mesh):
    """Where the testnet's nodes are."""

    def __init__(self, net: Net) -> None:
        super().__init__(orgs=())
        self._links = {NodeId(node.node_id): node.link for node in net.nodes()}

    def address_of(self, node: NodeId) -> tuple[str, int] | None:
        host, _, port = self._links[node].rpartition(":")
        return host, int(port)
