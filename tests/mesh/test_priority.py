"""More calls than an agent takes at once, over real nodes: they wait, and the most urgent has its turn first."""

import json
import shutil
from pathlib import Path

from tests.mesh.conftest import Agents
from tests.mesh.test_called_off import ended
from tests.mesh.testnet import AGENTS, Net, until


def test_the_more_urgent_call_has_its_turn_first(net: Net, agents: Agents, tmp_path: Path) -> None:
    shutil.copytree(AGENTS / "probe", tmp_path / "probe")
    file = tmp_path / "probe" / "agent.yaml"
    file.write_text(file.read_text().replace("name: Probe", "name: One At A Time") + "concurrency: 1\n")
    agent = net.deploy("gamma", file)
    until(lambda: net.knows("delta", agent))

    def waiting() -> int:
        return int(net.ask("gamma", "GET", "/v1/status").body["tasks"]["waiting"])

    def begin(priority: int, seconds: float) -> str:
        data = {"seconds": seconds, "name": str(priority)}
        return str(net.call("delta", agent, "slow", data, wait=False, timeout=60, priority=priority)["taskId"])

    first = begin(0, 600)
    until(lambda: net.ask("gamma", "GET", f"/v1/tasks/{first}").body.get("status") == "running", "it never came")
    tasks = {}
    for number, priority in enumerate((1, 9, 5)):
        tasks[begin(priority, 0)] = priority
        until(lambda number=number: waiting() == number + 1, "it does not wait")  # type: ignore[misc]
    assert net.ask("gamma", "GET", "/v1/status").body["tasks"]["notes"] == ["3 for One At A Time"]
    assert net.ask("delta", "DELETE", f"/v1/tasks/{first}").body["status"] == "cancelled"
    for task in tasks:
        assert until(lambda task=task: ended(net, "delta", task)) == "completed"  # type: ignore[misc]
    served = [json.loads(line)["task"] for line in net.log("gamma").splitlines() if '"served"' in line]
    assert [tasks[task] for task in served if task in tasks] == [9, 5, 1]
    assert waiting() == 0
    net.must("undeploy", agent, "--org", "gamma")
