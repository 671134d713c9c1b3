"""The machine ``relay``: what a node says to others about relaying, as one of the two (seeking.py) and as the relay (carrying.py).

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
from meshos.protocols.relay.events import Answered, Came, Carried, Gone, Seek
from meshos.protocols.relay.policy import Policy
from meshos.protocols.relay.seeking import Seeking
from meshos.protocols.relay.wire import Called, Declined, Denied, Granted, Want, decode


class Relay:
    """See the module's text. ``peer_of`` says who a node is that there is a link to; ``rng`` makes tokens: unguessable in a node."""

    def __init__(self, me: Peer, policy: Policy, peer_of: PeerOf, rng: random.Random) -> None:
        self.carrying = Carrying(me, policy, peer_of, rng)
        self.seeking = Seeking(me, peer_of)
        self._due: float | None = None
        self._bad = 0

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        carrying, seeking = self.carrying, self.seeking
        carrying.now = seeking.now = now
        out: list[object] = []
        carrying.out = seeking.out = out
        if isinstance(event, Heard):
            self._heard(event)
        elif isinstance(event, Came):
            carrying.came(event)
        elif isinstance(event, Carried):
            carrying.carried(event.leg)
        elif isinstance(event, Gone):
            carrying.gone(event.leg)
        elif isinstance(event, Answered):
            seeking.answered(event)
        elif isinstance(event, Perform):
            operation = event.operation
            assert isinstance(operation, Propose) and isinstance(operation.command, Seek), operation
            seeking.seek(event, operation.command)
        elif isinstance(event, Abandon):
            seeking.abandon(event)
        elif isinstance(event, Tick):
            carrying.tick()
            seeking.tick()
        else:
            raise TypeError(f"Relay has no use for {event!r}")
        self._due = min((due for due in (carrying.due(), seeking.due()) if due is not None), default=None)
        return out

    def deadline(self) -> float | None:
        """When something ends that is waited for."""
        return self._due

    def statistics(self) -> dict[str, float]:
        """Counts since the start and sizes of the tables, for metrics."""
        return {**self.carrying.statistics(), **self.seeking.statistics(), "bad_messages": self._bad}

    def _heard(self, event: Heard) -> None:
        try:
            message = decode(event.body)
        except Refused:
            self._bad += 1
            return
        if isinstance(message, Want):
            self.carrying.wanted(event.peer, message)
        elif isinstance(message, Declined):
            self.carrying.declined(event.peer, message)
        elif isinstance(message, Called):
            self.seeking.called(event.peer, message)
        elif isinstance(message, Granted):
            self.seeking.granted(event.peer, message)
        else:
            assert isinstance(message, Denied)
            self.seeking.denied(event.peer, message)
