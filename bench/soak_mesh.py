"""The mesh of ``mesh bench soak``: four organisations of real processes, one of them with three nodes, that are killed and started again.

Everything that it knows of the mesh is what its nodes say at their APIs, and, once they have ended, what lies on their disks.
"""

import io
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshos.bench.asker import Answered, Asker
from meshos.bench.live import BASE_PORTS
from meshos.errors import Failed
from meshos.node.cli.output import Progress
from meshos.node.cli.testnet import making, processes, record, starting
from meshos.node.cli.testnet.record import Node
from meshos.node.config import load

ORGS, REPLICAS = 4, 3
LARGE = "beta"
"""The organisation whose three nodes run; of the others only the first does."""
BACK_S = 90.0
"""How long a node may take to be ready again, beside others that start too, on cores that have work."""
POLL_S = 0.25
REST_S = 120.0
"""How long the mesh may take to have nothing left to do, once nobody asks for anything."""
STILL_S = 2.5
"""Heads that are equal must still be the same so much later: vouchers are redeemed every 2 s on a testnet."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a node's ledger is, as it says."""

    height: int
    hash: str
    root: str
    idle: bool


class Mesh:
    """See the module's text. Nodes are called by their names."""

    def __init__(self, testnet: record.Testnet) -> None:
        self._testnet = testnet
        self.folder = testnet.dir
        large = [node for node in testnet.nodes if node.org == LARGE]
        self.names = tuple(node.name for node in testnet.nodes if node in large or node.validator)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Those that run, or shall."""
        return tuple(map(self._testnet.node, self.names))

    @property
    def validators(self) -> tuple[Node, ...]:
        """The first node of each organisation: it holds the seat, and a key that the ledger knows."""
        return tuple(node for node in self.nodes if node.validator)

    def node(self, name: str) -> Node:
        """One of them."""
        return self._testnet.node(name)

    def of(self, org: str) -> tuple[Node, ...]:
        """Those of an organisation."""
        return tuple(node for node in self.nodes if node.org == org)

    def data(self, name: str) -> Path:
        """Where its database lies."""
        return load(Path(self.node(name).dir)).data

    # -- processes ---------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Bring all up for the first time."""
        self._testnet = starting.start(self._testnet, self.nodes, BACK_S, _silent()).testnet

    def kill(self, names: Sequence[str]) -> None:
        """SIGKILL; they are gone when this returns."""
        processes.kill([self.node(name) for name in names])

    def start(self, names: Sequence[str]) -> None:
        """Start them; see ``wait_ready``."""
        for name in names:
            child = processes.start(self.node(name))
            self._children[name] = child
            self._testnet = self._testnet.with_pid(name, child.pid)
        record.save(self._testnet)

    def wait_ready(self, names: Sequence[str]) -> str:
        """Wait until these can be asked; why one of them cannot, if so."""
        until, left = time.monotonic() + BACK_S, list(names)
        while left:
            for name in left:
                if self._children[name].poll() is not None:
                    return f"{name} ended with {self._children[name].returncode}: {processes.why_it_ended(self.node(name))}"
            left = [name for name in left if not processes.is_ready(self.node(name))]
            if left and time.monotonic() > until:
                return f"{', '.join(left)} not ready {BACK_S:g} s after the start: {processes.why_not_ready(self.node(left[0]))}"
            time.sleep(POLL_S)
        return ""

    def ended(self) -> list[str]:
        """Those that have ended though nobody has killed them, and what they said last. To be asked while all should run."""
        gone = [node for node in self.nodes if processes.state(node) == "stopped"]
        return [f"{node.name} ended by itself: {processes.why_it_ended(node)}" for node in gone]

    def errors(self) -> list[str]:
        """What the nodes have logged as errors, and what they did not expect at all."""
        found = []
        for node in self.nodes:
            with (Path(node.dir) / processes.LOG).open(encoding="utf-8", errors="replace") as lines:
                found += [f"{node.name}: {line.strip()[:300]}" for line in lines if '"level":"error"' in line or "Traceback" in line]
        return found

    def stop(self) -> list[str]:
        """Let all leave in order; who had to be killed."""
        return processes.stop(self.nodes, lambda text: None)

    def close(self) -> None:
        """Whatever runs is ended."""
        processes.kill(self._testnet.nodes)

    # -- what they say -----------------------------------------------------------------------------------------------

    def head(self, name: str) -> Head | None:
        """Where its ledger is; None if it does not answer."""
        answer = processes.get(self.node(name), "/v1/ledger/head")
        if answer is None or answer[0] != 200 or not isinstance(answer[1], dict):
            return None
        said = answer[1]
        idle = not said["waiting"] and not said["behind"] and (not said["silent"] or not self.node(name).validator)
        return Head(int(said["height"]), str(said["hash"]), str(said["stateRoot"]), idle)

    def settled(self) -> tuple[dict[str, Head | None], bool]:
        """The heads of all, once they are one and stay so; False if that does not come in REST_S."""
        until = time.monotonic() + REST_S
        before: set[Head | None] = set()
        while True:
            heads = {name: self.head(name) for name in self.names}
            now = set(heads.values())
            if len(now) == 1 and now == before and all(head is not None and head.idle for head in now):
                return heads, True
            if time.monotonic() > until:
                return heads, False
            before = now
            time.sleep(STILL_S)

    def deploy(self, org: str, agent: dict[str, object], folder: Path) -> str:
        """Have the organisation's first node run an agent; its id, once all others know it."""
        node, until = self.of(org)[0], time.monotonic() + BACK_S
        status, answer = _post(node, "/v1/agents", {"agent": agent, "folder": str(folder)})
        while status != 201 and answer.get("outcome") == "not_done" and time.monotonic() < until:  # its nodes may choose a leader
            time.sleep(1.0)
            status, answer = _post(node, "/v1/agents", {"agent": agent, "folder": str(folder)})
        if status != 201:
            raise Failed("bench-command-failed", f"{node.name} deploys nothing: {json.dumps(answer)[:300]}")
        id_ = str(answer["agentId"])
        for other in self.nodes:
            while (found := processes.get(other, f"/v1/agents/{id_}")) is None or found[0] != 200:
                if time.monotonic() > until:
                    raise Failed("bench-command-failed", f"{other.name} has not heard of {id_}")
                time.sleep(0.1)
        return id_


@contextmanager
def mesh(say: Callable[[str], None]) -> Iterator[tuple[Mesh, Callable[[], None]]]:
    """A mesh in a temporary folder, and what to call if that folder shall stay. Whatever happens, its processes are ended."""
    parent = Path(tempfile.mkdtemp(prefix="mesh-soak-"))
    parent.chmod(0o755)
    kept: list[bool] = []
    made: Mesh | None = None
    try:
        base_port = making.free_base_port(ORGS * REPLICAS, random.choice(BASE_PORTS))
        testnet = making.make(parent / "testnet", orgs=ORGS, replicas=REPLICAS, base_port=base_port, timing="local")
        made = Mesh(testnet)
        say(f"{len(made.names)} nodes start in {parent}")
        made.up()
        yield made, lambda: kept.append(True)
    except Exception:  # a Ctrl-C is none
        kept.append(True)
        say(f"the nodes' folders stay in {parent}")
        raise
    finally:
        if made is not None:
            made.close()
        if not kept:
            shutil.rmtree(parent, ignore_errors=True)


def _post(node: Node, path: str, body: object) -> Answered:
    asker = Asker(node)
    try:
        return asker.post(path, body, BACK_S)
    finally:
        asker.close()


def _silent() -> Progress:
    return Progress(io.StringIO())
