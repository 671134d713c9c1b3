"""Autonomous decisions of a running mesh: what none may do alone is done once enough approve it, once, and people have the last word."""

import base64
import json
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.approvals import APPROVE, REVERSE, Judge
from meshos.consensus.ledger.kinds import envelope_of
from meshos.crypto.keys import multikey
from meshos.crypto.keystore import TEST_COST, Passphrase
from meshos.crypto.signing import sign
from meshos.ids import OrgDid
from meshos.node import folder, person
from tests.mesh.testnet import Answer, Net, mesh, until

ORGS = ("alpha", "beta", "gamma", "delta")


def propose(net: Net, org: str, action: dict[str, object], told: tuple[str, ...] = ORGS) -> str:
    """The id of a decision that is open, and known to the nodes of ``told``."""
    answer = net.ask(org, "POST", "/v1/approvals", {"action": action, "reason": "its answers are wrong"})
    assert (answer.status, answer.body.get("state")) == (200, "open"), answer.body
    id_ = str(answer.body["id"])
    for other in told:
        until(lambda other=other: net.ask(other, "GET", f"/v1/approvals/{id_}").status == 200, f"{other} never heard of it")
    return id_


def judge(net: Net, org: str, id_: str, act: str) -> Answer:
    return net.ask(org, "POST", f"/v1/approvals/{id_}/{act}", {"reason": "I looked at it"})


def everywhere(net: Net, id_: str, state: str) -> list[Any]:
    """Every node's word on the decision, once all say ``state``."""
    for org in ORGS:
        until(lambda org=org: net.ask(org, "GET", f"/v1/approvals/{id_}").body.get("state") == state, f"{org} never said {state}")
    return [net.ask(org, "GET", f"/v1/approvals/{id_}").body for org in ORGS]


def done(body: Any, what: str) -> int:
    """How often this was done to the decision, as its trail says."""
    return sum(entry["what"] == what for entry in body["trail"])


def lift(net: Net, subject: str, orgs: tuple[str, str, str]) -> None:
    """Three organisations let ``subject`` out of quarantine again, as the next test finds it."""
    id_ = propose(net, orgs[0], {"lift": subject})
    for org in orgs[1:]:
        assert judge(net, org, id_, "approve").status == 200
    everywhere(net, id_, "executed")


def events(net: Net, org: str, about: str) -> list[str]:
    """What the node's stream of events has told of a decision."""
    node, found = net.node(org), []
    request = urllib.request.Request(node.api + "/v1/events?since=oldest", headers={"Authorization": f"Bearer {node.api_key}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as stream:
        for line in stream:
            if line.startswith(b"data: ") and (data := json.loads(line[6:])["data"]).get("decision") == about:
                found.append(data["what"])
                if data["what"] in ("executed", "rejected"):
                    break
    return found


def signed(net: Net, org: str, id_: str, act: str = APPROVE) -> bytes:
    """The judgement of the organisation's person, as bytes that any node may be given."""
    at = net.folder / "testnet"
    key = person.open_key(at / "people" / f"{org}.key")
    known = net.ask(org, "GET", f"/v1/ledger/keys/{multikey(key.public)}").body
    expires_ms = int(time.time() * 1000) + 60_000
    envelope = envelope_of(Judge(bytes.fromhex(id_), act, "as a person"), multikey(key.public), known["nonce"], expires_ms)
    domain = transaction.domain(folder.read_genesis(at / "genesis.json").hash)
    return transaction.request(envelope, sign(key, domain, envelope))


def send(net: Net, org: str, request: bytes) -> Answer:
    return net.ask(org, "POST", "/v1/transactions", {"request": base64.b64encode(request).decode()})


def test_a_risky_decision_is_executed_once_when_three_have_approved_it(net: Net, tmp_path: Path) -> None:
    file = tmp_path / "decision.yaml"
    file.write_text(f"reason: three wrong answers\nquarantine: {net.node('delta').node_id}\n")
    id_ = net.must("propose", file, "--org", "alpha").strip()
    assert net.ask("alpha", "GET", "/v1/status").body["humans"] == {"approvalsWaiting": 1, "proposalsWaiting": 0, "pausedUntil": None}
    first = json.loads(net.must("approve", id_[:8], "--org", "beta", "--json"))
    assert (first["state"], first["approvals"], first["needed"]) == ("open", 2, 3)
    again = net.mesh("approve", id_[:8], "--org", "beta")
    assert (again.code, "[already-voted]" in again.err) == (4, True), again
    assert net.must("approve", id_[:8], "--reason", "so it is", "--org", "gamma") == "executed\n"
    late = judge(net, "alpha", id_, "approve")
    assert late.status >= 400 and late.body["name"] == "decision-ended"
    everywhere(net, id_, "executed")
    assert judge(net, "delta", id_, "approve").body["name"] == "quarantined", "what is in quarantine judges nothing"
    for body in everywhere(net, id_, "executed"):
        assert done(body, "executed") == 1 and len(body["approvedBy"]) == 3
    assert events(net, "delta", id_) == ["proposed", "approve", "approve", "executed"]
    assert id_ in [row["id"] for row in json.loads(net.must("approvals", "--all", "--org", "delta", "--json"))["approvals"]]
    assert "executed by coordinators" in net.must("explain", id_[:16], "--org", "delta")
    lift(net, net.node("delta").node_id, ("alpha", "beta", "gamma"))


def test_a_rejected_one_is_not_done_and_cannot_be_approved_any_more(net: Net) -> None:
    id_ = propose(net, "alpha", {"quarantine": net.node("gamma").did})
    assert judge(net, "beta", id_, "reject").body["state"] == "open"
    assert judge(net, "gamma", id_, "reject").body["state"] == "rejected"
    assert judge(net, "delta", id_, "approve").body["name"] == "decision-ended"
    for body in everywhere(net, id_, "rejected"):
        assert done(body, "executed") == 0 and done(body, "rejected") == 1
    assert (
        net.ask("alpha", "POST", "/v1/approvals", {"action": {"lift": net.node("gamma").did}, "reason": "x"}).body["name"]
        == "not-quarantined"
    )


def test_all_approve_at_once_and_it_is_done_once(net: Net) -> None:
    id_ = propose(net, "delta", {"parameters": {"trust-credentials": 10, "trust-history": 45}})
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda org=org: answers.append(judge(net, org, id_, "approve"))) for org in ORGS[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer.status == 200 for answer in answers) >= 2, [answer.body for answer in answers]
    for body in everywhere(net, id_, "executed"):
        assert done(body, "executed") == 1


def test_the_side_with_a_quorum_decides_and_the_other_learns_of_it(net: Net) -> None:
    net.must("testnet", "partition", "alpha,beta,gamma/delta")
    try:
        id_ = propose(net, "alpha", {"quarantine": net.node("gamma").did}, ("alpha", "beta", "gamma"))
        for org in ("beta", "gamma"):
            assert judge(net, org, id_, "approve").status == 200
        assert net.ask("beta", "GET", f"/v1/approvals/{id_}").body["state"] == "executed"
        assert net.ask("delta", "GET", f"/v1/approvals/{id_}").body["name"] == "no-such-decision"
        cut_off = net.ask("delta", "POST", "/v1/approvals", {"action": {"quarantine": net.node("beta").did}, "reason": "x", "timeout": 1})
        assert (cut_off.status, cut_off.body["name"], cut_off.body["outcome"]) == (503, "unknown-yet", "unknown")
    finally:
        net.must("testnet", "heal")
    until(lambda: net.acquainted(*ORGS))
    for body in everywhere(net, id_, "executed"):
        assert (done(body, "approve"), done(body, "executed")) == (2, 1)
    lift(net, net.node("gamma").did, ("alpha", "beta", "delta"))


def test_people_approve_and_reverse_with_keys_that_no_node_has(net: Net) -> None:
    id_ = propose(net, "alpha", {"quarantine": net.node("beta").did})
    replayed = signed(net, "alpha", id_)
    first = send(net, "beta", replayed)
    assert first.status == 200
    altered = bytearray(replayed)
    altered[-1] ^= 1
    assert send(net, "gamma", bytes(altered)).status >= 400
    for org in ("beta", "gamma"):
        assert send(net, org, signed(net, org, id_)).status == 200
    (wish,) = net.ask("gamma", "GET", f"/v1/approvals/{id_}").body["people"]
    assert (wish["act"], wish["percent"], wish["needed"]) == ("approve", 75, 80)
    people = net.folder / "testnet" / "people"
    assert net.must("approve", id_[:12], "--key", people / "delta.key", "--org", "delta") == "executed\n"
    for org in ("beta", "gamma", "delta"):
        assert send(net, org, signed(net, org, id_, REVERSE)).status == 200
    last = net.mesh("reject", id_[:12], "--reason", "it was our fault", "--key", people / "alpha.key", "--org", "beta")
    assert (last.code, last.out, "ok reverse of" in last.err) == (0, "reversed\n", True), last
    send(net, "beta", replayed)
    for body in everywhere(net, id_, "reversed"):
        assert (done(body, "approve"), done(body, "executed"), done(body, "reversed")) == (4, 1, 1), "a replay does nothing"
    fresh = propose(net, "alpha", {"quarantine": net.node("beta").did})
    assert send(net, "gamma", replayed).body == first.body, "what became of it then"
    assert net.ask("gamma", "GET", f"/v1/approvals/{fresh}").body["people"] == [], "nor is it an approval of another decision"
    assert judge(net, "beta", fresh, "reject").status == judge(net, "gamma", fresh, "reject").status == 200


def test_a_person_is_registered_pauses_autonomy_and_is_removed(net: Net, tmp_path: Path) -> None:
    file, at, secret = tmp_path / "ada.key", Path(net.node("alpha").dir), {"MESH_PASSPHRASE": "of a person"}
    key = multikey(person.new_key(file, Passphrase(b"of a person"), TEST_COST).public)
    words = ("key", "agree", file, "--name", "Ada", "--org", net.node("alpha").did, "--genesis", at / "genesis.json")
    agreed = mesh(*words, cwd=net.folder, env=secret)
    assert net.must("org", "register", agreed.out.strip(), "--dir", at).strip() == key
    pause = ("pause", "--key", file, "--minutes", "0.1", "--reason", "wait", "--org", "gamma")
    assert mesh(*pause, cwd=net.folder, env=secret).code == 0
    until(lambda: net.ask("alpha", "GET", "/v1/approvals").body["pausedUntil"], "alpha never heard of the pause")
    assert "autonomy is paused until 20" in net.mesh("status", "--org", "alpha").out
    refused = net.ask("alpha", "POST", "/v1/approvals", {"action": {"quarantine": net.node("beta").did}, "reason": "x"})
    assert refused.body["name"] == "autonomy-paused"
    root = folder.read_genesis(at / "genesis.json").org(OrgDid(net.node("alpha").did))
    assert root is not None
    nonce = net.must("ledger", "key", root.root_key, "--org", "alpha").strip()
    signed_here = net.must("org", "unregister", key, "--dir", at, "--nonce", nonce).strip()
    net.must("ledger", "send", signed_here, "--org", "gamma")
    gone = mesh(*pause, cwd=net.folder, env=secret)
    assert (gone.code, "[signer-not-allowed]" in gone.err) == (4, True), gone
