"""Partitions without root: each node is told, over a local socket that only a testnet's node has, whom it must not hear.

The node's side is ``node/runtime/fault_hook.py``. A node forgets its list when it restarts.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshos.errors import BadInput, Failed, Unreachable
from meshos.node.cli.testnet.processes import not_running, state
from meshos.node.cli.testnet.record import Node, Testnet

SOCKET = "fault.sock"
TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024


def sides(testnet: Testnet, text: str) -> tuple[tuple[Node, ...], ...]:
    """The sides of ``A,B/C,D`` (organisations or nodes); raises BadInput ``bad-partition`` or ``no-such-node``."""
    parts = [[name.strip() for name in side.split(",") if name.strip()] for side in text.split("/")]
    if len(parts) < 2 or not all(parts):
        raise BadInput("bad-partition", f"{text[:80]!r} has no two sides", hint="write them like alpha,beta/gamma,delta")
    found = tuple(tuple({node.name: node for name in side for node in testnet.of(name)}.values()) for side in parts)
    names = [node.name for side in found for node in side]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput("bad-partition", f"{', '.join(twice)} cannot stand on two sides", hint="name each node or organisation once")
    return found


def cuts(split: Sequence[Sequence[Node]]) -> dict[str, list[str]]:
    """For each node of a side, the nodes of all other sides; nodes on no side go on hearing everybody."""
    return {node.name: [other.name for side in split for other in side if side is not own] for own in split for node in own}


def apply(testnet: Testnet, wanted: Mapping[str, list[str]]) -> None:
    """Tell each node whom to cut off (an empty list heals); raises BadInput ``node-not-running`` before anything is changed."""
    nodes = [testnet.node(name) for name in wanted]
    for node in nodes:
        if state(node) != "running":
            raise not_running(node)
    for node in nodes:
        names = wanted[node.name]
        _tell(node, {"cut": names} if names else {"heal": True})


def cut_off(node: Node) -> list[str]:
    """From which nodes this one is cut off; raises Unreachable ``fault-socket``, Failed ``fault-refused``."""
    return [str(name) for name in _tell(node, {"show": True})]


def _tell(node: Node, wanted: Mapping[str, object]) -> list[object]:
    path = Path(node.dir) / SOCKET
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(json.dumps(wanted).encode() + b"\n")
            with connection.makefile("rb") as reader:
                answer = json.loads(reader.readline(MAX_ANSWER_BYTES))
    except (OSError, ValueError) as error:
        told = f"{node.name} does not answer on its fault socket"
        raise Unreachable("fault-socket", told, hint="nodes told before it may be cut already: `mesh testnet heal` undoes that") from error
    cut = answer.get("cut") if isinstance(answer, dict) else None
    if not isinstance(cut, list):
        said = answer.get("error") if isinstance(answer, dict) else "nothing that can be understood"
        raise Failed("fault-refused", f"{node.name} says: {said}", hint="wait until the nodes know each other, and try again")
    return cut
