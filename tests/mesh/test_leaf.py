"""A node that nobody can dial, as a real process among others: it is seen through its anchors, it calls, and it outlives one of them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from meshos.node.config import load
from tests.mesh.conftest import Agents
from tests.mesh.joiner import Joiner
from tests.mesh.testnet import EXAMPLES, Net, until

FOUNDERS = ("alpha", "beta", "gamma", "delta")


@pytest.fixture(scope="module")
def leaf(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joiner]:
    joiner = Joiner("laptop", tmp_path_factory.mktemp("laptop") / "node", net.node("beta").p2p[0], options=["--leaf"])
    try:
        joiner.begin()
        yield joiner
    finally:
        joiner.end()


def row(net: Net, org: str) -> dict[str, Any]:
    """What the founder's node knows of it."""
    members = net.ask(org, "GET", "/v1/members").body["members"]
    return next((member for member in members if member["name"] == "laptop-1"), {})


def anchors(net: Net, org: str) -> set[str]:
    """Their names, as that node tells them."""
    note = str(row(net, org).get("note", ""))
    return set(note.removeprefix("reached through ").split("; ")[0].split(", ")) if note.startswith("reached through ") else set()


def test_all_see_it_through_its_anchors_and_none_has_an_address_of_it(leaf: Joiner, net: Net) -> None:
    assert load(leaf.place).leaf
    until(lambda: all(row(net, org).get("state") == "alive" for org in FOUNDERS), "somebody does not see it")
    until(lambda: all(len(anchors(net, org)) == 3 for org in FOUNDERS), "somebody does not know its anchors")
    assert all(row(net, org)["addresses"] == [] for org in FOUNDERS)


def test_it_sees_all_and_calls_their_agents(leaf: Joiner, agents: Agents) -> None:
    members = json.loads(leaf.mesh("members", "--json"))["members"]
    assert len([member for member in members if member["state"] == "alive"]) == 5
    answer = json.loads(leaf.mesh("call", agents.echo, "echo", "--data", '{"text": "here"}', "--json"))
    assert answer["status"] == "completed" and answer["result"] == {"result": "here"}


def test_everybody_calls_its_agent_though_only_its_anchors_have_links_to_it(leaf: Joiner, net: Net) -> None:
    until(lambda: all(row(net, org).get("state") == "alive" for org in FOUNDERS), "somebody does not see it")
    agent = leaf.mesh("deploy", "--agent", EXAMPLES / "echo" / "agent.yaml", "--quiet").strip()
    until(lambda: all(net.knows(org, agent) for org in FOUNDERS), "somebody has not heard of its agent")
    assert any(f"{org}-1" not in anchors(net, org) for org in FOUNDERS), "of four not all are its anchors"
    for org in FOUNDERS:
        answer = net.call(org, agent, "echo", {"text": org})
        assert (answer["status"], answer["result"]) == ("completed", {"result": org})


def test_it_takes_another_anchor_for_one_that_is_gone(leaf: Joiner, net: Net) -> None:
    until(lambda: len(anchors(net, "alpha")) == 3, "it has no three anchors")
    gone = next(org for org in ("delta", "gamma", "beta") if f"{org}-1" in anchors(net, "alpha"))
    net.must("testnet", "kill", f"{gone}-1")
    try:
        until(lambda: f"{gone}-1" not in anchors(net, "alpha"), "it keeps an anchor that is gone")
        until(lambda: row(net, "alpha")["state"] == "alive", "it went with its anchor")
    finally:
        net.must("testnet", "start", f"{gone}-1")


def test_who_ends_it_is_told_and_all_see_it_gone_and_back(leaf: Joiner, net: Net) -> None:
    leaf.end()
    until(lambda: all(row(net, org).get("state") in ("left", None) for org in FOUNDERS), "somebody still sees it")
    leaf.begin()
    until(lambda: all(row(net, org).get("state") == "alive" for org in FOUNDERS), "somebody does not see it again")
