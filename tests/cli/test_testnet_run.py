"""A testnet of two real nodes, hurt by the commands: what a newcomer types, in one story."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from meshos.node.cli.testnet import making, processes, record

PATIENCE_S = 90.0
BASE_PORT = 21_000


class Done(Protocol):
    code: int
    out: str
    err: str


Mesh = Callable[..., Done]


@pytest.fixture
def base_port() -> int:
    """Free ports for two nodes."""
    return making.free_base_port(2, BASE_PORT)


@pytest.fixture
def taken_down(tmp_path: Path) -> Iterator[None]:
    """Whatever a test leaves running is ended."""
    yield
    if making.exists(tmp_path / "testnet"):
        processes.kill(record.load(tmp_path / "testnet").nodes)


def seen(node: record.Node, name: str) -> str:
    """The state in which ``node`` sees the member called ``name``."""
    answer = processes.get(node, "/v1/members")
    body = answer[1] if answer is not None else None
    members = body["members"] if isinstance(body, dict) and "members" in body else []
    return next((str(member["state"]) for member in members if member["name"] == name), "unknown")


def wait_until(what: Callable[[], bool]) -> None:
    """Poll until it holds; a failure says so after far longer than it should take."""
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(processes.POLL_S)


def test_a_testnet_lives_through_everything_that_the_commands_do(mesh: Mesh, tmp_path: Path, base_port: int, taken_down: None) -> None:
    up = mesh("testnet", "up", "--detach", "--orgs", "2", "--timing", "fast", "--base-port", base_port, "--json")
    assert up.code == 0, up.err
    body = json.loads(up.out)
    assert body["schema"] == "mesh.testnet-up/1" and set(body["ready_ms"]) == {"alpha-1", "beta-1"} and body["unacquainted"] == []
    alpha, beta = record.load(tmp_path / "testnet").nodes
    assert processes.is_ready(alpha) and seen(beta, "alpha-1") == "alive"

    again = mesh("testnet", "up", "--detach")
    assert again.code == 0 and "all 2 nodes run already" in again.err
    assert [node.pid for node in record.load(tmp_path / "testnet").nodes] == [alpha.pid, beta.pid]

    assert mesh("testnet", "partition", "alpha/beta").code == 0
    wait_until(lambda: seen(alpha, "beta-1") == "dead" and seen(beta, "alpha-1") == "dead")
    assert mesh("testnet", "heal").code == 0
    wait_until(lambda: seen(alpha, "beta-1") == "alive" and seen(beta, "alpha-1") == "alive")

    assert mesh("testnet", "pause", "beta").code == 0 and processes.state(beta) == "paused"
    wait_until(lambda: seen(alpha, "beta-1") in ("suspect", "dead"))
    assert mesh("testnet", "resume", "beta-1").code == 0 and processes.state(beta) == "running"
    wait_until(lambda: seen(alpha, "beta-1") == "alive")

    assert mesh("testnet", "kill", "beta-1").code == 0 and processes.state(beta) == "stopped"
    assert record.load(tmp_path / "testnet").node("beta-1").pid is None
    wait_until(lambda: seen(alpha, "beta-1") == "dead")
    assert mesh("testnet", "start", "beta").code == 0
    wait_until(lambda: seen(alpha, "beta-1") == "alive")

    assert mesh("testnet", "stop", "beta-1").code == 0
    wait_until(lambda: seen(alpha, "beta-1") == "left")
    assert mesh("testnet", "down").code == 0
    assert {processes.state(node) for node in record.load(tmp_path / "testnet").nodes} == {"stopped"}


def test_a_testnet_whose_nodes_do_not_see_each_other_is_not_up(mesh: Mesh, tmp_path: Path, taken_down: None) -> None:
    base = making.free_base_port(3, BASE_PORT)
    assert mesh("testnet", "up", "--detach", "--orgs", "3", "--timing", "fast", "--base-port", base).code == 0
    alpha, beta, _ = record.load(tmp_path / "testnet").nodes
    assert mesh("testnet", "partition", "alpha/beta,gamma").code == 0 and mesh("testnet", "kill", "gamma").code == 0
    wait_until(lambda: seen(alpha, "beta-1") == "dead" and seen(beta, "alpha-1") == "dead")
    up = mesh("testnet", "up", "--detach", "--timeout", "15")  # gamma hears beta; alpha still hears neither
    assert up.code == 1 and "not seeing all others yet" in up.err, up
    again = mesh("testnet", "up", "--detach", "--json")
    assert again.code == 1 and "alpha-1" in json.loads(again.out)["unacquainted"] and "not seeing all others yet" in again.err, again
    assert {processes.state(node) for node in record.load(tmp_path / "testnet").nodes} == {"running"}


def test_ctrl_c_takes_a_testnet_in_the_foreground_down(tmp_path: Path, base_port: int, taken_down: None) -> None:
    command = [sys.executable, "-m", "meshos.node.cli.main", "testnet", "up", "--orgs", "1", "--base-port", str(base_port)]
    # Whoever runs the tests in the background has SIGINT ignored, and a child would inherit that.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as up:
        assert up.stderr is not None
        told = []
        for line in up.stderr:
            told.append(line)
            if line.startswith("Ctrl-C"):
                break
        (node,) = record.load(tmp_path / "testnet").nodes
        assert processes.state(node) == "running", told
        up.send_signal(signal.SIGINT)
        try:
            assert up.wait(PATIENCE_S) == 130
        finally:
            up.kill()
        assert "Traceback" not in up.stderr.read()
    assert processes.state(node) == "stopped" and record.load(tmp_path / "testnet").nodes[0].pid is None


def test_a_taken_port_refuses_before_any_node_starts(mesh: Mesh, tmp_path: Path, base_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base_port + 2))
        taken.listen()
        done = mesh("testnet", "up", "--detach", "--orgs", "2", "--base-port", base_port)
        assert list(tmp_path.iterdir()) == [], "a testnet that cannot run is not made"
        testnet = making.make(tmp_path / "testnet", orgs=2, base_port=base_port, timing="local")
        again = mesh("testnet", "up", "--detach")
    assert done.code == 4 and "[port-taken]" in done.err and f"{base_port + 2} (API of beta-1)" in done.err
    assert (again.code, again.err) == (4, done.err)
    assert not (Path(testnet.nodes[0].dir) / processes.LOG).exists()


def test_a_node_that_cannot_start_is_named_with_its_reason_and_the_others_end_too(
    mesh: Mesh, tmp_path: Path, base_port: int, taken_down: None
) -> None:
    making.make(tmp_path / "testnet", orgs=2, base_port=base_port, timing="local")
    keys = tmp_path / "testnet" / "beta-1" / "keys"
    keys.write_bytes(keys.read_bytes()[:-1])
    done = mesh("testnet", "up", "--detach")
    assert done.code == 1 and "[node-did-not-start]" in done.err and "[keys-corrupt]" in done.err and "beta-1 ended with 4" in done.err
    assert {processes.state(node) for node in record.load(tmp_path / "testnet").nodes} == {"stopped"}
