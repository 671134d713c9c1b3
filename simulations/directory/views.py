"""Who sees whom alive: what membership would tell, without its messages. Each node learns of a change so much later as its lag says.

A thousand nodes with membership of their own would spend the run on it; ``mesh bench sim`` has that alone. What the directory needs of it
is that news comes late, and not to all at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from meshos.ids import NodeId


@dataclass(frozen=True)
class View:
    """The nodes that one side of the mesh held for alive at one time."""

    alive: frozenset[NodeId]

    @cached_property
    def members(self) -> tuple[NodeId, ...]:
        """In the order of their names."""
        return tuple(sorted(self.alive))


class Views:
    """What was so when, for each side of a mesh that may be cut in two, and what each node has heard of it. ``lags`` are seconds."""

    def __init__(self, nodes: frozenset[NodeId], lags: Mapping[NodeId, float]) -> None:
        self.lags = dict(lags)
        self.far: frozenset[NodeId] = frozenset()  # who is on the second side
        self._history: list[tuple[float, View, View]] = [(-1e9, View(nodes), View(nodes))]

    def changed(self, now: float, alive: frozenset[NodeId], far: frozenset[NodeId], *, apart: bool) -> None:
        """From now on these live, and those of them in ``far`` are cut off from the others where ``apart``."""
        self.far = far
        here, there = (View(alive - far), View(alive & far)) if apart else (View(alive),) * 2
        self._history.append((now, here, there))

    def of(self, node: NodeId, now: float) -> View:
        """What ``node`` has heard of by now."""
        heard = now - self.lags[node]
        for at, here, there in reversed(self._history):
            if at <= heard:
                return there if node in self.far else here
        raise AssertionError("there is a first view")
