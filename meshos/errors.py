"""Errors: values with a stable name, one sentence of what was wrong, and what to do about it.

The tree has one branch per thing a user can do next, which is also the exit code of a command:

====================  ====  =======================================================================
class                 exit  meaning
====================  ====  =======================================================================
``Failed``            1     it was tried and the answer is no (a task failed, a check did not hold)
``BadInput``          2     the command, the file or the request is wrong; nothing was tried
``Unreachable``       3     nobody answered in time, or it is unknown whether it was done
``Refused``           4     somebody looked at it and said no (not allowed, too much, not now)
``Broken``            70    a bug of ours
====================  ====  =======================================================================

Every name stands in ``meshos.catalogue``, where ``mesh explain NAME`` finds what it means and what to do. An error
crosses the wire as ``(name, detail, outcome)`` and comes out as the same class on the other side.
"""

from typing import ClassVar, Literal, TypeVar, get_args

Done = Literal["done", "not_done", "unknown"]
"""Whether what was asked for happened: the question that matters before one tries again."""

DONE: frozenset[str] = frozenset(get_args(Done))


class MeshError(Exception):
    """What went wrong. ``name`` is stable and explained by ``mesh explain``; ``detail`` is one plain sentence."""

    exit_code: ClassVar[int] = 70
    outcome: Done = "not_done"

    def __init__(self, name: str, detail: str, *, hint: str = "", outcome: Done | None = None) -> None:
        super().__init__(name, detail)
        self.name = name
        self.detail = detail
        self.hint = hint
        if outcome is not None:
            self.outcome = outcome

    def __str__(self) -> str:
        text = f"{self.detail}; {self.hint}" if self.hint else self.detail
        return f"{text} [{self.name}]"


class Failed(MeshError):
    """It was tried and the answer is no."""

    exit_code = 1


class BadInput(MeshError):
    """What was asked for makes no sense as it stands; nothing was tried."""

    exit_code = 2


class Unreachable(MeshError):
    """Nobody answered in time; look at ``outcome`` before trying again."""

    exit_code = 3
    outcome: Done = "unknown"


class Refused(MeshError):
    """Somebody looked at it and said no."""

    exit_code = 4


class Broken(MeshError):
    """A bug of ours."""

    exit_code = 70
    outcome: Done = "unknown"


KINDS: dict[str, type[MeshError]] = {kind.__name__: kind for kind in (Failed, BadInput, Unreachable, Refused, Broken)}
"""The classes by name, for the wire."""


def busy(what: str) -> Refused:
    """The one answer of everything that is full: at once, by name, never by growing."""
    return Refused("busy", f"{what} is full", hint="try again in a moment")


Error = TypeVar("Error", bound=BaseException)


def first_of(group: BaseExceptionGroup[Error]) -> Error:
    """One of the errors in ``group``, however deep it lies: nurseries wrap what leaves them."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
