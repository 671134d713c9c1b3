"""The machine "kernel": what others tell it about the mesh becomes news for people, and the node's own readiness."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from meshos.consensus.pbft.events import Decided, Noticed
from meshos.consensus.raft.events import Followed, Led
from meshos.effects import Completed, Err, Tell, Tick
from meshos.errors import Refused
from meshos.flow_machine import Abandon, CancelFlow, FlowEnded, Perform, StartFlow
from meshos.ids import NodeId
from meshos.protocols.membership.events import LeaveCompleted, MemberChanged, MemberForgotten, NoteReceived, Returned, SeedFailed

MACHINE = "kernel"
START, END = "lead-start", "lead-end"
"""The Flows of a node that has come to lead its organisation (its argument is the term), and of one that leads no more."""

Fields: TypeAlias = tuple[tuple[str, str | int | float | bool], ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """The node's ports are open."""


@dataclass(frozen=True, slots=True)
class LedgerMoved:
    """A block was decided here: for what stands outside of the machines and depends on the ledger."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Something worth telling people: for the event stream, the log and the counters."""

    kind: str
    text: str
    fields: Fields


class Watch:
    """See the module's text. Starts the Flows of ``also`` once, ``START`` whenever this node comes to lead, ``END`` when it leads no more.
    ``ready``: this node follows a leader, or leads and ``START`` has ended. ``name_of`` gives what a member calls itself, ``news`` what a
    block brought that people want to hear, ``behind`` how many blocks this node lacks.
    """

    def __init__(
        self,
        also: tuple[str, ...] = (),
        name_of: Callable[[NodeId], str | None] = lambda node: None,
        news: Callable[[], Sequence[Happened]] = tuple,
        behind: Callable[[], int] = lambda: 0,
    ) -> None:
        self._also = also
        self._news = news
        self._name_of = name_of
        self._behind = behind
        self._missed: int | None = None  # blocks that came since this node is back, until it has them all
        self._begun = False
        self._led = 0
        self.ready = False
        self.changes = 0

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        if isinstance(event, Begin):
            self._begun = True
            return [*(Tell("flows", StartFlow(name, name, None, None, MACHINE)) for name in self._also), *self._start()]
        if isinstance(event, Led):
            self._led = event.term
            return [*self._start(), _leads("this node leads its organisation", event.term, "")]
        if isinstance(event, Followed):
            return self._follow(event)
        if isinstance(event, MemberChanged):
            self.changes += 1
            return [_member(event)]
        if isinstance(event, MemberForgotten):
            return [Happened("member-forgotten", f"{event.node} is not listed any more", (("peer", event.node),))]
        if isinstance(event, FlowEnded):
            return self._ended(event)
        if isinstance(event, Decided):
            return [_block(event), *self._news(), *self._caught_up(), LedgerMoved()]
        if isinstance(event, SeedFailed):
            told = f"{event.node}, which this node was to join through, cannot be joined through: {event.error.detail}"
            return [Happened("seed-failed", told, (("peer", event.node), ("err", event.error.name)))]
        if isinstance(event, Returned):
            self._missed = 0
            away = f"others are heard again, after nobody was for {event.seconds:.0f} s: this node was cut off, or they were"
            return [Happened("returned", away, (("awayMs", int(event.seconds * 1000)),))]
        if isinstance(event, Noticed):
            error = event.error
            return [Happened("ledger-notice", str(error), (("err", error.name),))]
        if isinstance(event, LeaveCompleted):
            return [event]
        if isinstance(event, Perform):
            refusal = Refused("unknown-command", "the kernel machine takes no commands")
            return [Tell(event.reply_to, Completed(event.op, Err(refusal)))]
        assert isinstance(event, NoteReceived | Tick | Abandon), event
        return []

    def deadline(self) -> float | None:
        """It waits for nothing."""
        return None

    def _caught_up(self) -> list[object]:
        if self._missed is None:
            return []
        self._missed += 1
        if self._behind():
            return []
        blocks, self._missed = self._missed, None
        return [Happened("caught-up", f"blocks that this node has missed, and has now: {blocks}", (("blocks", blocks),))]

    def _follow(self, event: Followed) -> list[object]:
        effects: list[object] = []
        if self._led and self._begun:
            flow = (START, self._led)
            effects = [Tell("flows", CancelFlow(flow)), Tell("flows", StartFlow((END, event.term), END, None, None, MACHINE))]
        self._led = 0
        self.ready = event.leader is not None
        if event.leader is None:
            return [*effects, _leads("nobody leads this organisation that this node knows of", event.term, "")]
        name = self._name_of(event.leader) or event.leader
        return [*effects, _leads(f"{name} leads this organisation", event.term, name)]

    def _start(self) -> list[object]:
        """Once this node leads and its ports are open, whichever comes first: agents are started through a port."""
        if not self._begun or not self._led:
            return []
        return [Tell("flows", StartFlow((START, self._led), START, self._led, None, MACHINE))]

    def _ended(self, event: FlowEnded) -> list[object]:
        if event.flow != (START, self._led):
            return []
        self.ready = True
        if isinstance(event.outcome, Err):
            return [Happened("start-failed", str(event.outcome.error), (("err", event.outcome.error.name),))]
        return [Happened("started", "agents are started, open tasks are ended", ())]


def _block(event: Decided) -> Happened:
    block = event.certified.block
    count, height = len(block.requests), block.header.height
    return Happened(
        "block", f"block {height} with {count} transaction{'' if count == 1 else 's'}", (("height", height), ("transactions", count))
    )


def _leads(text: str, term: int, leader: str) -> Happened:
    return Happened("leader", text, (("term", term), ("leader", leader)))


def _member(event: MemberChanged) -> Happened:
    name = event.facts.name
    what = {"alive": "is alive", "suspect": "is suspected", "dead": "is dead", "left": "has left"}[event.state]
    if event.state == "suspect" and not event.routable:
        what = "does not answer; no work is sent to it"
    fields: Fields = (("peer", name), ("org", event.org), ("state", event.state), ("incarnation", event.incarnation))
    return Happened("member", f"{name} {what}", (*fields, ("routable", event.routable)))
