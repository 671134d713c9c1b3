"""What ends: a node's right to be here, and the testnet itself. The last file of the folder, since it takes the shared testnet down."""

import signal
import time
from pathlib import Path

from meshos.crypto import certificates
from meshos.node import folder as files
from meshos.node.cli.testnet import processes, record
from meshos.node.config import load
from tests.mesh.conftest import Agents
from tests.mesh.testnet import Net, children, running, until

REFUSED = "links_path_tcp_refused_certificate_revoked"
OTHERS = ("alpha", "beta", "gamma")


def links_to(net: Net, org: str, node: str) -> bool:
    """Whether ``org``'s node still lists the other as a member."""
    return node in {member["node_id"] for member in net.ask(org, "GET", "/v1/members").body["members"]}


def test_a_revoked_node_loses_its_links_and_cannot_come_back(net: Net, agents: Agents) -> None:
    delta = net.node("delta")
    config = load(Path(delta.dir))
    serial = certificates.describe(certificates.from_pem(config.certificate.read_bytes())).serial
    revoked = certificates.revoke(files.open_root(config), config.org, [serial], number=1, now=time.time())
    assert all(links_to(net, org, delta.node_id) for org in OTHERS)
    for org in OTHERS:
        node = net.node(org)
        (load(Path(node.dir)).revocations / "garbage.crl").write_bytes(b"no list")
        processes.send(node, signal.SIGHUP)
    until(lambda: all("not-reloaded" in net.log(org) for org in OTHERS), "a list that cannot be read was not noticed")
    assert all(links_to(net, org, delta.node_id) for org in OTHERS) and net.acquainted(*OTHERS, "delta"), "it changed something"
    for org in OTHERS:
        node = net.node(org)
        (load(Path(node.dir)).revocations / "garbage.crl").unlink()
        (load(Path(node.dir)).revocations / "delta.crl").write_bytes(revoked)
        processes.send(node, signal.SIGHUP)
    for org in OTHERS:
        until(lambda org=org: not links_to(net, org, delta.node_id), f"{org} still lists it")
        until(lambda org=org: net.metrics(org).get("links_links") == 2, f"{org} has not two links")
    assert net.acquainted(*OTHERS)
    answer = net.call("delta", agents.echo, "echo", {"text": "let me"}, timeout=2)
    assert answer["outcome"] == "not_done", answer

    net.must("testnet", "kill", "delta")
    before = {org: net.metrics(org).get(REFUSED, 0) for org in OTHERS}
    with record.changing(net.folder / "testnet") as testnet:  # not by the command, which would wait until all know it
        child = processes.start(testnet.node("delta-1"))
        record.save(testnet.with_pid("delta-1", child.pid))
    for org in OTHERS:
        until(lambda org=org: net.metrics(org).get(REFUSED, 0) > before[org], f"{org} never refused it by name")
        assert not links_to(net, org, delta.node_id)


def test_a_node_that_starts_later_knows_of_the_revocation(net: Net, agents: Agents) -> None:
    delta = net.node("delta").node_id
    net.must("testnet", "kill", "beta")
    with record.changing(net.folder / "testnet") as testnet:
        child = processes.start(testnet.node("beta-1"))
        record.save(testnet.with_pid("beta-1", child.pid))
    until(lambda: processes.is_ready(net.node("beta")))
    until(lambda: net.acquainted(*OTHERS))
    until(lambda: net.metrics("beta").get(REFUSED), "it was never asked in")
    assert not any(links_to(net, org, delta) for org in OTHERS)
    answer = net.call("beta", agents.units, "convert", {"value": 1, "from_unit": "km", "to_unit": "m"})
    assert answer["status"] == "completed", "its own agents are back"


def test_down_leaves_nothing_running(net: Net, agents: Agents) -> None:
    nodes = [node.pid for node in net.nodes() if node.pid]
    below = {child for pid in nodes for child in children(pid)}
    assert len(nodes) == 4 and len(below) >= 4, "agents run, so there is something to leave behind"
    net.must("testnet", "down")
    assert not [pid for pid in (*nodes, *below) if running(pid)]
    assert [node.pid for node in net.nodes()] == [None] * 4
