"""From an opened datagram to an event: the one place where strangers are dropped and signatures are checked.

Both drivers come through here: the socket of a node after it opened a box, the simulated network instead of one.
"""

from collections.abc import Callable

from meshos.crypto.signing import Verifier
from meshos.ids import NodeId
from meshos.protocols.membership.events import DatagramReceived, Message
from meshos.protocols.membership.machine import Membership
from meshos.protocols.membership.sync import claim


def admit(
    membership: Membership,
    verifier: Verifier,
    sender: NodeId,
    source: str,
    message: Message,
    may_check: Callable[[int], bool] = lambda count: True,
) -> DatagramReceived | None:
    """The event for ``membership``, or None if ``sender``'s certificate was never checked here.

    Only what may be news costs a signature check (a datagram has few of them), and only what holds gets in. Raises Refused
    ``bad-statement`` where an update is no statement at all. ``may_check`` is asked before so many signatures are checked; if it says no,
    the message counts (that its sender lives is proved) and its news do not.
    """
    if not membership.admitted(sender):
        return None
    if not message.updates:
        return DatagramReceived(sender, source, message)
    statements = membership.updates_to_verify(message)
    if not statements or not may_check(len(statements)):
        return DatagramReceived(sender, source, message)
    holds = verifier.verify_many([claim(membership.domain, said) for said in statements])
    verified = tuple(said for said, good in zip(statements, holds, strict=True) if good)
    return DatagramReceived(sender, source, message, verified)
