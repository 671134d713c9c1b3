"""``/meshos/describe/1``: which mesh this is, and where its ledger stands.

    request  {}                     the description
             {"genesis": offset}    a piece of the genesis file, from this byte on
    answer   {"mesh", "genesis" (hash), "testnet", "node", "org", "version", "addresses", "head": null or [header, certificate],
              "orgs": [[DID, root key, has a seat], …], "more_orgs", "peers": [multiaddr, …], "protocols"}
             {"bytes", "size"}

Nothing of a description is proven: a stranger who has the genesis hash from elsewhere fetches the genesis file, looks whether it has this
hash, and believes what the light client (``headers.py``, ``proof.py``) shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshos import cbor
from meshos.cbor import Value
from meshos.consensus.ledger.light_client import Signed
from meshos.consensus.pbft.block import certificate_fields, certificate_of, header_fields, header_of
from meshos.errors import Refused
from meshos.genesis import Genesis, parse
from meshos.genesis_content import MAX_BYTES
from meshos.protocols.square import limits, wire
from meshos.protocols.square.answering import Asker, Protocol
from meshos.protocols.square.knowledge import Known
from meshos.protocols.square.routes import ADDRESSES, PEERS_TOLD, Route

NAME = "/meshos/describe/1"
COST = 2
LEAST_PIECE_BYTES = 64 * 1024
"""Of the genesis file in one answer, where there is so much left: a node that gives less would be asked without an end."""


@dataclass(frozen=True, slots=True)
class OrgEntry:
    """An organisation, its root key (Multikey), and whether it has a seat among the validators."""

    did: str
    root: str
    seat: bool


@dataclass(frozen=True, slots=True)
class Description:
    """What a node says of its mesh and of itself."""

    mesh: str
    genesis: bytes
    testnet: bool
    node: str
    org: str
    version: str
    addresses: tuple[str, ...]
    head: Signed | None
    orgs: tuple[OrgEntry, ...]
    more_orgs: int
    protocols: tuple[str, ...]
    peers: tuple[str, ...] = ()
    """Other nodes' squares."""


def protocol(known: Known, protocols: Callable[[], Sequence[str]]) -> Protocol:
    """The protocol, for a node that knows ``known`` and speaks ``protocols``."""

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        wire.known_only(fields, "genesis")
        if "genesis" in fields:
            offset = wire.number(fields, "genesis", MAX_BYTES)
            piece = known.genesis_file[offset : offset + limits.GENESIS_PIECE_BYTES]
            return {"bytes": piece, "size": len(known.genesis_file)}
        return _description(known, protocols())

    return Protocol(NAME, COST, answer)


def _description(known: Known, protocols: Sequence[str]) -> object:
    head = known.head()
    orgs, more = _orgs(known)
    return {
        "mesh": known.genesis.mesh,
        "genesis": known.genesis.hash,
        "testnet": known.genesis.testnet,
        "node": known.me.node,
        "org": known.me.org,
        "version": known.version,
        "addresses": list(known.addresses()),
        "head": None if head is None else [header_fields(head.header), certificate_fields(head.certificate)],
        "orgs": orgs,
        "more_orgs": more,
        "peers": [f"{address}/p2p/{route.node}" for route in _others(known) for address in route.addresses],
        "protocols": sorted(protocols),
    }


def _others(known: Known) -> list[Route]:
    """Some other nodes: those nearest to this one, so that each node tells of others, and each is told of."""
    nearest = known.routes().nearest(known.me.node.encode(), PEERS_TOLD + 1)
    return [route for route in nearest if route.node != known.me.node][:PEERS_TOLD]


def _orgs(known: Known) -> tuple[list[list[object]], int]:
    """As many as are told, and how many more there are."""
    orgs = known.orgs()
    return [list(org) for org in orgs[: limits.ORGS]], max(0, len(orgs) - limits.ORGS)


# -- for who asks ------------------------------------------------------------------------------------------------------


def request() -> bytes:
    """For the description."""
    return wire.encode_request({})


def read_description(value: Value) -> Description:
    """The description that an answer holds; nothing of it is proven. Raises Refused ``square-bad-answer`` or as its header does."""
    if not isinstance(value, dict):
        raise wire.bad_answer("it describes no mesh")
    genesis, head = value.get("genesis"), value.get("head")
    names = [value.get(key) for key in ("mesh", "node", "org", "version")]
    lists = [value.get(key) for key in ("addresses", "orgs", "protocols", "peers")]
    more, testnet = value.get("more_orgs"), value.get("testnet")
    if not (isinstance(genesis, bytes) and len(genesis) == 32 and isinstance(testnet, bool) and type(more) is int and more >= 0):
        raise wire.bad_answer("it describes no mesh")
    addresses, orgs, protocols, peers = lists
    return Description(
        *(_text(names[0]), genesis, testnet, _text(names[1]), _text(names[2]), _text(names[3])),
        addresses=_texts(addresses),
        head=None if head is None else read_head(head),
        orgs=tuple(_org(row) for row in _list(orgs)),
        more_orgs=more,
        protocols=_texts(protocols),
        peers=_texts(peers),
    )


def read_head(value: Value) -> Signed:
    """A header with its certificate; raises Refused as their readers do."""
    match value:
        case [header, certificate]:
            return Signed(header_of(header), certificate_of(certificate))
    raise wire.bad_answer("its head is no header with a certificate")


class GenesisFetch:
    """Puts the pieces of a genesis file together: ask for ``request`` until ``done``, and then for the genesis of this hash."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._hash = genesis_hash
        self._data = bytearray()
        self._size: int | None = None

    @property
    def done(self) -> bool:
        """Whether all of it is here."""
        return self._size is not None and len(self._data) == self._size

    def request(self) -> bytes:
        """For the next piece."""
        return wire.encode_request({"genesis": len(self._data)})

    def take(self, value: Value) -> None:
        """The answer to it; raises Refused ``square-bad-answer`` for a file that is too large, changes its size, or hardly goes on."""
        match value:
            case {"bytes": bytes() as piece, "size": int() as size} if 0 < size <= MAX_BYTES:
                rest = size - len(self._data)
                if self._size in (None, size) and min(LEAST_PIECE_BYTES, rest) <= len(piece) <= rest:
                    self._size = size
                    self._data += piece
                    return
        raise wire.bad_answer("this is no piece of a genesis file")

    def genesis(self) -> Genesis:
        """The genesis; raises Refused ``wrong-genesis`` if it has another hash, BadInput if it is none at all."""
        genesis = parse(bytes(self._data))
        if genesis.hash != self._hash:
            what = f"the genesis file that came has the hash {genesis.hash.hex()[:16]}…, not {self._hash.hex()[:16]}…"
            raise Refused("wrong-genesis", what, hint="this node is of another mesh, or lies; ask another one")
        return genesis


def _text(value: Value) -> str:
    if isinstance(value, str) and len(value) <= 256 and value.isprintable():
        return value
    raise wire.bad_answer("a name in it is no short text")


def _list(value: Value) -> list[Value]:
    if isinstance(value, list) and len(value) <= limits.ORGS:
        return value
    raise wire.bad_answer("a list in it is none, or too long")


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _org(value: Value) -> OrgEntry:
    match value:
        case [did, root, bool() as seat]:
            return OrgEntry(_text(did), _text(root), seat)
    raise wire.bad_answer("an organisation in it is none")


assert LEAST_PIECE_BYTES <= limits.GENESIS_PIECE_BYTES
assert PEERS_TOLD * ADDRESSES <= limits.ORGS
assert len(cbor.encode(["did:mesh:enterprise:" + "x" * 63, "z6Mk" + "x" * 44, True])) <= limits.ORG_BYTES
