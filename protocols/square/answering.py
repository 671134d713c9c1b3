"""Which protocols the square speaks, what a question costs, and how it becomes an answer.

A protocol is one file beside this one: a name, what its requests may weigh, what one costs in tokens, and an ``answer``: an ``async``
function of the request's fields and of who asks, which gives the value of the answer or raises a MeshError. What it may look at (the
ledger, the genesis, the directory) it was given when it was made. Another protocol is added by one more ``Protocol`` in the list that
the node's square is built with (``node/strangers.py``).

A large answer costs more than its question, which is known when it is there: the asker owes that, and is answered again when it has paid.

Nothing that is wrong with a question leaves this room as an exception: it becomes a refusal with a name.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from meshos.errors import Broken, MeshError, Refused
from meshos.protocols.square import wire
from meshos.protocols.square.budget import Budget
from meshos.protocols.square.limits import ANSWER_BYTES_A_TOKEN, MOST_REQUEST_BYTES, REQUEST_BYTES


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the peer id that its handshake proved (``12D3KooW…`` where its key is an Ed25519 key), and where it came from."""

    peer: str
    address: str


Answer = Callable[[wire.Fields, Asker], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Protocol:
    """``name`` is ``/meshos/<what>/1``. A request of it costs ``cost`` tokens, has at most ``most`` bytes, and is answered within
    ``timeout_s``, or refused as ``square-too-slow``.
    """

    name: str
    cost: int
    answer: Answer
    most: int = REQUEST_BYTES
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        assert 0 < self.most <= MOST_REQUEST_BYTES and self.cost > 0


class Answering:
    """See the module's text."""

    def __init__(self, protocols: Iterable[Protocol], budget: Budget, bug: Callable[[str, Exception], None] | None = None) -> None:
        """``bug`` is told of an error of our own, and on which protocol it was met."""
        self._bug = bug
        self.protocols = {protocol.name: protocol for protocol in protocols}
        self.budget = budget
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """By the refusal's name."""

    async def answer(self, protocol: Protocol, asker: Asker, request: bytes, now: float) -> bytes:
        """The answer to a request, or its refusal; both without their length."""
        try:
            self.budget.take(now, protocol.cost, address=asker.address, peer=asker.peer)
            fields = wire.decode_request(request, protocol.most)
            answer = wire.encode_answer(await protocol.answer(fields, asker))
        except MeshError as error:
            return self.refusal(error)
        except Exception as error:  # a bug of ours, met by a stranger: it is said, it is counted, and the node goes on
            if self._bug is not None:
                self._bug(protocol.name, error)
            return self.refusal(Broken("internal", f"a bug of ours, {type(error).__name__}; the log of this node has it"))
        self.answered[protocol.name] += 1
        self.budget.spend(now, len(answer) // ANSWER_BYTES_A_TOKEN, address=asker.address, peer=asker.peer)
        return answer

    def refusal(self, error: MeshError) -> bytes:
        """``error`` as an answer, counted."""
        self.refused[error.name] += 1
        return wire.encode_refusal(error)

    def statistics(self) -> dict[str, float]:
        """Answers by protocol, and refusals."""
        said = {f"answered_{name.split('/')[2]}": float(self.answered[name]) for name in self.protocols}
        return {**said, "refused": float(self.refused.total()), **self.budget.statistics()}


def too_slow(protocol: Protocol) -> Refused:
    """The refusal of what could not be answered in time."""
    return Refused(
        "square-too-slow", f"{protocol.name} was not answered within {protocol.timeout_s:g} s", hint="ask again, or another node"
    )
