"""A node whose disk is full ends by name, loses nothing that it acknowledged, and comes back once there is room."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshos.node.cli.testnet import making, record
from tests.mesh.testnet import EXAMPLES, Done, Net, children, free_base, mesh, running, until

DISK_BYTES = 48 << 20
"""Room for a node, its agents' folders and LevelDB's first files; soon filled."""


@dataclass(slots=True)
class Small:
    """A testnet of one on a small disk of its own, and its process; what the process says goes to a pipe, not to that disk."""

    net: Net
    child: subprocess.Popen[str] | None = None

    @property
    def ballast(self) -> Path:
        return self.net.folder / "ballast"

    def fill(self) -> None:
        """Take what room there is, to the last byte."""
        with open(self.ballast, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def start(self) -> None:
        """``mesh run``, as people do."""
        node = self.net.node("alpha")
        command = [sys.executable, "-m", "meshos.node.cli.main", "run", "--dir", node.dir]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")
        with record.changing(self.net.folder / "testnet") as testnet:
            record.save(testnet.with_pid(node.name, self.child.pid))
        until(self.is_ready, "it never became ready")

    def is_ready(self) -> bool:
        assert self.child is not None and self.child.poll() is None, self.child and self.child.communicate()
        try:
            return self.net.ask("alpha", "GET", "/readyz").status == 200
        except OSError:
            return False

    def ended(self) -> Done:
        """How it ended by itself."""
        assert self.child is not None
        out, err = self.child.communicate(timeout=60)
        return Done(self.child.returncode, out, err)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "small", disk], check=False).returncode:
        pytest.skip("only root may mount a small disk, where mounting is allowed at all")
    made = Small(Net(disk))
    try:
        making.make(disk / "testnet", orgs=1, base_port=free_base(), timing="fast")
        yield made
    finally:
        if made.child is not None and made.child.poll() is None:
            made.child.kill()
            made.child.communicate()
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_ends_the_node_by_name_and_nothing_acknowledged_is_lost(small: Small) -> None:
    net = small.net
    small.start()
    echo = net.deploy("alpha", EXAMPLES / "echo" / "agent.yaml")
    acknowledged = [net.call("alpha", echo, "echo", {"text": str(number)})["taskId"] for number in range(20)]
    assert small.child is not None
    below = children(small.child.pid)
    small.fill()
    while small.child.poll() is None:
        try:
            answer = net.call("alpha", echo, "echo", {"text": "more" * 200})
        except (OSError, ValueError):  # it ended, or was just ending: nothing was acknowledged
            continue
        if answer.get("status") == "completed":
            acknowledged.append(answer["taskId"])
    done = small.ended()
    assert done.code == 1 and "[disk-full]" in done.err and "Traceback" not in done.err, done
    until(lambda: not any(map(running, below)), "an agent outlived its node")

    again = mesh("run", "--dir", net.node("alpha").dir, cwd=Path("/"))
    assert again.code == 1 and "[disk-full]" in again.err and "Traceback" not in again.err, "it says the same while there is no room"

    small.ballast.unlink()
    small.start()
    for task in acknowledged:
        assert net.ask("alpha", "GET", f"/v1/tasks/{task}").body.get("status") == "completed", task
    until(lambda: net.call("alpha", echo, "echo", {"text": "back"}).get("status") == "completed", "its agent did not come back")


def test_commands_on_a_full_disk_say_so_and_change_nothing(small: Small) -> None:
    small.fill()
    folder = small.net.folder
    made = mesh("init", "--org", "late", "--dir", folder / "late", cwd=folder)
    assert made.code == 1 and "[cannot-write]" in made.err and "No space left" in made.err and "Traceback" not in made.err, made
    testnet = mesh("testnet", "up", "--detach", "--orgs", 1, "--dir", folder / "other", cwd=folder)
    assert testnet.code == 1 and "[cannot-write]" in testnet.err and "Traceback" not in testnet.err, testnet
    assert not (folder / "other").exists() and not list(folder.glob(".other*"))
    small.ballast.unlink()
    again = mesh("init", "--org", "late", "--dir", folder / "late", cwd=folder)
    assert again.code == 0, again
