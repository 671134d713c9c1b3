"""Flows: work that fans out, waits, hedges or gives up, written as plain ``async def``.

A Flow awaits only the operations below. It never meets a clock, a socket or an event loop, so that the same
coroutine runs in a node and in the simulator. The coroutines are stepped by a machine, ``Flows`` (flow_machine.py), where
waiting, gathering and giving up are decided once for all drivers.

    async def fetch(holders: list[NodeId], key: bytes) -> bytes:
        first = Ask(holders[0], GET, key, timeout_s=1)
        second = after(0.05, Ask(holders[1], GET, key, timeout_s=1))      # a hedge
        (value,) = successes(await Gather(first, second, need=1))         # the slower one is cancelled
        return value

Cancellation and deadlines arrive as exceptions at the ``await``: ``Cancelled`` and ``MeshError("deadline-exceeded")``.
A cancelled Flow may clean up, but awaits nothing any more.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast

from meshos.effects import Err, Ok, Outcome
from meshos.ids import NodeId
from meshos.values import frozen

T = TypeVar("T")

Flow: TypeAlias = Coroutine[Any, Any, T]
"""A coroutine that awaits nothing but the operations of this module (the two Any are what asyncio's own type says)."""

Lane = Literal["control", "work", "bulk"]
"""Which lane of a link carries a message: short and urgent; ordinary; large, on a connection of its own."""


def _same(cls: type[T], item: object) -> type[T]:
    """``Propose[Ended](…)`` says to mypy what comes back, and to Python no more than ``Propose(…)``: typing's own way would cost three
    times what the object does."""
    return cls


class Cancelled(BaseException):
    """The Flow is not wanted any more. A BaseException, so that ``except Exception`` does not keep it alive."""


@frozen
class Ask:
    """Ask another node (or this one) and wait for its reply, at most ``timeout_s`` and never past the Flow's deadline.

    ``body`` and the reply are bytes whose meaning belongs to ``protocol``. ``retries`` beyond the first try are made only
    while the outcome cannot be doubled: the request's id stays the same, and the other side answers a repeated id with
    the recorded reply. Raises what the other side raised, or Unreachable.
    """

    to: NodeId
    protocol: str
    body: bytes
    timeout_s: float
    retries: int = 2
    lane: Lane = "work"

    def __await__(self) -> Generator["Ask", object, bytes]:
        return cast(bytes, (yield self))


@frozen
class Sleep:
    """Wait ``seconds``."""

    seconds: float

    def __await__(self) -> Generator["Sleep", object, None]:
        yield self


@frozen
class Propose(Generic[T]):
    """Put ``command`` to a machine of this node (by default the organisation's state); the reply comes once it is durable.

    Raises what the machine answered (``not_done``), or Unreachable with outcome ``unknown``.
    """

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(_same)

    command: object
    to: str = "org"

    def __await__(self) -> Generator["Propose[T]", object, T]:
        return cast(T, (yield self))


@frozen
class Compute(Generic[T]):
    """Run a pure function in a worker thread (embedding, vector search, batches of signature checks).

    ``work`` touches nothing that changes while it runs. ``cost_s`` is what the simulator charges for it.
    """

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(_same)

    work: Callable[[], T]
    cost_s: float = 0.001

    def __await__(self) -> Generator["Compute[T]", object, T]:
        return cast(T, (yield self))


@frozen
class Port(Generic[T]):
    """Have a port of the node do something with the world outside (call an agent's tool, start a process) and wait.

    ``effect`` is a frozen dataclass whose type picks the port; cancelling the Flow cancels the work.
    """

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(_same)

    effect: object

    def __await__(self) -> Generator["Port[T]", object, T]:
        return cast(T, (yield self))


class Gather:
    """Run several Flows or operations side by side; give one Outcome for each, in their order.

    Ends when ``need`` of them have succeeded (default: all), when too many have failed for that, or when all ended.
    Those still running then are cancelled, and their place holds ``ABANDONED``. With ``each`` True it ends only when all
    have ended, whatever became of the others.
    """

    __slots__ = ("children", "each", "need")

    def __init__(self, *children: Awaitable[Any], need: int | None = None, each: bool = False) -> None:
        self.children = children
        self.need = len(children) if need is None else need
        self.each = each

    def __await__(self) -> Generator["Gather", object, list[Outcome[Any]]]:
        return cast("list[Outcome[Any]]", (yield self))


Operation: TypeAlias = Ask | Sleep | Propose[Any] | Compute[Any] | Port[Any] | Gather


async def after(seconds: float, work: Awaitable[T]) -> T:
    """``work``, begun ``seconds`` from now: the second half of a hedge."""
    await Sleep(seconds)
    return await work


def successes(outcomes: Sequence[Outcome[T]]) -> list[T]:
    """The values of those that succeeded, in order; if none did, raises the first error."""
    values = [outcome.value for outcome in outcomes if isinstance(outcome, Ok)]
    if not values:
        for outcome in outcomes:
            if isinstance(outcome, Err):
                raise outcome.error
    return values
