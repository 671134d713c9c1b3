"""What a timeline shows of meshes: what members believe of each other, and how the calls that were asked for end."""

from collections.abc import Iterator

from meshos.consensus.org.machine import OrgMachine
from meshos.effects import Ok, Tell
from meshos.flow_machine import FlowEnded, StartFlow
from meshos.node.kernel.core import OUTSIDE
from meshos.protocols.membership.events import MemberChanged
from meshos.protocols.tasks.call import CallRequest, TaskResult
from meshos.simulations.marks import Mark
from meshos.simulations.world import SimNode


def of_membership(node: SimNode, machine: str, event: object, effects: list[object]) -> Iterator[Mark]:
    """Whom it believes suspect, dead, or alive again."""
    if machine != "membership":
        return
    for effect in effects:
        if type(effect) is Tell and type(effect.event) is MemberChanged:
            changed = effect.event
            if changed.state != changed.before and changed.before:
                yield Mark(f"{changed.node} is {changed.state}", "membership")


def org_of(node: SimNode) -> OrgMachine:
    """The machine of its organisation's state."""
    machine = node.core.machine("org")
    assert isinstance(machine, OrgMachine)
    return machine


def of_calls(node: SimNode, machine: str, event: object, effects: list[object]) -> Iterator[Mark]:
    """The same, and what is called and what comes of it."""
    yield from of_membership(node, machine, event, effects)
    if machine != "flows":
        return
    if type(event) is StartFlow and isinstance(event.argument, CallRequest):
        yield Mark(f"calls {event.argument.agent} {event.argument.key or event.argument.task[:8]}", "call")
    for effect in effects:
        if type(effect) is Tell and effect.machine == OUTSIDE and isinstance(effect.event, FlowEnded):
            outcome = effect.event.outcome
            if isinstance(outcome, Ok) and isinstance(outcome.value, TaskResult):
                yield Mark(f"{outcome.value.task[:8]} {outcome.value.status}", "call")
