"""A task that is not wanted any more, over real nodes: the tool stops, both nodes say the same of it, and the budget follows that."""

import http.client
import json
import shutil
import urllib.parse
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.mesh.conftest import Agents
from tests.mesh.test_calling import value
from tests.mesh.testnet import AGENTS, Net, until

PRICE = Decimal(3)


@pytest.fixture(scope="module")
def paid(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A probe of gamma's that costs something."""
    folder = tmp_path_factory.mktemp("paid") / "probe"
    shutil.copytree(AGENTS / "probe", folder)
    file = folder / "agent.yaml"
    file.write_text(file.read_text().replace("name: Probe", "name: Paid Probe") + f"pricing: {{perQuery: {PRICE} MESH}}\n")
    agent = net.deploy("gamma", file)
    until(lambda: net.knows("delta", agent))
    return agent


class Customer:
    """Somebody with a key of delta's, and a budget on it."""

    def __init__(self, net: Net) -> None:
        self.net = net
        made = net.ask("delta", "POST", "/v1/keys", {"name": "customer", "role": "caller", "budget": "100"}).body
        self.id, self.headers = made["id"], {"Authorization": f"Bearer {made['key']}", "Content-Type": "application/json"}

    @property
    def spent(self) -> Decimal:
        keys = self.net.ask("delta", "GET", "/v1/keys").body["keys"]
        return Decimal(next(key["spent"] for key in keys if key["id"] == self.id))

    def body(self, agent: str, name: str, **more: object) -> dict[str, object]:
        return {"agentId": agent, "type": "slow", "data": {"seconds": 600, "name": name}, "timeout": 900, **more}

    def begin(self, agent: str, name: str, **more: object) -> str:
        """Begin the task, wait until its tool runs, give its id."""
        answer = self.net.ask("delta", "POST", "/v1/tasks", self.body(agent, name, wait=False, **more), self.headers)
        assert answer.status == 202, answer.body
        until(lambda: f"{name} began" in value(self.net.call("gamma", agent, "happened")), "the tool never began")
        return str(answer.body["taskId"])

    def cancel(self, task: str) -> Any:
        return self.net.ask("delta", "DELETE", f"/v1/tasks/{task}").body


@pytest.fixture
def customer(net: Net) -> Iterator[Customer]:
    one = Customer(net)
    yield one
    net.ask("delta", "DELETE", f"/v1/keys/{one.id}")


def test_cancelled_by_its_id_both_nodes_say_so_and_nothing_is_spent(net: Net, paid: str, customer: Customer) -> None:
    task = customer.begin(paid, "unwanted")
    assert customer.cancel(task)["status"] == "cancelled"
    recorded = net.ask("gamma", "GET", f"/v1/tasks/{task}").body
    assert recorded["status"] == "cancelled", "it was recorded before the caller was told"
    assert net.ask("delta", "GET", f"/v1/tasks/{task}").body["status"] == "cancelled"
    assert customer.spent == 0
    until(lambda: "unwanted was stopped" in value(net.call("gamma", paid, "happened")), "the tool was never told")


def test_a_client_that_hangs_up_cancels_its_task(net: Net, paid: str, customer: Customer) -> None:
    where = urllib.parse.urlsplit(net.node("delta").api)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    connection.request("POST", "/v1/tasks", json.dumps(customer.body(paid, "left alone")), customer.headers)
    until(lambda: "left alone began" in value(net.call("gamma", paid, "happened")), "the tool never began")
    connection.close()
    until(lambda: "left alone was stopped" in value(net.call("gamma", paid, "happened")), "the tool was never told")
    lines = [json.loads(line) for line in net.log("gamma").splitlines() if '"served"' in line]
    task = next(line["task"] for line in reversed(lines) if line["agent"] == paid and line["ended"] == "cancelled")
    told = until(lambda: ended(net, "delta", task), "its caller's node never said how it ended")
    assert told == ended(net, "gamma", task) == "cancelled"
    assert customer.spent == 0


def ended(net: Net, org: str, task: str) -> str:
    """How the node says that the task ended; empty while it does not."""
    status = str(net.ask(org, "GET", f"/v1/tasks/{task}").body.get("status"))
    return "" if status == "running" else status


def test_done_before_the_cancel_came_it_is_done_for_both_and_paid(net: Net, paid: str, customer: Customer) -> None:
    body = {**customer.body(paid, "quick"), "data": {"seconds": 0, "name": "quick"}, "wait": False}
    task = net.ask("delta", "POST", "/v1/tasks", body, customer.headers).body["taskId"]
    until(lambda: ended(net, "gamma", task), "it never ended")
    assert customer.cancel(task)["status"] == ended(net, "gamma", task) == "completed"
    assert customer.spent == PRICE


def test_a_provider_that_says_nothing_leaves_it_unknown_and_the_price_spent(net: Net, paid: str, customer: Customer) -> None:
    task = customer.begin(paid, "unheard", idempotencyKey="unheard of")
    net.must("testnet", "pause", "gamma")
    try:
        answer = customer.cancel(task)
    finally:
        net.must("testnet", "resume", "gamma")
    assert (answer["status"], answer["error"]["name"], answer["error"]["outcome"]) == ("outcome_unknown", "outcome-unknown", "unknown")
    assert customer.spent == PRICE
    until(lambda: net.acquainted("gamma", "delta"), "gamma did not come back")
    until(lambda: ended(net, "gamma", task) == "cancelled", "the cancel never came")
    body = customer.body(paid, "unheard", idempotencyKey="unheard of", wait=False)
    again = net.ask("delta", "POST", "/v1/tasks", body, customer.headers).body["taskId"]
    assert until(lambda: ended(net, "delta", again)) == "cancelled", "whoever repeats the call hears what is recorded"
    assert net.ask("delta", "GET", f"/v1/tasks/{again}").body["taskId"] == task
    assert customer.spent == PRICE
