"""One node of the world: what it is made of, and the driver's side of its ``Core``.

A node that is *paused* (SIGSTOP) keeps what arrives, up to a socket buffer, and meets it late. A node that *crashed* loses its
machines and whatever its disk had not synced; ``start`` builds it anew from what is left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappush
from typing import TYPE_CHECKING, Any

from meshos.crypto.signing import Domain, Signer, Verifier
from meshos.effects import Completed, Err, Machine, Ok, Report, Sign, Signed, Write
from meshos.errors import MeshError, Refused
from meshos.flow import Compute, Port
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid
from meshos.node.kernel.core import NEVER, Core
from meshos.protocols.membership.admission import admit
from meshos.protocols.membership.events import Message, SendDatagram
from meshos.protocols.membership.machine import Membership
from meshos.protocols.rpc.events import OpenLink, SendMessage
from meshos.simulations.disks import Disks
from meshos.storage.disk import DiskFailed
from meshos.storage.overlay import Overlay

if TYPE_CHECKING:
    from meshos.simulations.world import World

SOCKET_BUFFER = 1024
"""Events that a paused node keeps; datagrams beyond it are lost, as in a full receive buffer."""

ENDLESS = 50_000
"""Steps of one node's machines at one moment: what it meets when it goes on after a pause, with all that follows, is a tenth of that."""

WALL_BEGIN_MS = 1_700_000_000_000
"""What wall clocks show when a run begins, where they are right."""

ROUNDING_S = 1e-9
"""The product of a time and a drift may fall short of a deadline by this much: no node is woken too early."""


class Violation(Exception):
    """Something that must hold does not: ``kind`` is safety, stuck or crashed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Lasting:
    """What a port gives that takes its time: after ``seconds`` ``ended()`` is the answer (or raises MeshError); ``left()`` is called
    where nobody waits for it any more before that."""

    seconds: float
    ended: Callable[[], object]
    left: Callable[[], None]


@dataclass(slots=True)
class Spec:
    """What a node is made of: who it is, and how its machines are built from its disks (again after each crash)."""

    node: NodeId
    org: OrgDid
    build: Callable[["SimNode"], Mapping[str, Machine]]
    stores: tuple[str, ...] = ()  # the machines that have a disk
    signer: Signer | None = None
    verifier: Verifier | None = None
    certificate: bytes = b""
    first: tuple[tuple[str, object], ...] = ()  # what each life begins with: (machine, event)
    ports: Mapping[type, Callable[["SimNode", Any], object]] = field(default_factory=dict)  # what Port(effect) gives (or Lasting)
    signers: Mapping[str, Signer] = field(default_factory=dict)  # of machines that sign with another key
    leaf: bool = False  # behind a router that lets nothing in


class SimNode:
    """One node of the world."""

    def __init__(self, world: "World", spec: Spec) -> None:
        self.world = world
        self.spec = spec
        self.name = spec.node
        self.rng = world.generator(f"node/{spec.node}")
        self.disks = Disks(world, spec.node, spec.stores)
        self.stores = self.disks.stores
        self.views: dict[str, Overlay] = {}
        self.drift = 1.0  # how fast its clock runs
        self.wall_offset_s = 0.0  # how far its wall clock is off
        self.epoch = 0  # counts its lives: what was meant for an earlier one is dropped
        self.alive = False
        self.paused = False
        self.kept: list[Callable[[], None]] = []
        self.outside: dict[int, Lasting] = {}  # what its ports are doing, by the operation of the Flow that waits
        self.moment, self.steps = -1.0, 0  # how many steps its machines have made at this moment
        self.wake = NEVER  # the heap has a wake-up for this node at this time
        self.handlers: dict[type, Callable[[Any], None]] = {}  # effects for parts of this node; ``build`` fills it
        self.core: Core
        self.membership: Membership  # where the node has one

    def now(self) -> float:
        """Its own clock."""
        return self.world.now * self.drift

    def wall_ms(self) -> int:
        """Its wall clock, in milliseconds since 1970."""
        return WALL_BEGIN_MS + round((self.world.now + self.wall_offset_s) * 1000)

    def start(self) -> None:
        """Build its machines from its disks and begin."""
        self.epoch += 1
        self.alive, self.paused, self.kept = True, False, []
        self._lives("start")
        self.views = {name: Overlay(store) for name, store in self.stores.items()}
        self.wake = NEVER
        try:
            machines = self.spec.build(self)
        except DiskFailed:
            self.world.visited("a node that could not start: its disk is corrupt")
            self.crash()
            return
        self.core = Core(
            machines,
            carry_out=self._carry_out,
            stage=self._stage,
            sync=self._sync,
            observe=None if self.world.observer is None else self._observe,
        )
        if "membership" in self.spec.stores:
            membership = self.core.machine("membership")
            assert isinstance(membership, Membership)
            self.membership = membership
        for machine, event in self.spec.first:
            self.deliver(machine, event)
        if self.alive:
            self.rearm()

    def _observe(self, machine: str, event: object, effects: list[object]) -> None:
        """Every step of every machine: for the checkers, and to notice machines that tell each other things without end."""
        world = self.world
        if self.moment != world.now:
            self.moment, self.steps = world.now, 0
        self.steps += 1
        if self.steps > ENDLESS:
            raise Violation("stuck", f"{self.name} makes steps without end, the last of {machine} for {type(event).__name__}")
        assert world.observer is not None
        world.observer(self, machine, event, effects)

    def receive(self, sender: NodeId, source: str, message: Message) -> None:
        """A datagram reaches this node's socket."""
        if not self.alive:
            return
        if self.paused:
            self._keep(partial(self.receive, sender, source, message))
            return
        assert self.spec.verifier is not None
        event = admit(self.membership, self.spec.verifier, sender, source, message)
        if event is not None:
            self._meet("membership", event)

    def _keep(self, happen: Callable[[], None]) -> None:
        """Meet it when this node runs again, if there is room."""
        if len(self.kept) < SOCKET_BUFFER:
            self.kept.append(happen)
        else:
            self.world.visited("a paused node's buffer ran over")

    # -- the driver's side of Core -----------------------------------------------------------------------------------

    def deliver(self, machine: str, event: object) -> None:
        """``event`` reaches this node now."""
        if not self.alive:
            return
        if self.paused:
            self._keep(partial(self.deliver, machine, event))
        else:
            self._meet(machine, event)

    def _meet(self, machine: str, event: object) -> None:
        core = self.core
        try:
            core.deliver(self.world.now * self.drift, machine, event)
        except DiskFailed:
            self.crash()
        else:
            if core.due < self.wake * self.drift:
                self.rearm()

    def rearm(self) -> None:
        """Make sure that the heap wakes this node at its deadline."""
        due = self.core.due / self.drift
        if due < self.wake:
            world = self.world
            self.wake = wake = due if due > world.now else world.now
            heappush(world.heap, (wake, next(world.numbers), self._wake_up, (self.epoch, wake)))

    def _wake_up(self, epoch: int, wake: float) -> None:
        if epoch != self.epoch or wake != self.wake:
            return
        self.wake = NEVER
        if self.paused:
            return
        core, now = self.core, self.world.now * self.drift
        due = core.due
        if due <= now + ROUNDING_S:  # else what this wake-up was for was called off meanwhile
            try:
                core.tick(due if due > now else now)
            except DiskFailed:
                self.crash()
                return
        self.rearm()

    def _stage(self, machine: str, writes: Sequence[Write]) -> None:
        self.views[machine].lay(writes)
        self.disks.begin(machine, writes)

    def _sync(self, machine: str) -> None:
        self.world.after(self.disks.begin_sync(), self._synced, self.epoch, machine)

    def _synced(self, epoch: int, machine: str) -> None:
        if epoch != self.epoch or self.disks.hold(partial(self._synced, epoch, machine)):
            return
        if self.paused:
            self.kept.append(partial(self._synced, epoch, machine))
            return
        try:
            self.disks.sync(machine)
            self.views[machine].settle(self.views[machine].pending)
            self.core.synced(self.now(), machine)
        except DiskFailed:
            self.crash()
        else:
            self.rearm()

    def _carry_out(self, effect: object) -> None:
        world = self.world
        if type(effect) is SendDatagram:
            world.send_datagram(self, effect)
        elif type(effect) is SendMessage:
            world.links.send(self, effect)
        elif type(effect) is OpenLink:
            world.links.open(self, effect.to)
        elif type(effect) is Perform:
            self._perform(effect)
        elif type(effect) is Sign:
            signer = self.spec.signers.get(effect.machine, self.spec.signer)
            assert signer is not None and isinstance(effect.domain, Domain)
            signature = signer.sign(effect.domain, effect.payload)
            world.after(world.sign_s(), self._later, self.epoch, effect.machine, Signed(effect.op, signature))
        elif type(effect) is Report:
            raise Violation("crashed", f"{self.name}: {effect.machine}: {effect.error!r}") from effect.error
        elif type(effect) in self.handlers:
            self.handlers[type(effect)](effect)
        elif type(effect) is Abandon:
            lasting = self.outside.pop(effect.op, None)
            if lasting is not None:
                lasting.left()
        else:
            world.notify(self, effect)

    def _perform(self, perform: Perform) -> None:
        operation = perform.operation
        try:
            if isinstance(operation, Compute):
                cost, value = operation.cost_s, operation.work()
            else:
                assert isinstance(operation, Port)
                port = self.spec.ports.get(type(operation.effect))
                if port is None:
                    raise Refused("no-port", f"{type(operation.effect).__name__} has no port in this scenario")
                cost, value = self.world.port_s, port(self, operation.effect)
                if isinstance(value, Lasting):
                    self.outside[perform.op] = value
                    self.world.after(value.seconds, self._lasted, self.epoch, perform)
                    return
            outcome: Ok[object] | Err = Ok(value)
        except MeshError as error:
            cost, outcome = self.world.port_s, Err(error)
        self.world.after(cost, self._later, self.epoch, perform.reply_to, Completed(perform.op, outcome))

    def _lasted(self, epoch: int, perform: Perform) -> None:
        """A port has done what it was asked, unless nobody waits any more."""
        lasting = self.outside.pop(perform.op, None) if epoch == self.epoch else None
        if lasting is None:
            return
        try:
            outcome: Ok[object] | Err = Ok(lasting.ended())
        except MeshError as error:
            outcome = Err(error)
        self.deliver(perform.reply_to, Completed(perform.op, outcome))

    def _later(self, epoch: int, machine: str, event: object) -> None:
        if epoch == self.epoch:
            self.deliver(machine, event)

    def _lives(self, what: str) -> None:
        if self.world.tracer is not None:
            self.world.tracer.life(self.world.now, self.name, what)

    # -- faults ------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """SIGKILL and power cut: the machines are gone, and so is what was not synced. A failed disk ends a node too."""
        self.alive = False
        self.epoch += 1
        self.world.crashed(self)
        self._lives("crash")
        outside, self.outside = self.outside, {}
        for lasting in outside.values():
            lasting.left()
        self.disks.crash()
        self.world.links.node_gone(self)

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        self._lives("pause")

    def resume(self) -> None:
        """SIGCONT: everything that arrived meanwhile is met at once, and every timer is late."""
        if not (self.alive and self.paused):
            return
        self.paused = False
        self._lives("resume")
        kept, self.kept = self.kept, []
        if kept:
            self.world.visited("a paused node that met late what came meanwhile")
        epoch = self.epoch
        for happen in kept:
            happen()
        if self.epoch == epoch:  # else it died of what it met
            self._wake_up(epoch, self.wake)
