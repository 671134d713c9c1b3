"""A history that is not linearizable, as text: a lane for each client, from left to right in the order of time.

register: no order explains these 3 operations
  a  |write(1)|
  b            |write(2)|
  c                      |read() -> 1|     x does not fit
before it: write(1), write(2) leave 2
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

from meshos.simulations.linearizability import UNKNOWN, Conflict, Model, Operation

S = TypeVar("S", bound=Hashable)

SHOWN = 6
"""Of the operations that explain what came before, only the last ones."""
STATE_CHARS = 200
LANED = 20
"""More operations than these are written one a line."""


def explain(conflict: Conflict, model: Model[S]) -> str:
    """The smallest contradiction that was found, and how far one gets without it."""
    lines = [f"{model.name}: no order explains these {len(conflict.core)} operations"]
    lines += ["  " + lane for lane in _lanes(conflict, model)]
    unknown = [operation for operation in conflict.pending if operation.returned is None]
    if unknown:
        lines.append("of unknown outcome: " + ", ".join(f"{_named(o.process)}: {_shown(o, model)}" for o in unknown[:SHOWN]))
    for reached in conflict.reached:
        order = ", ".join(_shown(operation, model) for operation in reached.order[-SHOWN:])
        dots = "…, " if len(reached.order) > SHOWN else ""
        lines.append(f"before it: {dots}{order or 'nothing'} leave {repr(reached.state)[:STATE_CHARS]}")
    return "\n".join(lines)


def _lanes(conflict: Conflict, model: Model[S]) -> list[str]:
    """Each operation as ``|text|`` from its call to its return; moments are as far apart as the texts between them need."""
    core = sorted(conflict.core, key=lambda operation: operation.invoked)
    if len(core) > LANED:
        return [_named(o.process) + "  " + _shown(o, model) + ("  x does not fit" if o == conflict.failing else "") for o in core]
    column = _columns(core, model)
    names = list(dict.fromkeys(_named(operation.process) for operation in core))
    width = max(map(len, names))
    lanes = []
    for name in names:
        lane = ""
        for operation in core:
            if _named(operation.process) == name:
                text = _shown(operation, model)
                assert operation.returned is not None
                start, end = column[operation.invoked, 0], column[operation.returned, 1]
                lane = lane.ljust(start) + "|" + text.center(end - start - 1, "-") + "|"
                lane += " x does not fit" if operation == conflict.failing else ""
        lanes.append(f"{name:<{width}}  {lane}")
    return lanes


def _columns(core: Sequence[Operation], model: Model[S]) -> dict[tuple[float, int], int]:
    """Where each call (0) and return (1) stands."""
    moments = sorted({(o.invoked, 0) for o in core} | {(o.returned or 0.0, 1) for o in core})
    column: dict[tuple[float, int], int] = {}
    at = 0
    for moment in moments:
        ending = [o for o in core if moment == (o.returned, 1)]
        at = max([at, *(column[o.invoked, 0] + len(_shown(o, model)) + 1 for o in ending)])
        column[moment] = at
        at += 1
    return column


def _named(process: Hashable) -> str:
    return str(process)


def _shown(operation: Operation, model: Model[S]) -> str:
    return model.show(operation.op, UNKNOWN if operation.returned is None else operation.result)
