"""What the membership machine hears and does.

Beside these it hears ``Tick``, ``Signed``, ``Completed``, ``FlowEnded``, and ``Perform(Propose(command))`` with the commands of
``commands.py``; and it emits ``Persist``, ``Sign``, ``Tell("rpc", Perform(Ask))`` and ``Tell("flows", StartFlow)``.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshos.errors import MeshError
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.membership.statements import NodeFacts, Statement
from meshos.values import frozen

# -- datagrams -------------------------------------------------------------------------------------------------------


@frozen
class Ping:
    """Are you there? ``updates`` are statements as they were signed."""

    sequence: int
    updates: tuple[bytes, ...] = ()


@frozen
class Ack:
    """I am (or: the one you asked me to ping is)."""

    sequence: int
    updates: tuple[bytes, ...] = ()


@frozen
class PingRequest:
    """Ping ``target`` for me, and pass its ack on under my ``sequence``."""

    sequence: int
    target: NodeId
    updates: tuple[bytes, ...] = ()


@frozen
class Nack:
    """I am here, but the one you asked me to ping has not answered me either."""

    sequence: int
    updates: tuple[bytes, ...] = ()  # always empty; there so that every message has updates


@frozen
class Gossip:
    """News, and nothing else."""

    updates: tuple[bytes, ...] = ()


Message: TypeAlias = Ping | Ack | PingRequest | Nack | Gossip


# -- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The node is up, its sockets are open: announce it and join."""


@frozen
class DatagramReceived:
    """A datagram whose box opened under ``sender``'s key.

    ``source`` is where it came from. ``verified`` are those statements of ``Membership.updates_to_verify(message)`` whose
    signature holds; updates that are not in it are ignored.
    """

    sender: NodeId
    source: str
    message: Message
    verified: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerProved:
    """A link's handshake has proved who ``peer`` is, by this ``certificate`` (DER)."""

    peer: Peer
    certificate: bytes


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link to ``node`` broke, or could not be opened. No evidence against it, but a reason to probe it now: a process that was
    killed resets its connections within milliseconds, while its turn in the round may be seconds away."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Expelled:
    """``node``'s certificate was revoked: forget the node, and take no word from it until it shows another certificate."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Pardoned:
    """The certificate that ``node`` was expelled with is not on its organisation's newest list: it counts again."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Recertified:
    """This node's own certificate (DER) is now this one."""

    certificate: bytes


@dataclass(frozen=True, slots=True)
class FactsChanged:
    """This node's own facts are now these (load, health, addresses)."""

    facts: NodeFacts


@dataclass(frozen=True, slots=True)
class Announce:
    """Spread ``body`` as this node's newest note on ``topic``."""

    topic: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """The node is about to stop: say goodbye. ``LeaveCompleted`` follows after ``Timing.leave_s``."""


# -- effects ---------------------------------------------------------------------------------------------------------


@frozen
class SendDatagram:
    """Box ``message`` for ``to`` and send it to ``address``; it may be lost."""

    to: NodeId
    address: str
    message: Message


# -- what subscribers are told ---------------------------------------------------------------------------------------

MemberState: TypeAlias = Literal["alive", "suspect", "dead", "left"]


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """Something about a member is new. ``before`` is its former state, None for a new member.

    ``routable`` is this node's own judgement: False once its own suspicion ran out, which may be earlier than ``dead``.
    """

    node: NodeId
    org: OrgDid
    state: MemberState
    before: MemberState | None
    routable: bool
    incarnation: int
    facts: NodeFacts


@dataclass(frozen=True, slots=True)
class MemberForgotten:
    """A dead or departed member's time in the list is over, or it was expelled."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class NoteReceived:
    """``node`` has announced ``body`` on ``topic``."""

    node: NodeId
    topic: str
    body: bytes


@dataclass(frozen=True, slots=True)
class SeedFailed:
    """A node that this one was told to join through could not be synced with, for a reason that was not told of it before; nobody is known
    yet."""

    node: NodeId
    error: MeshError


@dataclass(frozen=True, slots=True)
class Returned:
    """Somebody was heard again, after this node had heard nobody for so many ``seconds``: it was cut off, or moved to another network; or
    all others were.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class LeaveCompleted:
    """Others have been told that this node leaves: it may stop."""


# -- for the API -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accusation:
    """Who holds a member for suspect or dead: one voice an organisation."""

    accuser: NodeId
    org: OrgDid
    dead: bool


@frozen
class MemberView:
    """One member, as this node sees it. Times are in seconds of the machine's clock.

    ``since`` is when the state began, ``unroutable_in_s`` how long until this node's own suspicion runs out, ``rtt_s`` the last
    measured round trip.
    """

    node_id: NodeId
    name: str
    org: OrgDid
    region: str
    state: MemberState
    routable: bool
    incarnation: int
    since: float
    facts: NodeFacts
    accusations: tuple[Accusation, ...]
    unroutable_in_s: float | None
    rtt_s: float | None
    notes: tuple[tuple[str, bytes], ...]
