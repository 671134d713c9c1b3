"""Bring a testnet's nodes up and wait until they can be asked and know each other."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshos.errors import Failed, MeshError, Unreachable
from meshos.node.cli.client_connection import find
from meshos.node.cli.output import Progress
from meshos.node.cli.testnet import processes
from meshos.node.cli.testnet.making import check_ports
from meshos.node.cli.testnet.record import Node, Testnet, save

SIZES = (1, 3, 5)
"""How many of an organisation's nodes decide for it (node/kernel/group.py)."""
REGISTERED_S = 10.0
"""For registering nodes there is so much time at least, however long the start took."""


@dataclass(frozen=True, slots=True)
class Started:
    """The testnet as it runs now. ``ready_ms`` has the time to /readyz of each node that was started, by its name."""

    testnet: Testnet
    ready_ms: dict[str, int]
    unacquainted: tuple[str, ...]
    """Nodes that do not see all others alive yet."""
    incomplete: tuple[str, ...]
    """Organisations for which fewer of their nodes decide than may."""
    unregistered: tuple[str, ...]
    """Nodes that the ledger does not know yet, so that they cannot pay."""
    children: dict[str, subprocess.Popen[bytes]]
    took_ms: int = 0


def start(testnet: Testnet, wanted: Sequence[Node], timeout_s: float, shown: Progress) -> Started:
    """Start those of ``wanted`` that do not run and wait for them.

    Raises Refused ``port-taken`` before anything starts; Failed ``node-did-not-start`` or ``node-removed``, Unreachable ``not-ready``, after which
    whatever was started here is ended again.
    """
    began = time.monotonic()
    starting = [node for node in wanted if processes.state(node) == "stopped"]
    check_ports(starting)
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for node in starting:
            child = processes.start(node)
            children[node.name] = child
            testnet = testnet.with_pid(node.name, child.pid)
            save(testnet)
        ready = _wait_ready(testnet, children, began, timeout_s, shown)
        unacquainted = _wait_acquainted(testnet, children, began + timeout_s, shown)
        incomplete = _wait_complete(testnet, children, began + timeout_s, shown)
        unregistered = _register(testnet, max(began + timeout_s, time.monotonic() + REGISTERED_S), shown)
    except BaseException:
        processes.kill([testnet.node(name) for name in children])
        for name in children:
            testnet = testnet.with_pid(name, None)
        save(testnet)
        raise
    return Started(testnet, ready, unacquainted, incomplete, unregistered, children, _ms_since(began))


def _wait_ready(
    testnet: Testnet, children: dict[str, subprocess.Popen[bytes]], began: float, timeout_s: float, shown: Progress
) -> dict[str, int]:
    ready: dict[str, int] = {}
    while len(ready) < len(children):
        for name, child in children.items():
            node = testnet.node(name)
            if child.poll() is not None:
                told = f"{name} ended with {child.returncode}: {processes.why_it_ended(node)}"
                raise Failed("node-did-not-start", told, hint=f"its log is {node.dir}/{processes.LOG}")
            if name not in ready and processes.is_ready(node):
                ready[name] = _ms_since(began)
            elif name not in ready and processes.is_removed(node):
                hint = "`mesh org nodes` shows the others; a new node is invited: mesh org invite"
                raise Failed("node-removed", f"{name} was removed from its organisation's nodes, so it never becomes ready", hint=hint)
        missing = [name for name in children if name not in ready]
        if missing and time.monotonic() > began + timeout_s:
            first = testnet.node(missing[0])
            why = processes.why_not_ready(first)
            told = f"{', '.join(missing)} not ready after {timeout_s:g} s{f': {why}' if why else ''}"
            raise Unreachable("not-ready", told, hint=what_now(first), outcome="not_done")
        if missing:
            shown.at(f"{len(ready)} of {len(children)} nodes ready")
            time.sleep(processes.POLL_S)
    return ready


def what_now(node: Node) -> str:
    """A node that has said nothing yet was only slow to start: its log is empty, and looking at it helps nobody."""
    log = Path(node.dir) / processes.LOG
    if log.exists() and log.stat().st_size:
        return f"look at {log}"
    return "this machine or its disk is busy: run it again; `mesh testnet up --timeout 300` waits longer"


def _wait_acquainted(testnet: Testnet, children: dict[str, subprocess.Popen[bytes]], until: float, shown: Progress) -> tuple[str, ...]:
    """Wait until every node that runs sees all of them alive; the names of those that do not when the time is over. Where nothing was
    started there is nothing to wait for: it is only looked."""
    running = [node for node in testnet.nodes if processes.state(node) == "running"]
    left = running
    while left:
        left = [node for node in left if processes.alive_members(node) < len(running)]
        if not left or not children or time.monotonic() > until:
            break
        shown.at(f"{len(running) - len(left)} of {len(running)} nodes see all others")
        time.sleep(processes.POLL_S)
    return tuple(node.name for node in left)


def _wait_complete(testnet: Testnet, children: dict[str, subprocess.Popen[bytes]], until: float, shown: Progress) -> tuple[str, ...]:
    """Wait until as many nodes decide for each organisation as it runs, of 1, 3 and 5; those of which this is not so in time."""
    running = [node for node in testnet.nodes if processes.state(node) == "running"]
    of = {org: [node for node in running if node.org == org] for org in testnet.orgs()}
    left = [org for org in of if len(of[org]) > 1] if children else []
    while left:
        left = [org for org in left if processes.voters(of[org][0]) < max(size for size in SIZES if size <= len(of[org]))]
        if not left or time.monotonic() > until:
            break
        shown.at(f"{len(of) - len(left)} of {len(of)} organisations are complete")
        time.sleep(processes.POLL_S)
    return tuple(left)


def _register(testnet: Testnet, until: float, shown: Progress) -> tuple[str, ...]:
    """Have each organisation's root key register those of its nodes that genesis does not name; those of which this failed.

    Each is registered through itself, so that it knows of it then. It may lag behind the one before, and so name a nonce of the root key
    that was used meanwhile: it is tried again.
    """
    failed = []
    for node in testnet.nodes:
        first = testnet.of(node.org)[0]
        if node.validator or processes.state(node) != "running":
            continue
        from meshos.node import agreeing, folder
        from meshos.node import config as node_config
        from meshos.node.cli import registering

        shown.at(f"having the ledger know {node.name}")
        at = node_config.load(Path(first.dir))
        identity = folder.open_identity(node_config.load(Path(node.dir)))
        agreement = agreeing.of_node(identity, folder.read_genesis(at.genesis).hash, at.org)
        while True:
            try:
                registering.register(at, agreement, find(node.api, node.api_key, None, None))
                break
            except MeshError:
                if time.monotonic() > until:
                    failed.append(node.name)
                    break
            time.sleep(processes.POLL_S)
    return tuple(failed)


def _ms_since(began: float) -> int:
    return int((time.monotonic() - began) * 1_000)
