"""What a timeline shows of a node beside its messages: single moments, and states that last until the next of the same name.

A scenario gives a function ``marks(node, machine, event, effects)`` that looks at each step, as a checker does, and says what is worth
seeing: ``State("role", "leader")``, ``State("view", "7")``, ``Mark("commits 12")``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from meshos.simulations.world import SimNode


@dataclass(frozen=True, slots=True)
class Mark:
    """Something happened on a node at this moment. ``kind`` is the word that it is filtered by."""

    text: str
    kind: str = "mark"


@dataclass(frozen=True, slots=True)
class State:
    """From now on ``name`` of this node is ``value``; an empty one is not shown."""

    name: str
    value: str


Marks: TypeAlias = Iterable[Mark | State]
Watched: TypeAlias = "Callable[[SimNode, str, object, list[object]], Marks]"


def unmarked(node: "SimNode", machine: str, event: object, effects: list[object]) -> Marks:
    """Nothing to see."""
    return ()
