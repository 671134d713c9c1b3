"""What ``mesh demo`` shows: four organisations in a minute, narrated with the commands that a newcomer would type.

Every command shown is the command that is run, in a folder where it finds the testnet by itself. Without ``--keep`` that is a
temporary folder that is removed in the end, whatever happens.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TextIO

from meshos.errors import BadInput, Failed
from meshos.node.cli.client_connection import TESTNET, testnet_here
from meshos.node.cli.output import clean, document, note
from meshos.node.cli.testnet import making, processes, record
from meshos.node.cli.testnet.commands import BASE_PORT
from meshos.node.terminal import end_as_after_ctrl_c

ORGS = 4
STEPS = 7
PAID = "alpha"
"""Whose agents gamma has called."""
VICTIM = "delta-1"
AWAITED_S = 60.0
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


def tell(*, keep: bool, base_port: int, as_json: bool) -> None:
    """The whole demonstration; raises BadInput ``file-exists`` before anything is done, Failed ``demo-failed``, and whatever a missing port
    raises.

    With ``as_json`` the story goes to stderr, and stdout gets its steps as one document at the end.
    """

    if keep:
        _refuse_if_one_is_there()
    told: list[signal.Signals] = []
    began = time.monotonic()
    end_as_after_ctrl_c(told.append)
    with _workplace(keep) as place:
        story = _Story(place, sys.stderr if as_json else sys.stdout, told)
        after = f"it stays in ./{TESTNET}, after Ctrl-C too: mesh testnet down" if keep else "Ctrl-C cleans up"
        story.say(f"{ORGS} organisations, {ORGS} nodes, only this machine, under a minute; {after}")
        try:
            _tell(story, _ports(base_port))
        finally:
            if not keep:
                story.quietly("testnet", "down")
    took = time.monotonic() - began
    if as_json:
        document("demo", {"ok": True, "kept": keep, "took_ms": round(took * 1000), "steps": story.steps})
    elif keep:
        story.say(f"Done in {took:.0f} s, still running. Next: mesh top, or mesh testnet down")
    else:
        story.say(f"Done in {took:.0f} s, cleaned up. Keep it: make demo KEEP=1  Next: mesh testnet up --detach")


def _refuse_if_one_is_there() -> None:
    """Commands typed here would go to a testnet that lies here: the demo would deploy agents in somebody's mesh and kill a node of it."""
    here = testnet_here()
    if making.exists(here):
        told = f"there is a testnet in {here.absolute()} already, and the demo would change it"
        raise BadInput("file-exists", told, hint="run `mesh demo --keep` in another folder, or `mesh demo`, which has a folder of its own")


def _ports(base_port: int) -> list[str]:
    """The option for ports, where the usual ones are not meant or not free."""
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
    for number, sample in enumerate(SAMPLES):
        file = story.example(sample.file)
        story.step(f"{sample.org} deploys", "deploy", "--agent", file, "--org", sample.org, same=number > 0)
    testnet = record.load(story.place / TESTNET)
    agents = _hosted(testnet)
    took = _until(testnet, f"know all {len(agents)} agents", lambda node: all(_knows(node, agent) for agent in agents.values()))
    told = f"all {len(testnet.nodes)} nodes know all {len(agents)} agents, {took:.1f} s later"
    story.verdict(told, known_everywhere_ms=round(took * 1000))
    story.step("gamma finds", "discover", QUESTION, "--org", "gamma", "--limit", "3")
    found = json.loads(story.ask("discover", QUESTION, "--org", "gamma", "--limit", "1", "--json"))["agents"]
    if not found or TASK not in [task["name"] for task in found[0]["tasks"]]:
        raise Failed(
            "demo-failed", f"what gamma found for {QUESTION!r} cannot {TASK}", hint="run again with --keep and look at mesh agents"
        )
    story.step("gamma calls it", "call", str(found[0]["agentId"]), TASK, "--data", DATA, "--org", "gamma")
    story.step("and a concierge", "call", agents[ERRAND_BY], "delegate", "--data", ERRAND, "--org", "gamma", same=True)
    story.verdict("alpha's agent found beta's by itself and had it do the work")
    took = _until(testnet, f"see that {PAID} was paid", _shows_pay)
    story.step("The ledger pays", "wallet", "balance", "--org", PAID)
    told = f"gamma's node signed vouchers, and all {len(testnet.nodes)} nodes' ledgers paid them, {took:.1f} s later"
    story.verdict(told, paid_ms=round(took * 1000))
    story.step("and says so to all", "ledger", "head", "--org", "delta", same=True)
    story.step("Kill a node", "testnet", "kill", VICTIM)
    others = replace(testnet, nodes=tuple(node for node in testnet.nodes if node.name != VICTIM))
    took = _until(others, f"see {VICTIM} dead", _holds_dead)
    story.verdict(f"seen dead by all others after {took:.1f} s", seen_dead_ms=round(took * 1000))
    story.step("What beta sees", "members", "--org", "beta", same=True)
    story.step("It comes back", "testnet", "start", VICTIM)


def _hosted(testnet: record.Testnet) -> dict[str, str]:
    """The ids of the agents that run, by their names."""
    answers = [processes.get(node, "/v1/agents") for node in testnet.nodes]
    bodies = [answer[1] for answer in answers if answer is not None and isinstance(answer[1], dict)]
    return {str(agent["name"]): str(agent["agentId"]) for body in bodies for agent in body.get("agents", [])}


def _until(testnet: record.Testnet, what: str, holds: Callable[[record.Node], bool]) -> float:
    """Seconds until every node of ``testnet`` does what is awaited; raises Failed ``demo-failed`` if that takes too long."""
    left = list(testnet.nodes)
    began = time.monotonic()
    while time.monotonic() < began + AWAITED_S:
        left = [node for node in left if not holds(node)]
        if not left:
            return time.monotonic() - began
        time.sleep(processes.POLL_S)
    raise Failed("demo-failed", f"{left[0].name} does not {what} after {AWAITED_S:g} s", hint="mesh explain demo-failed")


def _knows(node: record.Node, agent: str) -> bool:
    answer = processes.get(node, f"/v1/agents/{agent}")
    return answer is not None and answer[0] == 200


def _shows_pay(node: record.Node) -> bool:
    answer = processes.get(node, f"/v1/accounts/did:mesh:enterprise:{PAID}")
    body = answer[1] if answer is not None else None
    tabs = body.get("tabs", []) if isinstance(body, dict) else []
    return any(isinstance(tab, dict) and str(tab.get("provider", "")).endswith(f":{PAID}") and tab.get("redeemed") != "0" for tab in tabs)


def _holds_dead(node: record.Node) -> bool:
    answer = processes.get(node, "/v1/members")
    body = answer[1] if answer is not None else None
    members = body.get("members", []) if isinstance(body, dict) else []
    return any(isinstance(item, dict) and item.get("name") == VICTIM and item.get("state") == "dead" for item in members)


class _Story:
    """Runs commands and shows them with what they print on ``out``; ``steps`` is the same for programs. ``told`` gets the signals that told
    this process to end, and perhaps not its children; a terminal's Ctrl-C, which comes to them too, is not among them."""

    def __init__(self, place: Path, out: TextIO, told: Sequence[signal.Signals] = ()) -> None:
        self.place = place
        self._told = told
        self.steps: list[dict[str, object]] = []
        self._out = out
        self._number = 0
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")} | {"PYTHONUNBUFFERED": "1"}

    def say(self, line: str) -> None:
        """A line of the story."""
        print(line, file=self._out, flush=True)

    def example(self, file: str) -> str:
        """How an example is named from here."""
        path = self.place / EXAMPLES / file
        return f"{EXAMPLES}/{file}" if path.is_file() else str(examples() / file)

    def step(self, title: str, *words: str, same: bool = False) -> None:
        """Show and run one command; ``same`` continues the step before. Raises Failed ``demo-failed``."""
        self._number += 0 if same else 1
        head = "   " if same else f"{self._number}/{STEPS}"
        command = f"mesh {' '.join(_quoted(word) for word in words)}"
        self.say(f"{head} {title:<15} $ {command}")
        began = time.monotonic()
        verdict = ""
        with subprocess.Popen(
            self._command(words), cwd=self.place, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    told = clean(line.rstrip())
                    verdict = told.removeprefix("ok ") if told.startswith("ok ") else verdict
                    self.say(f"    {told}")
            except KeyboardInterrupt:
                for number in self._told[-1:]:
                    child.send_signal(number)
                child.wait()  # so that it has ended what it began
                raise
        if child.returncode:
            told = f"`mesh {words[0]}` ended with {child.returncode}"
            raise Failed("demo-failed", told, hint="its sentence stands above; `mesh doctor` checks this machine")
        took_ms = round((time.monotonic() - began) * 1000)
        self.steps.append({"step": self._number, "title": title, "command": command, "took_ms": took_ms, "verdict": verdict})

    def ask(self, *words: str) -> str:
        """Run a command for its answer only."""
        done = subprocess.run(self._command(words), cwd=self.place, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed("demo-failed", f"`mesh {words[0]}` ended with {done.returncode}: {clean(done.stderr)[-300:]}")
        return done.stdout

    def quietly(self, *words: str) -> None:
        """Run a command for its effect; what it says is shown if it fails."""
        done = subprocess.run(self._command(words), cwd=self.place, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode and making.exists(self.place / TESTNET):
            note(clean(done.stderr))

    def verdict(self, text: str, **figures: int) -> None:
        """A line under the step's output, which says how it went better than the command could."""
        self.say(f"    ok {text}")
        self.steps[-1] |= {"verdict": text, **figures}

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "meshos.node.cli.main", *words]


def _quoted(word: str) -> str:
    if "'" in word or '"' in word:
        return f"'{word}'"
    return f'"{word}"' if " " in word else word
