"""The machine "kernel": what others tell it about the mesh becomes news for people, and the node's own readiness."""

from dataclasses import dataclass
from typing import TypeAlias

from meshos.effects import Completed, Err, Tell, Tick
from meshos.errors import Refused
from meshos.flow_machine import Abandon, FlowEnded, Perform, StartFlow
from meshos.protocols.membership.events import LeaveCompleted, MemberChanged, MemberForgotten, NoteReceived

MACHINE = "kernel"
START = "node-start"

Fields: TypeAlias = tuple[tuple[str, str | int | float | bool], ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """The node's ports are open: start its agents and end what the last crash left open."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Something worth telling people: for the event stream, the log and the counters."""

    kind: str
    text: str
    fields: Fields


class Watch:
    """See the module's text. Starts the Flow ``START`` and those of ``also`` once; ``ready`` says that ``START`` has ended."""

    def __init__(self, also: tuple[str, ...] = ()) -> None:
        self._also = also
        self.ready = False
        self.changes = 0

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        if isinstance(event, Begin):
            return [Tell("flows", StartFlow(name, name, None, None, MACHINE)) for name in (START, *self._also)]
        if isinstance(event, MemberChanged):
            self.changes += 1
            return [_member(event)]
        if isinstance(event, MemberForgotten):
            return [Happened("member-forgotten", f"{event.node} is not listed any more", (("peer", event.node),))]
        if isinstance(event, FlowEnded):
            return self._ended(event)
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

    def _ended(self, event: FlowEnded) -> list[object]:
        if event.flow != START:
            return []
        self.ready = True
        if isinstance(event.outcome, Err):
            return [Happened("start-failed", str(event.outcome.error), (("err", event.outcome.error.name),))]
        return [Happened("started", "agents are started, open tasks are ended", ())]


def _member(event: MemberChanged) -> Happened:
    name = event.facts.name
    what = {"alive": "is alive", "suspect": "is suspected", "dead": "is dead", "left": "has left"}[event.state]
    if event.state == "suspect" and not event.routable:
        what = "does not answer; no work is sent to it"
    fields: Fields = (("peer", name), ("org", event.org), ("state", event.state), ("incarnation", event.incarnation))
    return Happened("member", f"{name} {what}", (*fields, ("routable", event.routable)))
