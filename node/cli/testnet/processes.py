"""The processes of a testnet's nodes: start, see, signal, end.

A process id is believed only while the process behind it was started for that very folder, since ids are used again.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from meshos.errors import BadInput, Failed
from meshos.node.cli.output import clean
from meshos.node.cli.testnet.record import Node, elsewhere

State = Literal["running", "paused", "stopped"]
LOG = "node.log"
POLL_S = 0.05
ASK_TIMEOUT_S = 2.0
STOP_S = 15.0
"""How long a node may take to leave after SIGTERM; longer than its own grace."""
KILL_S = 5.0
LOG_TAIL_BYTES = 64 * 1024


def state(node: Node) -> State:
    """Whether the node's process is there, and whether it is stopped by a signal."""
    letter = _letter(node)
    return "stopped" if letter is None else "paused" if letter in "Tt" else "running"


def state_told(node: Node) -> State | Literal["ended"]:
    """The same for people, who are told apart, too, what no command of theirs has stopped: its process is on record, and gone."""
    found = state(node)
    return "ended" if found == "stopped" and node.pid is not None else found


def _letter(node: Node) -> str | None:
    """The process's state in /proc (proc(5)); None if it is gone, a zombie, or somebody else."""
    if node.pid is None:
        return None
    try:
        command = Path(f"/proc/{node.pid}/cmdline").read_bytes().split(b"\0")
        letter = Path(f"/proc/{node.pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return None
    return letter if os.fsencode(node.dir) in command and letter not in "ZX" else None


def start(node: Node) -> subprocess.Popen[bytes]:
    """Start the node, in a session of its own so that a Ctrl-C here is not one there; its output goes to ``node.log``."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")}
    command = [sys.executable, "-m", "meshos.node.cli.main", "run", "--dir", node.dir]
    try:
        with (Path(node.dir) / LOG).open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=node.dir, env=environment, start_new_session=True
            )
    except OSError as error:
        raise Failed("cannot-write", f"{node.name} cannot be started in {node.dir}: {error.strerror}") from error


def send(node: Node, number: signal.Signals) -> None:
    """Send a signal to the node's process; raises BadInput ``node-not-running``."""
    if state(node) == "stopped" or node.pid is None:
        raise not_running(node)
    os.kill(node.pid, number)


def not_running(node: Node) -> BadInput:
    """The error for what needs a process where there is none."""
    command = f"mesh testnet start {node.name}{elsewhere(Path(node.dir).parent)}"
    return BadInput("node-not-running", f"{node.name} does not run", hint=f"start it with `{command}`")


def stop(nodes: Sequence[Node], say: Callable[[str], None]) -> list[str]:
    """Let nodes leave (SIGTERM), all at once; those that do not in STOP_S are killed. The names of those that were killed."""
    alive = [node for node in nodes if state(node) != "stopped"]
    for node in alive:
        send(node, signal.SIGTERM)
        if state(node) == "paused":
            send(node, signal.SIGCONT)
    late = _wait_gone(alive, STOP_S, say)
    kill(late)
    return [node.name for node in late]


def kill(nodes: Sequence[Node]) -> None:
    """SIGKILL, and wait until they are gone; raises Failed ``node-does-not-end``."""
    alive = [node for node in nodes if state(node) != "stopped"]
    for node in alive:
        send(node, signal.SIGKILL)
    left = _wait_gone(alive, KILL_S, lambda text: None)
    if left:
        raise Failed("node-does-not-end", f"{', '.join(node.name for node in left)} did not end after SIGKILL", hint="look at the machine")


def _wait_gone(nodes: Sequence[Node], seconds: float, say: Callable[[str], None]) -> list[Node]:
    until = time.monotonic() + seconds
    left = list(nodes)
    while left and time.monotonic() < until:
        left = [node for node in left if not _gone(node)]
        if left:
            say(f"waiting for {', '.join(node.name for node in left)} to leave")
            time.sleep(POLL_S)
    return left


def _gone(node: Node) -> bool:
    if node.pid is not None:
        try:
            os.waitpid(node.pid, os.WNOHANG)  # a child of this very process stays as a zombie until it is asked for
        except ChildProcessError:
            return state(node) == "stopped"
    return state(node) == "stopped"


# -- asking ----------------------------------------------------------------------------------------------------------


def get(node: Node, path: str, timeout_s: float = ASK_TIMEOUT_S) -> tuple[int, object] | None:
    """Status and JSON body of a GET on the node's API; None if it does not answer."""
    host, _, port = node.api.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {node.api_key}"})
        response = connection.getresponse()
        body = response.read(4 * 1024 * 1024)
        return response.status, _json(body)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def is_ready(node: Node) -> bool:
    """Whether the node says that it can be asked."""
    answer = get(node, "/readyz", 0.5)
    return answer is not None and answer[0] == 200


def is_removed(node: Node) -> bool:
    """Whether the node has learnt that its organisation removed it: it asks the others when it hears no leader for a while."""
    answer = get(node, "/v1/status", 0.5)
    body = answer[1] if answer is not None and answer[0] == 200 else None
    group = body.get("group") if isinstance(body, dict) else None
    return isinstance(group, dict) and group.get("role") == "removed"


def why_not_ready(node: Node) -> str:
    """What it says itself; empty where it does not answer."""
    answer = get(node, "/readyz")
    body = answer[1] if answer is not None else None
    problems = body.get("problems") if isinstance(body, dict) else None
    return clean("; ".join(map(str, problems)))[:300] if isinstance(problems, list) else ""


def alive_members(node: Node) -> int:
    """How many members the node holds for alive."""
    answer = get(node, "/v1/members")
    body = answer[1] if answer is not None and answer[0] == 200 else None
    members = body.get("members") if isinstance(body, dict) else None
    return sum(isinstance(item, dict) and item.get("state") == "alive" for item in members) if isinstance(members, list) else 0


def voters(node: Node) -> int:
    """How many nodes of its organisation decide for it, as its leader says; 0 while there is none."""
    answer = get(node, "/v1/org/nodes")
    body = answer[1] if answer is not None and answer[0] == 200 else None
    rows = body.get("nodes") if isinstance(body, dict) else None
    return sum(isinstance(row, dict) and row.get("role") == "voter" for row in rows) if isinstance(rows, list) else 0


def why_it_ended(node: Node) -> str:
    """The last sentence in the node's log, for people."""
    try:
        with (Path(node.dir) / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "it left no log"
    told = [line for line in lines if line.startswith("mesh: ")] or [line for line in lines if line.strip()] or ["its log is empty"]
    return clean(told[-1].removeprefix("mesh: "))[:300]
