"""A real node outside of any testnet, as `mesh run` runs it: what it says, and where it connects for others."""

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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshos.node.cli.testnet import making
from tests.cli.conftest import Mesh

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Node:
    """A node that runs, and the document that it said."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    key: str

    def ends(self) -> tuple[str, str]:
        """End it in order: what else it said on stdout, and on stderr."""
        self.process.send_signal(signal.SIGTERM)
        rest, log = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, log
        return rest, log


@pytest.fixture
def folder(mesh: Mesh, tmp_path: Path) -> Path:
    """A founded organisation's only node, with a genesis that is no testnet's."""
    for words in (
        "init --org acme --dir acme-1 --api-port 0 --gossip-port 0 --link-port 0",
        "genesis new genesis.json acme-1/org.json --timing fast",
        "init --dir acme-1 --genesis genesis.json",
    ):
        done = mesh(*words.split())
        assert done.code == 0, done.err
    return tmp_path / "acme-1"


@contextmanager
def running(folder: Path) -> Iterator[Node]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")}
    command = [sys.executable, "-m", "meshos.node.cli.main", "run", "--dir", folder, "--json"]
    with subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line == "}\n":
                    break
            yield Node(process, json.loads("".join(lines)), (folder / "api-key").read_text().strip())
        finally:
            process.kill()


@contextmanager
def elsewhere() -> Iterator[str]:
    """A real MCP server on a loopback address, in a process of its own."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "echo" / "server.py", "--http", str(port)], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            assert any("running on" in line for line in server.stderr)
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()


def test_with_json_stdout_is_one_document_and_the_rest_is_on_stderr(folder: Path) -> None:
    with running(folder) as node:
        assert next(iter(node.facts.items())) == ("schema", "mesh.run/1")
        assert (node.facts["name"], node.facts["org"], node.facts["seeds"]) == ("acme-1", "did:mesh:enterprise:acme", 0)
        assert node.facts["node_id"].startswith("12D3KooW") and node.facts["api"].startswith("http://127.0.0.1:")
        rest, log = node.ends()
    assert rest == ""
    assert "leaving, again to force" in log and log.endswith("left\n") and '"event"' in log


def test_a_node_whose_terminal_is_closed_leaves_in_order(folder: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "meshos.node.cli.main", "run", "--dir", folder]

    def lead() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=lead) as process:
        try:
            os.close(theirs)
            with open(ours) as terminal:
                assert any(line.strip() == "ready" for line in terminal)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def test_two_organisations_meet_as_the_how_to_says(mesh: Mesh, tmp_path: Path) -> None:
    base = making.free_base_port(1, 24_000)
    ports = f"--api-port {base + 1} --gossip-port {base + 101} --link-port {base + 201}"
    for words in (
        "init --org acme --dir acme-1 --api-port 0 --gossip-port 0 --link-port 0",
        f"init --org globex --kind hospital --dir globex-1 {ports}",
        "genesis new genesis.json acme-1/org.json globex-1/org.json --timing fast",
        "init --dir acme-1 --genesis genesis.json",
    ):
        done = mesh(*words.split())
        assert done.code == 0, done.err
    globex = json.loads(mesh("init", "--dir", "globex-1", "--genesis", "genesis.json", "--json").out)["node_id"]
    with (tmp_path / "acme-1" / "node.toml").open("a") as config:
        config.write(f'\n[[seed]]\nnode = "{globex}"\ngossip = "127.0.0.1:{base + 101}"\nlink = "127.0.0.1:{base + 201}"\n')
    with running(tmp_path / "globex-1") as first, running(tmp_path / "acme-1") as second:
        until = time.monotonic() + PATIENCE_S
        for node in (first, second):
            where = ("--node", node.facts["api"], "--api-key", node.key)
            while "2 members: 2 alive" not in (seen := mesh("members", *where)).err:
                assert time.monotonic() < until, seen
        assert second.facts["seeds"] == 1


def test_an_agent_at_a_private_address_is_served_once_its_owner_allows_it(folder: Path, mesh: Mesh, tmp_path: Path) -> None:
    with elsewhere() as address:
        agent = tmp_path / "agent.yaml"
        agent.write_text(f"name: Echo\ndescription: says it again\nruntime:\n  mcp: {{url: 'http://{address}/mcp'}}\n")
        with running(folder) as node:
            refused = mesh("deploy", "--agent", agent, "--node", node.facts["api"], "--api-key", node.key)
            assert refused.code == 4 and "[egress-refused]" in refused.err and "egress.allow" in refused.err
            node.ends()
        with (folder / "node.toml").open("a") as config:
            config.write(f'\n[egress]\nallow = ["{address}"]\n')
        with running(folder) as node:
            where = ("--node", node.facts["api"], "--api-key", node.key)
            deployed = mesh("deploy", "--agent", agent, "-q", *where)
            assert deployed.code == 0, deployed.err
            done = mesh("call", deployed.out.strip(), "echo", "--data", '{"text": "hello"}', *where)
            assert done.code == 0 and "hello" in done.out, done.err
