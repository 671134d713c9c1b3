"""What nodes say about themselves and each other, signed: the only thing that membership believes.

Five kinds. A subject signs its own ``alive`` (with its facts), ``left`` and ``note``; an accuser signs ``suspect`` and ``dead``
about another's incarnation. Statements are stored and forwarded as the bytes that were signed (``blob``), never re-encoded.
"""

from dataclasses import dataclass
from enum import IntEnum

from meshos.ids import NodeId, OrgDid


class Kind(IntEnum):
    """What a statement says. Among words against one member, the higher number weighs more."""

    ALIVE = 1
    SUSPECT = 2
    DEAD = 3
    LEFT = 4
    NOTE = 5


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself. Addresses are ``host:port``; ``api`` may be empty; ``load_permille`` is 0 when idle.

    A *leaf* cannot be dialled: it has ``anchors``, members that it keeps links to, and no addresses.
    """

    org: OrgDid
    name: str
    gossip: str
    link: str
    api: str = ""
    region: str = ""
    role: str = "node"
    version: str = ""
    load_permille: int = 0
    health: str = "healthy"
    anchors: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A decoded statement and the bytes it came from.

    ``signer`` is the subject itself or the accuser. ``revision`` counts facts within an incarnation, and notes within a topic; it
    is 0 elsewhere. ``digest`` (8 bytes) names it in a sync.
    """

    kind: Kind
    subject: NodeId
    signer: NodeId
    incarnation: int
    revision: int
    facts: NodeFacts | None
    topic: str
    body: bytes
    payload: bytes
    signature: bytes
    blob: bytes
    digest: bytes
