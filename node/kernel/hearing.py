"""Which machines hear what comes off a link: once, for the node's links and for the simulated ones."""

from meshos.consensus.org.machine import MACHINE as ORG
from meshos.consensus.raft.events import Unlinked
from meshos.protocols.membership.events import LinkLost
from meshos.protocols.rpc.events import LinkDown

Heard = tuple[tuple[str, object], ...]


def heard(event: object) -> Heard:
    """rpc hears everything; membership, that a link is gone: a reason to probe, no evidence. The organisation's group hears it too: where
    it was the leader's, its nodes ask each other at once whether they miss it.
    """
    if type(event) is LinkDown:
        return (("rpc", event), ("membership", LinkLost(event.node)), (ORG, Unlinked(event.node)))
    return (("rpc", event),)
