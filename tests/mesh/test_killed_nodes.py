"""A node that is killed at random moments while it deploys, withdraws and publishes: what it acknowledged is there afterwards."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.conftest import bring_up, end
from tests.mesh.testnet import EXAMPLES, Net, running, until

KILLS = 4


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Net]:
    """Two organisations of their own: beta is killed, alpha looks on."""
    try:
        yield bring_up(tmp_path, 2)
    finally:
        end(tmp_path)


class Owner(threading.Thread):
    """Deploys, withdraws and publishes at beta without a pause, and writes down what was acknowledged."""

    def __init__(self, net: Net) -> None:
        super().__init__(daemon=True)
        self._net = net
        self.ended = threading.Event()
        self.deployed: set[str] = set()
        self.withdrawn: set[str] = set()
        self.open: set[str] = set()
        """Those whose withdrawal was asked for and not answered: either will do."""
        self.published: list[str] = []

    @property
    def acknowledged(self) -> int:
        return len(self.deployed) + len(self.withdrawn) + len(self.published)

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            number += 1
            try:
                self._once(number)
            except (OSError, ValueError):  # refused, or cut off in the middle: nothing was acknowledged
                time.sleep(0.05)

    def _once(self, number: int) -> None:
        line = f'{{"name": "Card {number}", "description": "Told of once", "runtime": {{"mcp": {{"url": "https://x.invalid/{number}"}}}}}}'
        told = self._net.ask("beta", "POST", "/v1/publish", {"lines": [line]})
        if told.status == 200 and told.body["accepted"] == 1:
            self.published.append(f"Card {number}")
        agent = {"name": f"Echo {number}", "description": "An echo", "runtime": {"mcp": {"command": ["python", "server.py"]}}}
        made = self._net.ask("beta", "POST", "/v1/agents", {"agent": agent, "folder": str(EXAMPLES / "echo")})
        if made.status != 201:
            return
        name = made.body["agentId"]
        self.deployed.add(name)
        if number % 2:
            self.open.add(name)
            if self._net.ask("beta", "DELETE", f"/v1/agents/{name}").status == 200:
                self.open.discard(name)
                self.withdrawn.add(name)


def incarnation(net: Net) -> int:
    """Beta's, as alpha has it."""
    members = net.ask("alpha", "GET", "/v1/members").body["members"]
    return int(next(member["incarnation"] for member in members if member["name"] == "beta-1"))


def found(net: Net, org: str, name: str) -> bool:
    agents = net.ask(org, "POST", "/v1/discover", {"query": name, "limit": 50}).body["agents"]
    return name in {agent["name"] for agent in agents}


def test_what_an_owner_was_told_holds_after_every_kill(pair: Net) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    owner, before = Owner(pair), incarnation(pair)
    owner.start()
    for _ in range(KILLS):
        known = owner.acknowledged
        until(lambda known=known: owner.acknowledged > known + 2, f"nothing was acknowledged, seed {seed}")  # type: ignore[misc]
        time.sleep(rng.random())  # the moment of the kill; nothing is expected of it
        pid = pair.node("beta").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not running(pid))  # type: ignore[misc]
        pair.must("testnet", "start", "beta")
        until(lambda: pair.sees("alpha", "beta") == "alive")
        assert incarnation(pair) >= before, "it said something older than what was believed of it"
        before = incarnation(pair)
    owner.ended.set()
    owner.join()
    hosted = {agent["agentId"] for agent in pair.ask("beta", "GET", "/v1/agents").body["agents"]}
    assert owner.deployed - owner.withdrawn - owner.open <= hosted, f"a deployment was forgotten, seed {seed}"
    assert not owner.withdrawn & hosted, f"a withdrawal was forgotten, seed {seed}"
    for agent in sorted(hosted):
        until(lambda agent=agent: pair.call("alpha", agent, "echo", {"text": "x"}).get("status") == "completed", f"{agent}, seed {seed}")  # type: ignore[misc]
    until(lambda: not any(pair.knows("alpha", agent) for agent in owner.withdrawn), f"a ghost is told of, seed {seed}")
    for name in owner.published:
        assert found(pair, "beta", name), f"{name} was forgotten, seed {seed}"
