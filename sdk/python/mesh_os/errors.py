"""Errors: one class for each thing that can be done next, a stable name, and whether anything was done."""

from collections.abc import Mapping
from typing import ClassVar, Literal

Outcome = Literal["done", "not_done", "unknown"]


class MeshError(Exception):
    """What went wrong: ``name`` is stable (``mesh explain NAME``), ``detail`` a sentence, ``hint`` what to do.

    ``outcome`` says whether what was asked for happened; look at it before you repeat anything.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, name: str, detail: str, *, hint: str = "", outcome: Outcome = "not_done", status: int = 0) -> None:
        super().__init__(name, detail)
        self.name, self.detail, self.hint, self.outcome, self.status = name, detail, hint, outcome, status

    def __str__(self) -> str:
        return f"{self.detail}; {self.hint} [{self.name}]" if self.hint else f"{self.detail} [{self.name}]"


class Failed(MeshError):
    """It was tried and the answer is no."""

    exit_code = 1


class BadInput(MeshError):
    """What was asked for makes no sense as it stands; nothing was tried."""

    exit_code = 2


class Unreachable(MeshError):
    """Nobody answered in time; look at ``outcome``."""

    exit_code = 3


class Refused(MeshError):
    """Somebody looked at it and said no."""

    exit_code = 4


class Broken(MeshError):
    """A bug of the node."""

    exit_code = 70


_KINDS: dict[object, type[MeshError]] = {kind.exit_code: kind for kind in (Failed, BadInput, Unreachable, Refused, Broken)}


def of_problem(problem: Mapping[str, object], status: int) -> MeshError:
    """The error that an RFC 9457 problem document of a node tells of."""
    exit_code, outcome = problem.get("exit"), problem.get("outcome")
    kind = _KINDS.get(exit_code, Broken) if isinstance(exit_code, int) else Broken
    known: Outcome = outcome if outcome in ("done", "not_done", "unknown") else "unknown"
    name, detail, hint = (str(problem.get(member) or "") for member in ("name", "detail", "hint"))
    return kind(name or "internal", detail or "the node gave no reason", hint=hint, outcome=known, status=status)
