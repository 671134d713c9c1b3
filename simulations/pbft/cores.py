"""Bare cores: replicas of the agreement without driver, network or time, one event at a time.

For tests that say exactly what arrives where, and for the exhaustive explorer. A core's disk keeps what was persisted; what was only
written back is lost in a crash. Signatures are made at once. Whatever else a core does is given back, for the caller to deliver, or not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from meshos.consensus.pbft.application import Application
from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.claims import claims
from meshos.consensus.pbft.config import Config, Timing
from meshos.consensus.pbft.events import Decided, Dropped, Noticed, Send
from meshos.consensus.pbft.messages import AskSeen, Message, Seen
from meshos.consensus.pbft.pbft import Pbft
from meshos.consensus.pbft.pool import Pending
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Persist, Put, Sign, Write, WriteBack
from meshos.ids import NodeId
from meshos.simulations.pbft.toy import Toy, seat
from meshos.simulations.run import node_ids

GENESIS = bytes(32)
GENESIS_MS = 1_700_000_000_000
SECRET = SimulatedWorld(0)
VERIFIER = SimulatedVerifier(SECRET)


@dataclass(slots=True)
class Disk:
    """A LiveView; ``volatile`` is what a crash loses."""

    durable: dict[bytes, bytes] = field(default_factory=dict)
    volatile: list[tuple[Write, ...]] = field(default_factory=list)
    now: dict[bytes, bytes] = field(default_factory=dict)

    def get(self, key: bytes) -> bytes | None:
        """See ``View``."""
        return self.now.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View``."""
        return iter(sorted((key, value) for key, value in self.now.items() if key.startswith(prefix)))

    def snapshot(self) -> "Disk":
        """See ``LiveView``."""
        return Disk(now=dict(self.now))

    def close(self) -> None:
        """See ``Snapshot``."""

    def write(self, writes: tuple[Write, ...], *, durable: bool) -> None:
        """Have it; with ``durable`` all so far survives."""
        _apply(self.now, writes)
        self.volatile.append(writes)
        if durable:
            for batch in self.volatile:
                _apply(self.durable, batch)
            self.volatile = []

    def crash(self) -> None:
        """Only what was durable is left."""
        self.now, self.volatile = dict(self.durable), []


def _apply(values: dict[bytes, bytes], writes: tuple[Write, ...]) -> None:
    for write in writes:
        if isinstance(write, Put):
            values[write.key] = write.value
        else:
            values.pop(write.key, None)


def genesis_set(n: int) -> ValidatorSet:
    """n organisations with one node each."""
    return ValidatorSet(0, tuple(seat(f"did:mesh:enterprise:o{number:03d}", node) for number, node in enumerate(node_ids(n), 1)))


@dataclass(slots=True)
class Node:
    """One core on its disk, and what it has said that was not taken yet."""

    name: NodeId
    config: Config
    disk: Disk = field(default_factory=Disk)
    now: float = 0.0
    wall_ms: int = GENESIS_MS + 1
    said: list[Send] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    noticed: list[str] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    signed: list[tuple[Domain, bytes]] = field(default_factory=list)
    core: Pbft = field(init=False)

    def __post_init__(self) -> None:
        self._build()

    def _build(self) -> None:
        toy = Toy(GENESIS, self.config.validators)
        self.core = Pbft(self.config, self._application(toy), self.disk)
        toy.sets = self.core.validators_of

    def _application(self, toy: Toy) -> Application:
        return toy

    def start(self, *, witnessed: bool = True) -> None:
        """Begin; with ``witnessed`` the others have seen nothing of it that its disk does not know."""
        self._carry(self.core.start(self.now, self.wall_ms))
        if witnessed:
            for entry in self.core.chain.validators.entries:
                if self.core.desk.asking and entry.node != self.name:
                    self.hear(entry.node, Seen(self.core.chain.epoch, None, None))

    def hear(self, sender: NodeId, message: Message) -> None:
        """A message whose signatures hold."""
        self.core.desk.staged()
        self._carry(self.core.receive(self.now, self.wall_ms, sender, message))

    def submit(self, request: bytes, *, relay: bool = False) -> None:
        """A client's request, checked."""
        self.core.desk.staged()
        pending = Pending(request_hash(request), request, self.name, self.now)
        self._carry(self.core.submit(self.now, self.wall_ms, [pending], relay=relay))

    def wait(self, seconds: float) -> None:
        """Time passes; every timer rings in its time."""
        until = self.now + seconds
        while (due := self.core.deadline()) is not None and due <= until:
            self.wall_ms += round((max(due, self.now) - self.now) * 1000)
            self.now = max(due, self.now)
            self.core.desk.staged()
            self._carry(self.core.tick(self.now, self.wall_ms))
        self.wall_ms += round((until - self.now) * 1000)
        self.now = until

    def lose_patience(self) -> None:
        """What waits has waited long enough."""
        timers = self.core.desk.timers
        for name in ("patience", "impatience"):
            if timers.runs(name):
                timers.set(name, self.now)
                self.core.desk.staged()
                self._carry(self.core.tick(self.now, self.wall_ms))
                return

    def crash(self, *, witnessed: bool = True) -> None:
        """Lose all that is not on disk, and start again."""
        self.disk.crash()
        self.said.clear()
        self._build()
        self.start(witnessed=witnessed)

    def take(self) -> list[Send]:
        """What it has said since the last time."""
        said, self.said = self.said, []
        return said

    def _carry(self, effects: Sequence[object]) -> None:
        for effect in effects:
            if isinstance(effect, Persist | WriteBack):
                self.disk.write(effect.writes, durable=isinstance(effect, Persist))
        self.core.desk.staged()
        for effect in effects:
            match effect:
                case Send():
                    self.said.append(effect)
                case Decided():
                    self.decided.append(effect)
                case Dropped():
                    self.dropped.append(effect)
                case Noticed(error):
                    self.noticed.append(error.name)
                case Sign(op=op, domain=domain, payload=payload):
                    assert isinstance(domain, Domain)
                    self.signed.append((domain, payload))
                    signature = SimulatedSigner(SECRET, self.config.key).sign(domain, payload)
                    self._carry(self.core.signed(self.now, self.wall_ms, op, signature))


class Cores:
    """A mesh of bare cores; ``deliver`` takes everything everywhere until nothing moves."""

    def __init__(self, n: int = 4, *, interval: int = 8, extra: int = 0, timing: Timing | None = None, **config: int | None) -> None:
        self.validators = genesis_set(n)
        ids = node_ids(n + extra)
        self.nodes: dict[NodeId, Node] = {}
        for node in ids:
            made = Config(
                node,
                node,
                GENESIS,
                GENESIS_MS,
                self.validators,
                timing or Timing(),
                checkpoint_interval=interval,
                **config,  # type: ignore[arg-type]
            )
            self.nodes[node] = Node(node, made)
        self.ids = ids
        self.lost: list[tuple[NodeId, NodeId, Message]] = []

    def start(self) -> "Cores":
        """All of them."""
        for node in self.nodes.values():
            node.start()
            node.take()
        return self

    def __getitem__(self, number: int) -> Node:
        return self.nodes[self.ids[number]]

    def deliver(self, cut: Sequence[int] = (), drop: type | tuple[type, ...] = ()) -> None:
        """Everything that was said reaches everybody, and so on, but those that are ``cut`` off, and messages to ``drop``."""
        away = {self.ids[number] for number in cut}
        for _ in range(10_000):
            said = [(node.name, send) for node in self.nodes.values() for send in node.take()]
            if not said:
                return
            for sender, send in said:
                for to in send.to:
                    if sender in away or to in away or isinstance(send.message, drop):
                        self.lost.append((sender, to, send.message))
                    elif to in self.nodes:
                        self.nodes[to].hear(sender, send.message)
        raise AssertionError("they never stop talking")

    def submit(self, request: bytes, cut: Sequence[int] = ()) -> None:
        """Everybody who is not cut off knows of a request."""
        for number, node in enumerate(self.nodes.values()):
            if number not in cut:
                node.submit(request)

    def heights(self) -> list[int]:
        """How far each is."""
        return [node.core.chain.height for node in self.nodes.values()]

    def lose_patience(self, *numbers: int) -> None:
        """These leave their view."""
        for number in numbers:
            self[number].lose_patience()


def verified(message: Message, core: Pbft) -> bool:
    """Whether the signatures of ``message`` hold, as a replica checks them."""
    if isinstance(message, AskSeen):
        return True
    return all(VERIFIER.verify_many(claims(message, GENESIS, core.validators_of)))
