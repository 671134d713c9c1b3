"""How a machine stands, written and restored; and that a recording from elsewhere can make nothing but a machine's own parts."""

import random
from collections import OrderedDict, deque
from types import MethodType

import pytest

from meshos import cbor
from meshos.effects import Ok
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId
from meshos.node.runtime.recorder.graph import Blueprint, Unwritable, blueprints, looks_at, restore, written
from meshos.node.runtime.recorder.limits import DEPTH
from meshos.node.runtime.recorder.watching import Notes, Watched
from meshos.protocols.directory.machine import Directory
from meshos.protocols.membership.timers import Timers
from meshos.protocols.rpc.asking import _PeerAsked
from meshos.protocols.rpc.retry import RetryBudget
from meshos.storage.memory import MemoryStore
from meshos.storage.overlay import Overlay
from tests.recorder.recorded import Recorded

N1 = NodeId("n001")


def plan(machine: object) -> Blueprint:
    """Of a machine by itself."""
    return blueprints({"it": machine})["it"]


def no_snapshots(number: int) -> object:
    """The machines here hold none."""
    raise AssertionError(number)


def through(graph: object) -> object:
    """As it comes back from the disk."""
    return cbor.decode(cbor.encode(graph), max_bytes=1 << 24, max_depth=DEPTH)


def test_what_meets_in_a_machine_meets_again() -> None:
    timers = Timers()
    blueprint = plan(timers)
    first = timers.set(2.0, timers.run, "first")
    second = timers.set(1.0, timers.shift, ("a", frozenset({3}), [deque([1]), OrderedDict(x=first)]))
    fresh = Timers()
    heap = fresh.heap
    restore(fresh, through(written(timers, blueprint)[0]), plan(fresh), no_snapshots)
    assert fresh.heap is heap, "what others may hold on to is filled, not made anew"
    assert [timer[:2] for timer in heap] == [second[:2], first[:2]] and fresh.set(3.0, fresh.run)[1] == 3
    call, argument = heap[0][2:]
    assert isinstance(call, MethodType) and call.__self__ is fresh and call.__name__ == "shift"
    assert argument[:2] == ("a", frozenset({3})) and argument[2][1]["x"] is heap[1], "one timer, in two places"


def test_a_machine_in_the_middle_of_its_work_goes_on_as_the_other() -> None:
    mesh, fresh = Recorded(1, nodes=3), Recorded(1, nodes=3)
    mesh.run(12)
    fresh.run(0)
    for node in mesh.mesh.ids:
        machine, other = mesh.mesh.membership(node), fresh.mesh.membership(node)
        restore(other, through(written(machine, plan(machine))[0]), plan(other), no_snapshots)
        assert other.statistics() == machine.statistics() and other.deadline() == machine.deadline()
        assert [view.incarnation for view in other.members()] == [view.incarnation for view in machine.members()]


def test_what_a_machine_knows_by_a_method_alone_is_a_part_of_it() -> None:
    mesh, fresh = Recorded(1, nodes=2), Recorded(1, nodes=2)
    plans = []
    for each in (mesh, fresh):
        each.run(1)
        assembly = each.mesh.assemblies[N1]
        plans.append(blueprints({name: machine for name, machine in assembly.machines.items() if name != "flows"})["kernel"])
    assert {"pbft", "transactions"} & looks_at(plans[0]), "it reads the ledger"
    watch, other = mesh.mesh.assemblies[N1].watch, fresh.mesh.assemblies[N1].watch
    news, others = (each._news.__self__ for each in (watch, other))  # type: ignore[attr-defined]
    news._seen = 7
    restore(other, through(written(watch, plans[0])[0]), plans[1], no_snapshots)
    assert other._news.__self__ is others and others._seen == 7  # type: ignore[attr-defined]


def test_what_was_wired_must_be_what_it_was() -> None:
    timers = Timers()
    blueprint = plan(timers)
    timers.set(1.0, lambda _: None)
    with pytest.raises(Unwritable, match="holds a function"):
        written(timers, blueprint)
    views = [Watched(Overlay(MemoryStore(random.Random(1))), space, Notes()) for space in range(2)]
    machine = Directory("n001", views[0])
    blueprint = plan(machine)
    assert "view" not in repr(written(machine, blueprint)).replace("_view", "")
    machine._view = views[1]
    with pytest.raises(Unwritable, match="wired anew"):
        written(machine, blueprint)


def test_errors_and_values_inside_of_a_machine_are_kept() -> None:
    timers = Timers()
    blueprint = plan(timers)
    timers.set(1.0, timers.run, Ok([Refused("busy", "full", outcome="unknown")]))
    fresh = Timers()
    restore(fresh, through(written(timers, blueprint)[0]), plan(fresh), no_snapshots)
    error = fresh.heap[0][3].value[0]
    assert isinstance(error, Refused) and (error.name, error.outcome) == ("busy", "unknown")


TIMERS = ["meshos.protocols.membership.timers:Timers", []]
OK = ["meshos.effects:Ok", ["value"]]


def object_with(*rows: list[object]) -> list[object]:
    return [[TIMERS, OK], [6, 0, "", *rows]]


@pytest.mark.parametrize(
    "graph",
    [
        None,
        [],
        [[TIMERS]],
        [[["os:_wrap_close", []]], [6, 0, ""]],
        [[["meshos.node.runtime.host:Host", []]], [6, 0, ""]],
        [[["meshos.effects:Ok", []]], [6, 0, ""]],
        [[TIMERS], [6, 1, ""]],
        [[TIMERS], [0, 3]],
        object_with(["heap", [8, [2, 0, None], "append"]]),  # a method of no part of the machine
        object_with(["heap", [8, [0, 0], "__init__"]]),
        object_with(["heap", [8, [0, 0], "__class__"]]),
        object_with(["heap", [8, [8, [0, 0], "run"], "__func__"]]),
        object_with(["heap", [8, [0, 0], "heap"]]),  # no method
        object_with(["run", 5]),  # a value in the place of a method
        object_with(["__class__", 5]),
        object_with(["__dict__", [5, 0, None]]),
        object_with(["heap", [7, 1]]),
        object_with(["heap", [7, 1, 1, 2]]),
        object_with(["heap", [9, "SystemExit", "a", "b", "", "done"]]),
        object_with(["heap", [10, 0, "ALIVE"]]),
        object_with(["heap", [5, 0, None, "key"]]),
        object_with(["heap", [42]]),
        object_with(["heap", [5, 0, None, [2, 0, None], 1]]),
        object_with(["hump", 1]),
    ],
)
def test_a_state_that_no_recorder_wrote_is_refused(graph: object) -> None:
    with pytest.raises(BadInput) as caught:
        timers = Timers()
        restore(timers, graph, plan(timers), no_snapshots)
    assert caught.value.name in ("bad-recording", "other-recording")


def test_deep_states_are_not_written() -> None:
    timers = Timers()
    blueprint = plan(timers)
    nested: list[object] = []
    for _ in range(DEPTH):
        nested = [nested]
    timers.set(1.0, timers.run, nested)
    with pytest.raises(Unwritable, match="too deep"):
        written(timers, blueprint)


def test_states_are_bounded_in_bytes() -> None:
    timers = Timers()
    blueprint = plan(timers)
    timers.set(1.0, timers.run, b"x" * 1000)
    size = written(timers, blueprint)[1]
    assert size >= 1000 and written(timers, blueprint, size)[1] == size
    with pytest.raises(Unwritable, match="more than") as caught:
        written(timers, blueprint, size - 1)
    assert not caught.value.too_large, "there may be room in the next segment"


def test_parts_without_slots_and_with_them_are_both_written() -> None:
    peer = _PeerAsked(1.0)
    blueprint = plan(peer)
    peer.ids[b"id"] = None
    fresh = _PeerAsked(9.0)
    budget = fresh.budget
    restore(fresh, through(written(peer, blueprint)[0]), plan(fresh), no_snapshots)
    assert fresh.budget is budget and isinstance(budget, RetryBudget) and list(fresh.ids) == [b"id"]
