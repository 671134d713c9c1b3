"""Motions of a running mesh: what the organisations that vote decide is done everywhere, once enough of them say so, and not before."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from meshos.protocols.directory.cells.limits import CELLS_FROM
from tests.mesh.conftest import decide
from tests.mesh.testnet import Answer, Net, mesh, until

ORGS = ("alpha", "beta", "gamma", "delta")


def move(net: Net, org: str, motion: dict[str, object]) -> str:
    """The id of a motion that all nodes know."""
    answer = net.ask(org, "POST", "/v1/proposals", {"motion": motion})
    assert (answer.status, answer.body.get("state")) == (200, "open"), answer.body
    id_ = str(answer.body["id"])
    heard(net, id_)
    return id_


def heard(net: Net, id_: str) -> None:
    """All nodes know the motion."""
    for org in ORGS:
        until(lambda org=org: net.ask(org, "GET", f"/v1/proposals/{id_}").status == 200, f"{org} never heard of it")


def vote(net: Net, org: str, id_: str, choice: str) -> Answer:
    return net.ask(org, "POST", f"/v1/proposals/{id_}/votes", {"choice": choice})


def everywhere(net: Net, id_: str, state: str) -> list[Any]:
    """Every node's word on the motion, once all say ``state``."""
    for org in ORGS:
        until(lambda org=org: net.ask(org, "GET", f"/v1/proposals/{id_}").body.get("state") == state, f"{org} never said {state}")
    return [net.ask(org, "GET", f"/v1/proposals/{id_}").body for org in ORGS]


def events(net: Net, org: str, about: str) -> list[str]:
    """What the node's stream of events has told of a motion that has ended."""
    node, found = net.node(org), []
    request = urllib.request.Request(node.api + "/v1/events?since=oldest", headers={"Authorization": f"Bearer {node.api_key}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as stream:
        for line in stream:
            if line.startswith(b"data: ") and (data := json.loads(line[6:])["data"]).get("motion") == about:
                found.append(data["what"])
                if data["what"] in ("carried", "rejected"):
                    break
    return found


def test_parameters_change_when_three_of_four_are_for_it(net: Net, tmp_path: Path) -> None:
    before = net.ask("delta", "GET", "/v1/approvals").body["threshold"]
    file = tmp_path / "motion.yaml"
    file.write_text(f"parameters: {{risk-threshold: {before + 1}}}\n")
    id_ = net.must("propose", file, "--vote", "--org", "alpha").strip()
    heard(net, id_)
    assert net.ask("beta", "GET", "/v1/status").body["humans"]["proposalsWaiting"] == 1
    (row,) = json.loads(net.must("proposals", "--org", "beta", "--json"))["proposals"]
    assert (row["id"], row["for"], row["needed"], row["seats"]) == (id_, 1, 3, 4)
    assert net.must("vote", "--proposal", id_[:8], "--choice", "for", "--org", "beta") == "open\n"
    again = net.mesh("vote", "--proposal", id_[:8], "--choice", "against", "--org", "beta")
    assert (again.code, "[already-voted]" in again.err) == (4, True), again
    assert net.ask("beta", "GET", "/v1/approvals").body["threshold"] == before, "two of four are no quorum"
    assert net.must("vote", "--proposal", id_[:8], "--choice", "for", "--org", "gamma") == "carried\n"
    late = vote(net, "delta", id_, "for")
    assert late.status >= 400 and late.body["name"] == "motion-not-open"
    for body in everywhere(net, id_, "carried"):
        assert [entry["what"] for entry in body["trail"]] == ["moved", "voted-for", "voted-for", "motion-carried"]
    assert [net.ask(org, "GET", "/v1/approvals").body["threshold"] for org in ORGS] == [before + 1] * 4
    assert events(net, "delta", id_) == ["moved", "voted-for", "voted-for", "carried"]
    assert f"risk-threshold = {before + 1}" in net.must("explain", id_[:16], "--org", "delta")


def test_a_motion_for_cells_says_how_many_records_it_waits_for(net: Net) -> None:
    assert net.ask("delta", "GET", "/v1/status").body["directory"]["cellsFrom"] is None
    decide(net, {"directory-cells": 1})
    try:
        directory = net.ask("delta", "GET", "/v1/status").body["directory"]
        assert (directory["cells"], directory["cellsFrom"]) == (None, CELLS_FROM)
        assert "the directory is whole; it is cut into cells once there are 2000" in net.must("status", "--org", "delta")
    finally:
        decide(net, {"directory-cells": 0})
    assert net.must("status", "--org", "delta").count("the directory is whole\n") == 1


def test_a_motion_is_rejected_when_too_few_are_left_to_carry_it(net: Net) -> None:
    id_ = move(net, "alpha", {"coordinator": {"did": net.node("delta").did, "entitled": False}})
    assert vote(net, "beta", id_, "against").body["state"] == "open"
    assert vote(net, "gamma", id_, "against").body["state"] == "rejected"
    everywhere(net, id_, "rejected")
    assert net.node("delta").did in net.ask("delta", "GET", "/v1/approvals").body["coordinators"]
    unknown = net.ask("alpha", "POST", "/v1/proposals", {"motion": {"parameters": {"no-such": 1}}})
    assert unknown.body["name"] == "parameter-unknown" and "risk-threshold" in unknown.body["detail"]
    assert net.ask("alpha", "POST", "/v1/proposals", {"motion": {"reinstate": net.node("beta").did}}).body["name"] == "not-seated"


@pytest.mark.usefixtures("by_vote")
def test_an_organisation_that_genesis_does_not_name_is_admitted(net: Net, tmp_path: Path) -> None:
    genesis, at = net.folder / "testnet" / "genesis.json", tmp_path / "initech-1"
    assert mesh("init", "--org", "initech", "--dir", at, cwd=tmp_path).code == 0
    token = mesh("org", "apply", "--dir", at, "--genesis", genesis, cwd=tmp_path).out.strip()
    initech = "did:mesh:enterprise:initech"
    cut_off = net.ask("alpha", "POST", "/v1/proposals", {"motion": {"admit": token[:-9]}})
    assert (cut_off.status >= 400, cut_off.body["name"]) == (True, "application-malformed")
    assert net.ask("alpha", "GET", f"/v1/accounts/{initech}").status == 404
    file = tmp_path / "admit.yaml"
    file.write_text(f"admit: {token}\n")
    id_ = net.must("propose", file, "--org", "delta").strip()
    heard(net, id_)
    for org in ("alpha", "beta"):
        assert vote(net, org, id_, "for").status == 200
    everywhere(net, id_, "carried")
    for org in ORGS:
        assert net.ask(org, "GET", f"/v1/accounts/{initech}").body["balance"] == "0"
    assert net.mesh("propose", file, "--org", "delta").err.count("[already-a-member]") == 1
