"""Who pays in ``mesh bench pbft``: an organisation's key that signs transfers, and a machine that keeps them under way.

One key's transactions are executed in the order of their nonces, so each organisation's go to one validator, its own, over one link.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.kinds import envelope_of
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.signing import sign
from meshos.effects import Completed, Err, Tell
from meshos.errors import Failed, MeshError
from meshos.flow import Ask
from meshos.flow_machine import Perform
from meshos.ids import NodeId, OrgDid

SUBMITTER = "submitter"
TIMEOUT_S = 30.0
LIFETIME_MS = 3_600_000


class Payer:
    """``key`` pays one millionth ``to`` another organisation at a time, through the node of this key."""

    def __init__(self, key: SigningKey, genesis_hash: bytes, to: OrgDid) -> None:
        self.node = node_id(key.public)
        self._key, self._domain, self._transfer = key, transaction.domain(genesis_hash), Transfer(to, 1)
        self._nonce = 0
        self._ready: deque[bytes] = deque()

    def prepare(self, count: int) -> None:
        """Have ``count`` transactions signed: the client's signing is no part of what is measured."""
        while len(self._ready) < count:
            self._ready.append(self._sign())

    def next(self) -> bytes:
        """The next transaction."""
        return self._ready.popleft() if self._ready else self._sign()

    def _sign(self) -> bytes:
        expires_ms = int(time.time() * 1000) + LIFETIME_MS
        envelope = envelope_of(self._transfer, self.node, self._nonce, expires_ms)
        self._nonce += 1
        return transaction.request(envelope, sign(self._key, self._domain, envelope))


@dataclass(slots=True)
class Submitting:
    """One run: each of ``payers`` has ``each`` transactions in flight for ``seconds``; ``error`` says why it ended early."""

    payers: Sequence[Payer]
    each: int
    seconds: float
    taken_ms: list[float]
    ended: trio.Event
    error: MeshError | None = None
    began: float = 0.0
    last: float = 0.0

    def rate(self) -> float:
        """Transactions a second, from the first asked for to the last one committed."""
        return len(self.taken_ms) / (self.last - self.began)


class Submitter:
    """The machine ``name``; asks for ``protocol``."""

    def __init__(self, name: str, protocol: str) -> None:
        self._name, self._protocol = name, protocol
        self._submitting: Submitting | None = None
        self._under_way: dict[int, tuple[Payer, float]] = {}
        self._ops = 0

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``; hears Submitting and Completed."""
        if isinstance(event, Submitting):
            self._submitting = event
            event.began = event.last = time.perf_counter()
            return [self._ask(now, payer) for _ in range(event.each) for payer in event.payers]
        submitting = self._submitting
        assert isinstance(event, Completed) and submitting is not None
        payer, since = self._under_way.pop(event.op)
        submitting.last = at = time.perf_counter()
        if isinstance(event.outcome, Err):
            submitting.error = submitting.error or event.outcome.error
        elif event.outcome.value != b"":
            submitting.error = Failed("bench-command-failed", f"a transfer was not done: {event.outcome.value!r}")
        else:
            submitting.taken_ms.append((at - since) * 1000)
        if at < submitting.began + submitting.seconds and submitting.error is None:
            return [self._ask(now, payer)]
        if not self._under_way:
            submitting.ended.set()
        return []

    def deadline(self) -> float | None:
        """Rpc has those."""
        return None

    def _ask(self, now: float, payer: Payer) -> object:
        self._ops = op = self._ops + 1
        self._under_way[op] = payer, time.perf_counter()
        return Tell("rpc", Perform(op, Ask(payer.node, self._protocol, payer.next(), TIMEOUT_S), now + TIMEOUT_S, self._name))


async def run(deliver: Callable[[str, object], None], payers: Sequence[Payer], each: int, seconds: float) -> Submitting:
    """Have the Submitter submit, and come back when all of it is committed; raises what a transaction was refused for."""
    submitting = Submitting(payers, each, seconds, [], trio.Event())
    deliver(SUBMITTER, submitting)
    await submitting.ended.wait()
    if submitting.error is not None:
        raise submitting.error
    return submitting


def at(payers: Sequence[Payer], node: NodeId) -> Payer:
    """The one that pays through ``node``."""
    return next(payer for payer in payers if payer.node == node)
