"""A testnet for a benchmark: brought up by the product's own command in a temporary folder, taken down at the end."""

import json
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from meshos.errors import Failed

COMMAND = (sys.executable, "-m", "meshos.node.cli.main")
TIMEOUT_S = 180.0
BASE_PORTS = range(11_000, 32_000, 400)
"""Below the ports that Linux gives to outgoing connections (32768 and up), in steps of what a testnet takes."""
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@dataclass(frozen=True, slots=True)
class LiveNode:
    """One node of it."""

    name: str
    org: str
    node_id: str
    api: str
    api_key: str
    pid: int

    def client(self) -> httpx.Client:
        """A client that keeps its connection."""
        return httpx.Client(base_url=self.api, headers={"Authorization": f"Bearer {self.api_key}"}, timeout=TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Live:
    """The testnet: its folder, and what `testnet up --json` said."""

    folder: Path
    up: dict[str, object]

    def nodes(self) -> list[LiveNode]:
        """As testnet.json has them now."""
        document = json.loads((self.folder / "testnet.json").read_text())
        return [LiveNode(**{field: row[field] for field in LiveNode.__slots__}) for row in document["nodes"]]

    def mesh(self, *arguments: str) -> dict[str, object]:
        """Run a `mesh` command on it with --json; raises Failed ``bench-command-failed`` with what it said."""
        return command(*arguments, "--dir", str(self.folder), "--json")


def command(*arguments: str) -> dict[str, object]:
    """Run `mesh …` and read its JSON."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S * 2, check=False)
    if done.returncode:
        raise Failed("bench-command-failed", f"mesh {' '.join(arguments[:3])} failed: {done.stderr.strip()[-300:]}")
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def free_base() -> int:
    """A base port, chosen at random, after which nobody listens where a testnet's first node would."""
    while True:
        base = random.choice(BASE_PORTS)
        if not any(_listened(base + offset) for offset in (1, 101, 201)):
            return base


def free_ports(count: int) -> list[int]:
    """``count`` ports on which nobody listens now, from those that Linux gives away itself."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _listened(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def testnet(*, orgs: int = 4, timing: str = "local") -> Iterator[Live]:
    """A running testnet; its processes are ended and its folder removed, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "testnet"
        port = free_base()
        arguments = ("testnet", "up", "--orgs", str(orgs), "--timing", timing, "--base-port", str(port), "--dir", str(folder))
        try:
            yield Live(folder, command(*arguments, "--detach", "--json"))
        finally:
            if (folder / "testnet.json").exists():
                command("testnet", "down", "--dir", str(folder), "--json")


def metrics(node: LiveNode) -> dict[str, float]:
    """What the node tells Prometheus, without figures that have labels."""
    with node.client() as client:
        text = client.get("/metrics").raise_for_status().text
    return figures(text)


def figures(text: str) -> dict[str, float]:
    """Name and value of every line of Prometheus' text format that has no labels."""
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}
