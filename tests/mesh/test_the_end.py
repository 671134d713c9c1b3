"""What ends: a node's right to be here, and the testnet itself. The last file of the folder, since it takes the shared testnet down."""

import json
import shutil
import signal
from pathlib import Path

from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL
from meshos.node.cli.testnet import processes, record
from meshos.node.config import load
from tests.mesh.conftest import Agents
from tests.mesh.testnet import Net, children, running, until

REFUSED = "links_path_tcp_refused_certificate_revoked"
OTHERS = ("alpha", "beta", "gamma")


def links_to(net: Net, org: str, node: str) -> bool:
    """Whether ``org``'s node still lists the other as a member."""
    return node in {member["node_id"] for member in net.ask(org, "GET", "/v1/members").body["members"]}


def start_alone(net: Net, name: str) -> None:
    """Start a node; not by the command, which would wait until all know it."""
    with record.changing(net.folder / "testnet") as testnet:
        child = processes.start(testnet.node(name))
        record.save(testnet.with_pid(name, child.pid))


def test_lists_that_cannot_be_read_change_nothing(net: Net, agents: Agents) -> None:
    garbage = [load(Path(net.node(org).dir)).revocations / "garbage.crl" for org in OTHERS]
    for org, file in zip(OTHERS, garbage, strict=True):
        file.write_bytes(b"no list")
        processes.send(net.node(org), signal.SIGHUP)
    until(lambda: all("not-reloaded" in net.log(org) for org in OTHERS), "a list that cannot be read was not noticed")
    assert all(links_to(net, org, net.node("delta").node_id) for org in OTHERS) and net.acquainted(*OTHERS, "delta"), "it changed something"
    for file in garbage:
        file.unlink()


def test_a_revoked_node_loses_its_links_and_cannot_come_back(net: Net, agents: Agents) -> None:
    """The list is made where delta's root key is and given to alpha alone; beta and gamma have it from alpha."""
    delta = net.node("delta")
    assert all(links_to(net, org, delta.node_id) for org in OTHERS)
    made = Path(net.must("org", "revoke", delta.node_id, "--dir", delta.dir).strip())
    shutil.copy(made, load(Path(net.node("alpha").dir)).revocations / "from-delta.crl")
    processes.send(net.node("alpha"), signal.SIGHUP)
    for org in OTHERS:
        until(lambda org=org: not links_to(net, org, delta.node_id), f"{org} still lists it")
        until(lambda org=org: net.metrics(org).get("links_links") == 2, f"{org} has not two links")
    for org in ("beta", "gamma"):
        assert (load(Path(net.node(org).dir)).revocations / made.name).read_bytes() == made.read_bytes()
    for org in OTHERS:
        until(lambda org=org: "disowned" in net.log(org), f"{org} did not look through its directory")
        assert "not-disowned" not in net.log(org)
    assert net.acquainted(*OTHERS)
    answer = net.call("delta", agents.echo, "echo", {"text": "let me"}, timeout=2)
    assert answer["outcome"] == "not_done", answer

    net.must("testnet", "kill", "delta")
    knowing = net.mesh("run", "--dir", delta.dir)
    assert knowing.code == 4 and "[certificate-revoked]" in knowing.err, "it has the list itself"
    made.unlink()
    before = {org: net.metrics(org).get(REFUSED, 0) for org in OTHERS}
    start_alone(net, "delta-1")
    for org in OTHERS:
        until(lambda org=org: net.metrics(org).get(REFUSED, 0) > before[org], f"{org} never refused it by name")
        assert not links_to(net, org, delta.node_id)


def test_a_node_that_starts_later_knows_of_the_revocation(net: Net, agents: Agents) -> None:
    delta = net.node("delta").node_id
    net.must("testnet", "kill", "beta")
    start_alone(net, "beta-1")
    until(lambda: processes.is_ready(net.node("beta")))
    until(lambda: net.acquainted(*OTHERS))
    until(lambda: net.metrics("beta").get(REFUSED), "it was never asked in")
    assert not any(links_to(net, org, delta) for org in OTHERS)
    answer = net.call("beta", agents.units, "convert", {"value": 1, "from_unit": "km", "to_unit": "m"})
    assert answer["status"] == "completed", "its own agents are back"


def test_its_organisation_may_vouch_for_it_anew(net: Net, agents: Agents) -> None:
    """A new certificate is not on the list; nobody has to restart for it."""
    delta = net.node("delta")
    net.must("testnet", "kill", "delta")
    net.must("init", "--dir", delta.dir, "--genesis", net.folder / "testnet" / "genesis.json")
    start_alone(net, "delta-1")
    until(lambda: processes.is_ready(net.node("delta")))
    until(lambda: net.acquainted(*OTHERS, "delta"), "it was not taken back")


def test_an_organisation_closes_its_tabs_and_leaves_with_its_money_to_another(net: Net, agents: Agents) -> None:
    delta, gamma = net.node("delta"), net.node("gamma")
    words = ("org", "leave", "--dir", delta.dir, "--heir", gamma.did)

    def tabs() -> int:
        found: int = net.ask("delta", "GET", f"/v1/ledger/orgs/{delta.did}").body["tabs"]
        return found

    def closed() -> bool:
        done = net.mesh("wallet", "close", "--org", "delta")
        assert done.code == 0 or "[tab-in-use]" in done.err, done
        return done.code == 0

    if not tabs():
        net.call("delta", agents.units, "convert", {"value": 3, "from_unit": "km", "to_unit": "m"})
        until(tabs, "it pays on no tab")
    refused = net.mesh(*words, "--yes")
    assert (refused.code, "[tabs-open]" in refused.err, "mesh wallet close" in refused.err) == (4, True, True), refused
    tab = next(one for one in net.ask("delta", "GET", f"/v1/accounts/{delta.did}").body["tabs"] if one["org"] == delta.did)
    foreign = net.mesh("wallet", "close", tab["tab"], "--org", "beta")
    assert (foreign.code, "[not-your-tab]" in foreign.err) == (4, True), foreign
    until(closed, "its tab was always in use")
    until(lambda: not tabs(), "the dispute window never ended")
    had = float(net.ask("delta", "GET", f"/v1/accounts/{gamma.did}").body["balance"])
    left = json.loads(net.must(*words, "--yes", "--json"))
    assert (left["org"], left["balance"], left["changed"]) == (delta.did, "0", True)
    assert left["height"] < left["votesUntil"] and left["votesUntil"] % CHECKPOINT_INTERVAL == 0
    for org in OTHERS:
        found = lambda org=org: net.ask(org, "GET", f"/v1/ledger/orgs/{delta.did}").body  # noqa: E731
        until(lambda found=found: found()["left"], f"{org} never heard of it")
        assert (found()["nodes"], found()["seat"]) == ([], None)
    assert float(net.ask("gamma", "GET", f"/v1/accounts/{gamma.did}").body["balance"]) > had
    again = net.mesh(*words, "--yes")
    assert (again.code, "has left the mesh before" in again.err) == (0, True), again
    late = net.mesh("wallet", "transfer", gamma.did, "1", "--org", "delta")
    assert late.code != 0, "its keys sign nothing any more"


def test_who_has_left_does_nothing_but_vote_and_the_others_can_count_on_that_until_the_checkpoint(net: Net, agents: Agents) -> None:
    """Three of four votes decide; gamma is down and delta has left, within one checkpoint."""
    delta, gamma = net.node("delta"), net.node("gamma")
    for org in OTHERS:
        assert links_to(net, org, delta.node_id), f"{org} has parted from a node that votes"
    answer = net.call("delta", agents.echo, "echo", {"text": "let me"}, timeout=2)
    assert answer["outcome"] == "not_done", answer
    refused = net.mesh("org", "seat", "--give-up", "--dir", gamma.dir)
    assert (refused.code, "[seat-needed]" in refused.err) == (4, True), refused
    net.must("testnet", "kill", "gamma")
    net.must("wallet", "transfer", net.node("beta").did, "1", "--org", "alpha")
    start_alone(net, "gamma-1")
    until(lambda: processes.is_ready(net.node("gamma")))


def test_down_leaves_nothing_running(net: Net, agents: Agents) -> None:
    nodes = [node.pid for node in net.nodes() if node.pid]
    below = {child for pid in nodes for child in children(pid)}
    assert len(nodes) == 4 and len(below) >= 4, "agents run, so there is something to leave behind"
    net.must("testnet", "down")
    assert not [pid for pid in (*nodes, *below) if running(pid)]
    assert [node.pid for node in net.nodes()] == [None] * 4
