"""A few Rafts in one process: messages wait until they are delivered, disks write when they are told to, time passes when it is said."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from meshos.consensus.raft.applying import FOUNDED
from meshos.consensus.raft.config import LAN, Config
from meshos.consensus.raft.entries import CONFIGURATION, Entry
from meshos.consensus.raft.log import write_base
from meshos.consensus.raft.membership import Configuration, decode_configuration
from meshos.consensus.raft.messages import RaftMessage
from meshos.consensus.raft.raft import Raft, Saved
from meshos.effects import Put, Write
from meshos.ids import NodeId


class Disk:
    """A View over a dict: what is begun is seen at once, and lost by a crash unless it was synced."""

    def __init__(self) -> None:
        self.durable: dict[bytes, bytes] = {}
        self.seen: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.seen.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((key, value) for key, value in self.seen.items() if key.startswith(prefix)))

    def begin(self, writes: Sequence[Write]) -> None:
        for write in writes:
            if isinstance(write, Put):
                self.seen[write.key] = write.value
            else:
                self.seen.pop(write.key, None)

    def sync(self) -> None:
        self.durable = dict(self.seen)

    def crash(self) -> None:
        self.seen = dict(self.durable)


@dataclass(slots=True)
class Server:
    """One node: its Raft, its disk, and what waits for the disk."""

    raft: Raft
    disk: Disk
    configuration: Configuration
    stalled: bool = False
    withheld: list[tuple[NodeId, RaftMessage]] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    reads: list[tuple[int, int]] = field(default_factory=list)
    applied: list[Entry] = field(default_factory=list)


class Cluster:
    """``voters`` (and ``learners``) of one group. Nothing is delivered by itself but by ``settle``."""

    def __init__(self, voters: Sequence[str], learners: Sequence[str] = (), *, config: Config = LAN, seed: int = 1) -> None:
        self.now = 0.0
        self.config = config
        self.configuration = Configuration(frozenset(map(NodeId, voters)), learners=frozenset(map(NodeId, learners)))
        self.wire: deque[tuple[NodeId, NodeId, RaftMessage]] = deque()
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.rng = random.Random(seed)
        self.servers: dict[NodeId, Server] = {}
        for name in (*voters, *learners):
            self.add(name)

    def add(self, name: str, *, empty: bool = False) -> Server:
        """A node that belongs to the group from its founding, or (``empty``) one that knows nothing."""
        disk = Disk()
        if not empty:
            disk.begin([write_base(FOUNDED, FOUNDED)])
            disk.sync()
        configuration = Configuration() if empty else self.configuration
        return self._start(NodeId(name), disk, configuration)

    def _start(self, name: NodeId, disk: Disk, configuration: Configuration) -> Server:
        applied = FOUNDED if disk.seen else 0
        raft = Raft(name, disk, self.config, configuration=configuration, applied=applied, rng=self.rng, now=self.now)
        server = self.servers[name] = Server(raft, disk, configuration)
        return server

    def crash(self, name: str) -> None:
        """The power goes and comes back: what was not synced, and what waited for it, is gone."""
        old = self.servers[NodeId(name)]
        old.disk.crash()
        self._start(NodeId(name), old.disk, old.configuration)

    def __getitem__(self, name: str) -> Raft:
        return self.servers[NodeId(name)].raft

    # -- what a node does ----------------------------------------------------------------------------------------------

    def take(self, name: str) -> None:
        """Do what the Raft of ``name`` wants done, in the order in which it must be done."""
        server = self.servers[NodeId(name)]
        ready = server.raft.ready()
        server.disk.begin(ready.writes)
        self._post(NodeId(name), ready.pending.ahead)
        server.withheld += ready.pending.after
        server.reads += [(read.number, read.index) for read in ready.pending.reads]
        if ready.saved is not None:
            server.saved.append(ready.saved)
        while len(server.applied) < ready.commit - FOUNDED and server.raft.log.base < len(server.applied) + FOUNDED + 1:
            server.applied.append(server.raft.log.entry(len(server.applied) + FOUNDED + 1))
            if server.applied[-1].kind == CONFIGURATION:
                server.configuration = decode_configuration(server.applied[-1].data)
        if not server.stalled:
            self.sync(name)

    def sync(self, name: str) -> None:
        """The disk of ``name`` has everything, and what waited for that goes out."""
        server = self.servers[NodeId(name)]
        server.disk.sync()
        withheld, server.withheld = server.withheld, []
        saved, server.saved = server.saved, []
        self._post(NodeId(name), withheld)
        for each in saved:
            server.raft.stored(self.now, each)
        if saved:
            self.take(name)

    def _post(self, sender: NodeId, letters: Sequence[tuple[NodeId, RaftMessage]]) -> None:
        self.wire.extend((sender, to, message) for to, message in letters)

    def deliver_one(self) -> None:
        """The oldest message arrives, or is lost where the way is cut."""
        sender, to, message = self.wire.popleft()
        if (sender, to) not in self.cut and to in self.servers:
            self.servers[to].raft.receive(self.now, sender, message)
            self.flush(to)

    def flush(self, name: str) -> None:
        """Send what was gathered, and do what there is to do."""
        if self[name].gathered:
            self[name].flush(self.now)
        self.take(name)

    def settle(self, limit: int = 10_000) -> None:
        """Everything that is under way arrives."""
        for _ in range(limit):
            if not self.wire:
                return
            self.deliver_one()
        raise AssertionError(f"still talking after {limit} messages")

    # -- what happens ----------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Time passes: whoever is due is woken in turn, and everything arrives at once."""
        until = self.now + seconds
        while True:
            due = min((server.raft.deadline(), name) for name, server in self.servers.items())
            if due[0] > until:
                break
            self.now = max(self.now, due[0])
            self.servers[due[1]].raft.tick(self.now)
            self.flush(due[1])
            self.settle()
        self.now = until

    def time_out(self, name: str) -> None:
        """The election timeout of ``name`` passes, and nobody else's; nobody holds on to a leader any more."""
        for server in self.servers.values():
            if server.raft.role != "leader":
                server.raft.state.election_due = float("inf")
        self.now += 2 * self.config.election_s
        state = self[name].state
        state.election_due = self.now
        self[name].tick(self.now)
        self.take(name)

    def elect(self, name: str) -> None:
        """``name`` becomes leader."""
        self.time_out(name)
        self.settle()
        assert self[name].role == "leader", f"{name} is {self[name].role}"

    def propose(self, name: str, data: bytes = b"x") -> int:
        """Gives the entry's index."""
        index = self[name].propose(self.now, data)
        self.flush(name)
        return index

    def isolate(self, *names: str) -> None:
        """Nothing passes between these and the others."""
        inside = set(map(NodeId, names))
        self.cut |= {(one, other) for one in self.servers for other in self.servers if (one in inside) != (other in inside)}

    def heal(self) -> None:
        """Everything passes."""
        self.cut.clear()

    def log(self, name: str) -> list[tuple[int, bytes]]:
        """(term, data) of each entry."""
        log = self[name].log
        return [(entry.term, entry.data) for entry in log.entries(log.first, log.last, 1 << 30)]

    def leaders(self) -> list[str]:
        """Whoever leads."""
        return [name for name, server in self.servers.items() if server.raft.role == "leader"]


def give(cluster: Cluster, name: str, terms: Sequence[int]) -> None:
    """``name`` begins with a log of these terms, on its disk, and is in the last of them: a figure of the paper."""
    from meshos.consensus.raft.entries import COMMANDS, make_entry
    from meshos.consensus.raft.raft import write_hard
    from meshos.consensus.raft.state import HardState

    server = cluster.servers[NodeId(name)]
    entries = [make_entry(FOUNDED + place, term, COMMANDS, b"%d.%d" % (term, place)) for place, term in enumerate(terms, 1)]
    raft = server.raft
    raft.log.append(entries)
    server.disk.begin([*raft.log.take_writes(), write_hard(HardState(max(terms, default=0)))])
    server.disk.sync()
    cluster._start(NodeId(name), server.disk, server.configuration)
