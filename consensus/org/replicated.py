"""An organisation's state as a Raft group replicates it."""

from collections.abc import Sequence
from typing import get_args

from meshos.consensus.org import codec
from meshos.consensus.org.commands import COMMANDS, QUERIES, Command, Query
from meshos.consensus.org.queries import answer
from meshos.consensus.org.state import apply
from meshos.effects import Write
from meshos.errors import Refused
from meshos.storage.store import View

GROUP = "org"
"""The group's name: an organisation has one."""

assert set(get_args(Command)) == set(COMMANDS) and set(get_args(Query)) == set(QUERIES)


class OrgState:
    """The ``StateMachine`` of the group ``GROUP``."""

    __slots__ = ()

    def asks(self, command: object) -> bool:
        """See ``StateMachine``."""
        return isinstance(command, QUERIES)

    def encode(self, command: object) -> bytes:
        """See ``StateMachine``; raises Refused ``unknown-command`` for what is no command of an organisation's state."""
        if not isinstance(command, COMMANDS):
            raise Refused("unknown-command", f"an organisation's state has no command {type(command).__name__}")
        return codec.encode(command)

    def decode(self, data: bytes) -> object:
        """See ``StateMachine``."""
        return codec.decode(data)

    def apply(self, view: View, command: object, at_ms: int) -> tuple[object, Sequence[Write]]:
        """See ``StateMachine``."""
        assert isinstance(command, COMMANDS)
        return apply(view, command, at_ms)

    def query(self, view: View, question: object) -> object:
        """See ``StateMachine``."""
        assert isinstance(question, QUERIES)
        return answer(view, question)
