"""How long one command takes from an empty folder to a member that has called another's agent, and where the time goes.

Each run is what a newcomer types, ``mesh join`` and then ``mesh call``, with a folder and an organisation of its own, at the same
testnet. The steps are told by what the command says, as it says it, and by when the new node's API answers. The first run is at nodes
whose square nobody has visited: they load libp2p then.
"""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from meshos.bench.calls import deployed
from meshos.bench.live import COMMAND, TIMEOUT_S, testnet
from meshos.bench.machine import QUIET, calibration
from meshos.bench.report import Report, row
from meshos.errors import Failed

RUNS, SHORT_RUNS = 10, 2
"""A door lets in 16 of one address in an hour."""
BAR_S = 15.0
POLL_S = 0.01

STEPS = (
    ("learned", "start, and learn the mesh: genesis, validators, headers, seeds"),
    ("keys", "make and encrypt the keys of organisation and node"),
    ("member", "be admitted: a motion, the votes of the others' nodes"),
    ("serves", "start the node, until its API answers"),
    ("ready", "get the ledger, and have the node's key registered on it"),
    ("called", "mesh call: an agent of another organisation"),
)
Reached = Callable[[str], None]
_SAID = (("learned", re.compile(r"ok .*: genesis ")), ("keys", re.compile(r"ok keys of ")), ("member", re.compile(r"ok .* is a member")))


def measure(report: Report, *, short: bool) -> None:
    """Join the same testnet again and again, as another organisation each time."""
    runs: list[_Run] = []
    with testnet() as live, tempfile.TemporaryDirectory(prefix="mesh-bench-join-") as folder:
        nodes = json.loads((live.folder / "testnet.json").read_text())["nodes"]
        agent = deployed(live, live.nodes()[1])
        for number in range(SHORT_RUNS if short else RUNS):
            runs.append(_joined(Path(folder) / f"run{number}", f"newcomer{number}", nodes[0]["p2p"][0], agent))
    totals = [run.at["called"] for run in runs]
    worst, what = max(totals), "from an empty folder to the first successful call"
    report.noise = max(report.noise, calibration())
    held = worst < BAR_S or report.noise <= QUIET
    told = "" if held else "above the bar, but not held to it: the machine was not quiet"
    report.rows.append(row(what, totals, "s", bar=f"each < {BAR_S:g} s on a quiet machine", met=worst < BAR_S if held else None, note=told))
    for before, (step, does) in zip(("", *(name for name, _ in STEPS)), STEPS, strict=False):
        report.rows.append(row(f"  {does}", [run.at[step] - run.at.get(before, 0.0) for run in runs], "s"))
    report.notes.append(f"worst of {len(runs)}: {worst:.2f} s; the first, at a node whose square nobody had visited: {totals[0]:.2f} s")
    report.notes.append(", ".join(f"{name} {version}" for name, version in sorted(report.machine.versions.items())))
    report.notes.append("processor time of the command and the node that it becomes, until ready: " + _cpu([run.cpu_s for run in runs]))


@dataclass(slots=True)
class _Run:
    """When each step was over, in seconds after the command was given; and what the processor did for it."""

    at: dict[str, float] = field(default_factory=dict)
    cpu_s: float = 0.0


def _joined(folder: Path, org: str, address: str, agent: str) -> _Run:
    folder.mkdir()
    run, began, place = _Run(), time.perf_counter(), folder / "node"

    def reached(step: str) -> None:
        run.at.setdefault(step, time.perf_counter() - began)

    with _command(folder, "join", address, "--org", org, "--dir", str(place), "--json") as child:
        assert child.stdout is not None and child.stderr is not None
        lines: list[str] = []
        watchers = [
            threading.Thread(target=_listen, args=(child.stderr, lines, reached), daemon=True),
            threading.Thread(target=_until_it_serves, args=(place, child, reached), daemon=True),
        ]
        for watcher in watchers:
            watcher.start()
        told = ""
        while not told.endswith("}\n"):
            line = child.stdout.readline()
            if not line:
                raise Failed("bench-command-failed", f"mesh join has ended: {''.join(lines)[-300:]}")
            told += line
        reached("ready")
        run.cpu_s = _cpu_s(child.pid)
        facts = json.loads(told)
        if facts["ready"] is not True:
            raise Failed("bench-command-failed", f"{org} was not ready: {''.join(lines)[-300:]}")
        key = (place / "api-key").read_text().strip()
        env = os.environ | {"MESH_NODE": str(facts["api"]), "MESH_API_KEY": key}
        call = [*COMMAND, "call", agent, "echo", "--data", '{"text": "hello"}', "--json"]
        done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode or json.loads(done.stdout)["status"] != "completed":
            raise Failed("bench-command-failed", f"the first call of {org} failed: {done.stderr.strip()[-300:]}")
        reached("called")
        if run.at.keys() != {step for step, _ in STEPS}:
            raise Failed("bench-command-failed", f"mesh join has not said all that it does: {''.join(lines)[-300:]}")
    return run


@contextmanager
def _command(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command, ended as Ctrl-C does."""
    child = subprocess.Popen([*COMMAND, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _listen(said: Iterator[str], lines: list[str], reached: Reached) -> None:
    for line in said:
        lines.append(line)
        for step, pattern in _SAID:
            if pattern.match(line):
                reached(step)


def _until_it_serves(place: Path, child: subprocess.Popen[str], reached: Reached) -> None:
    """Once the folder says where the API will be: until somebody takes a connection there."""
    while child.poll() is None:
        time.sleep(POLL_S)
        found = (
            re.search(r'\[api\]\nlisten = "([^:]+):(\d+)"', (place / "node.toml").read_text()) if (place / "node.toml").exists() else None
        )
        if found is None:
            continue
        with socket.socket() as probe:
            if probe.connect_ex((found[1], int(found[2]))) == 0:
                reached("serves")
                return


def _cpu_s(pid: int) -> float:
    """What a process has used so far, its threads included; 0 where there is no /proc."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _cpu(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.1f} s (median), {ordered[-1]:.1f} s at most"
