"""Which machines hear what comes off a link: once, for the node's links and for the simulated ones."""

from meshos.protocols.membership.events import LinkLost
from meshos.protocols.rpc.events import LinkDown

Heard = tuple[tuple[str, object], ...]


def heard(event: object) -> Heard:
    """rpc hears everything; membership, that a link is gone: a reason to probe, no evidence."""
    if type(event) is LinkDown:
        return (("rpc", event), ("membership", LinkLost(event.node)))
    return (("rpc", event),)
