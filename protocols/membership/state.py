"""What the parts of the membership machine share while it takes a step."""

import random

from meshos.crypto.signing import Domain
from meshos.effects import Tell
from meshos.ids import NodeId
from meshos.presets import Timing
from meshos.protocols.membership.awareness import Awareness
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.limits import DATAGRAM_BYTES, HEAD_BYTES, WORDS_IN_HASTE
from meshos.protocols.membership.piggyback import Piggyback
from meshos.protocols.membership.statements import Kind, Statement
from meshos.protocols.membership.table import Table
from meshos.protocols.membership.timers import Timers

COUNTED = ("probes", "probes_failed", "refutations", "strangers", "refused", "news", "syncs", "late", "anchored")
"""What ``Membership.statistics`` counts from the start."""

ROOM = DATAGRAM_BYTES - HEAD_BYTES
"""Bytes that updates may take in a datagram."""


class State:
    """``now`` and ``out`` (the effects) are those of the step being taken."""

    __slots__ = (
        "anchors",
        "awareness",
        "counts",
        "domain",
        "now",
        "numbers",
        "out",
        "queue",
        "rng",
        "subscribers",
        "table",
        "timers",
        "timing",
        "words_of",
    )

    def __init__(
        self,
        mine: Certified,
        anchors: tuple[NodeId, ...],
        timing: Timing,
        domain: Domain,
        rng: random.Random,
        subscribers: tuple[str, ...],
    ) -> None:
        self.anchors = anchors  # this node's own, if it is a leaf
        self.now = 0.0
        self.out: list[object] = []
        self.timing = timing
        self.domain = domain
        self.rng = rng
        self.subscribers = subscribers
        self.timers = Timers()
        self.table = Table(mine, rng)
        self.queue = Piggyback(timing.retransmit_mult)
        self.awareness = Awareness(timing.awareness_max)
        self.numbers = 0
        self.words_of: dict[str, int] = {}  # open accusations of each organisation
        self.counts: dict[str, int] = dict.fromkeys(COUNTED, 0)

    def number(self) -> int:
        """A number for an operation, used once."""
        self.numbers += 1
        return self.numbers

    def tell(self, event: object) -> None:
        """To every subscriber."""
        for machine in self.subscribers:
            self.out.append(Tell(machine, event))

    def spread(self, said: Statement, *, own: bool = False) -> None:
        """``said`` is news that others should hear of."""
        user = said.kind is Kind.NOTE or (said.kind is Kind.ALIVE and said.revision > 0)
        if said.kind is Kind.SUSPECT or said.kind is Kind.DEAD:
            org = self.table.credentials[said.signer].org
            open_words = self.words_of.get(org, 0)
            user = not own and open_words > WORDS_IN_HASTE and open_words > len(self.table.members) // 4
        self.queue.put(self.slot(said), said.blob, user=user)

    def slot(self, said: Statement) -> tuple[str, str]:
        """Where newer takes the place of older in the queue."""
        if said.kind is Kind.ALIVE:
            return (said.subject, "alive")
        if said.kind is Kind.LEFT:
            return (said.subject, "left")
        if said.kind is Kind.NOTE:
            return (said.subject, "note " + said.topic)
        return (said.subject, self.table.credentials[said.signer].org)
