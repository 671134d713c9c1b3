"""What the relay machine hears and does, beside casts. A *leg* is a connection of one member to the relay, numbered by whoever has it."""

from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.relay.wire import Address
from meshos.values import frozen

MACHINE = "relay"


# -- asked by the node that dials --------------------------------------------------------------------------------------


@frozen
class Seek:
    """A command: find among ``candidates`` one that relays to the node ``to``. Gives ``Grant``; raises Unreachable ``no-relay``."""

    to: NodeId
    candidates: tuple[NodeId, ...]


@frozen
class Grant:
    """``relay`` will: go there with ``token`` now."""

    relay: NodeId
    token: bytes


# -- at the node that is called ----------------------------------------------------------------------------------------


@frozen
class Answer:
    """An effect: go to ``relay`` with ``token``, as ``caller`` waits there; ``Answered`` follows."""

    relay: NodeId
    token: bytes
    caller: NodeId


@frozen
class Answered:
    """An event: it has come to a connection, or (``well`` false) to nothing."""

    token: bytes
    well: bool


# -- a direct way between two that are relayed --------------------------------------------------------------------------


@frozen
class Relayed:
    """An event: the link to ``node`` goes through ``via`` from now on; ``dialled`` says that this side opened it."""

    node: NodeId
    via: NodeId
    dialled: bool


@frozen
class Unrelayed:
    """An event: no more."""

    node: NodeId


@frozen
class ShowUp:
    """An effect: open a QUIC connection to ``relay``, show ``token``, and have it see where it comes from."""

    relay: NodeId
    token: bytes


@frozen
class Punch:
    """An effect: send small datagrams with ``theirs`` to ``address``, and take those with ``mine`` for ``node``'s; ``dials`` says that this
    side opens a connection to where they come from."""

    node: NodeId
    address: Address
    mine: bytes
    theirs: bytes
    dials: bool


# -- at the relay ------------------------------------------------------------------------------------------------------


@frozen
class Came:
    """An event: ``peer`` (proved) has opened a leg and shows ``token``."""

    leg: int
    peer: Peer
    token: bytes
    source: Address | None = None
    """Where its datagrams come from, if it came over UDP."""


@frozen
class Carried:
    """An event: the leg has brought something lately."""

    leg: int


@frozen
class Gone:
    """An event: the leg has ended."""

    leg: int


@frozen
class Join:
    """An effect: from now on what one of the legs brings goes out on the other; it counts for ``org``."""

    first: int
    second: int
    org: OrgDid


@frozen
class EndLeg:
    """An effect: close the leg, and say why (a name of ``wire.REASONS``) if it was not joined yet."""

    leg: int
    reason: str
