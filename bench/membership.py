"""How soon a node that was killed is dead to all others, and whether a live one is ever declared dead; serf beside it.

Eight organisations on this machine, one node each. Killed nodes: ``kill -9``, then every other node's /v1/members is asked until it
says ``dead``; then the node is started again. Live nodes: one spinning process a core, and every ten seconds the next node stands
still for 2.5 s (SIGSTOP), as in a long garbage collection; each node's event stream is read for ``dead``. serf's agents run beside
ours, are killed in turn with ours and stopped together with ours, so that both meet the same machine.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import httpx

from meshos.bench import serf
from meshos.bench.live import Live, LiveNode, free_base, testnet
from meshos.bench.report import Report, row
from meshos.errors import Failed

NODES = 8
BARS_S = {"lan": 8.0, "fast": 2.0}
GIVEN_UP_S = 60.0
POLL_S = 0.05
STOPPED_S, EVERY_S = 2.5, 10.0
"""How long a node stands still, and how often one does."""
UNDER_LOAD_S, UNDER_LOAD_SHORT_S = 600.0, 60.0
SETTLE_S = 5.0
"""After the load: time for a word that is on its way, and for a node that was stopped last to be seen again."""


def measure(report: Report, *, short: bool) -> None:
    """Kills on both presets, then load on lan."""
    runs = 1 if short else 5
    seconds = UNDER_LOAD_SHORT_S if short else UNDER_LOAD_S
    if not serf.installed():
        report.notes.append("serf is not installed here, so nothing was measured beside ours (Debian: apt install serf)")
    for preset in BARS_S:
        with testnet(orgs=NODES, timing=preset) as live, _peers(preset) as agents:
            _kills(report, live, agents, preset, runs)
            if preset == "lan":
                _load(report, live, agents, seconds)


@contextmanager
def _peers(preset: str) -> Iterator[list[serf.Agent]]:
    """serf's agents; none where it is not installed."""
    with ExitStack() as stack:
        yield stack.enter_context(serf.cluster(NODES, preset, free_base())) if serf.installed() else []


# -- killed nodes ----------------------------------------------------------------------------------------------------


def _kills(report: Report, live: Live, agents: list[serf.Agent], preset: str, runs: int) -> None:
    ours, peers = [], []
    for run in range(runs):
        ours.append(_kill_ours(live, live.nodes()[1 + run % (NODES - 1)]))
        if agents:
            peers.append(_kill_peer(agents, agents[1 + run % (NODES - 1)]))
    bar = BARS_S[preset]
    what = f"kill -9 of one of {NODES} nodes to dead at all others, {preset}"
    report.rows.append(row(what, ours, "s", bar=f"<= {bar:g} s, every run", met=max(ours) <= bar))
    if peers:
        report.rows.append(row(f"peer: the same with serf, -profile={serf.PROFILES[preset]}", peers, "s"))


def _kill_ours(live: Live, victim: LiveNode) -> float:
    others = [node for node in live.nodes() if node.name != victim.name]
    with ExitStack() as stack:
        clients = {node.name: stack.enter_context(node.client()) for node in others}
        _wait_for(clients, victim, "alive")
        os.kill(victim.pid, signal.SIGKILL)
        took = _wait_for(clients, victim, "dead")
        live.mesh("testnet", "start", victim.name)
        _wait_for(clients, victim, "alive")
    return took


def _wait_for(clients: dict[str, httpx.Client], subject: LiveNode, state: str) -> float:
    """Seconds until all have said so; raises Failed ``bench-command-failed`` after GIVEN_UP_S."""
    began = time.monotonic()
    left = dict(clients)
    while left:
        for name in list(left):
            if _states(left[name]).get(subject.name) == state:
                del left[name]
        took = time.monotonic() - began
        if left and took > GIVEN_UP_S:
            raise Failed("bench-command-failed", f"{', '.join(left)} did not say {state} of {subject.name} within {GIVEN_UP_S:g} s")
        time.sleep(POLL_S if left else 0)
    return took


def _states(client: httpx.Client) -> dict[str, str]:
    """Each member's name and its state, as one node sees them."""
    members = client.get("/v1/members").raise_for_status().json()["members"]
    return {member["name"]: member["state"] for member in members}


def _kill_peer(agents: Sequence[serf.Agent], victim: serf.Agent) -> float:
    others = [agent for agent in agents if agent is not victim]
    serf.wait_until_all_say(others, [victim.name], "alive", GIVEN_UP_S)
    began = time.monotonic()
    victim.process.kill()
    took = serf.wait_until_all_say(others, [victim.name], "failed", GIVEN_UP_S) - began
    victim.end()
    victim.start()
    serf.wait_until_all_say(others, [victim.name], "alive", GIVEN_UP_S)
    return took


# -- live nodes under load -------------------------------------------------------------------------------------------


def _load(report: Report, live: Live, agents: list[serf.Agent], seconds: float) -> None:
    nodes = live.nodes()
    for agent in agents:
        agent.failures.clear()
    groups = [
        [(node.name, node.pid), *((agent.name, agent.process.pid) for agent in agents[place : place + 1])]
        for place, node in enumerate(nodes)
    ]
    with _watching(nodes) as watchers, _spinning() as spinners:
        stops = _stop_in_turn(groups, seconds, live)
        time.sleep(SETTLE_S)
    for watcher in watchers:
        if watcher.broken:
            raise Failed("bench-command-failed", f"the events of {watcher.node.name} could not be read to the end: {watcher.broken}")
    dead = [f"{watcher.node.name} of {name}" for watcher in watchers for name in watcher.dead]
    dead += [f"{node.name} of {name}" for node in nodes for name, state in _asked(node).items() if state == "dead"]
    suspected = sum(watcher.suspected for watcher in watchers)
    told = f"{spinners} spinning processes, {stops} stops of {STOPPED_S:g} s"
    report.rows.append(
        row(
            f"live nodes declared dead, lan, {seconds:g} s under load",
            [len(dead)],
            "",
            bar="0",
            met=not dead,
            note=f"{told}; {suspected} suspicions, all told by all nodes" + (f"; declared dead: {', '.join(dead[:20])}" if dead else ""),
        )
    )
    if agents:
        failures = [name for agent in agents for name in agent.failures]
        what = "peer: live agents declared failed by serf, -profile=lan"
        report.rows.append(row(what, [len(failures)], "", note="stopped together with ours"))


def _asked(node: LiveNode) -> dict[str, str]:
    with node.client() as client:
        return _states(client)


@contextmanager
def _spinning() -> Iterator[int]:
    """One process a core that does nothing but use it."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in os.sched_getaffinity(0):
            processes.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        yield len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait(10)


def _stop_in_turn(groups: Sequence[Sequence[tuple[str, int]]], seconds: float, live: Live) -> int:
    """For so long, stop the processes of one group after the other; how many times one was stopped.

    Raises Failed ``bench-command-failed`` if one of them has ended by itself.
    """
    until = time.monotonic() + seconds
    stops = 0
    while time.monotonic() + STOPPED_S < until:
        began = time.monotonic()
        group = groups[stops % len(groups)]
        stopped = []
        try:
            for name, pid in group:
                if not _signalled(pid, signal.SIGSTOP):
                    raise Failed("bench-command-failed", f"{name} ended by itself; its log ends: {_last_words(live, name)}")
                stopped.append(pid)
            time.sleep(STOPPED_S)
        finally:
            for pid in stopped:
                _signalled(pid, signal.SIGCONT)
        stops += 1
        time.sleep(max(0.0, began + EVERY_S - time.monotonic()))
    return stops


def _signalled(pid: int, number: signal.Signals) -> bool:
    """Whether there was somebody to hear it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _last_words(live: Live, name: str) -> str:
    log = live.folder / name / "node.log"
    return log.read_text(errors="replace")[-500:] if log.exists() else "(it kept none)"


class _Watcher:
    """Reads one node's event stream in a thread, until it is told to leave at the next line (a comment comes every 15 s)."""

    def __init__(self, node: LiveNode) -> None:
        self.node = node
        self.dead: list[str] = []
        self.suspected = 0
        self.broken = ""
        self.open = threading.Event()
        self.leaving = False
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        """A stream that ends before we leave it has missed something."""
        try:
            with self.node.client() as client, client.stream("GET", "/v1/events") as response:
                response.raise_for_status()
                self.open.set()
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        self._hear(json.loads(line.removeprefix("data:")))
                    if self.leaving:
                        return
            self.broken = "the stream ended"
        except (httpx.HTTPError, OSError) as error:
            self.broken = repr(error)
        finally:
            self.open.set()

    def _hear(self, event: dict[str, object]) -> None:
        data = event["data"]
        assert isinstance(data, dict)
        if event["kind"] == "gap":
            self.broken = str(event["text"])
        elif event["kind"] == "member" and data["state"] == "dead":
            self.dead.append(str(data["peer"]))
        elif event["kind"] == "member" and data["state"] == "suspect":
            self.suspected += 1


@contextmanager
def _watching(nodes: Sequence[LiveNode]) -> Iterator[list[_Watcher]]:
    watchers = [_Watcher(node) for node in nodes]
    try:
        for watcher in watchers:
            watcher.open.wait(30)
        yield watchers
    finally:
        for watcher in watchers:
            watcher.leaving = True
        for watcher in watchers:
            watcher.thread.join(20)
