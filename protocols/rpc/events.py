"""What the rpc machine hears and does: messages on links, and requests for services.

Calls come in as ``meshos.flow_machine.Perform`` of an ``Ask``; their replies go back as ``Completed``. A ``meshos.effects.Cast``
comes in as it is; what a peer has cast goes on as ``Heard``.
"""

from typing import TypeAlias

from meshos.effects import Outcome
from meshos.flow import Lane
from meshos.ids import NodeId, Peer
from meshos.values import frozen


@frozen
class Request:
    """One try of a request. ``id`` is the same for each try; ``ttl_ms`` is the time left when it was sent.

    The id is 8 random bytes of the asking process and a count of its requests. ``floor`` is the count of the oldest request
    to this peer that still waits: older ones never come again, and their replies need not be kept (as in RIFL, Lee et
    al., SOSP 2015, section 3.3).
    """

    id: bytes
    protocol: str
    body: bytes
    ttl_ms: int
    trace: str = ""
    floor: int = 0


@frozen
class Reply:
    """The recorded answer to the request ``id``: bytes, or an error of the tree.

    With ``final`` False it is no answer of the service: the request was not taken in, or its recorded reply could not be
    sent; the asker may send the same id again.
    """

    id: bytes
    outcome: Outcome[bytes]
    final: bool = True


@frozen
class Cancel:
    """The asker does not wait for ``id`` any more: it has given up, or has its (large) reply."""

    id: bytes


@frozen
class Notice:
    """A ``Cast`` on its way: nobody answers it, and nobody remembers it."""

    protocol: str
    body: bytes


Message: TypeAlias = Request | Reply | Cancel | Notice


# -- events ----------------------------------------------------------------------------------------------------------


@frozen
class LinkUp:
    """There is an authenticated link to ``peer``."""

    peer: Peer


@frozen
class LinkDown:
    """There is no link to ``node`` any more, or it could not be opened; ``reason`` is a name of the catalogue.

    ``refused`` says that one of the two looked at the other and said no (certificate, genesis): trying again is no use.
    """

    node: NodeId
    reason: str
    detail: str = ""
    refused: bool = False


@frozen
class MessageReceived:
    """A whole, size-bounded, decoded message of an authenticated peer, and the lane it came on."""

    peer: Peer
    message: Message
    lane: Lane = "work"


@frozen
class NotSent:
    """``message`` surely did not reach ``to`` as a whole: its lane was full, or the link ended before its last byte was written."""

    to: NodeId
    message: Message
    reason: str


@frozen
class Rerouted:
    """What goes to ``node`` takes another path from now on, as one has failed: what was on its way over that, in either direction, may be
    lost. ``unsent`` are the ids of requests that surely were not sent over it as a whole."""

    node: NodeId
    unsent: tuple[bytes, ...] = ()


# -- effects ---------------------------------------------------------------------------------------------------------


@frozen
class OpenLink:
    """A link to ``to`` is wanted; ``LinkUp`` or ``LinkDown`` follows."""

    to: NodeId


@frozen
class SendMessage:
    """Put ``message`` on the link to ``to``; ``NotSent`` follows if that is impossible."""

    to: NodeId
    lane: Lane
    message: Message


# -- what a service is given -----------------------------------------------------------------------------------------


@frozen
class Inbound:
    """A request as a service sees it: who asks (proved), what, and how long the asker waits."""

    peer: Peer
    protocol: str
    body: bytes
    deadline: float
    trace: str = ""
