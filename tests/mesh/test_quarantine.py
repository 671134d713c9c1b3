"""An agent of a running mesh: the ledger has its commitment, and once it is in quarantine nobody calls or finds it until it is let out."""

import json
from pathlib import Path
from typing import Any

from meshos.consensus.ledger.packing import unpack
from tests.mesh.test_approvals import everywhere, judge
from tests.mesh.testnet import EXAMPLES, Net, until

ORGS = ("alpha", "beta", "gamma", "delta")
AGENT = {
    "name": "Roman numerals",
    "description": "Writes a year of the calendar as a Roman numeral, for inscriptions on monuments.",
    "runtime": {"mcp": {"command": ["python", "server.py"]}},
}
"""The example's program under another name: what it is found by."""
QUESTION = "write a year as a Roman numeral"


def test_an_agent_is_committed_to_put_under_quarantine_and_let_out(net: Net, tmp_path: Path) -> None:
    agent = net.ask("beta", "POST", "/v1/agents", {"agent": AGENT, "folder": str(EXAMPLES / "units")}).body["agentId"]
    for org in ORGS:
        until(lambda org=org: net.knows(org, agent), f"{org} never heard of it")
    value = proven(net, agent, tmp_path / "commitment.proof")
    record = net.ask("gamma", "GET", f"/v1/agents/{agent}").body
    assert value[:2] == [net.node("beta").did, record["version"]] and len(value[2]) == 32 and record["quarantined"] is False
    assert converts(net, agent)["status"] == "completed" and agent in found(net, "gamma")

    decision = tmp_path / "decision.yaml"
    decision.write_text(f"reason: it answers wrongly\nquarantine: {agent}\n")
    id_ = net.must("propose", decision, "--org", "alpha").strip()
    everywhere(net, id_, "executed")
    refused = converts(net, agent)
    assert (refused["name"], refused["outcome"]) == ("quarantined", "not_done"), refused
    assert agent not in found(net, "gamma") and net.ask("gamma", "GET", f"/v1/agents/{agent}").body["quarantined"] is True
    row = next(row for row in json.loads(net.must("agents", "--org", "beta", "--json"))["agents"] if row["agentId"] == agent)
    assert row["quarantined"] is True and "in quarantine" in net.must("agents", "--org", "beta")
    listed = json.loads(net.must("quarantine", "list", "--org", "delta", "--json"))["quarantined"]
    assert [(one["id"], one["kind"], one["settled"]) for one in listed] == [(agent, "agent", False)]
    assert "in quarantine" in net.must("explain", agent, "--org", "delta") and "nothing was done" in net.must("explain", "quarantined")

    lifted = net.must("quarantine", "lift", agent, "--reason", "it is mended", "--org", "gamma").strip()
    for org in ("alpha", "delta"):
        until(lambda org=org: net.ask(org, "GET", f"/v1/approvals/{lifted}").status == 200, f"{org} never heard of it")
        assert judge(net, org, lifted, "approve").status == 200
    everywhere(net, lifted, "executed")
    assert converts(net, agent)["status"] == "completed" and agent in found(net, "gamma")
    net.must("undeploy", agent, "--org", "beta")


def found(net: Net, org: str) -> list[str]:
    return [row["agentId"] for row in net.ask(org, "POST", "/v1/discover", {"query": QUESTION}).body["agents"]]


def converts(net: Net, agent: str) -> Any:
    """The answer to a call from gamma."""
    return net.call("gamma", agent, "convert", {"value": 3, "from_unit": "km", "to_unit": "m"})


def proven(net: Net, agent: str, file: Path) -> list[Any]:
    """What the ledger has of the agent, checked against the genesis alone. A state is signed with the block after it."""
    genesis = net.folder / "testnet" / "genesis.json"

    def checked() -> str | None:
        net.must("wallet", "transfer", net.node("alpha").did, "0.000001", "--org", "delta")
        net.must("ledger", "proof", f"commitment/{agent}", "--out", file, "--org", "gamma")
        value: str | None = json.loads(net.must("ledger", "verify", file, "--genesis", genesis, "--json"))["valueHex"]
        return value

    return list(unpack(bytes.fromhex(until(checked, "it was never committed to"))))
