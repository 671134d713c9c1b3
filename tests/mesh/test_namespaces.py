"""A testnet that is served, and three machines (network namespaces of this one) that join it, go, and come back."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.mesh.joiner import Joiner
from tests.mesh.testnet import EXAMPLES, until

SERVER, GUESTS = "s", ("a", "b", "c")
PREFIX = f"mesh{os.getpid()}"


def why_not() -> str:
    """Why this machine cannot make network namespaces; nothing where it can."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need Linux, root and iproute2"
    probe = subprocess.run(["ip", "netns", "add", f"{PREFIX}probe"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", f"{PREFIX}probe"], capture_output=True, check=False)
    return probe.stderr.strip()


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")


class Lan:
    """A switch, and machines at it: 10.77.0.1 is the server, then come the guests. It leads nowhere else."""

    def __init__(self) -> None:
        self.machines = {name: f"10.77.0.{number}" for number, name in enumerate((SERVER, *GUESTS), 1)}

    def within(self, machine: str) -> list[str]:
        return ["ip", "netns", "exec", f"{PREFIX}{machine}"]

    def begin(self) -> None:
        hub = f"{PREFIX}hub"
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for name, address in self.machines.items():
            space = f"{PREFIX}{name}"
            _ip("netns", "add", space)
            _ip("-n", hub, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "lan", "netns", space)
            _ip("-n", hub, "link", "set", f"to-{name}", "master", "bridge", "up")
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "lan")
            _ip("-n", space, "link", "set", "lan", "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def end(self) -> None:
        for name in (*self.machines, "hub"):
            subprocess.run(["ip", "netns", "del", f"{PREFIX}{name}"], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)


def mesh(within: Sequence[str], folder: Path, *words: str) -> str:
    command = [*within, sys.executable, "-m", "meshos.node.cli.main", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, (words, done)
    return done.stdout


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    lan = Lan()
    try:
        lan.begin()
        yield lan
    finally:
        lan.end()


@pytest.fixture(scope="module")
def served(lan: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a testnet that was brought up on loopback and is then served to the others."""
    folder, within = tmp_path_factory.mktemp("served"), lan.within(SERVER)
    try:
        mesh(within, folder, "testnet", "up", "--timing", "fast", "--detach")
        mesh(within, folder, "testnet", "serve", "--host", lan.machines[SERVER], "--detach")
        yield folder
    finally:
        mesh(within, folder, "testnet", "down")


def test_three_machines_join_go_and_come_back(lan: Lan, served: Path, tmp_path: Path) -> None:
    address = json.loads((served / "testnet" / "testnet.json").read_text())["nodes"][0]["p2p"][0]
    assert f"/ip4/{lan.machines[SERVER]}/tcp/" in address
    joiners = []
    for name in GUESTS:
        (tmp_path / name).mkdir()
        joiners.append(Joiner(f"guest-{name}", tmp_path / name / "node", address, lan.within(name)))

    def alive() -> list[str]:
        members = json.loads(mesh(lan.within(SERVER), served, "members", "--json"))["members"]
        return sorted(member["name"] for member in members if member["state"] == "alive" and member["name"].startswith("guest"))

    try:
        for joiner in joiners:
            told = joiner.begin()
            assert told["ready"] is True and str(told["link"]).startswith("10.77.0.")
        until(lambda: len(alive()) == 3, "they never saw each other")
        joiners[0].end()
        until(lambda: alive() == ["guest-b-1", "guest-c-1"], "who went is still there")
        assert joiners[0].begin()["ready"] is True
        until(lambda: len(alive()) == 3, "who came back is not there")
        joiners[1].mesh("org", "leave", "--dir", str(joiners[1].place), "--yes")
        until(lambda: alive() == ["guest-a-1", "guest-c-1"], "who has left is still a member")
        joiners[1].end()
        joiners[1] = Joiner("guest-b", tmp_path / "b" / "again", address, lan.within("b"))
        assert "[admission-by-vote]" in joiners[1].refused(), "its name is not whose asks first"
        motion = served / "motion.yaml"
        motion.write_text(f"admit: {(joiners[1].place / 'application.txt').read_text()}")
        moved = mesh(lan.within(SERVER), served, "propose", str(motion), "--org", "alpha").strip()
        for org in ("beta", "gamma"):
            until(lambda org=org: moved in mesh(lan.within(SERVER), served, "proposals", "-q", "--org", org), f"{org} never heard of it")
            mesh(lan.within(SERVER), served, "vote", "--proposal", moved, "--choice", "for", "--org", org)
        assert joiners[1].begin()["ready"] is True
        until(lambda: len(alive()) == 3, "who was voted for is not there")
    finally:
        for joiner in joiners:
            joiner.end()


def test_a_leaf_goes_on_from_another_address(lan: Lan, served: Path, tmp_path: Path) -> None:
    address = json.loads((served / "testnet" / "testnet.json").read_text())["nodes"][0]["p2p"][0]
    agent = mesh(lan.within(SERVER), served, "deploy", "--agent", str(EXAMPLES / "echo" / "agent.yaml"), "--org", "alpha", "-q").strip()
    laptop = Joiner("laptop", tmp_path / "node", address, lan.within("c"), options=["--leaf"])

    def calls(text: str) -> bool:
        done = laptop.tried("call", agent, "echo", "--data", json.dumps({"text": text}), "--json")
        return done.returncode == 0 and json.loads(done.stdout)["status"] == "completed"

    def alive() -> list[str]:
        members = json.loads(mesh(lan.within(SERVER), served, "members", "--json"))["members"]
        return [member["name"] for member in members if member["state"] == "alive" and member["name"] == "laptop-1"]

    try:
        laptop.begin()
        until(lambda: calls("from here"), "it never called")
        for old, new in (("10.77.0.4", "10.77.0.44"), ("10.77.0.44", "10.77.0.4")):
            _ip("-n", f"{PREFIX}c", "address", "del", f"{old}/24", "dev", "lan")
            _ip("-n", f"{PREFIX}c", "address", "add", f"{new}/24", "dev", "lan")
            until(lambda: calls("from elsewhere"), "it never called again")
            until(alive, "the others do not see it")
    finally:
        laptop.end()
