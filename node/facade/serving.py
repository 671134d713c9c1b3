"""Which calls this node's agents serve at the moment, and how many calls may still follow from them (docs/decisions/0004-depth.md)."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from meshos.errors import Refused
from meshos.ids import AgentId
from meshos.node.api.shapes import Caller


class Serving:
    """The depths of the calls under way, by agent."""

    def __init__(self) -> None:
        self._depths: dict[AgentId, Counter[int]] = {}

    @contextmanager
    def call(self, agent: AgentId, depth: int) -> Iterator[None]:
        """While ``agent`` serves a call that ``depth`` calls may follow."""
        depths = self._depths.setdefault(agent, Counter())
        depths[depth] += 1
        try:
            yield
        finally:
            depths[depth] -= 1
            if not depths[depth]:
                del depths[depth]
            if not depths:
                self._depths.pop(agent, None)

    def depth_after(self, caller: Caller) -> int:
        """How many calls may follow one that ``caller`` makes now; raises Refused ``too-deep`` if not even that one may be made."""
        left = caller.depth
        if caller.agent is not None:
            left = min(left, min(self._depths.get(caller.agent, (left,))))
        if left <= 0:
            raise Refused(
                "too-deep",
                f"too many calls have followed one another: {caller.name!r} may not call anybody while it serves this one",
                hint="look whether agents call each other in a circle",
            )
        return left - 1
