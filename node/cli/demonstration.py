"""What ``mesh demo`` shows: four organisations in a minute, narrated with the commands that a newcomer would type.

Every command shown is the command that is run, in a folder where it finds the testnet by itself. Without ``--keep`` that is a
temporary folder that is removed in the end, whatever happens.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from meshos.errors import Failed
from meshos.node.cli.output import clean, note
from meshos.node.cli.testnet import making, processes, record
from meshos.node.cli.testnet.commands import BASE_PORT, DEFAULT_DIR

ORGS = 4
STEPS = 6
VICTIM = "delta-1"
SEEN_DEAD_S = 60.0
EXAMPLES = "examples"


@dataclass(frozen=True, slots=True)
class Sample:
    """An agent that the demo deploys: its file, and the organisation that runs it."""

    file: str
    org: str


SAMPLES = (Sample("time/agent.yaml", "alpha"), Sample("units/agent.yaml", "beta"), Sample("concierge/agent.yaml", "alpha"))
QUESTION = "what time is it in another city"
TASK = "convert_time"
ERRAND_BY = "Concierge"
ERRAND = '{"request": "how many miles is a marathon", "arguments": {"value": 42.195, "from_unit": "km", "to_unit": "mile"}}'
DATA = '{"source_timezone": "Europe/Berlin", "time": "09:30", "target_timezone": "Asia/Tokyo"}'


def tell(*, keep: bool, base_port: int) -> None:
    """The whole demonstration; raises Failed ``demo-failed``, and whatever a missing port raises."""
    began = time.monotonic()
    print(f"{ORGS} organisations, {ORGS} nodes, only this machine, under a minute; Ctrl-C cleans up", flush=True)
    with _workplace(keep) as place:
        story = _Story(place)
        try:
            _tell(story, _ports(place, base_port))
        finally:
            if not keep:
                story.quietly("testnet", "down")
    took = time.monotonic() - began
    if keep:
        print(f"Done in {took:.0f} s, still running. Next: mesh top, or mesh testnet down")
    else:
        print(f"Done in {took:.0f} s, cleaned up. Keep it: make demo KEEP=1  Next: mesh testnet up --detach")


def _ports(place: Path, base_port: int) -> list[str]:
    """The option for ports, where the usual ones are not meant or not free; a testnet that is there has its own."""
    if making.exists(place / DEFAULT_DIR):
        return []
    free = making.free_base_port(ORGS, base_port)
    return [] if free == BASE_PORT else ["--base-port", str(free)]


@contextmanager
def _workplace(keep: bool) -> Iterator[Path]:
    """A folder with ``examples`` in it, where ``./testnet`` will be."""
    if keep:
        yield Path.cwd()
        return
    place = Path(tempfile.mkdtemp(prefix="mesh-demo-"))
    try:
        (place / EXAMPLES).symlink_to(examples())
        place.chmod(0o755)  # agents run under users of their own, and their files are looked up through here
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def examples() -> Path:
    """The agents that ship with Mesh OS."""
    return Path(str(resources.files("meshos.examples").joinpath(SAMPLES[0].file))).resolve().parent.parent


def _tell(story: "_Story", ports: list[str]) -> None:
    story.step("Start a mesh", "testnet", "up", "--detach", *ports)
    for sample in SAMPLES:
        story.step(
            f"{sample.org} deploys", "deploy", "--agent", story.example(sample.file), "--org", sample.org, same=sample is not SAMPLES[0]
        )
    story.step("gamma finds", "discover", QUESTION, "--org", "gamma", "--limit", "3")
    found = json.loads(story.ask("discover", QUESTION, "--org", "gamma", "--limit", "1", "--json"))
    if not found["agents"]:
        raise Failed("demo-failed", f"gamma found no agent for {QUESTION!r}", hint="run again with --keep and look at mesh agents")
    agent = str(found["agents"][0]["agentId"])
    story.step("gamma calls it", "call", agent, TASK, "--data", DATA, "--org", "gamma")
    hosted = json.loads(story.ask("agents", "--org", "alpha", "--json"))["agents"]
    concierge = next(str(one["agentId"]) for one in hosted if one["name"] == ERRAND_BY)
    story.step("and one that", "call", concierge, "delegate", "--data", ERRAND, "--org", "gamma", same=True)
    story.verdict("alpha's agent found beta's by itself and had it do the work")
    story.step("Kill a node", "testnet", "kill", VICTIM)
    story.verdict(f"seen dead by all others after {_seen_dead(story.place / DEFAULT_DIR):.1f} s")
    story.step("What beta sees", "members", "--org", "beta", same=True)
    story.step("It comes back", "testnet", "start", VICTIM)


def _seen_dead(folder: Path) -> float:
    """Seconds until every other node holds the killed one for dead; raises Failed ``demo-failed`` if that takes too long."""
    testnet = record.load(folder)
    others = [node for node in testnet.nodes if node.name != VICTIM]
    began = time.monotonic()
    while time.monotonic() < began + SEEN_DEAD_S:
        others = [node for node in others if not _holds_dead(node)]
        if not others:
            return time.monotonic() - began
        time.sleep(processes.POLL_S)
    raise Failed("demo-failed", f"{others[0].name} does not see {VICTIM} dead after {SEEN_DEAD_S:g} s", hint="mesh explain demo-failed")


def _holds_dead(node: record.Node) -> bool:
    answer = processes.get(node, "/v1/members")
    body = answer[1] if answer is not None else None
    members = body.get("members", []) if isinstance(body, dict) else []
    return any(isinstance(item, dict) and item.get("name") == VICTIM and item.get("state") == "dead" for item in members)


class _Story:
    """Runs commands and shows them with what they print."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._number = 0
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")} | {"PYTHONUNBUFFERED": "1"}

    def example(self, file: str) -> str:
        """How an example is named from here."""
        path = self.place / EXAMPLES / file
        return f"{EXAMPLES}/{file}" if path.is_file() else str(examples() / file)

    def step(self, title: str, *words: str, same: bool = False) -> None:
        """Show and run one command; ``same`` continues the step before. Raises Failed ``demo-failed``."""
        self._number += 0 if same else 1
        head = "   " if same else f"{self._number}/{STEPS}"
        print(f"{head} {title:<15} $ mesh {' '.join(_quoted(word) for word in words)}", flush=True)
        with subprocess.Popen(
            self._command(words), cwd=self.place, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                print(f"    {clean(line.rstrip())}", flush=True)
        if child.returncode:
            told = f"`mesh {words[0]}` ended with {child.returncode}"
            raise Failed("demo-failed", told, hint="its sentence stands above; `mesh doctor` checks this machine")

    def ask(self, *words: str) -> str:
        """Run a command for its answer only."""
        done = subprocess.run(self._command(words), cwd=self.place, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed("demo-failed", f"`mesh {words[0]}` ended with {done.returncode}: {clean(done.stderr)[-300:]}")
        return done.stdout

    def quietly(self, *words: str) -> None:
        """Run a command for its effect; what it says is shown if it fails."""
        done = subprocess.run(self._command(words), cwd=self.place, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode and making.exists(self.place / DEFAULT_DIR):
            note(clean(done.stderr))

    def verdict(self, text: str) -> None:
        """A line under the step's output."""
        print(f"    ok {text}", flush=True)

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "meshos.node.cli.main", *words]


def _quoted(word: str) -> str:
    if "'" in word or '"' in word:
        return f"'{word}'"
    return f'"{word}"' if " " in word else word
