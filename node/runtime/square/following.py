"""A light client over the square: from the hash of a genesis alone to what the ledger says, proven, believing no node.

    async with dial(address) as square:
        client = await Follower.begin(square, genesis_hash)
        proven = await client.prove(b"account/did:mesh:enterprise:alpha")

Used by a stranger's commands and by ``mesh join``.
"""

from collections.abc import Mapping

import trio

from meshos.cbor import Value
from meshos.consensus.ledger import light_client
from meshos.consensus.ledger.light_client import Proven, Signed, Trusted
from meshos.crypto.signing import Ed25519Verifier, Verifier
from meshos.errors import MeshError, Refused
from meshos.genesis import Genesis
from meshos.node.runtime.square.asking import Asking
from meshos.protocols.square import describe, headers, proof, resolve, search
from meshos.protocols.square.describe import Description, GenesisFetch
from meshos.protocols.square.search import SearchAnswer

PATIENCE = {"square-rate": 30, "square-stream-ended": 2}
PAUSE_S = 1.0
"""How often, and after which pause, it is asked again: where this is more than a stranger may ask at once, and where there were not even
tokens left for another stream, which is reset then.
"""
MAX_PAGES = 4_096
"""Of headers that one node may give: 65,000 changes of the validators, each checked before the next page is asked for."""


class Follower:
    """See the module's text. ``trusted`` is what is known for certain, ``head`` the newest header that was checked."""

    def __init__(self, square: Asking, genesis: Genesis, verifier: Verifier) -> None:
        self.square, self.genesis = square, genesis
        self.trusted: Trusted = light_client.begin(genesis)
        self.head: Signed | None = None
        self._verifier = verifier

    @classmethod
    async def begin(cls, square: Asking, genesis_hash: bytes, verifier: Verifier | None = None) -> "Follower":
        """Fetch the genesis with this hash, and follow the validators to the end.

        Raises Refused ``wrong-genesis``, ``square-bad-answer``, what the light client raises, and as ``Asking.ask``.
        """
        fetch = GenesisFetch(genesis_hash)
        while not fetch.done:
            fetch.take(await _asked(square, describe.NAME, fetch.request()))
        client = cls(square, fetch.genesis(), verifier or Ed25519Verifier())
        await client.follow()
        return client

    async def follow(self) -> None:
        """Go on to the newest header that the node has; raises as ``begin``."""
        for _ in range(MAX_PAGES):
            page = headers.read_page(await _asked(self.square, headers.NAME, headers.request(self.trusted.validators.epoch)))
            self.trusted, head = headers.follow(self.trusted, page, self._verifier)
            if head is not None and (self.head is None or head.header.height >= self.head.header.height):
                self.head = head
            if not page.more:
                return
        raise Refused("square-bad-answer", "the node gives headers without an end", hint="ask another node of the mesh")

    async def prove(self, key: bytes) -> Proven:
        """What the ledger says of ``key`` now; raises as ``begin``, and Refused ``bad-proof``, ``proof-not-yet``."""
        epoch = self.trusted.validators.epoch
        bundle = proof.read_bundle(await _asked(self.square, proof.NAME, proof.request(key, epoch)), key)
        if bundle.genesis_hash != self.genesis.hash:
            raise Refused("wrong-genesis", "the proof that came is about another mesh")
        after = light_client.follow(self.trusted, bundle.steps, self._verifier)
        return light_client.prove_to(after, bundle, self._verifier)

    async def resolve(self, did: str) -> tuple[Mapping[str, object], Proven]:
        """The DID document of an organisation, made of what is proven; raises as ``prove``, Refused ``no-such-did``."""
        epoch = self.trusted.validators.epoch
        resolved = resolve.read_resolved(await _asked(self.square, resolve.NAME, resolve.request(did, epoch)), did)
        return resolve.prove(self.trusted, did, resolved, self._verifier)


async def _asked(square: Asking, protocol: str, request: bytes) -> Value:
    """As ``Asking.ask``, with patience: a large genesis, or many changes of the validators, are more than is told at once."""
    left = dict(PATIENCE)
    while True:
        try:
            return await square.ask(protocol, request)
        except MeshError as error:
            if not left.get(error.name):
                raise
            left[error.name] -= 1
            await trio.sleep(PAUSE_S)


async def describe_mesh(square: Asking) -> Description:
    """What the node says of its mesh; nothing of it is proven. Raises as ``Asking.ask``."""
    return describe.read_description(await square.ask(describe.NAME, describe.request()))


async def search_agents(square: Asking, query: str, limit: int, genesis_hash: bytes) -> SearchAnswer:
    """What the node has found, signed by it; raises as ``Asking.ask``, Refused ``bad-signature`` or ``wrong-genesis``."""
    value = await square.ask(search.NAME, search.request(query, limit))
    return search.read_answer(value, query=query, node=square.peer, genesis_hash=genesis_hash, verifier=Ed25519Verifier())
