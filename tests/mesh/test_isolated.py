"""Two machines at one switch that hears neither for the other: they join the same mesh, and call each other through its members."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.joiner import Joiner
from tests.mesh.test_namespaces import PREFIX, Lan, _ip, lan, served, why_not
from tests.mesh.testnet import EXAMPLES, until

__all__ = ["lan", "served"]

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")


def isolate(*machines: str) -> None:
    """Nothing goes from one of these to another of them."""
    for name in machines:
        _ip("-n", f"{PREFIX}hub", "link", "set", f"to-{name}", "type", "bridge_slave", "isolated", "on")


def test_two_that_cannot_reach_each_other_call_through_a_third(lan: Lan, served: Path, tmp_path: Path) -> None:
    isolate("a", "b")
    address = json.loads((served / "testnet" / "testnet.json").read_text())["nodes"][0]["p2p"][0]
    joiners = {}
    for name in "ab":
        (tmp_path / name).mkdir()
        joiners[name] = Joiner(f"guest-{name}", tmp_path / name / "node", address, lan.within(name))
    a, b = joiners["a"], joiners["b"]

    def row(of: Joiner, name: str) -> dict[str, Any]:
        members = json.loads(of.mesh("members", "--json"))["members"]
        return next((member for member in members if member["name"] == name), {})

    try:
        for joiner in (a, b):
            assert joiner.begin()["ready"] is True
        until(lambda: row(a, "guest-b-1").get("state") == row(b, "guest-a-1").get("state") == "alive", "they never heard of each other")
        agent = b.mesh("deploy", "--agent", EXAMPLES / "echo" / "agent.yaml", "--quiet").strip()
        until(lambda: agent in a.mesh("discover", "gives back what it is given", "--json"), "the agent is not known")
        answer = json.loads(a.mesh("call", agent, "echo", "--data", '{"text": "through"}', "--json"))
        assert answer["status"] == "completed" and answer["result"] == {"result": "through"}
        assert "linked through " in row(a, "guest-b-1")["note"]
        assert " over relay" in a.status()
    finally:
        for joiner in joiners.values():
            joiner.end()
