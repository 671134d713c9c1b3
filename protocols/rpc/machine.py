"""The rpc machine: requests, replies and cancels between the nodes of a mesh, and within one.

Theory of operation. A Flow's ``Ask`` comes in as ``Perform`` and leaves as one ``Completed``; asking.py has its states. A
request of a peer becomes a Flow, whose end is recorded and sent back; serving.py has the rules. A ``Cast`` is sent and forgotten;
casting.py says to whom a peer's goes. What a node asks of itself or casts to itself takes the same way without a link: its
messages go through ``_loop`` within the same step.

The promises: every Ask completes exactly once, at or before its deadline (it is woken there); a service runs at most once
per id while the record is kept, and not at all once the asker has settled it; ``not_done`` is said only of what surely was
not done. They hold if links deliver a message at most once; where the network doubles messages, the last one is as good as
the asker's knowledge.
"""

import random
from collections import deque

from meshos.effects import Cast, Completed, Tick
from meshos.flow import Lane
from meshos.flow_machine import Abandon, FlowEnded, Perform
from meshos.ids import NodeId, Peer
from meshos.protocols.rpc.asking import Asking
from meshos.protocols.rpc.casting import Casting, Listeners
from meshos.protocols.rpc.events import (
    Cancel,
    LinkDown,
    LinkUp,
    Message,
    MessageReceived,
    Notice,
    NotSent,
    Reply,
    Request,
    Rerouted,
    SendMessage,
)
from meshos.protocols.rpc.limits import SWEEP_S
from meshos.protocols.rpc.serving import Allowed, Bodies, Commands, Serving


class Rpc:
    """The machine named ``rpc`` of the node ``me``. ``rng`` makes the ids of requests: unguessable in a node, seeded in a simulation.

    ``bodies`` says how large the requests of a protocol may be; those of a protocol that it does not name are bounded by what the
    work lane carries, larger ones are refused as ``request-too-large``. Without it the bound is that of the bulk lane. ``listeners``
    says which machine hears what is cast, ``commands`` which of the served protocols are commands to a machine.
    """

    def __init__(
        self,
        me: Peer,
        allowed: Allowed,
        rng: random.Random,
        bodies: Bodies | None = None,
        listeners: Listeners | None = None,
        commands: Commands | None = None,
    ) -> None:
        self.me = me
        self._links: dict[NodeId, Peer] = {}
        self._loop: deque[tuple[Lane, Message]] = deque()
        self._effects: list[object] = []
        self._asking = Asking(rng, self._send, self._linked, self._effects)
        self._serving = Serving(allowed, self._send, self._linked, self._effects, bodies, commands)
        self._casting = Casting(listeners or {}, self._send, self._linked, self._effects)
        self._sweep_at: float | None = None

    # -- the machine -------------------------------------------------------------------------------------------------

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._asking.now = self._serving.now = self._casting.now = now
        if isinstance(event, MessageReceived):
            self._received(event.peer, event.lane, event.message)
        elif isinstance(event, Cast):
            self._casting.cast(event)
        elif isinstance(event, Perform):
            self._asking.perform(event)
        elif isinstance(event, Completed):
            self._serving.completed(event)
        elif isinstance(event, FlowEnded):
            self._serving.ended(event)
        elif isinstance(event, Tick):
            self._tick(now)
        else:
            self._meet(event)
        while self._loop:
            lane, message = self._loop.popleft()
            self._received(self.me, lane, message)
        if self._sweep_at is None and (self._serving.records.remembers() or self._asking.remembers()):
            self._sweep_at = now + SWEEP_S
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def _meet(self, event: object) -> None:
        """What comes seldom."""
        if isinstance(event, Abandon):
            self._asking.abandon(event)
        elif isinstance(event, LinkUp):
            self._links[event.peer.node] = event.peer
            self._asking.link_up(event.peer.node)
            self._casting.link_up(event.peer.node)
        elif isinstance(event, LinkDown):
            self._links.pop(event.node, None)
            self._asking.link_down(event)
        elif isinstance(event, NotSent):
            self._not_sent(event)
        elif isinstance(event, Rerouted):
            self._asking.rerouted(event)
        else:
            raise TypeError(f"Rpc has no use for {event!r}")

    def deadline(self) -> float | None:
        """When the next request needs something, or records are to be swept."""
        asking = self._asking.deadline()
        if asking is None or self._sweep_at is None:
            return self._sweep_at if asking is None else asking
        return min(asking, self._sweep_at)

    def statistics(self) -> dict[str, float]:
        """Counts since the start and sizes of the tables, for metrics."""
        return {**self._asking.statistics(), **self._serving.statistics(), **self._casting.counts, "links": len(self._links)}

    def peer_of(self, node: NodeId) -> Peer | None:
        """Who ``node`` is, where there is a link to it."""
        return self._links.get(node)

    # -- one event ---------------------------------------------------------------------------------------------------

    def _received(self, peer: Peer, lane: Lane, message: Message) -> None:
        if isinstance(message, Notice):
            self._casting.notice(peer, message)
        elif isinstance(message, Request):
            self._serving.request(peer, message, lane)
        elif isinstance(message, Reply):
            self._asking.reply(peer.node, message)
        else:
            self._serving.cancel(peer, message)

    def _not_sent(self, event: NotSent) -> None:
        if isinstance(event.message, Request):
            self._asking.not_sent(event.message, event.reason)
        elif isinstance(event.message, Reply):
            self._serving.not_sent(event.to, event.message)
        elif isinstance(event.message, Notice):
            self._casting.not_sent()
        else:
            assert isinstance(event.message, Cancel)  # the other side's own deadline ends what it runs

    def _tick(self, now: float) -> None:
        self._asking.tick()
        if self._sweep_at is not None and self._sweep_at <= now:
            self._serving.records.sweep(now)
            more = self._asking.sweep()
            self._sweep_at = now + SWEEP_S if more or self._serving.records.remembers() else None

    def _linked(self, node: NodeId) -> bool:
        return node == self.me.node or node in self._links

    def _send(self, node: NodeId, lane: Lane, message: Message) -> None:
        if node == self.me.node:
            self._loop.append((lane, message))
        else:
            self._effects.append(SendMessage(node, lane, message))
