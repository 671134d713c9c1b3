"""The serving half of rpc: each id is run at most once while it is remembered, and answered as often as it is asked.

A request is refused (unknown protocol, not allowed, too late), not taken in (``busy``, the same id may come again), answered
from its record, joined to the one that runs, or started: as a Flow, or where its protocol is one command to a machine, as that. A link
that ends cancels nothing: the asker may come back with the same id and find its reply.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from meshos.effects import Completed, Err, Ok, Outcome, Report, Tell
from meshos.errors import Broken, MeshError, Refused, Unreachable, busy
from meshos.flow import Lane, Propose
from meshos.flow_machine import Abandon, CancelFlow, FlowEnded, Perform, StartFlow
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.rpc.asking import Send
from meshos.protocols.rpc.events import Cancel, Inbound, Reply, Request
from meshos.protocols.rpc.limits import BODY_BYTES, RECORD_GRACE_S, SERVED, SERVED_BYTES, SERVED_BYTES_PER_PEER, SERVED_PER_PEER
from meshos.protocols.rpc.records import Key, Records

Allowed: TypeAlias = Mapping[str, Callable[[Peer], bool]]
"""The protocols that are served, and who may ask for each. What is not in it is refused as ``unknown-protocol``."""

Bodies: TypeAlias = Mapping[str, int]
"""The largest body of a request, by protocol."""


@dataclass(frozen=True, slots=True)
class Commanded:
    """How a request becomes a command to ``machine``, and its result the reply: for what needs no Flow, which would cost more than the
    rest of the request. ``command`` raises MeshError for what is none."""

    machine: str
    command: Callable[[Inbound], object]
    reply: Callable[[object], bytes]


Commands: TypeAlias = Mapping[str, Commanded]
"""By protocol. All others that are served are Flows of that name."""


def reply_lane(asked_on: Lane, outcome: Outcome[bytes]) -> Lane:
    """Control stays control, large replies go on the bulk lane, the rest is work."""
    size = len(outcome.value) if isinstance(outcome, Ok) else 0
    if size > BODY_BYTES["work"]:
        return "bulk"
    return "control" if asked_on == "control" and size <= BODY_BYTES["control"] else "work"


COUNTED = ("served", "repeated", "joined", "refused", "not_taken_in", "cancelled", "replies_not_sent", "stale")
"""What ``Serving`` counts; ``stale`` are requests that the asker had settled before they came."""


class _Running:
    __slots__ = ("cancelled", "command", "deadline", "lane", "op", "peer", "protocol", "size")

    def __init__(self, peer: Peer, protocol: str, size: int, lane: Lane, deadline: float) -> None:
        self.op = 0  # under which number a machine was given ``command``
        self.command: Propose[object] | None = None
        self.peer = peer
        self.protocol = protocol
        self.size = size
        self.lane = lane
        self.deadline = deadline
        self.cancelled = False


class _Load:
    """What runs for one peer, or for all nodes of one organisation."""

    __slots__ = ("bytes", "requests")

    def __init__(self) -> None:
        self.requests = self.bytes = 0


_NOTHING = _Load()


class Serving:
    """Holds every request that runs here for somebody. ``now`` is set by the machine before each call."""

    def __init__(
        self,
        allowed: Allowed,
        send: Send,
        linked: Callable[[NodeId], bool],
        effects: list[object],
        bodies: Bodies | None = None,
        commands: Commands | None = None,
    ) -> None:
        self.now = 0.0
        self.effects = effects
        self.counts = dict.fromkeys(COUNTED, 0)
        self.records = Records()
        self._allowed = allowed
        self._bodies = bodies
        self._commands = commands or {}
        self._ops = 0
        self._by_op: dict[int, Key] = {}
        self._send = send
        self._linked = linked
        self._running: dict[Key, _Running] = {}
        self._of_peer: dict[NodeId, _Load] = {}
        self._of_org: dict[OrgDid, _Load] = {}
        self._bytes = 0

    def request(self, peer: Peer, request: Request, lane: Lane) -> None:
        """One try of a request has come."""
        key = (peer.node, request.id)
        if key in self._running:
            self.counts["joined"] += 1
            return
        recorded = self.records.get(key)
        if recorded is not None:
            self.counts["repeated"] += 1
            self._answer(peer.node, lane, recorded)
            return
        if self.records.settled(key, request.floor, self.now):
            self.counts["stale"] += 1
            return
        refusal = self._refusal(peer, request)
        if refusal is not None:
            self.counts["refused"] += 1
            self._answer(peer.node, lane, Reply(request.id, Err(refusal)))
        elif self._full(peer, len(request.body)):
            self.counts["not_taken_in"] += 1
            self._answer(peer.node, lane, Reply(request.id, Err(busy("the table of requests that run here")), final=False))
        else:
            self._start(key, peer, request, lane)

    def cancel(self, peer: Peer, cancel: Cancel) -> None:
        """The asker waits no more, whether it has its answer or not: stop, and keep no body for it.

        A cancel may overtake its request, so an unknown id is remembered as cancelled.
        """
        key = (peer.node, cancel.id)
        running = self._running.get(key)
        if running is not None:
            if not running.cancelled:
                running.cancelled = True
                self.counts["cancelled"] += 1
                self._call_off(key, running)
        elif self.records.get(key) is not None:
            self.records.release(key)
        else:
            cancelled = Refused("cancelled", "it was cancelled by whoever asked for it")
            self.records.put(key, Reply(cancel.id, Err(cancelled)), self.now + RECORD_GRACE_S, peer.org)

    def ended(self, event: FlowEnded) -> None:
        """A Flow has an answer."""
        assert isinstance(event.flow, tuple), event
        self._ended(event.flow, event.outcome)

    def completed(self, event: Completed) -> None:
        """A machine has an answer, unless it crossed the cancel on its way."""
        key = self._by_op.pop(event.op, None)
        if key is None:
            return
        outcome = event.outcome
        if isinstance(outcome, Ok):
            outcome = Ok(self._commands[self._running[key].protocol].reply(outcome.value))
        self._ended(key, outcome)

    def _ended(self, key: Key, outcome: Outcome[object]) -> None:
        """There is an answer: it is recorded, and sent if there is a link (else the asker will ask again)."""
        running = self._running.pop(key)
        node = running.peer.node
        self._less(running.peer, running.size)
        value = outcome.value if isinstance(outcome, Ok) else None
        small = type(value) is bytes and len(value) <= BODY_BYTES["control"]
        reply = Reply(key[1], cast("Ok[bytes]", outcome) if small else self._checked(running.protocol, outcome))
        self.records.put(key, reply, max(self.now, running.deadline) + RECORD_GRACE_S, running.peer.org)
        if not running.cancelled and self._linked(node):
            self._answer(node, running.lane, reply)

    def _call_off(self, key: Key, running: _Running) -> None:
        """Nobody waits for it any more. A Flow ends all the same; a machine says nothing more."""
        if running.command is None:
            self.effects.append(Tell("flows", CancelFlow(key)))
            return
        del self._by_op[running.op]
        self.effects.append(Tell(running.command.to, Abandon(running.op, running.command, "rpc")))
        self._ended(key, Err(Refused("cancelled", "it was cancelled by whoever asked for it", outcome="unknown")))

    def not_sent(self, node: NodeId, reply: Reply) -> None:
        """A reply did not fit on the link: say so in few bytes, so that the asker comes back for the recorded one."""
        self.counts["replies_not_sent"] += 1
        if reply.final and self._linked(node):
            error = Refused("reply-not-sent", "this was done, but there was no room for its reply on the link", outcome="done")
            self._send(node, "control", Reply(reply.id, Err(error), final=False))

    def statistics(self) -> dict[str, float]:
        """Counts since the start, and how much is held."""
        return {**self.counts, "running": len(self._running), "records": len(self.records), "record_bytes": self.records.bytes()}

    def _refusal(self, peer: Peer, request: Request) -> MeshError | None:
        allowed = self._allowed.get(request.protocol)
        if allowed is None:
            return Refused("unknown-protocol", f"this node does not speak {request.protocol[:80]!r}")
        if not allowed(peer):
            return Refused("not-allowed", f"{peer.org} may not use {request.protocol} here")
        most = BODY_BYTES["bulk"] if self._bodies is None else self._bodies.get(request.protocol, BODY_BYTES["work"])
        if len(request.body) > most:
            detail = f"a request of {len(request.body)} bytes, at most {most} are taken by {request.protocol}"
            return Refused("request-too-large", detail)
        if request.ttl_ms < 1:
            return Unreachable("deadline-exceeded", "the request came when its time was over", outcome="not_done")
        return None

    def _full(self, peer: Peer, size: int) -> bool:
        """Whether the peer is at its bound, or its organisation holds as much as is left for all others (see limits.py)."""
        load = self._of_peer.get(peer.node, _NOTHING)
        if load.requests >= SERVED_PER_PEER or load.bytes + size > SERVED_BYTES_PER_PEER:
            return True
        load = self._of_org.get(peer.org, _NOTHING)
        return load.requests >= SERVED - len(self._running) or load.bytes + size > SERVED_BYTES - self._bytes

    def _more(self, peer: Peer, size: int) -> None:
        """One more runs for ``peer``, with a body of ``size``."""
        of_peer, of_org = self._of_peer.get(peer.node), self._of_org.get(peer.org)
        if of_peer is None:
            of_peer = self._of_peer[peer.node] = _Load()
        if of_org is None:
            of_org = self._of_org[peer.org] = _Load()
        of_peer.requests += 1
        of_peer.bytes += size
        of_org.requests += 1
        of_org.bytes += size
        self._bytes += size

    def _less(self, peer: Peer, size: int) -> None:
        """One less."""
        of_peer, of_org = self._of_peer[peer.node], self._of_org[peer.org]
        of_peer.requests -= 1
        of_peer.bytes -= size
        of_org.requests -= 1
        of_org.bytes -= size
        self._bytes -= size
        if not of_peer.requests:
            del self._of_peer[peer.node]
        if not of_org.requests:
            del self._of_org[peer.org]

    def _start(self, key: Key, peer: Peer, request: Request, lane: Lane) -> None:
        deadline = self.now + request.ttl_ms / 1000
        self.counts["served"] += 1
        size = len(request.body)
        running = self._running[key] = _Running(peer, request.protocol, size, lane, deadline)
        self._more(peer, size)
        inbound = Inbound(peer, request.protocol, request.body, deadline, request.trace)
        commanded = self._commands.get(request.protocol)
        if commanded is None:
            self.effects.append(Tell("flows", StartFlow(key, request.protocol, inbound, deadline, "rpc", request.trace)))
        else:
            self._command(key, running, commanded, inbound)

    def _command(self, key: Key, running: _Running, commanded: Commanded, inbound: Inbound) -> None:
        try:
            running.command = Propose(commanded.command(inbound), commanded.machine)
        except MeshError as error:
            self._ended(key, Err(error))
            return
        self._ops += 1
        running.op = self._ops
        self._by_op[running.op] = key
        perform = Perform(running.op, running.command, inbound.deadline, "rpc", inbound.trace)
        self.effects.append(Tell(commanded.machine, perform))

    def _checked(self, protocol: str, outcome: Outcome[object]) -> Outcome[bytes]:
        """What a service gave, as far as it may cross the wire."""
        if isinstance(outcome, Err):
            return outcome
        value = outcome.value
        if not isinstance(value, bytes):
            self.effects.append(Report("rpc", TypeError(f"the service {protocol} gave {type(value).__name__} instead of bytes")))
            return Err(Broken("internal", "a bug of ours: a service gave no bytes; the log of that node has it"))
        if len(value) > BODY_BYTES["bulk"]:
            detail = f"the result has {len(value)} bytes, at most {BODY_BYTES['bulk']} are sent"
            return Err(Refused("result-too-large", detail, outcome="done"))
        return Ok(value)

    def _answer(self, node: NodeId, asked_on: Lane, reply: Reply) -> None:
        self._send(node, reply_lane(asked_on, reply.outcome), reply)
