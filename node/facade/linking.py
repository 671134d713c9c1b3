"""Over which paths this node is linked with others, and why the one that carries does, as the API shows it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from meshos.ids import NodeId
from meshos.node.api import shapes
from meshos.node.runtime.links.link_state import LinkState
from meshos.node.runtime.links.peer_links import BULK
from meshos.node.runtime.links.tcp import TcpPath

WHY = {
    "first": "it was the first",
    "ended": "the other one ended",
    "stalled": "the other one did not answer",
    "better": "it has been better for a while",
    "told": "the other side found the other one unanswered",
}


def paths_of(states: Sequence[LinkState], node: NodeId) -> tuple[shapes.PathView, ...]:
    """Those to ``node``, the one that carries first."""
    found = [_shown(state) for state in states if state.node == node and state.lanes != BULK]
    return tuple(sorted(found, key=lambda path: not path.carries))


def changed(paths: Sequence[shapes.PathView], name_of: Callable[[NodeId], str | None]) -> str | None:
    """What is worth a note: another path carries than the one that does where nothing is wrong."""
    carrying = next((path for path in paths if path.carries and path.path != TcpPath.name), None)
    if carrying is not None and carrying.via is not None:
        return f"linked through {name_of(carrying.via) or carrying.via}, as no direct way is known"
    return None if carrying is None else f"what is sent there goes over {carrying.path}, as {carrying.why}"


def carried(states: Sequence[LinkState]) -> Mapping[str, int]:
    """How many nodes are linked over each path."""
    return dict(Counter(state.path for state in states if state.why))


def _shown(state: LinkState) -> shapes.PathView:
    rtt_ms = None if state.rtt_s is None else 1000 * state.rtt_s
    return shapes.PathView(state.path, bool(state.why), WHY.get(state.why, ""), rtt_ms, state.loss, state.via)
