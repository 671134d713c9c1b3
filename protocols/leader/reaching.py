"""Reaching an organisation: the first of its nodes that takes a request.

Any node of an organisation takes one, and passes it on to the one that leads. While they choose who leads, or a new leader still starts
its agents, they say so (``RETRIED``), and that nothing was done; then they are asked again in rounds, with growing pauses. Where one may
have done it, nobody else is asked: what is not known is told.
"""

from collections.abc import Callable, Sequence

from meshos.errors import Unreachable
from meshos.flow import Ask, Sleep
from meshos.ids import NodeId, OrgDid
from meshos.protocols.leader.limits import CHOOSING_S, FIRST_PAUSE_S, LONGEST_PAUSE_S
from meshos.protocols.rpc.limits import BODY_BYTES

RETRIED = frozenset({"not-leading", "agent-starting"})
"""What a node says that will take the request in a moment, or knows that another will."""


async def ask_any(org: OrgDid, nodes: Callable[[], Sequence[NodeId]], protocol: str, body: bytes, timeout_s: float) -> bytes:
    """The reply of the first of ``nodes`` (looked at anew in each round) that takes it, within ``timeout_s``.

    Raises what it was refused with; Unreachable of the last that was asked, where none took it.
    """
    pause_s, waited_s = FIRST_PAUSE_S, 0.0
    while True:
        last = Unreachable("no-provider", f"no node of {org} is known", hint="look at `mesh members`", outcome="not_done")
        retry = False
        for node in nodes():
            try:
                return await Ask(node, protocol, body, timeout_s - waited_s, lane="work" if len(body) <= BODY_BYTES["work"] else "bulk")
            except Unreachable as error:
                if error.outcome != "not_done":
                    raise
                retry |= error.name in RETRIED
                last = error if not retry or error.name in RETRIED else last
        if not retry or waited_s + pause_s > min(CHOOSING_S, timeout_s / 2):
            raise last
        await Sleep(pause_s)
        waited_s += pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
