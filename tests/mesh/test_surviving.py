"""Nodes that are killed, partitioned, started twice, revoked or wrong: nothing that was acknowledged is lost, nobody else is disturbed."""

import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from meshos.crypto import certificates
from meshos.node import folder as files
from meshos.node.cli.testnet import making, processes, record
from meshos.node.config import load
from tests.mesh.conftest import Agents, end
from tests.mesh.test_calling import value
from tests.mesh.testnet import EXAMPLES, Done, Net, children, free_base, mesh, running, until


def kill(net: Net, org: str) -> None:
    """SIGKILL, by the command."""
    net.must("testnet", "kill", org)


def start(net: Net, org: str) -> None:
    """Start again, and wait until it is ready."""
    net.must("testnet", "start", org)


def serves(net: Net, caller: str, agent: str, tool: str, data: object) -> bool:
    """Whether a call succeeds now."""
    return bool(net.call(caller, agent, tool, data).get("status") == "completed")


# -- a killed provider -----------------------------------------------------------------------------------------------


def test_a_provider_killed_in_a_tool_leaves_an_outcome_that_is_unknown_to_both(net: Net, agents: Agents) -> None:
    body = {"name": "while it died", "seconds": 600.0}
    told: list[Any] = []
    key = "asked while it died"
    thread = threading.Thread(
        target=lambda: told.append(net.call("delta", agents.probe, "slow", body, timeout=80, idempotencyKey=key)), daemon=True
    )
    thread.start()
    until(lambda: "while it died began" in value(net.call("delta", agents.probe, "happened")), "the tool never began")
    before = children(net.node("gamma").pid or 0)
    kill(net, "gamma")
    until(lambda: told, "the caller was never told")
    assert told[0]["status"] == "outcome_unknown" and told[0]["error"]["outcome"] == "unknown"
    until(lambda: not any(map(running, before)), "an agent outlived its node")
    start(net, "gamma")
    until(lambda: net.acquainted("gamma", "delta"))
    recorded = until(lambda: net.ask("gamma", "GET", f"/v1/tasks/{told[0]['taskId']}").body, "it was forgotten")
    assert recorded["status"] == "outcome_unknown" and recorded["receipt"]["status"] == "outcome_unknown"
    again = net.call("delta", agents.probe, "slow", body, timeout=80, idempotencyKey=key)
    assert (again["status"], again["taskId"]) == ("outcome_unknown", told[0]["taskId"]), "it ran a second time"
    assert "while it died began" not in value(net.call("delta", agents.probe, "happened"))


def test_what_was_acknowledged_is_there_after_every_kill(net: Net, agents: Agents) -> None:
    """Calls and deployments go on while their provider is killed again and again."""
    acknowledged: dict[str, str] = {}
    deployed: list[str] = []
    stop = threading.Event()

    def call() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{threading.get_ident()}-{number}"
            try:
                answer = net.call("gamma", agents.probe, "count", {"name": key}, idempotencyKey=key)
            except (OSError, ValueError):  # refused, or cut off in the middle: nothing was acknowledged
                time.sleep(0.05)
                continue
            if answer.get("status") == "completed":
                acknowledged[key] = answer["taskId"]

    def deploy() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            agent = {"name": f"Echo {number}", "description": "An echo", "runtime": {"mcp": {"command": ["python", "server.py"]}}}
            try:
                answer = net.ask("gamma", "POST", "/v1/agents", {"agent": agent, "folder": str(EXAMPLES / "echo")})
            except (OSError, ValueError):
                time.sleep(0.05)
                continue
            if answer.status == 201:
                deployed.append(answer.body["agentId"])

    threads = [threading.Thread(target=work, daemon=True) for work in (call, call, deploy)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        known, made = len(acknowledged), len(deployed)
        until(lambda known=known, made=made: len(acknowledged) > known + 2 and len(deployed) > made, "nothing was acknowledged")  # type: ignore[misc]
        kill(net, "gamma")
        start(net, "gamma")
    stop.set()
    for thread in threads:
        thread.join()
    hosted = {agent["agentId"]: agent for agent in net.ask("gamma", "GET", "/v1/agents").body["agents"]}
    assert set(deployed) <= set(hosted), "a deployment was forgotten"
    for key, task in acknowledged.items():
        found = net.ask("gamma", "GET", f"/v1/tasks/{task}").body
        assert found.get("status") == "completed", (key, found)
    for agent in deployed:
        until(lambda agent=agent: serves(net, "gamma", agent, "echo", {"text": "x"}), "an agent did not come back")  # type: ignore[misc]
        assert net.ask("gamma", "DELETE", f"/v1/agents/{agent}").status == 200
    until(lambda: serves(net, "delta", agents.probe, "happened", {}))


# -- partition -------------------------------------------------------------------------------------------------------


def test_both_sides_of_a_partition_serve_their_own_and_merge(net: Net, agents: Agents, tmp_path: Path) -> None:
    net.must("testnet", "partition", "alpha,beta/gamma,delta")
    until(lambda: net.sees("alpha", "gamma") == "dead" and net.sees("delta", "beta") == "dead")
    assert serves(net, "beta", agents.echo, "echo", {"text": "left"}) and serves(net, "delta", agents.probe, "happened", {})
    across = net.ask("delta", "POST", "/v1/tasks", {"agentId": agents.echo, "type": "echo", "data": {"text": "across"}, "timeout": 2})
    assert across.status == 503 and across.body["outcome"] == "not_done"
    file = tmp_path / "echo" / "agent.yaml"
    shutil.copytree(EXAMPLES / "echo", file.parent)
    file.write_text(file.read_text().replace("name: Echo", "name: Island Echo"))
    island = net.deploy("delta", file)
    until(lambda: net.knows("gamma", island))
    assert not net.knows("alpha", island)
    net.must("testnet", "heal")
    until(lambda: net.acquainted("alpha", "beta", "gamma", "delta"))
    until(lambda: net.knows("alpha", island), "the record never crossed")
    assert serves(net, "alpha", island, "echo", {"text": "across"}) and serves(net, "delta", agents.echo, "echo", {"text": "back"})
    net.must("undeploy", island, "--org", "delta")


# -- what must not start ---------------------------------------------------------------------------------------------


def run_node(folder: Path) -> Done:
    """``mesh run``, which is expected to end by itself."""
    return mesh("run", "--dir", folder, cwd=folder)


def test_a_second_node_on_the_same_folder_is_refused(net: Net, agents: Agents) -> None:
    done = run_node(Path(net.node("beta").dir))
    assert done.code == 4 and "[folder-in-use]" in done.err and "Traceback" not in done.err
    assert serves(net, "delta", agents.units, "convert", {"value": 1, "from_unit": "km", "to_unit": "m"})


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[record.Testnet]:
    """A testnet of one that nobody has started, with a genesis of its own."""
    yield making.make(tmp_path / "testnet", orgs=1, base_port=free_base(), timing="fast")
    end(tmp_path)


@pytest.mark.parametrize("kind", ["api", "gossip", "link"])
def test_a_taken_port_is_named(lone: record.Testnet, kind: str) -> None:
    node = lone.nodes[0]
    config = load(Path(node.dir))
    address = {"api": config.api, "gossip": config.gossip, "link": config.link}[kind]
    with socket.socket(type=socket.SOCK_DGRAM if kind == "gossip" else socket.SOCK_STREAM) as taken:
        taken.bind((address.host, address.port))
        if kind != "gossip":
            taken.listen()
        done = run_node(Path(node.dir))
    assert done.code == 4 and "[port-taken]" in done.err and str(address.port) in done.err and "Traceback" not in done.err


def test_a_node_of_another_mesh_is_let_in_by_nobody(net: Net, agents: Agents, lone: record.Testnet) -> None:
    """It names this mesh's nodes as its seeds; its organisation even bears a name that is known here."""
    stranger, seeds = lone.nodes[0], load(Path(net.node("beta").dir)).seeds
    config = load(Path(stranger.dir))
    files.write_config(replace(config, seeds=seeds))
    Net(lone.dir.parent).must("testnet", "start", "alpha")
    until(lambda: net.metrics("gamma").get("links_path_tcp_refused_unknown_root"), "it never tried, or was not refused by name")
    for org in ("alpha", "beta", "gamma", "delta"):
        members = net.ask(org, "GET", "/v1/members").body["members"]
        assert stranger.node_id not in {member["node_id"] for member in members}
    seen = Net(lone.dir.parent).ask("alpha", "GET", "/v1/members").body["members"]
    assert [member["node_id"] for member in seen] == [stranger.node_id]


# -- clocks ----------------------------------------------------------------------------------------------------------

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long off(void) { const char *text = getenv("CLOCK_OFF_S"); return text ? atol(text) : 0; }
extern "C" int clock_gettime(clockid_t id, struct timespec *at) noexcept {
    static int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec += off();
    return done;
}
extern "C" time_t time(time_t *to) noexcept {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (to) *to = at.tv_sec;
    return at.tv_sec;
}
"""
"""Puts the wall clock of a process CLOCK_OFF_S seconds off, and leaves the monotonic one alone."""


@pytest.fixture(scope="module")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload, made by the compiler that the README asks for."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.cc").write_text(SHIM)
    subprocess.run(["g++", "-shared", "-fPIC", "-w", "-o", folder / "clock.so", folder / "clock.cc", "-ldl"], check=True)
    return folder / "clock.so"


def test_nodes_whose_clocks_are_two_hours_apart_work_with_each_other(net: Net, agents: Agents, clock_shim: Path) -> None:
    """One is an hour ahead, one an hour behind; two are right."""
    off = {"delta": 3600, "gamma": -3600}
    try:
        for org, off_s in off.items():
            kill(net, org)
            started = mesh("testnet", "start", org, cwd=net.folder, env={"LD_PRELOAD": str(clock_shim), "CLOCK_OFF_S": str(off_s)})
            assert started.code == 0, started
            date = net.ask(org, "GET", "/healthz").headers["date"]
            assert abs(parsedate_to_datetime(date).timestamp() - time.time() - off_s) < 60, "its clock is not off at all"
        until(lambda: net.acquainted("alpha", "beta", "gamma", "delta"))
        echo = net.deploy_all({("delta", EXAMPLES / "echo" / "agent.yaml"): "echo"})["echo"]
        for caller in ("alpha", "gamma"):
            assert serves(net, caller, echo, "echo", {"text": "there"})
        for caller in ("alpha", "delta"):
            assert serves(net, caller, agents.probe, "happened", {})
        assert serves(net, "gamma", agents.echo, "echo", {"text": "back"})
        net.must("undeploy", echo, "--org", "delta")
        until(lambda: not net.knows("gamma", echo), "its withdrawal was not believed")
    finally:
        for org in off:
            net.mesh("testnet", "kill", org)
        net.must("testnet", "up", "--detach")


@pytest.mark.parametrize(("made_s", "name"), [(7200, "certificate-not-yet-valid"), (-400 * 86_400, "certificate-expired")])
def test_a_node_outside_its_certificates_time_says_so_and_does_not_start(lone: record.Testnet, made_s: int, name: str) -> None:
    config = load(Path(lone.nodes[0].dir))
    genesis, identity = files.read_genesis(config.genesis), files.open_identity(config)
    now = time.time() + made_s
    made = certificates.issue(files.open_root(config), mesh_id=genesis.mesh_id, org=config.org, node=identity.node.public, now=now)
    files.write_file(config.certificate, certificates.pem(made))
    done = run_node(config.dir)
    assert done.code == 4 and f"[{name}]" in done.err and "Traceback" not in done.err


# -- beyond loopback -------------------------------------------------------------------------------------------------


def test_an_api_with_tls_beyond_loopback_answers_to_its_own_name(lone: record.Testnet) -> None:
    node = lone.nodes[0]
    config = load(Path(node.dir))
    key, certificate = config.dir / "tls.key", config.dir / "tls.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "1", "-subj", "/CN=node.example"]
    command += ["-addext", "subjectAltName=DNS:node.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    api = replace(config.api, host="0.0.0.0")
    files.write_config(replace(config, api=api, api_tls_certificate=certificate, api_tls_key=key))
    child = processes.start(node)
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))

        def answer() -> str | None:
            assert child.poll() is None, Net(lone.dir.parent).log("alpha")
            try:
                with (
                    socket.create_connection(("127.0.0.1", api.port)) as plain,
                    trusted.wrap_socket(plain, server_hostname="node.example") as tls,
                ):
                    tls.sendall(b"GET /readyz HTTP/1.1\r\nHost: node.example\r\nConnection: close\r\n\r\n")
                    return tls.recv(100).decode()
            except OSError:
                return None

        assert until(answer).split()[1] in ("200", "503"), "421 is wrong-host"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
