"""The asking half of rpc: from ``Perform(Ask)`` to exactly one ``Completed``, at or before its deadline.

A request is *linking* (there is no link yet), *sent*, or *resting* (backing off before the next try); one timer wakes it for
whatever comes next. What is known of its outcome is one number: how many tries may have reached the other side. At zero
it was surely not done; above, only the other side knows.
"""

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeAlias, cast

from meshos.effects import Completed, Err, Ok, Outcome, Tell
from meshos.errors import BadInput, Done, MeshError, Refused, Unreachable, busy
from meshos.flow import Ask, Lane
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId
from meshos.protocols.rpc.events import Cancel, LinkDown, Message, OpenLink, Reply, Request, Rerouted
from meshos.protocols.rpc.limits import (
    ASKS,
    ASKS_PER_PEER,
    BODY_BYTES,
    HOP_MARGIN_MAX_MS,
    HOP_MARGIN_MIN_MS,
    ID_BYTES,
    OPEN_AGAIN_S,
    PEERS,
    PROTOCOL_CHARS,
    RESEND_BODY_BYTES,
    TRACE_CHARS,
    TTL_MAX_S,
)
from meshos.protocols.rpc.retry import RetryBudget, backoff_s, resend_s
from meshos.protocols.rpc.timers import Timers

Send: TypeAlias = Callable[[NodeId, Lane, Message], None]

PERMANENT = frozenset({"bad-rpc-message", "message-too-large"})
"""Reasons of NotSent after which trying again is no use."""

NOT_TAKEN = PERMANENT | {"busy", "link-closing"}
"""Reasons of NotSent with which this side of the link itself said no."""


COUNTED = ("asks", "answered", "failed", "retries", "resends", "rerouted", "deadlines", "abandoned", "stray_replies")
"""What ``Asking`` counts; ``rerouted`` are requests that went again over another path."""

_AMPLE_MS = 20 * HOP_MARGIN_MAX_MS


def ttl_ms(left_s: float) -> int:
    """The time to live that is sent: what is left, less a margin for the way back."""
    left_ms = int(left_s * 1000)
    if left_ms >= _AMPLE_MS:
        return left_ms - HOP_MARGIN_MAX_MS
    return left_ms - max(HOP_MARGIN_MIN_MS, left_ms // 20)


def request_lane(lane: Lane, size: int) -> Lane:
    """The lane that was asked for, or the first beyond it whose bodies may be so large."""
    if lane == "control" and size > BODY_BYTES["control"]:
        lane = "work"
    return "bulk" if size > BODY_BYTES["work"] else lane


class _Asked:
    """One request under way."""

    __slots__ = ("ask", "attempt", "deadline", "id", "op", "reply_to", "retries_left", "sent", "since", "state", "trace", "under_way")

    def __init__(self, event: Perform, ask: Ask, request_id: bytes, deadline: float, now: float) -> None:
        self.id = request_id
        self.op = event.op
        self.reply_to = event.reply_to
        self.ask = ask
        self.trace = event.trace[:TRACE_CHARS]
        self.deadline = deadline
        self.since = now
        self.retries_left = max(0, ask.retries)
        self.attempt = 1
        self.sent = 0  # tries that may have reached the other side
        self.under_way = 0  # those that went out over the present link
        self.state: Literal["linking", "sent", "resting"] = "linking"

    @property
    def outcome(self) -> Done:
        return "unknown" if self.sent else "not_done"


class _PeerAsked:
    """What is remembered of one peer for as long as it matters."""

    __slots__ = ("budget", "ids")

    def __init__(self, now: float) -> None:
        self.ids: OrderedDict[bytes, None] = OrderedDict()  # in the order of asking
        self.budget = RetryBudget(now)


class Asking:
    """Holds every request that this node waits for. ``now`` is set by the machine before each call."""

    def __init__(self, rng: random.Random, send: Send, linked: Callable[[NodeId], bool], effects: list[object]) -> None:
        self.now = 0.0
        self.effects = effects
        self.counts = dict.fromkeys(COUNTED, 0)
        self.seconds = 0.0  # from ask to answer, all answered together
        self._rng = rng
        self._send = send
        self._linked = linked
        self._process = rng.randbytes(ID_BYTES - 8)
        self._count = 0
        self._asked: dict[bytes, _Asked] = {}
        self._by_op: dict[tuple[str, int], bytes] = {}
        self._peers: dict[NodeId, _PeerAsked] = {}
        self._opening: dict[NodeId, float] = {}
        self._timers: Timers[bytes] = Timers()

    # -- what the machine hears --------------------------------------------------------------------------------------

    def perform(self, event: Perform) -> None:
        """Begin one request, or refuse it at once."""
        ask = event.operation
        assert isinstance(ask, Ask), ask
        own = self.now + min(ask.timeout_s, TTL_MAX_S)
        deadline = own if event.deadline is None else min(own, event.deadline)
        self.counts["asks"] += 1
        refusal = self._refusal(ask, deadline)
        if refusal is not None:
            self.counts["failed"] += 1
            self.effects.append(Tell(event.reply_to, Completed(event.op, Err(refusal))))
            return
        self._count += 1
        asked = _Asked(event, ask, self._process + self._count.to_bytes(8, "big"), deadline, self.now)
        peer = self._peers.get(ask.to)
        if peer is None:
            peer = self._peers[ask.to] = _PeerAsked(self.now)
        peer.ids[asked.id] = None
        peer.budget.deposit(self.now)
        self._asked[asked.id] = asked
        self._by_op[event.reply_to, event.op] = asked.id
        self._try(asked)

    def abandon(self, event: Abandon) -> None:
        """Nobody waits any more: tell the other side, if it may know of the request."""
        request_id = self._by_op.get((event.reply_to, event.op))
        if request_id is not None:
            asked = self._asked[request_id]
            self._forget(asked)
            self._call_off(asked)
            self.counts["abandoned"] += 1

    def link_up(self, node: NodeId) -> None:
        """Send what waited for this link."""
        self._opening.pop(node, None)
        for asked in self._of(node):
            if asked.state == "linking":
                self._try(asked)

    def link_down(self, event: LinkDown) -> None:
        """Whatever was on its way to this node is tried again or has failed."""
        self._opening.pop(event.node, None)
        for asked in self._of(event.node):
            asked.under_way = 0
            if asked.state != "resting":
                kind = Refused if event.refused or event.reason == "busy" else Unreachable
                detail = event.detail or f"the link to {event.node} ended"
                error = kind(event.reason, detail, outcome=asked.outcome)
                if event.refused:
                    self._finish(asked, Err(error))
                else:
                    self._again(asked, error)

    def rerouted(self, event: Rerouted) -> None:
        """A path has failed: whatever waits for an answer goes again, at once and under the same id, as no try is at fault. What has
        arrived is answered from its record, or joined to what runs."""
        for request_id in event.unsent:
            asked = self._asked.get(request_id)
            if asked is not None and asked.sent:
                self._came_back(asked)
        for asked in self._of(event.node):
            if asked.state == "sent" and not (asked.sent and len(asked.ask.body) > RESEND_BODY_BYTES):
                self.counts["rerouted"] += 1
                self._try(asked)

    def not_sent(self, request: Request, reason: str) -> None:
        """A try surely did not arrive. If another one may have, its answer is waited for."""
        asked = self._asked.get(request.id)
        if asked is None or not asked.sent:
            return
        self._came_back(asked)
        if asked.state == "sent" and (not asked.under_way or reason in PERMANENT):
            kind = Refused if reason in NOT_TAKEN else Unreachable
            error = kind(reason, f"the request did not go out to {asked.ask.to}", outcome=asked.outcome)
            if reason in PERMANENT:
                self._finish(asked, Err(error))
            else:
                self._again(asked, error)

    def reply(self, node: NodeId, reply: Reply) -> None:
        """The other side has answered."""
        asked = self._asked.get(reply.id)
        if asked is None or asked.ask.to != node:
            self.counts["stray_replies"] += 1
        elif reply.final:
            self.seconds += self.now - asked.since
            self._finish(asked, reply.outcome)
            if isinstance(reply.outcome, Ok) and len(reply.outcome.value) > BODY_BYTES["work"]:
                self._call_off(asked)  # the other side need not keep so large a reply any longer
        elif asked.state == "sent" and isinstance(reply.outcome, Err):
            error = reply.outcome.error
            if error.outcome == "not_done":  # this try was not taken in; others may be on their way
                asked.sent = max(0, asked.sent - 1)
                error.outcome = asked.outcome
            self._again(asked, error)

    def tick(self) -> None:
        """Wake what is due."""
        for request_id in self._timers.due(self.now):
            asked = self._asked[request_id]
            if self.now >= asked.deadline:
                self._deadline(asked)
            elif asked.state == "sent":
                self._resend(asked)
            else:
                self._try(asked)

    def deadline(self) -> float | None:
        """When the first request needs something."""
        return self._timers.deadline()

    def sweep(self) -> bool:
        """Forget peers of which nothing needs to be remembered; whether some remain that will be forgotten later."""
        idle = [node for node, peer in self._peers.items() if not peer.ids]
        for node in idle:
            if self._peers[node].budget.full(self.now):
                del self._peers[node]
        return any(node in self._peers for node in idle)

    def remembers(self) -> bool:
        """Whether there is a peer that a sweep may one day forget."""
        return bool(self._peers)

    def statistics(self) -> dict[str, float]:
        """Counts since the start, and how much is under way."""
        return {
            **self.counts,
            "answered_seconds": self.seconds,
            "in_flight": len(self._asked),
            "peers_asked": len(self._peers),
            "links_wanted": len(self._opening),
            "timers": len(self._timers),
        }

    # -- one request -------------------------------------------------------------------------------------------------

    def _refusal(self, ask: Ask, deadline: float) -> MeshError | None:
        if not ask.protocol or len(ask.protocol) > PROTOCOL_CHARS or not ask.protocol.isascii():
            return BadInput("bad-protocol-name", f"{ask.protocol[:40]!r} cannot be the name of a protocol")
        if len(ask.body) > BODY_BYTES["bulk"]:
            return Refused("request-too-large", f"a request of {len(ask.body)} bytes, at most {BODY_BYTES['bulk']} are sent")
        if ttl_ms(deadline - self.now) < 1:
            return Unreachable("deadline-exceeded", "there was no time left to ask", outcome="not_done")
        peer = self._peers.get(ask.to)
        if len(self._asked) >= ASKS or (peer is not None and len(peer.ids) >= ASKS_PER_PEER):
            return busy(f"the table of requests to {ask.to}")
        if peer is None and len(self._peers) >= PEERS:
            return busy("the table of peers that are asked")
        return None

    def _try(self, asked: _Asked) -> None:
        to = asked.ask.to
        if not self._linked(to):
            asked.state = "linking"
            if self.now - self._opening.get(to, -OPEN_AGAIN_S) >= OPEN_AGAIN_S:
                self._opening[to] = self.now
                self.effects.append(OpenLink(to))
            self._wake(asked, self.now + OPEN_AGAIN_S)
            return
        left = ttl_ms(asked.deadline - self.now)
        if left < 1:
            self._deadline(asked)
            return
        asked.state = "sent"
        asked.sent += 1
        asked.under_way += 1
        repeatable = asked.retries_left and len(asked.ask.body) <= RESEND_BODY_BYTES
        self._wake(asked, self.now + resend_s(asked.deadline - self.now, asked.retries_left) if repeatable else asked.deadline)
        oldest = next(iter(self._peers[to].ids))
        floor = int.from_bytes(oldest[-8:], "big")
        request = Request(asked.id, asked.ask.protocol, asked.ask.body, left, asked.trace, floor)
        self._send(to, request_lane(asked.ask.lane, len(asked.ask.body)), request)

    def _resend(self, asked: _Asked) -> None:
        """No reply for a while: the same id once more, in case the request or its reply was lost."""
        if not self._peers[asked.ask.to].budget.take(self.now):
            self._wake(asked, asked.deadline)
            return
        asked.retries_left -= 1
        asked.attempt += 1
        self.counts["resends"] += 1
        self._try(asked)

    def _again(self, asked: _Asked, error: MeshError) -> None:
        """Back off and try again if retries, budget and time allow; else ``error`` is the answer."""
        if asked.retries_left and self._peers[asked.ask.to].budget.take(self.now):
            when = self.now + backoff_s(asked.attempt, self._rng)
            if when < asked.deadline:
                asked.retries_left -= 1
                asked.attempt += 1
                asked.state = "resting"
                self.counts["retries"] += 1
                self._wake(asked, when)
                return
        self._finish(asked, Err(error))

    def _came_back(self, asked: _Asked) -> None:
        asked.sent -= 1
        asked.under_way = max(0, asked.under_way - 1)

    def _deadline(self, asked: _Asked) -> None:
        self.counts["deadlines"] += 1
        detail = f"{asked.ask.to} did not answer {asked.ask.protocol} in the time given"
        self._finish(asked, Err(Unreachable("deadline-exceeded", detail, outcome=asked.outcome)))
        self._call_off(asked)

    def _call_off(self, asked: _Asked) -> None:
        if asked.sent and self._linked(asked.ask.to):
            self._send(asked.ask.to, "control", Cancel(asked.id))

    def _finish(self, asked: _Asked, outcome: Outcome[bytes]) -> None:
        self._forget(asked)
        self.counts["failed" if isinstance(outcome, Err) else "answered"] += 1
        self.effects.append(Tell(asked.reply_to, Completed(asked.op, cast("Outcome[object]", outcome))))

    def _forget(self, asked: _Asked) -> None:
        del self._asked[asked.id]
        del self._by_op[asked.reply_to, asked.op]
        self._timers.cancel(asked.id)
        to = asked.ask.to
        peer = self._peers[to]
        del peer.ids[asked.id]
        if not peer.ids:
            self._opening.pop(to, None)
            if peer.budget.full(self.now):
                del self._peers[to]

    def _of(self, node: NodeId) -> list[_Asked]:
        peer = self._peers.get(node)
        return [] if peer is None else [self._asked[request_id] for request_id in peer.ids]

    def _wake(self, asked: _Asked, when: float) -> None:
        self._timers.set(asked.id, min(when, asked.deadline))
