"""What a leader gathers for its next entries: commands of all nodes, and the time that they are stamped with."""

from collections.abc import Iterator

from meshos.consensus.raft.applying import State
from meshos.consensus.raft.batch import Proposed, encode_batch, packed
from meshos.consensus.raft.config import Config
from meshos.consensus.raft.limits import MAX_PROPOSALS
from meshos.consensus.raft.messages import Forward
from meshos.ids import NodeId


class Gathering:
    """The commands that wait for an entry, and which of other nodes are in one that is not applied yet."""

    def __init__(self, state: State, config: Config, *, now: float, wall_ms: int) -> None:
        self._state, self._config = state, config
        self._clock = (now, wall_ms)
        self._stamped_ms = state.at_ms
        self._batch: list[Proposed] = []
        self._taken: dict[tuple[NodeId, int], set[int]] = {}  # by node and session
        self.full = 0  # messages that were not taken, since their node has too much under way

    def set_clock(self, now: float, wall_ms: int) -> None:
        """The wall clock shows ``wall_ms`` at ``now``."""
        self._clock = (now, wall_ms)

    def forget(self) -> None:
        """This node does not lead: what was gathered is lost, and is sent again to whoever does."""
        self._batch.clear()
        self._taken.clear()

    def take(self, node: NodeId, message: Forward) -> bool:
        """Gather what ``node`` forwards; whether there was anything new."""
        session = message.session
        taken = self._taken.setdefault((node, session), set())
        new = [each for each in message.proposals if each[0] not in taken and not self._state.applied(node, session, each[0])]
        if len(taken) + len(new) > MAX_PROPOSALS:
            self.full += 1
            return True
        taken.update([number for number, _ in new])
        if new:
            self._batch.append(Proposed(node, session, message.floor, new))
        return bool(new)

    def applied(self, node: NodeId, session: int, number: int) -> None:
        """A command of another node is applied."""
        taken = self._taken.get((node, session))
        if taken is not None:
            taken.discard(number)
            if not taken:
                del self._taken[node, session]

    def entries(self, now: float, own: Proposed | None) -> Iterator[bytes]:
        """The data of the entries for all that was gathered, and for this node's own commands."""
        batch, self._batch = self._batch, []
        if own is not None:
            batch.append(own)
        if not batch:
            return
        since, wall_ms = self._clock
        at_ms = self._stamped_ms = max(self._stamped_ms, self._state.at_ms, wall_ms + round((now - since) * 1000))
        for pack in packed(batch, commands=self._config.entry_commands, size=self._config.append_bytes):
            yield encode_batch(at_ms, pack)
