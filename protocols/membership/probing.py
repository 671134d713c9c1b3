"""Probing: is that member there? (SWIM, Das et al. 2002, sections 3.1 and 4.3; Lifeguard, Dadgar et al. 2017, sections 4.1 and 4.3.)

    0                     probe_timeout          probe_interval        (all times the health factor)
    |-- ping ---------------->|-- k ping requests ------->|-- nothing came: the probe has failed
                              |-- a probe over the link ->|

A ping to a member that is suspected carries the accusation (buddy), so that whoever can refute learns of it first. A helper that
gets no ack either says so by a nack: if no nack comes, it is this node that is cut off or slow, and its health score rises.

Members that were heard of within half a round are passed over once, so that the probes go where they teach most; nobody is passed
over twice in a row, since being heard does not prove that one can be reached.
"""

from collections.abc import Callable, Mapping

from meshos.effects import Completed, Ok, Tell
from meshos.flow import Ask
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId
from meshos.protocols.membership.events import Ack, Nack, Ping, PingRequest
from meshos.protocols.membership.limits import PROBES, RELAYS, REMINDED, SKIPS
from meshos.protocols.membership.member import Member
from meshos.protocols.membership.reach import Reach
from meshos.protocols.membership.state import ROOM, State
from meshos.protocols.membership.timers import Timer, call_off

PROBE_PROTOCOL = "/meshos/probe/1"
"""The service on the link that answers a probe with nothing."""

MACHINE = "membership"


class Probe:
    """One probe under way. ``helpers`` is empty in its direct phase."""

    __slots__ = ("ask", "began", "helpers", "member", "nacks", "op", "sequence", "timer")

    def __init__(self, member: Member, sequence: int, began: float) -> None:
        self.member = member
        self.sequence = sequence
        self.began = began
        self.helpers: tuple[Member, ...] = ()
        self.nacks = 0
        self.timer: Timer | None = None
        self.op = 0
        self.ask: Ask | None = None


class Relay:
    """A ping on behalf of ``asker``, who knows it by ``sequence``."""

    __slots__ = ("asker", "sequence", "target", "timer")

    def __init__(self, asker: Member, sequence: int, target: Member) -> None:
        self.asker = asker
        self.sequence = sequence
        self.target = target
        self.timer: Timer | None = None


class Prober:
    """``accused`` are the suspects. ``failed(member)`` is called when a probe has failed, ``found(member)`` when one that was held for
    dead answers."""

    def __init__(
        self,
        state: State,
        reach: Reach,
        accused: Mapping[NodeId, Member],
        failed: Callable[[Member], None],
        found: Callable[[Member], None],
    ) -> None:
        self._state = state
        self._reach = reach
        self._accused = accused
        self._failed = failed
        self._found = found
        self._probes: dict[int, Probe] = {}
        self._by_op: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._pinged_lost: dict[int, Member] = {}
        self._sequence = int(state.rng.random() * 2**31)
        self._stopped = False

    def begin(self) -> None:
        """Probe from now on, not in step with others that began at the same time."""
        state = self._state
        state.timers.set(state.now + state.timing.probe_interval_s * (0.5 + state.rng.random()), self._round)

    def stop(self) -> None:
        """No new rounds: this node leaves."""
        self._stopped = True

    def confirm(self, member: Member) -> None:
        """Somebody suspects ``member``: probe it now, unless a probe of it is under way."""
        if len(self._probes) >= PROBES or not self._reach.looks_at(member):
            return
        if not any(probe.member is member for probe in self._probes.values()):
            self._probe(member)

    def ping_lost(self, member: Member) -> None:
        """Ping one that is held for dead or suspected; if it is there, it learns what is said of it."""
        if len(self._pinged_lost) >= PROBES:
            del self._pinged_lost[next(iter(self._pinged_lost))]
        sequence = self._next_sequence()
        self._pinged_lost[sequence] = member
        self._reach.send(member, Ping(sequence, member.told()))

    def void(self) -> None:
        """This node was not running: what did not come in time says nothing."""
        for probe in list(self._probes.values()):
            self._end(probe)

    # -- what arrives ------------------------------------------------------------------------------------------------

    def acked(self, sender: NodeId, sequence: int) -> None:
        """An ack: of the target, or of a helper on its behalf."""
        probe = self._probes.get(sequence)
        if probe is not None:
            member = probe.member
            if member.node == sender:
                if not probe.helpers:
                    member.rtt_s = self._state.now - probe.began
            elif not any(helper.node == sender for helper in probe.helpers):
                return
            if self._state.awareness.score:
                self._state.awareness.better()
            self._end(probe)
            return
        relay = self._relays.get(sequence)
        if relay is not None:
            if relay.target.node == sender:
                del self._relays[sequence]
                call_off(relay.timer)
                self._reach.send(relay.asker, Ack(relay.sequence))
            return
        lost = self._pinged_lost.pop(sequence, None)
        if lost is not None and lost.node == sender:
            self._found(lost)

    def nacked(self, sender: NodeId, sequence: int) -> None:
        """A helper has not reached the target either; but this node has reached the helper."""
        probe = self._probes.get(sequence)
        if probe is not None and any(helper.node == sender for helper in probe.helpers):
            probe.nacks += 1

    def asked(self, asker: Member, request: PingRequest) -> None:
        """``asker`` wants to know about a member; where this node cannot tell, it says so at once."""
        state = self._state
        target = state.table.members.get(request.target)
        if target is None or target.node == state.table.me or len(self._relays) >= RELAYS or not self._reach.touches(target):
            self._reach.send(asker, Nack(request.sequence))
            return
        sequence = self._next_sequence()
        relay = self._relays[sequence] = Relay(asker, request.sequence, target)
        timing = state.timing
        wait = (timing.probe_interval_s - timing.probe_timeout_s) * timing.nack_share
        relay.timer = state.timers.set(state.now + wait, self._relay_ended, sequence)
        self._reach.send(target, Ping(sequence, state.queue.take(ROOM, target.told())))

    def completed(self, event: Completed) -> None:
        """The probe over the link has ended. Its failure alone says nothing: the phase goes on."""
        probe = self._by_op.pop(event.op, None)
        if probe is None:
            return
        probe.op = 0
        if isinstance(event.outcome, Ok):
            self._state.awareness.better()
            self._end(probe)

    # -- rounds ------------------------------------------------------------------------------------------------------

    def _round(self, _: object) -> None:
        if self._stopped:
            return
        state = self._state
        state.timers.set(state.now + state.timing.probe_interval_s * state.awareness.factor, self._round)
        member = self._choose()
        if member is not None and len(self._probes) < PROBES and self._reach.looks_at(member):
            self._probe(member)
        if self._accused:
            self._remind()

    def _remind(self) -> None:
        """Ping some of those that this node itself suspects: who is there after all answers with its newest incarnation."""
        suspects = [member for member in self._accused.values() if member.evidence_at is not None]
        for _ in range(min(REMINDED, len(suspects))):
            self.ping_lost(suspects[int(self._state.rng.random() * len(suspects))])

    def _choose(self) -> Member | None:
        ring = self._state.table.ring
        lately = self._state.now - len(ring.members) * self._state.timing.probe_interval_s / 2
        member = ring.next()
        for _ in range(SKIPS):
            if member is None or member.skipped or member.suspected_at is not None or member.heard <= lately:
                break
            member.skipped = True
            member = ring.next()
        if member is not None:
            member.skipped = False
        return member

    def _probe(self, member: Member) -> None:
        state = self._state
        sequence = self._next_sequence()
        probe = self._probes[sequence] = Probe(member, sequence, state.now)
        state.counts["probes"] += 1
        if not self._reach.touches(member):
            self._go_indirect(probe)
            return
        probe.timer = state.timers.set(state.now + state.timing.probe_timeout_s * state.awareness.factor, self._go_indirect, probe)
        first = member.told() if member.words else ()
        self._reach.send(member, Ping(sequence, state.queue.take(ROOM, first)))

    def _go_indirect(self, probe: Probe) -> None:
        state = self._state
        timing, member = state.timing, probe.member
        rest = (timing.probe_interval_s - timing.probe_timeout_s) * state.awareness.factor
        probe.timer = state.timers.set(state.now + rest, self._phase_over, probe)
        probe.helpers = tuple(self._reach.helpers(timing.indirect_probes, member))
        request = PingRequest(probe.sequence, member.node)
        for helper in probe.helpers:
            self._reach.send(helper, request)
        if not self._reach.touches(member):
            return  # a leaf, which its anchors know
        probe.op = state.number()
        probe.ask = Ask(member.node, PROBE_PROTOCOL, b"", rest, retries=0, lane="control")
        self._by_op[probe.op] = probe
        state.out.append(Tell("rpc", Perform(probe.op, probe.ask, state.now + rest, reply_to=MACHINE)))

    def _phase_over(self, probe: Probe) -> None:
        state = self._state
        state.counts["probes_failed"] += 1
        if probe.nacks < len(probe.helpers) or (not probe.helpers and self._reach.touches(probe.member)):
            state.awareness.worse()
        self._end(probe)
        if probe.member.heard <= probe.began:  # else it is there: its own datagram has come meanwhile
            self._failed(probe.member)

    def _end(self, probe: Probe) -> None:
        del self._probes[probe.sequence]
        call_off(probe.timer)
        if probe.op:
            assert probe.ask is not None
            del self._by_op[probe.op]
            self._state.out.append(Tell("rpc", Abandon(probe.op, probe.ask, reply_to=MACHINE)))
            probe.op = 0

    def _relay_ended(self, sequence: int) -> None:
        relay = self._relays.pop(sequence)
        self._reach.send(relay.asker, Nack(relay.sequence))

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        return self._sequence
