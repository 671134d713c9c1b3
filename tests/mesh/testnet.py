"""A testnet as its user has it: brought up by ``mesh testnet``, asked over HTTP, looked at in /proc."""

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from meshos.node.cli.testnet import making, processes, record

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
AGENTS = Path(__file__).resolve().parent / "agents"
PATIENCE_S = 90.0
"""How long anything may take before a test says that it never came; no test waits for this when all is well."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a node's API."""

    status: int
    body: Any
    headers: Mapping[str, str]


def mesh(*words: object, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """Run ``mesh`` with these words, and with ``env`` beside what is there."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")}
    command = [sys.executable, "-m", "meshos.node.cli.main", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=clean | dict(env or {}), capture_output=True, text=True, timeout=180, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def until(what: Callable[[], Any], told: str = "it never came", patience_s: float = PATIENCE_S) -> Any:
    """Poll until ``what`` gives something true, and give that."""
    end = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < end, told
        time.sleep(processes.POLL_S)
    return found


def free_base() -> int:
    """A base port that others of these tests will hardly choose too."""
    return making.free_base_port(4, 22_000 + 100 * random.randrange(100))


class Net:
    """A testnet in ``folder``/testnet; nodes are named by their organisation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mesh(self, *words: object) -> Done:
        """Run ``mesh`` beside the testnet."""
        return mesh(*words, cwd=self.folder)

    def must(self, *words: object) -> str:
        """Run ``mesh`` and give what it printed; it must say yes."""
        done = self.mesh(*words)
        assert done.code == 0, (words, done)
        return done.out

    def node(self, org: str) -> record.Node:
        """The organisation's node as the record has it now."""
        return record.load(self.folder / "testnet").of(org)[0]

    def nodes(self) -> tuple[record.Node, ...]:
        """All of them."""
        return record.load(self.folder / "testnet").nodes

    def log(self, org: str) -> str:
        """What the node has logged."""
        return (Path(self.node(org).dir) / processes.LOG).read_text(encoding="utf-8", errors="replace")

    def metrics(self, org: str) -> dict[str, float]:
        """The figures that are not 0, without their prefix ``mesh_``."""
        node = self.node(org)
        request = urllib.request.Request(node.api + "/metrics", headers={"Authorization": f"Bearer {node.api_key}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        rows = [line.removeprefix("mesh_").rpartition(" ") for line in lines if line.startswith("mesh_")]
        return {name: float(value) for name, _, value in rows if float(value)}

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, org: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request; raises OSError if the node does not answer."""
        node = self.node(org)
        told = {"Authorization": f"Bearer {node.api_key}", "Content-Type": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(node.api + path, data=data, headers=told, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE_S) as answer:
                return Answer(answer.status, json.loads(answer.read()), dict(answer.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read()), dict(error.headers))

    def call(self, org: str, agent: str, tool: str, data: object = None, **more: object) -> Any:
        """The body of the answer to a call from ``org``'s node."""
        return self.ask(org, "POST", "/v1/tasks", {"agentId": agent, "type": tool, "data": data or {}, **more}).body

    def publish(self, org: str, *cards: Mapping[str, object]) -> None:
        """Publish agents by the command."""
        lines = self.folder / f"of-{org}.jsonl"
        lines.write_text("\n".join(json.dumps(card) for card in cards), encoding="utf-8")
        self.must("publish", lines, "--org", org)

    def discover(self, org: str, query: str, limit: int = 5) -> Any:
        """The body of the answer of ``org``'s node to a question in plain words."""
        answer = self.ask(org, "POST", "/v1/discover", {"query": query, "limit": limit})
        assert answer.status == 200, answer
        return answer.body

    def deploy(self, org: str, file: Path) -> str:
        """Deploy by the command; gives the agent's id."""
        return self.must("deploy", "--agent", file, "--org", org, "--quiet").strip()

    def deploy_all(self, wanted: Mapping[tuple[str, Path], str]) -> dict[str, str]:
        """Deploy by the API, all at once: maps (organisation, agent file) to a name; gives each name's agent id, known to all nodes."""
        found: dict[str, str] = {}

        def deploy(org: str, file: Path, name: str) -> None:
            agent = YAML(typ="safe").load(file)
            answer = self.ask(org, "POST", "/v1/agents", {"agent": agent, "folder": str(file.parent)})
            assert answer.status == 201, answer.body
            found[name] = answer.body["agentId"]

        threads = [threading.Thread(target=deploy, args=(*where, name)) for where, name in wanted.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == len(wanted), f"only {sorted(found)} were deployed"
        for node in self.nodes():
            for agent in found.values():
                until(lambda node=node, agent=agent: self.knows(node.org, agent), f"{node.name} never heard of {agent}")
        return found

    def knows(self, org: str, agent: str) -> bool:
        """Whether ``org``'s node has the agent's record."""
        return self.ask(org, "GET", f"/v1/agents/{agent}").status == 200

    def sees(self, org: str, other: str) -> str:
        """The state in which ``org``'s node sees the other's."""
        name = self.node(other).name
        members = self.ask(org, "GET", "/v1/members").body["members"]
        return next((str(member["state"]) for member in members if member["name"] == name), "unknown")

    def acquainted(self, *orgs: str) -> bool:
        """Whether each of these sees each other alive."""
        return all(self.sees(one, other) == "alive" for one in orgs for other in orgs)


def children(pid: int) -> set[int]:
    """All processes below ``pid``, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has just ended
    found, fresh = set[int](), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
