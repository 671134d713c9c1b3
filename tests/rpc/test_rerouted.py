"""Where one of several paths fails, what waits for an answer goes again over another: nothing fails, and nothing is done twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.effects import Tick
from meshos.ids import NodeId
from meshos.protocols.rpc.events import LinkDown, LinkUp, NotSent, Request, Rerouted, SendMessage
from meshos.protocols.rpc.limits import RESEND_BODY_BYTES
from tests.rpc.network import Faults, Network
from tests.rpc.test_machine import SLOW, World, ask, error_of, quiet, value_of

A, B = NodeId("a"), NodeId("b")


def linked(world: World) -> Network:
    network = Network("ab", world.services)
    network.ask("a", ask("b", body=b"first"))
    network.run(1.0)
    world.runs.clear()
    network.messages.clear()
    return network


def test_a_request_that_was_lost_with_its_path_goes_again_though_it_had_no_retries() -> None:
    world = World()
    network = linked(world)
    network.faults.loss = 1.0
    asked = network.ask("a", ask("b", retries=0))
    network.run(1.1)
    network.faults.loss = 0.0
    network.step("a", "rpc", Rerouted(B))
    network.run(1.2)
    assert value_of(asked) == b"hello" and world.runs[b"hello"] == 1
    assert network.nodes["a"].machines["rpc"].statistics()["rerouted"] == 1
    quiet(network)


def test_a_reply_that_was_lost_is_given_again_from_its_record() -> None:
    world = World()
    network = linked(world)
    asked = network.ask("a", ask("b", retries=0))
    network.faults.loss = 1.0  # the request is on its way already
    network.run(1.1)
    assert world.runs[b"hello"] == 1 and not asked.ends
    network.faults.loss = 0.0
    network.step("a", "rpc", Rerouted(B))
    network.run(1.2)
    assert value_of(asked) == b"hello" and world.runs[b"hello"] == 1
    quiet(network)


def test_one_that_runs_is_joined_and_answered_once() -> None:
    world = World()
    network = linked(world)
    asked = network.ask("a", ask("b", SLOW, retries=0))
    network.run(1.1)
    network.step("a", "rpc", Rerouted(B))
    network.step("a", "rpc", Rerouted(B))
    network.run(2.0)
    assert value_of(asked) == b"hello" and world.runs[b"hello"] == 1
    assert network.messages == {"Request": 3, "Reply": 1}
    quiet(network)


def test_requests_to_others_and_those_that_rest_are_left_alone() -> None:
    network = Network("abc", World().services)
    network.ask("a", ask("b"))
    network.ask("a", ask("c"))
    network.run(1.0)
    network.faults.loss = 1.0
    network.ask("a", ask("c", retries=0))
    network.messages.clear()
    network.step("a", "rpc", Rerouted(B))
    assert not network.messages


def test_a_large_request_goes_again_only_where_it_surely_did_not_arrive() -> None:
    network = linked(World())
    network.faults.loss = 1.0
    network.ask("a", ask("b", body=bytes(RESEND_BODY_BYTES + 1), timeout_s=60.0, retries=0))
    (line,) = [line for line in network.log if "SendMessage" in line and "lane=bulk" in line]
    request_id = bytes.fromhex(line.split(" id=")[1].split(" ")[0])
    network.messages.clear()
    network.step("a", "rpc", Rerouted(B))
    assert not network.messages
    network.step("a", "rpc", Rerouted(B, (request_id,)))
    assert network.messages == {"Request": 1}


def test_a_second_copy_that_does_not_go_out_fails_nothing_and_says_nothing_of_the_first() -> None:
    network = linked(World())
    network.faults.loss = 1.0
    asked = network.ask("a", ask("b", retries=0))
    machine = network.nodes["a"].machines["rpc"]
    (again,) = [each for each in machine.step(network.now, Rerouted(B)) if isinstance(each, SendMessage)]
    assert isinstance(again.message, Request)
    network.step("a", "rpc", NotSent(B, again.message, "busy"))
    assert not asked.ends, "the first may still be answered"
    network.cut("a", "b")
    assert error_of(asked).outcome == "unknown"


def test_what_surely_did_not_go_out_by_either_path_was_not_done() -> None:
    network = linked(World())
    network.faults.loss = 1.0
    asked = network.ask("a", ask("b", retries=0))
    machine = network.nodes["a"].machines["rpc"]
    (again,) = [each for each in machine.step(network.now, Rerouted(B)) if isinstance(each, SendMessage)]
    machine.step(network.now, Rerouted(B, (again.message.id,)))
    network.step("a", "rpc", NotSent(B, again.message, "link-lost"))
    network.step("a", "rpc", NotSent(B, again.message, "link-lost"))
    assert error_of(asked).outcome == "not_done"


def test_a_try_over_an_earlier_link_is_not_waited_for() -> None:
    network = linked(World())
    network.faults.loss = 1.0
    asked = network.ask("a", ask("b", retries=1))
    machine = network.nodes["a"].machines["rpc"]
    machine.step(network.now, LinkDown(B, "link-lost"))
    machine.step(network.now, LinkUp(network.nodes["b"].peer))
    now = network.now + 0.2  # it is tried again by then
    (request,) = [each.message for each in machine.step(now, Tick()) if isinstance(each, SendMessage)]
    network.run(now)
    network.step("a", "rpc", NotSent(B, request, "busy"))
    assert error_of(asked).name == "busy"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.floats(0.001, 0.05), st.sampled_from("ab"), st.booleans()), max_size=30))
def test_whatever_is_rerouted_when_each_is_done_once_and_answered(seed: int, moments: list[tuple[float, str, bool]]) -> None:
    """Both sides lose messages for a while, reroute at any time, and in the end once more over a path that loses nothing."""
    world = World()
    network = Network("ab", world.services, faults=Faults(jitter_s=0.02), seed=seed)
    bodies = [b"%d" % number for number in range(20)]
    asked = [
        network.ask("a" if number % 2 else "b", ask("b" if number % 2 else "a", SLOW, body, retries=0))
        for number, body in enumerate(bodies)
    ]
    network.run(0.1)
    for pause_s, who, lossy in moments:
        network.faults.loss = 0.7 if lossy else 0.0
        network.run(network.now + pause_s)
        network.step(who, "rpc", Rerouted(B if who == "a" else A))
    network.faults.loss = 0.0
    for _ in range(2):  # what runs, and its reply
        network.step("a", "rpc", Rerouted(B))
        network.step("b", "rpc", Rerouted(A))
        network.run(network.now + 0.5)
    assert [value_of(each) for each in asked] == bodies
    assert all(world.runs[body] == 1 for body in bodies)
    quiet(network)


@pytest.mark.parametrize("who", ["a", "b"])
def test_where_nothing_waits_it_means_nothing(who: str) -> None:
    network = linked(World())
    network.step(who, "rpc", Rerouted(B if who == "a" else A))
    assert not network.messages
    quiet(network)
