"""What strangers and bad agents throw at a running node is refused by name and disturbs nobody else. (Each parser has its own tests.)"""

import os
import secrets
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from meshos import cbor
from meshos.crypto.boxes import Boxes
from meshos.crypto.keys import SigningKey
from meshos.ids import NodeId
from meshos.node import folder as files
from meshos.node.config import load
from meshos.protocols.membership.codec import encode_datagram
from meshos.protocols.membership.events import Ping
from tests.mesh.conftest import Agents
from tests.mesh.test_calling import value
from tests.mesh.testnet import ROOT, Net, children, until

HOSTILE = ROOT / "tests" / "adapters" / "hostile.py"


def boxes(net: Net, org: str) -> Boxes:
    """The boxes of that organisation's own node: a member, whose key has fallen into bad hands."""
    config = load(Path(net.node(org).dir))
    return Boxes(files.open_identity(config).node, files.read_genesis(config.genesis).hash)


def counts_more(net: Net, org: str, name: str, work: Callable[[], object]) -> None:
    name = name.replace("-", "_")  # as a metric is written
    before = net.metrics(org).get(name, 0)
    work()
    until(lambda: net.metrics(org).get(name, 0) > before, f"{name} was not counted: {net.metrics(org)}")


def undisturbed(net: Net, agents: Agents, members: dict[str, tuple[str, int]]) -> None:
    assert value(net.call("delta", agents.echo, "echo", {"text": "still here"})) == "still here"
    assert seen(net) == members, "somebody was believed"


def seen(net: Net) -> dict[str, tuple[str, int]]:
    """State and incarnation of each member, as gamma sees them."""
    members = net.ask("gamma", "GET", "/v1/members").body["members"]
    return {member["name"]: (member["state"], member["incarnation"]) for member in members if member["state"] in ("alive", "suspect")}


def test_datagrams_that_are_noise_torn_oversized_forged_or_replayed(net: Net, agents: Agents) -> None:
    members = seen(net)
    host, _, port = net.node("gamma").gossip.rpartition(":")
    gamma = NodeId(net.node("gamma").node_id)
    member = boxes(net, "delta")
    ping = member.seal(gamma, encode_datagram(Ping(1)))
    genesis = files.read_genesis(load(Path(net.node("delta").dir)).genesis)
    thrown: dict[str, list[bytes]] = {
        "gossip_refused_bad-datagram": [
            *(b"", b"\x4d", ping[:40], ping[:-1], b"GET / HTTP/1.1\r\n\r\n", secrets.token_bytes(1_200)),
            *(secrets.token_bytes(9_000), ping + bytes(9_000)),
            *(ping[:at] + bytes([ping[at] ^ 1]) + ping[at + 1 :] for at in (0, 40, 60, len(ping) - 1)),
        ],
        "gossip_refused_stranger": [Boxes(SigningKey.generate(), genesis.hash).seal(gamma, encode_datagram(Ping(2)))],
        "gossip_refused_bad-encoding": [member.seal(gamma, data) for data in (b"", b"\xff" * 50, encode_datagram(Ping(3))[:-1])],
        "gossip_refused_bad-gossip": [member.seal(gamma, cbor.encode(data)) for data in ({}, [9], [1, -1, []], [1, 1, [b""]])],
        "gossip_received": [ping] * 50,
    }
    with socket.socket(type=socket.SOCK_DGRAM) as out:
        for name, datagrams in thrown.items():
            counts_more(net, "gamma", name, lambda datagrams=datagrams: [out.sendto(data, (host, int(port))) for data in datagrams])  # type: ignore[misc]
    undisturbed(net, agents, members)


def test_connections_in_plain_text_with_old_tls_without_papers_or_with_noise(net: Net, agents: Agents) -> None:
    members = seen(net)
    host, _, port = net.node("gamma").link.rpartition(":")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    def plain(data: bytes) -> None:
        with socket.create_connection((host, int(port)), timeout=30) as end:
            end.sendall(data)
            try:
                while end.recv(65_536):
                    pass
            except ConnectionResetError:
                pass

    def tls(context: ssl.SSLContext) -> None:
        end = socket.create_connection((host, int(port)), timeout=30)
        with end, pytest.raises(OSError), context.wrap_socket(end) as secure:  # in TLS 1.3 the refusal comes with the first read
            secure.recv(1)
            raise ConnectionResetError("it was closed without a word")

    for name, work in (
        ("not-tls", lambda: plain(b"GET / HTTP/1.1\r\n\r\n")),
        ("not-tls", lambda: plain(b"\xff" + os.urandom(4096))),
        ("tls-too-old", lambda: tls(old)),
        ("no-certificate", lambda: tls(nobody)),
    ):
        counts_more(net, "gamma", f"links_path_tcp_refused_{name}", work)
    undisturbed(net, agents, members)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder that any agent may read, with a server that misbehaves to order."""
    place = tmp_path / "hostile"
    place.mkdir()
    shutil.copy(HOSTILE, place)
    for path in (place, place / HOSTILE.name):
        path.chmod(0o755)
    return place


@pytest.mark.parametrize(("mode", "name"), [("crash", "agent-crashed"), ("garbage", "agent-garbage"), ("bad-tools", "agent-garbage")])
def test_an_agent_that_cannot_start_is_refused_by_name_and_nothing_is_left(
    net: Net, agents: Agents, hostile: Path, mode: str, name: str
) -> None:
    before = children(net.node("gamma").pid or 0)
    agent = {"name": f"Broken {mode}", "description": "Breaks", "runtime": {"mcp": {"command": ["python", "hostile.py", mode]}}}
    answer = net.ask("gamma", "POST", "/v1/agents", {"agent": agent, "folder": str(hostile)})
    assert (answer.status, answer.body["name"]) == (422, name), answer
    assert f"Broken {mode}" not in {hosted["name"] for hosted in net.ask("gamma", "GET", "/v1/agents").body["agents"]}
    assert children(net.node("gamma").pid or 0) <= before
    assert value(net.call("delta", agents.probe, "happened")) is not None, "gamma's other agent serves on"


def test_a_gibibyte_of_result_and_the_agents_key(net: Net, agents: Agents, hostile: Path) -> None:
    agent = {"name": "Hostile", "description": "Misbehaves", "runtime": {"mcp": {"command": ["python", "hostile.py", "good"]}}}
    made = net.ask("gamma", "POST", "/v1/agents", {"agent": agent, "folder": str(hostile)})
    assert made.status == 201, made
    name = made.body["agentId"]
    try:
        until(lambda: net.knows("delta", name))
        huge = net.call("delta", name, "big", {"bytes": 1 << 30}, timeout=90)
        assert (huge["status"], huge["error"]["name"]) == ("failed", "result-too-large"), huge
        assert value(net.call("delta", agents.probe, "happened")) is not None
        key = net.call("delta", name, "env")["result"]["value"]["MESH_API_KEY"]
        net.call("delta", name, "exit")
        told = [net.log(org) for org in ("gamma", "delta")]
        told += [path.read_text(errors="replace") for path in Path(net.node("gamma").dir, "agents").rglob("*.log")]
        told += [Path(f"/proc/{pid}/cmdline").read_text(errors="replace") for pid in children(net.node("gamma").pid or 0)]
        assert len(told) > 4 and not any(key in text for text in told), "an agent's key shows in a log or a command line"
    finally:
        assert net.ask("gamma", "DELETE", f"/v1/agents/{name}").status == 200
