"""What a machine is: time and events in, effects and a deadline out, nothing else.

Everything that decides (membership, rpc, an organisation's state, the directory) is a plain class with this shape.
It has no clock, socket, disk, thread or randomness of its own, and so runs unchanged in a node (on trio) and in the
simulator (from a heap of events in virtual time).

Who drives a machine keeps four promises:

1. ``now`` is in seconds, never goes back, and has no meaning but its differences.
2. ``step`` is called with each event in the order of arrival, and with ``Tick()`` when ``deadline()`` has passed.
3. Of the effects of the steps drained together, every ``Persist`` is on disk (one synced batch) before any other is
   carried out. So a promise that leaves the node survives the node. Two kinds stand outside of this: a ``WriteBack``
   keeps nothing waiting and is on disk with a later batch, in order; an ``Ahead`` does not wait.
4. ``Tell`` reaches the named machine of the same node in order, ``Cast`` another node, if it can. Everything else goes to the
   port of its type.

A driver that cannot write ends the node: a machine never learns of a failed write, since after it nothing that the
machine believes of its own past is known to be true (fsync is not tried twice).
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from meshos.errors import MeshError
from meshos.ids import NodeId, Peer
from meshos.values import frozen

T = TypeVar("T")


@frozen
class Ok(Generic[T]):
    """It worked, with this value."""

    value: T


@frozen
class Err:
    """It did not, for this reason."""

    error: MeshError


Outcome: TypeAlias = Ok[T] | Err


# -- events that every machine may meet ------------------------------------------------------------------------------


@frozen
class Tick:
    """The machine's deadline has passed."""


@frozen
class Completed:
    """What this machine asked another for under the number ``op`` has ended."""

    op: int
    outcome: Outcome[object]


@frozen
class Signed:
    """The signature that was asked for by ``Sign`` with this ``op``."""

    op: int
    signature: bytes


@frozen
class Heard:
    """What a ``Cast`` of an authenticated ``peer`` brought, for the machine that listens to ``protocol``. It may come twice, late, out
    of order or never."""

    peer: Peer
    protocol: str
    body: bytes


# -- effects that every machine may have -----------------------------------------------------------------------------


@frozen
class Put:
    """Write ``value`` under ``key``."""

    key: bytes
    value: bytes


@frozen
class Delete:
    """Remove ``key``, if it is there."""

    key: bytes


Write: TypeAlias = Put | Delete


@frozen
class Persist:
    """These writes are on disk before any other effect of the same drain is carried out."""

    writes: tuple[Write, ...]


@frozen
class WriteBack:
    """The machine's View shows these writes at once; the disk has them with the machine's next ``Persist``, or soon after where
    there is none. Nothing waits for that.

    Writes reach the disk in the order in which they were emitted, those of a ``Persist`` among them, so that what is synced
    stands on all that was written before it. A crash loses a tail of what was not synced: this is for state that a log can make
    again.
    """

    writes: tuple[Write, ...]


@frozen
class Ahead:
    """``effect`` is carried out at once, before the sync of its own drain, and so overtakes what that sync withholds.

    Only for what promises nothing that the disk must keep: a leader sends entries to its followers while its own disk
    writes them (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 10.2.1).
    """

    effect: object


@frozen
class Tell:
    """``event`` goes into the mailbox of another machine of this node."""

    machine: str
    event: object


@frozen
class Cast:
    """``body`` goes to the machine of another node (or of this one) that listens to ``protocol``, which hears it as ``Heard``.

    One way and best effort: no id, no record, no reply. It goes over the link that there is, on the control lane up to 64 KiB and on
    the work lane up to 1 MiB; without a link it is lost, and a link is asked for unless ``dial`` is False.
    """

    to: NodeId
    protocol: str
    body: bytes
    dial: bool = True


@frozen
class Sign:
    """The node's key signs ``payload`` for ``domain``; ``Signed`` comes back to ``machine``.

    ``domain`` is a ``crypto.signing.Domain`` (a floor below, hence only ``object`` here). Signing is I/O (the key may sit in
    a TPM or HSM), so it is an effect.
    """

    machine: str
    op: int
    domain: object
    payload: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A bug of ours was met: logged with its traceback in a node, a violation in the simulator."""

    machine: str
    error: BaseException


class Effect(Protocol):
    """Any frozen dataclass that says what is to be done; its type picks the port that does it."""

    __slots__ = ()


class Machine(Protocol):
    """See the module's text. ``step`` takes well under a millisecond; what is slower is a ``Compute`` of a Flow."""

    def step(self, now: float, event: object) -> list[object]:
        """What to do now that ``event`` has happened at ``now``; the order of the effects is the order of sending."""
        ...

    def deadline(self) -> float | None:
        """When to call ``step(now, Tick())`` at the latest, or None if nothing is waited for."""
        ...
