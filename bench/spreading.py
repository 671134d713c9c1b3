"""How soon all nodes find an agent that one of them publishes, and how soon none of them does once it is withdrawn."""

import json
import time
from collections.abc import Callable
from functools import partial

import httpx

from meshos.bench.live import EXAMPLES, Live, LiveNode
from meshos.errors import Failed

AGENT = EXAMPLES / "units" / "agent.yaml"
PATIENCE_S = 60.0
POLL_S = 0.005


def published_ms(live: Live, rounds: int) -> list[float]:
    """From sending a record to one node's API until a question finds it at every node of the mesh, the publisher's too."""
    publisher, taken = live.nodes()[0], []
    for number in range(rounds):
        name = f"Zymurgist {number}"
        line = json.dumps({"name": name, "description": "Brews a beer by its recipe and watches the mash.", "packages": []})
        began = time.perf_counter()
        with publisher.client() as client:
            client.post("/v1/publish", json={"lines": [line]}).raise_for_status()
        everywhere(live, partial(_finds, name))
        taken.append(1e3 * (time.perf_counter() - began))
    return taken


def withdrawn_ms(live: Live, rounds: int) -> list[float]:
    """From asking its node to undeploy a running agent until no node has its record; the agent's process is stopped meanwhile."""
    owner, taken = live.nodes()[0], []
    for _ in range(rounds):
        agent = str(live.mesh("deploy", "--agent", str(AGENT), "--org", "alpha")["agentId"])
        everywhere(live, partial(_holds, agent))
        began = time.perf_counter()
        with owner.client() as client:
            client.delete(f"/v1/agents/{agent}").raise_for_status()
        everywhere(live, partial(_lacks, agent))
        taken.append(1e3 * (time.perf_counter() - began))
    return taken


def everywhere(live: Live, holds: Callable[[httpx.Client], bool]) -> None:
    """Wait until ``holds`` at every node, one after the other; raises Failed ``bench-command-failed`` after a minute."""
    until = time.monotonic() + PATIENCE_S
    for node in live.nodes():
        _wait(node, holds, until)


def _wait(node: LiveNode, holds: Callable[[httpx.Client], bool], until: float) -> None:
    with node.client() as client:
        while not holds(client):
            if time.monotonic() > until:
                raise Failed("bench-command-failed", f"{node.name} had not heard of a change after {PATIENCE_S:g} s")
            time.sleep(POLL_S)


def _finds(name: str, client: httpx.Client) -> bool:
    answer = client.post("/v1/discover", json={"query": name, "limit": 10}).raise_for_status().json()
    return any(agent["name"] == name for agent in answer["agents"])


def _holds(agent: str, client: httpx.Client) -> bool:
    answer = client.get(f"/v1/agents/{agent}")
    if answer.status_code != httpx.codes.NOT_FOUND:
        answer.raise_for_status()
    return answer.is_success


def _lacks(agent: str, client: httpx.Client) -> bool:
    return not _holds(agent, client)
