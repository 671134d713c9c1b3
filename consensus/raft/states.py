"""The whole states that a replica sends, receives and deletes: what stands between Raft, which wants them, and the Store, in which they
lie."""

from meshos.consensus.raft import messages as m
from meshos.consensus.raft.applying import State, read_meta, write_generation
from meshos.consensus.raft.config import Config
from meshos.consensus.raft.dropping import Dropping
from meshos.consensus.raft.keys import META, PARTIAL, generation_prefix
from meshos.consensus.raft.raft import Raft
from meshos.consensus.raft.receiving import Receiver
from meshos.consensus.raft.sending import Sender, Transfer
from meshos.effects import Delete, Write
from meshos.errors import Refused
from meshos.ids import NodeId
from meshos.storage.store import LiveView

NEVER = float("inf")


class States:
    """See the module's text. ``writes`` and ``letters`` are taken by the Replica with each step."""

    def __init__(self, view: LiveView, raft: Raft, state: State, config: Config, now: float) -> None:
        self._view, self._raft, self._state, self._config = view, raft, state, config
        self._sender = Sender(config)
        self._receiver = Receiver(view)
        self._dropping = Dropping(view, now)
        self.persist: list[Write] = []
        self.letters: list[tuple[NodeId, m.Message]] = []
        self._source: NodeId | None = None  # who sends a state that is complete, and waits for its place
        self.installed = False  # a state took the place of this node's own, in the last step

    @property
    def waits(self) -> bool:
        """Whether ``settle`` has something to do."""
        return self._source is not None

    def lowest(self) -> int | None:
        """From which index on the log is needed for states that are under way."""
        return self._sender.lowest()

    def deadline(self) -> float:
        """When ``tick`` is due."""
        return min(self._sender.deadline(), self._dropping.deadline())

    def tick(self, now: float) -> list[Write]:
        """What is late, and what is left to delete."""
        failed, again = self._sender.tick(now)
        for node in failed:
            self._raft.state_ended(now, node, 0)
        self.letters += again
        return self._dropping.tick(now)

    # -- sending -----------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Between two steps the View shows the state as far as it is applied: begin to send it, or let a new one take its place."""
        raft = self._raft
        if raft.role != "leader":
            self._sender.keep_only(set())
            if self._source is not None:
                self._install(now, self._source)
            return
        self._source = None
        self._sender.keep_only(set(raft.state.progress))
        for node in raft.wanting():
            if self._sender.room:
                state = self._state
                transfer = Transfer(self._view.snapshot(), generation_prefix(state.generation), state.index, state.term, self._config, now)
                raft.state_begun(node, state.index)
                self._cast(node, self._sender.begin(now, raft.term, node, transfer))

    def answered(self, now: float, node: NodeId, reply: m.ChunkReply) -> None:
        """A follower says how far it is."""
        ended, chunks = self._sender.answered(now, self._raft.term, node, reply)
        self._cast(node, chunks)
        if ended is not None:
            self._raft.state_ended(now, node, ended)

    def _cast(self, node: NodeId, chunks: list[m.Chunk]) -> None:
        self.letters += [(node, chunk) for chunk in chunks]

    # -- receiving ---------------------------------------------------------------------------------------------------

    def take(self, now: float, leader: NodeId, chunk: m.Chunk) -> None:
        """A chunk has come."""
        if self._raft.has(chunk.index, chunk.at_term):
            self._reply(leader, chunk.index, 0, done=True)
            return
        receiver = self._receiver
        if not receiver.expects(chunk):
            if chunk.number:
                self._reply(leader, chunk.index, 0)
                return
            self._forget(now)
            receiver.begin(chunk, self._next_generation())
        try:
            self.persist += receiver.take(chunk)
        except Refused:
            self._forget(now)
            self._reply(leader, chunk.index, 0)
            return
        partial = receiver.partial
        assert partial is not None
        if partial.done:
            self._source = leader
        else:
            self._reply(leader, chunk.index, partial.number)

    def _reply(self, leader: NodeId, index: int, number: int, *, done: bool = False) -> None:
        self.letters.append((leader, m.ChunkReply(self._raft.term, index, number, done)))

    def _next_generation(self) -> int:
        return max(self._state.generation, self._dropping.highest) + 1

    def _forget(self, now: float) -> None:
        """What was received so far is no use."""
        partial = self._receiver.partial
        if partial is not None:
            self.persist += [Delete(PARTIAL), self._dropping.add(now, partial.generation)]
            self._receiver.partial = None

    def _install(self, now: float, leader: NodeId) -> None:
        """The state that was received is complete, and takes the place of this node's own, unless the log got there first."""
        self._source = None
        partial = self._receiver.partial
        if partial is None or not partial.done or self._raft.has(partial.index, partial.at_term):
            return
        raw = self._view.get(generation_prefix(partial.generation) + META)
        meta = None if raw is None else read_meta(raw)
        if meta is None or meta[:2] != (partial.index, partial.at_term):
            self._forget(now)
            self._reply(leader, partial.index, 0)
            return
        old = self._state.generation
        self.persist += self._raft.restore(now, partial.index, partial.at_term, meta[3])
        self.persist += [write_generation(partial.generation), Delete(PARTIAL), self._dropping.add(now, old)]
        self._receiver.partial = None
        self._state.load(partial.generation)
        self.installed = True
        self._reply(leader, partial.index, partial.number, done=True)
