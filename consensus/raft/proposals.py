"""This node's proposals, from being asked to being applied here.

A proposal is answered once it is applied in this node's own state, whoever leads. Where its outcome is lost with a leader, it is sent
again to the next one, under the same number, so that it is applied once (``sessions.py``). What is not applied in time ends truthfully:
as not done if it never left this node, else as unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meshos import cbor
from meshos.consensus.raft.config import Config
from meshos.consensus.raft.entries import is_number
from meshos.consensus.raft.keys import SESSION
from meshos.consensus.raft.limits import MAX_COMMAND_BYTES, MAX_PROPOSED_BYTES
from meshos.effects import Completed, Err, Outcome, Put, Tell
from meshos.errors import Broken, Refused, Unreachable, busy
from meshos.ids import NodeId
from meshos.storage.store import View

Asker = tuple[str, int]
"""Who waits for an answer: the machine, and its number for the operation."""


@dataclass(slots=True)
class Proposal:
    """``command`` as bytes; ``asker`` is None where nobody waits any more; ``sent`` in which term it was sent last (0: never)."""

    asker: Asker | None
    command: bytes
    until: float
    sent: int = 0
    again: float = 0.0


class Proposals:
    """Those whose outcome is not known, by number."""

    def __init__(self, session: int, config: Config) -> None:
        self.session = session
        self._config = config
        self._last = 0
        self._bytes = 0
        self._of: dict[int, Proposal] = {}  # in the order of the numbers
        self._numbers: dict[Asker, int] = {}

    def __len__(self) -> int:
        return len(self._of)

    @property
    def floor(self) -> int:
        """All numbers up to here are settled."""
        return next(iter(self._of)) - 1 if self._of else self._last

    def begin(self, now: float, asker: Asker, command: bytes) -> int:
        """A new proposal; gives its number. Raises Refused ``busy`` or ``too-large``."""
        if len(command) > MAX_COMMAND_BYTES:
            raise Refused("too-large", f"a command of {len(command)} bytes, at most {MAX_COMMAND_BYTES} are decided together")
        if len(self._of) >= self._config.proposals or self._bytes + len(command) > MAX_PROPOSED_BYTES:
            raise busy("the table of proposals in flight")
        self._last = number = self._last + 1
        self._of[number] = Proposal(asker, command, now + self._config.proposal_s)
        self._numbers[asker] = number
        self._bytes += len(command)
        return number

    def abandon(self, asker: Asker) -> None:
        """Nobody waits for it any more; it goes on."""
        number = self._numbers.pop(asker, None)
        if number is not None:
            self._of[number].asker = None

    def settle(self, number: int, outcome: Outcome[object]) -> Tell | None:
        """The proposal has ended; what its asker is told."""
        proposal = self._of.pop(number, None)
        if proposal is None:
            return None
        self._bytes -= len(proposal.command)
        if proposal.asker is None:
            return None
        del self._numbers[proposal.asker]
        return Tell(proposal.asker[0], Completed(proposal.asker[1], outcome))

    def mark(self, now: float, numbers: list[int], term: int) -> list[tuple[int, bytes]]:
        """These are sent to the leader of ``term`` now; gives (number, command) of those that are not settled already."""
        found = []
        for number in numbers:
            proposal = self._of.get(number)
            if proposal is not None:
                proposal.sent, proposal.again = term, now + self._config.retry_s
                found.append((number, proposal.command))
        return found

    def unanswered(self, now: float, term: int) -> list[int]:
        """Those that the leader of ``term`` was not sent, or not answered for too long."""
        return [number for number, proposal in self._of.items() if proposal.sent != term or proposal.again <= now]

    def unsent(self, term: int) -> list[int]:
        """Those that the leader of ``term`` was not sent."""
        return [number for number, proposal in self._of.items() if proposal.sent != term]

    def overtaken(self, applied: Callable[[NodeId, int, int], bool], node: NodeId) -> list[Tell]:
        """This node's state was replaced by one in which these are applied: how they ended is not known here any more."""
        gone = [number for number in self._of if applied(node, self.session, number)]
        return [tell for number in gone if (tell := self.settle(number, Err(unknown()))) is not None]

    def expire(self, now: float) -> list[Tell]:
        """End those whose time is over."""
        tells = []
        while self._of:
            number = next(iter(self._of))
            proposal = self._of[number]
            if proposal.until > now:
                break
            tell = self.settle(number, Err(unknown() if proposal.sent else no_leader()))
            if tell is not None:
                tells.append(tell)
        return tells

    def retry_at(self) -> float:
        """When the oldest is to be sent again."""
        return next((proposal.again for proposal in self._of.values()), float("inf"))

    def deadline(self) -> float:
        """When the time of the oldest is over."""
        return next((proposal.until for proposal in self._of.values()), float("inf"))


def no_leader() -> Unreachable:
    """Nobody led in time, so nothing was sent to anybody."""
    return Unreachable(
        "no-leader", "the group had no leader in the time given", hint="a majority of its nodes must be up", outcome="not_done"
    )


def unknown() -> Unreachable:
    """Nobody can say whether it was decided."""
    return Unreachable("proposal-unknown", "the group did not say in time whether this was decided")


def read_session(view: View) -> int:
    """The number of this node's last life; raises Broken ``raft-log-broken``."""
    raw = view.get(SESSION)
    if raw is None:
        return 0
    value = cbor.decode(raw, max_bytes=16)
    if not is_number(value):
        raise Broken("raft-log-broken", "how often this replica was started cannot be read")
    assert isinstance(value, int)
    return value


def write_session(session: int) -> Put:
    """The number of this life."""
    return Put(SESSION, cbor.encode(session))
