"""The machine ``relay``: what a node says to others about relaying, as one of the two (seeking.py, punching.py), and as the relay
(carrying.py, introducing.py).

Connections are not here: whoever drives it opens and joins them, and says by number which have come and gone. What others cast is decoded
here; what is no message is counted and dropped, as a refusal would cost more than what is refused.
"""

import random

from meshos.effects import Heard, Tick
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import Peer
from meshos.protocols.relay.carrying import Carrying, PeerOf
from meshos.protocols.relay.events import Answered, Came, Carried, Gone, Relayed, Seek, Unrelayed
from meshos.protocols.relay.introducing import Introducing
from meshos.protocols.relay.policy import Policy
from meshos.protocols.relay.punching import Punching
from meshos.protocols.relay.seeking import Seeking
from meshos.protocols.relay.wire import Called, Declined, Denied, Granted, Here, Meet, Met, Show, Want, decode


class Relay:
    """See the module's text. ``peer_of`` says who a node is that there is a link to; ``rng`` makes tokens: unguessable in a node."""

    def __init__(self, me: Peer, policy: Policy, peer_of: PeerOf, rng: random.Random) -> None:
        self.carrying = Carrying(me, policy, peer_of, rng)
        self.seeking = Seeking(me, peer_of)
        self.introducing = Introducing(self.carrying.joins, rng)
        self.punching = Punching(peer_of, rng, enabled=policy.punch)
        self._due: float | None = None
        self._bad = 0

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        carrying, seeking, introducing, punching = self.carrying, self.seeking, self.introducing, self.punching
        parts: tuple[Carrying | Seeking | Introducing | Punching, ...] = (carrying, seeking, introducing, punching)
        out: list[object] = []
        for part in parts:
            part.now, part.out = now, out
        if isinstance(event, Heard):
            self._heard(event)
        elif isinstance(event, Came):
            if not introducing.came(event):
                carrying.came(event)
        elif isinstance(event, Carried):
            carrying.carried(event.leg)
        elif isinstance(event, Gone):
            carrying.gone(event.leg)
        elif isinstance(event, Answered):
            seeking.answered(event)
        elif isinstance(event, Relayed):
            punching.relayed(event)
        elif isinstance(event, Unrelayed):
            punching.unrelayed(event.node)
        elif isinstance(event, Perform):
            operation = event.operation
            assert isinstance(operation, Propose) and isinstance(operation.command, Seek), operation
            seeking.seek(event, operation.command)
        elif isinstance(event, Abandon):
            seeking.abandon(event)
        elif isinstance(event, Tick):
            for part in parts:
                part.tick()
        else:
            raise TypeError(f"Relay has no use for {event!r}")
        dues = (part.due() for part in parts)
        self._due = min((due for due in dues if due is not None), default=None)
        return out

    def deadline(self) -> float | None:
        """When something ends that is waited for."""
        return self._due

    def statistics(self) -> dict[str, float]:
        """Counts since the start and sizes of the tables, for metrics."""
        counted = {**self.introducing.counts, **self.punching.statistics()}
        return {**self.carrying.statistics(), **self.seeking.statistics(), **counted, "bad_messages": self._bad}

    def _heard(self, event: Heard) -> None:
        try:
            message = decode(event.body)
        except Refused:
            self._bad += 1
            return
        peer = event.peer
        match message:
            case Want():
                self.carrying.wanted(peer, message)
            case Declined():
                self.carrying.declined(peer, message)
            case Called():
                self.seeking.called(peer, message)
            case Granted():
                self.seeking.granted(peer, message)
            case Denied():
                self.seeking.denied(peer, message)
            case Meet():
                self.introducing.meet(peer, message)
            case Show():
                self.punching.show(peer, message)
            case Met():
                self.punching.meeting(peer, message)
            case Here():
                self.punching.here(peer, message)
