"""One machine by itself: a ledger that the test writes, a disk, and what the machine asked for."""

from collections.abc import Iterator
from random import Random
from typing import Any

from meshos.consensus.ledger.accounts import ACCOUNTS, Account
from meshos.consensus.ledger.draft import Table
from meshos.consensus.ledger.keys import KEYS, NODE, Key
from meshos.consensus.ledger.results import Result
from meshos.consensus.ledger.tabs import PAIRS, TABS, Tab, pair
from meshos.effects import Completed, Machine, Outcome, Persist, Put, Sign, Signed, Tell, WriteBack
from meshos.flow import Propose
from meshos.flow_machine import Perform
from meshos.ids import NodeId, Peer
from meshos.protocols.ledger.port import Decided
from meshos.storage.memory import MemoryStore
from tests.ledger.books import did

GENESIS = b"g" * 32
WALL_MS = 1_700_000_000_000
ALPHA, BETA = did("alpha"), did("beta")
ME = Peer(NodeId("alpha-1"), ALPHA)
PROVIDER = Peer(NodeId("beta-1"), BETA)
TAB = b"T" * 32


class Ledger:
    """A ``LedgerView`` whose entries are put there."""

    def __init__(self) -> None:
        self.height = 1
        self.restoring = False
        self.time_ms = WALL_MS
        self.entries: dict[bytes, bytes] = {}
        self.results: dict[bytes, Result] = {}
        self.put(KEYS, ME.node, Key(NODE, ALPHA))
        self.put(ACCOUNTS, ALPHA, Account(1_000_000_000))

    def put(self, table: Table[Any], name: str | bytes, value: object) -> None:
        if value is None:
            self.entries.pop(table.key(name), None)
        else:
            self.entries[table.key(name)] = table.encode(value)

    def open(self, tab: Tab, id_: bytes = TAB) -> None:
        self.put(TABS, id_, tab)
        self.put(PAIRS, pair(tab.caller, tab.provider), id_)

    def close(self, id_: bytes = TAB) -> None:
        tab = TABS.read(self, id_)
        assert tab is not None
        self.put(TABS, id_, None)
        self.put(PAIRS, pair(tab.caller, tab.provider), None)

    def next(self, later_ms: int = 1_000) -> Decided:
        self.height += 1
        self.time_ms += later_ms
        return Decided(None, ())  # type: ignore[arg-type]  # nobody looks into it

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((key, value) for key, value in self.entries.items() if key.startswith(prefix)))

    def result(self, request: bytes) -> Result | None:
        return self.results.get(request)


class Lone:
    """A machine whose writes are on disk at once. ``asked`` are the commands that it puts to others, ``answers`` what it tells the test."""

    def __init__(self, machine: Machine, store: MemoryStore | None = None) -> None:
        self.machine = machine
        self.store = store or MemoryStore(Random(0))
        self.now = 100.0
        self.asked: list[tuple[int, object]] = []
        self.answers: dict[int, Outcome[Any]] = {}
        self.signs: list[Sign] = []
        self.synced = 0
        self._ops = 0

    def step(self, event: object) -> list[object]:
        effects = self.machine.step(self.now, event)
        for effect in effects:
            match effect:
                case Persist(writes) | WriteBack(writes):
                    self.store.write(writes)
                    self.synced += isinstance(effect, Persist)
                case Tell("test", Completed(op, outcome)):
                    self.answers[op] = outcome
                case Tell(_, Perform(op, Propose(command))):
                    self.asked.append((op, command))
                case Sign():
                    self.signs.append(effect)
        return effects

    def put(self, command: object) -> int:
        """Gives the number under which ``answers`` will have the outcome."""
        self.step_of(command)
        return self._ops

    def step_of(self, command: object) -> list[object]:
        """What putting a command causes."""
        self._ops += 1
        return self.step(Perform(self._ops, Propose[object](command), None, "test"))

    def ask(self, command: object) -> Outcome[Any]:
        return self.answers[self.put(command)]

    def sign(self) -> None:
        """Everything that waits for a signature gets one."""
        signs, self.signs = self.signs, []
        for sign in signs:
            self.step(Signed(sign.op, sign.payload[-8:].rjust(64, b"s")))

    def taken(self) -> list[object]:
        """What was asked of others since last time."""
        asked, self.asked = self.asked, []
        return [command for _, command in asked]

    def complete(self, op: int, outcome: Outcome[object]) -> None:
        self.step(Completed(op, outcome))


def puts(effects: list[object]) -> list[Put]:
    """What is synced by a step."""
    return [write for effect in effects if isinstance(effect, Persist) for write in effect.writes if isinstance(write, Put)]
