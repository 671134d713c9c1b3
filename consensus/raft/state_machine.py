"""What a group replicates: the machine that all its nodes apply the same commands to, in the same order, at the same times."""

from collections.abc import Sequence
from typing import Protocol

from meshos.effects import Write
from meshos.storage.store import View


class StateMachine(Protocol):
    """A deterministic state over keys of its own. What it raises as MeshError is an answer, the same everywhere; it changed nothing
    then."""

    def asks(self, command: object) -> bool:
        """Whether ``command`` is a question: it goes to ``query``, and nothing is replicated."""
        ...

    def encode(self, command: object) -> bytes:
        """The bytes of a command; raises MeshError for what is none."""
        ...

    def decode(self, data: bytes) -> object:
        """The command in ``data``; raises MeshError for what is none."""
        ...

    def apply(self, view: View, command: object, at_ms: int) -> tuple[object, Sequence[Write]]:
        """Its result, and what it writes. ``at_ms`` is the group's time of the command: milliseconds since 1970, never going back."""
        ...

    def query(self, view: View, question: object) -> object:
        """The answer to ``question``."""
        ...
