"""Who leads, who belongs to the group: whom to tell, and what to answer those who wanted it changed."""

from collections.abc import Sequence

from meshos.consensus.raft.events import ChangeMembers, Fence, Followed, Led, TransferLeadership
from meshos.consensus.raft.proposals import Asker, unknown
from meshos.consensus.raft.raft import Raft
from meshos.effects import Completed, Err, Ok, Outcome, Tell
from meshos.errors import Refused
from meshos.ids import NodeId


class Standing:
    """What was last told, and who waits for a change."""

    def __init__(self, group: str, raft: Raft, subscribers: Sequence[str]) -> None:
        self._group, self._raft = group, raft
        self._subscribers = tuple(subscribers)
        self._seen: tuple[int, bool, NodeId | None, bool] = (0, False, None, False)
        self._told: Led | Followed | None = None
        self._changes: list[tuple[int, int, Asker]] = []  # (index, term, who asked)
        self._transfers: list[Asker] = []

    @property
    def fence(self) -> Fence | None:
        """In whose name this node acts, if it leads."""
        return Fence(self._group, self._raft.term) if self._raft.established else None

    def change(self, now: float, asker: Asker, command: ChangeMembers) -> None:
        """Begin a change of members; raises Refused ``not-leader`` and what ``Raft.change`` raises."""
        self._must_lead()
        index = self._raft.change(now, command.changes)
        self._changes.append((index, self._raft.term, asker))

    def transfer(self, now: float, asker: Asker, command: TransferLeadership) -> None:
        """Begin to hand over; raises Refused ``not-leader``, BadInput ``bad-transfer``."""
        self._must_lead()
        self._raft.transfer(now, command.to)
        self._transfers.append(asker)

    def _must_lead(self) -> None:
        raft = self._raft
        if not raft.accepts:
            hint = f"ask {raft.leader}" if raft.leader is not None and raft.role != "leader" else "try again in a moment"
            raise Refused("not-leader", "this is asked of the group's leader, which this node is not", hint=hint)

    def look(self) -> tuple[bool, list[Tell]]:
        """After each step: whether somebody else leads, or leads otherwise, and what there is to tell."""
        raft = self._raft
        tells = self._answers() if self._changes or self._transfers else []
        seen = (raft.term, raft.role == "leader", raft.leader, raft.established)
        if seen == self._seen:
            return False, tells
        self._seen = seen
        told: Led | Followed | None = None
        if raft.established:
            told = Led(self._group, raft.term)
        elif raft.role != "leader":
            told = Followed(self._group, raft.term, raft.leader)
        if told is not None and told != self._told:
            self._told = told
            tells += [Tell(subscriber, told) for subscriber in self._subscribers]
        return True, tells

    def _answers(self) -> list[Tell]:
        """To those whose change is made, or will not be for all that this node knows."""
        raft = self._raft
        tells: list[Tell] = []
        waiting, self._changes = self._changes, []
        for index, term, asker in waiting:
            made = raft.commit >= index and raft.log.term(index) in (term, None)  # None: it is cut already
            if made and raft.settled and not raft.members.joint:
                tells.append(_answer(asker, Ok(raft.members)))  # also where this node is no member any more
            elif raft.role != "leader" or raft.term != term:
                tells.append(_answer(asker, Err(unknown())))
            else:
                self._changes.append((index, term, asker))
        if raft.role != "leader" or raft.accepts:
            failed = Refused("transfer-failed", "the other node did not take over in time", hint="look whether it is up, and try again")
            tells += [_answer(asker, Ok(None) if raft.role != "leader" else Err(failed)) for asker in self._transfers]
            self._transfers = []
        return tells


def _answer(asker: Asker, outcome: Outcome[object]) -> Tell:
    return Tell(asker[0], Completed(asker[1], outcome))
