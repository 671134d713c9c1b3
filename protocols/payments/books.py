"""What the provider's side reads of its organisation's state: what is owed, and which tasks are under way."""

from collections.abc import Callable
from typing import Protocol

from meshos.consensus.org.entries import open_key, read_caller
from meshos.ids import OrgDid, TaskId
from meshos.storage.store import View


class Books(Protocol):
    """What the organisation has recorded. It counts what is owed with the outcomes themselves, so nothing is missed or counted twice."""

    def owed_micro(self, caller: OrgDid) -> int:
        """What ``caller`` has come to owe in all, ever."""
        ...

    def is_open(self, task: TaskId) -> bool:
        """Whether ``task`` has an intent and no outcome."""
        ...


class OrgBooks:
    """In the state of the machine "org", of which ``view`` gives what it is now."""

    __slots__ = ("_view",)

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def owed_micro(self, caller: OrgDid) -> int:
        """See ``Books``."""
        return read_caller(self._view(), caller).owed_micro

    def is_open(self, task: TaskId) -> bool:
        """See ``Books``."""
        return self._view().get(open_key(task)) is not None
