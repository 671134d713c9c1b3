"""One member: what has been said about it, and how sayings combine.

The sayings form a join semilattice, slot by slot, so that nodes that heard the same things in any order, any number of times,
hold the same:

- ``alive``: the largest by (incarnation, revision, bytes). Bytes break the tie of a subject that signed two.
- ``left``: the largest by (incarnation, bytes).
- ``words``: for each accusing *organisation* the largest by (incarnation, dead above suspect, bytes). One slot an
  organisation: it bounds what is held, and makes one organisation one voice, however many nodes it has.
- ``notes``: for each topic the largest by (incarnation, revision, bytes).

A ``left`` or word below the alive's incarnation is spent, and dropped. A word counts only for exactly the incarnation that the
subject has signed last: an accuser cannot use up incarnations that are not there yet.

What this node concludes from it (``state``, ``routable``) is judged elsewhere (judgement.py) and kept here.
"""

from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership.events import MemberState
from meshos.protocols.membership.limits import TOPICS
from meshos.protocols.membership.statements import Kind, NodeFacts, Statement
from meshos.protocols.membership.timers import Timer

Key = tuple[int, int, bytes]


class Member:
    """See the module's text. ``place`` is its index in the ring, -1 outside."""

    __slots__ = (
        "address",
        "alive",
        "evidence_at",
        "heard",
        "left",
        "node",
        "notes",
        "org",
        "place",
        "routable",
        "rtt_s",
        "since",
        "skipped",
        "state",
        "suspected_at",
        "timer",
        "words",
    )

    def __init__(self, alive: Statement, org: OrgDid, now: float) -> None:
        assert alive.facts is not None
        self.node: NodeId = alive.subject
        self.org = org
        self.alive = alive
        self.address = alive.facts.gossip
        self.left: Statement | None = None
        self.words: dict[OrgDid, Statement] = {}
        self.notes: dict[str, Statement] = {}
        self.state: MemberState = "alive"
        self.routable = True
        self.since = now
        self.heard = now  # when a datagram of its own last came, or its first statement
        self.skipped = False  # passed over in the last round of probing
        self.suspected_at: float | None = None  # when the first word against this incarnation was heard, or spoken
        self.evidence_at: float | None = None  # when our own probe of this incarnation failed
        self.timer: Timer | None = None  # when our own suspicion runs out, or when a dead member is forgotten
        self.rtt_s: float | None = None
        self.place = -1

    @property
    def incarnation(self) -> int:
        """The last that it has signed."""
        return self.alive.incarnation

    @property
    def facts(self) -> NodeFacts:
        """What it says of itself."""
        assert self.alive.facts is not None
        return self.alive.facts

    def would_change(self, said: Statement, signer_org: OrgDid) -> bool:
        """Whether ``absorb`` would: cheap, changes nothing."""
        kind = said.kind
        if kind is Kind.ALIVE:
            return _alive_key(said) > _alive_key(self.alive)
        if kind is Kind.NOTE:
            held = self.notes.get(said.topic)
            if held is None:
                return len(self.notes) < TOPICS or said.topic < max(self.notes)
            return _alive_key(said) > _alive_key(held)
        if said.incarnation < self.alive.incarnation:
            return False
        held = self.left if kind is Kind.LEFT else self.words.get(signer_org)
        return held is None or _word_key(said) > _word_key(held)

    def absorb(self, said: Statement, signer_org: OrgDid) -> list[Statement]:
        """Take over ``said``, for which ``would_change`` is true; gives what it replaced."""
        kind = said.kind
        if kind is Kind.ALIVE:
            return self._absorb_alive(said)
        if kind is Kind.NOTE:
            replaced = [self.notes[said.topic]] if said.topic in self.notes else []
            self.notes[said.topic] = said
            if len(self.notes) > TOPICS:
                replaced.append(self.notes.pop(max(self.notes)))
            return replaced
        if kind is Kind.LEFT:
            held, self.left = self.left, said
        else:
            held = self.words.get(signer_org)
            self.words[signer_org] = said
        return [] if held is None else [held]

    def _absorb_alive(self, said: Statement) -> list[Statement]:
        replaced = [self.alive]
        self.alive = said
        self.address = self.facts.gossip
        if self.left is not None and self.left.incarnation < said.incarnation:
            replaced.append(self.left)
            self.left = None
        if self.words:
            for org in [org for org, word in self.words.items() if word.incarnation < said.incarnation]:
                replaced.append(self.words.pop(org))
        return replaced

    def open_words(self) -> dict[OrgDid, Statement]:
        """The words that count now: those against its last incarnation."""
        current = self.alive.incarnation
        return {org: word for org, word in self.words.items() if word.incarnation == current}

    def statements(self) -> list[Statement]:
        """Everything held about it."""
        left = [] if self.left is None else [self.left]
        return [self.alive, *left, *self.words.values(), *self.notes.values()]

    def told(self) -> tuple[bytes, ...]:
        """What it must hear to refute (Lifeguard's buddy): the heaviest word against its last incarnation."""
        words = [word for word in self.words.values() if word.incarnation == self.alive.incarnation]
        if not words:
            return ()
        return (max(words, key=_word_key).blob,)


def _alive_key(said: Statement) -> Key:
    return (said.incarnation, said.revision, said.blob)


def _word_key(said: Statement) -> Key:
    return (said.incarnation, said.kind, said.blob)
