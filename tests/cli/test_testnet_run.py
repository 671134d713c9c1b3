"""A testnet of two real nodes, hurt by the commands: what a newcomer types, in one story."""

import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, TypeAlias

import pytest

from meshos.node.cli.testnet import making, processes, record, serving
from tests.leftovers import processes_below

PATIENCE_S = 90.0
BASE_PORT = 21_000


class Done(Protocol):
    code: int
    out: str
    err: str


Mesh = Callable[..., Done]
Up: TypeAlias = "subprocess.Popen[str]"


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

    again = mesh("testnet", "up", "--timing", "fast")  # it does not stay, and so no Ctrl-C takes down what others have started
    assert again.code == 0 and "ok all 2 nodes run already; end them with: mesh testnet down" in again.err
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


@contextmanager
def in_the_foreground(folder: Path, base_port: int, *, hears: signal.Handlers = signal.SIG_DFL, tty: int | None = None) -> Iterator[Up]:
    """``mesh testnet up`` of one node, with stderr as a pipe, or with all of it on the terminal ``tty``, whose session it leads."""
    command = [sys.executable, "-m", "meshos.node.cli.main", "testnet", "up", "--orgs", "1", "--base-port", str(base_port)]

    def heed() -> None:
        """Whoever runs the tests in the background has SIGINT ignored, and a child would inherit that."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, hears)
        if tty is not None:
            fcntl.ioctl(tty, termios.TIOCSCTTY, 0)

    out, err = (subprocess.DEVNULL, subprocess.PIPE) if tty is None else (tty, tty)
    with subprocess.Popen(
        command, cwd=folder, stdin=tty, stdout=out, stderr=err, text=True, preexec_fn=heed, start_new_session=tty is not None
    ) as up:
        try:
            yield up
        finally:
            up.kill()


def read_until(lines: IO[str], begins: str) -> list[str]:
    """The lines up to the one that begins so."""
    told: list[str] = []
    for line in lines:
        told.append(line)
        if line.startswith(begins):
            break
    return told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_testnet_in_the_foreground_takes_it_down(
    tmp_path: Path, base_port: int, taken_down: None, number: signal.Signals
) -> None:
    with in_the_foreground(tmp_path, base_port) as up:
        assert up.stderr is not None
        told = read_until(up.stderr, "Ctrl-C")
        (node,) = record.load(tmp_path / "testnet").nodes
        assert processes.state(node) == "running", told
        up.send_signal(number)
        assert up.wait(PATIENCE_S) == 130
        assert "Traceback" not in up.stderr.read()
    assert processes.state(node) == "stopped" and record.load(tmp_path / "testnet").nodes[0].pid is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_it_before_it_is_ready_leaves_no_node(tmp_path: Path, base_port: int, taken_down: None, number: signal.Signals) -> None:
    with in_the_foreground(tmp_path, base_port) as up:
        file = tmp_path / "testnet"
        wait_until(lambda: making.exists(file) and record.load(file).nodes[0].pid is not None)
        up.send_signal(number)
        assert up.wait(PATIENCE_S) == 130
    assert not processes_below(file)


def test_a_closed_terminal_takes_the_testnet_in_it_down(tmp_path: Path, base_port: int, taken_down: None) -> None:
    ours, theirs = pty.openpty()
    with in_the_foreground(tmp_path, base_port, tty=theirs) as up:
        os.close(theirs)
        with open(ours) as terminal:
            read_until(terminal, "Ctrl-C")
        assert up.wait(PATIENCE_S) == 130
    assert not processes_below(tmp_path / "testnet") and record.load(tmp_path / "testnet").nodes[0].pid is None


def test_one_that_was_started_with_nohup_outlives_its_terminal(tmp_path: Path, base_port: int, taken_down: None) -> None:
    with in_the_foreground(tmp_path, base_port, hears=signal.SIG_IGN) as up:
        assert up.stderr is not None
        read_until(up.stderr, "Ctrl-C")
        up.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            up.wait(1.0)
        up.send_signal(signal.SIGTERM)
        assert up.wait(PATIENCE_S) == 130


def test_up_says_that_others_still_reach_what_was_served_to_them(mesh: Mesh, tmp_path: Path, base_port: int, taken_down: None) -> None:
    made = making.make(tmp_path / "testnet", orgs=1, base_port=base_port, timing="local")
    serving.move(made, "127.0.0.2")
    up = mesh("testnet", "up", "--detach")
    told = "Others reach it at 127.0.0.2, as `mesh testnet serve` left it; only this machine: mesh testnet serve --host 127.0.0.1 --detach"
    assert up.code == 0 and told in up.err.splitlines()
    assert mesh("testnet", "serve", "--host", "127.0.0.1", "--detach").code == 0
    assert "Others reach it" not in mesh("testnet", "up").err


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
