"""Calls to and from what is in quarantine, end to end over the real Flows and machines."""

import pytest

from meshos.errors import Refused
from tests.tasks.driver import ACME, AGENT, BETA, CALLER, PROVIDER, SECOND, STRANGER, World


@pytest.mark.parametrize("subject", [AGENT, BETA, PROVIDER.node, ACME, CALLER.node])
@pytest.mark.parametrize("knows", ["caller", "provider"])
def test_no_call_goes_to_or_comes_from_what_is_in_quarantine(subject: str, knows: str) -> None:
    world = World()
    node = world.caller if knows == "caller" else world.provider
    node.quarantine.add(subject)
    with pytest.raises(Refused, match=subject) as refused:
        world.call("pay")
    assert (refused.value.name, refused.value.outcome, world.executions) == ("quarantined", "not_done", [])
    node.quarantine.clear()
    assert world.call("pay").status == "completed", "once it is lifted"


def test_another_node_of_the_organisation_is_called_instead_of_one_in_quarantine() -> None:
    world = World()
    world.caller.quarantine.add(SECOND.node)
    assert world.call("pay", providers=(SECOND.node, PROVIDER.node)).status == "completed"
    world.caller.quarantine.add(PROVIDER.node)
    with pytest.raises(Refused, match="is in quarantine"):
        world.call("pay", providers=(SECOND.node, PROVIDER.node))


def test_calls_that_another_node_passes_on_are_refused_by_the_leader() -> None:
    world = World()
    world.provider.quarantine.add(ACME)
    with pytest.raises(Refused, match="its calls are refused"):
        world.call("pay", providers=(SECOND.node,))


def test_a_request_that_comes_again_after_a_quarantine_hears_what_became_of_the_first() -> None:
    world = World()
    done = world.call("pay")
    world.run()
    world.provider.quarantine.add(AGENT)
    again = world.call("pay", task=done.task)
    assert (again.status, again.task, len(world.executions)) == ("completed", done.task, 1), "not that nothing was done"
    with pytest.raises(Refused, match="is in quarantine"):
        world.call("pay", task=done.task, node=world.nodes[STRANGER.node])


def test_how_a_task_ended_that_was_begun_before_a_quarantine_is_told_all_the_same() -> None:
    world = World()
    flow = world.begin_call("slow")
    world.run(lambda: bool(world.executions))
    for node in world.nodes.values():
        node.quarantine |= {AGENT, ACME}
    ended = world.result(world.caller.begin("call-off", world.requests[flow]))
    assert (ended.status, ended.heard) == ("cancelled", True)
