"""Signatures are checked before they count: a few at once, more together and off the event loop.

What came in waits here with its claims. One batch is being verified at a time (a ``Compute``); what comes meanwhile is the next one, so
that a busy replica pays for few and large batches and an idle one waits for nobody. Where nothing is under way and what waits has no more
than CLAIMS_AT_ONCE, it is verified in the same step: a vote alone costs less than the way to a worker and back. Votes and requests have
a lane each: a thousand requests do not keep a vote waiting. Order is kept within a lane.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from meshos.consensus.pbft.limits import CHECKED_AT_ONCE, CLAIM_S, CLAIMS_AT_ONCE, MAX_WAITING_BYTES, MAX_WAITING_OVERHEAD
from meshos.crypto.signing import Claim, Verifier
from meshos.effects import Err, Ok, Outcome
from meshos.errors import Broken, busy
from meshos.flow import Compute
from meshos.flow_machine import Perform
from meshos.ids import NodeId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unchecked(Generic[T]):
    """Something of ``sender``, and what must be verified before it counts."""

    sender: NodeId
    what: T
    claims: tuple[Claim, ...]
    size: int


class Lane(Generic[T]):
    """What waits for one kind of check. ``op`` names this lane in ``Completed``."""

    def __init__(self, machine: str, op: int, verifier: Verifier) -> None:
        self._machine = machine
        self._op = op
        self._verifier = verifier
        self._waiting: deque[Unchecked[T]] = deque()
        self._under_way: list[Unchecked[T]] = []
        self._bytes = 0
        self._of: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way)

    def add(self, item: Unchecked[T]) -> None:
        """Let it wait; raises Refused ``busy``. One sender has no more than what is left for all others (Choudhury and Hahne, as in
        protocols/rpc/limits.py)."""
        size = item.size + MAX_WAITING_OVERHEAD
        mine = self._of.get(item.sender, 0) + size
        if mine > MAX_WAITING_BYTES - self._bytes:
            raise busy("the queue of messages whose signatures are to be checked")
        self._of[item.sender] = mine
        self._bytes += size
        self._waiting.append(item)

    def at_once(self) -> list[tuple[Unchecked[T], bool]]:
        """What waits, checked, if that is little and nothing is under way; as ``ended``."""
        if self._under_way or not self._waiting or sum(len(item.claims) for item in self._waiting) > CLAIMS_AT_ONCE:
            return []
        return self.ended(Ok(self._verifier.verify_many(self._take())))

    def begin(self) -> list[object]:
        """The effect that checks what waits, unless a check is under way."""
        if self._under_way or not self._waiting:
            return []
        claims, verifier = self._take(), self._verifier
        return [Perform(self._op, Compute(lambda: verifier.verify_many(claims), CLAIM_S * len(claims)), None, self._machine)]

    def _take(self) -> list[Claim]:
        """Have the next batch under way; gives its claims."""
        claims: list[Claim] = []
        while self._waiting and (not claims or len(claims) + len(self._waiting[0].claims) <= CHECKED_AT_ONCE):
            item = self._waiting.popleft()
            self._under_way.append(item)
            claims += item.claims
        return claims

    def ended(self, outcome: Outcome[object]) -> list[tuple[Unchecked[T], bool]]:
        """What was checked, and whether all its signatures hold."""
        if isinstance(outcome, Err):
            raise Broken("agreement-broken", f"signatures could not be checked: {outcome.error}") from outcome.error
        assert isinstance(outcome, Ok) and isinstance(outcome.value, list)
        holds: list[bool] = outcome.value
        done: list[tuple[Unchecked[T], bool]] = []
        at = 0
        for item in self._under_way:
            count = len(item.claims)
            done.append((item, all(holds[at : at + count])))
            at += count
            self._release(item)
        self._under_way = []
        return done

    def _release(self, item: Unchecked[T]) -> None:
        size = item.size + MAX_WAITING_OVERHEAD
        self._bytes -= size
        self._of[item.sender] -= size
        if not self._of[item.sender]:
            del self._of[item.sender]
