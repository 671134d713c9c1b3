"""``testnet.json``: the nodes of a testnet, where they are and how to ask them; kept current by every command that changes one."""

import fcntl
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from meshos.errors import BadInput, Failed
from meshos.node.address import parse_address
from meshos.storage.files import write_whole

FILE = "testnet.json"
MAX_BYTES = 4 * 1024 * 1024
MAX_PID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Node:
    """One node, as CONTRACT.md names its fields. ``pid`` is None while it does not run; ``api_key`` is its admin key."""

    name: str
    org: str
    did: str
    node_id: str
    api: str
    api_key: str
    p2p: tuple[str, ...]
    gossip: str
    link: str
    pid: int | None
    dir: str
    region: str
    validator: bool


@dataclass(frozen=True, slots=True)
class Testnet:
    """All of the file. ``dir`` is where it lies."""

    __test__ = False  # for pytest, to which the name looks like a test

    dir: Path
    genesis: str
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """The node of this name; raises BadInput ``no-such-node``."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadInput("no-such-node", f"no node of this testnet is called {name[:80]!r}", hint=f"it has {', '.join(self.names())}")

    def of(self, name: str) -> tuple[Node, ...]:
        """The node of this name, or all nodes of the organisation of this name or DID; raises BadInput ``no-such-node``."""
        found = tuple(node for node in self.nodes if name in (node.name, node.org, node.did))
        return found or (self.node(name),)

    def of_org(self, name: str) -> tuple[Node, ...]:
        """As ``of``, where an organisation was asked for: the sentence of the error speaks of organisations."""
        found = tuple(node for node in self.nodes if name in (node.name, node.org, node.did))
        if not found:
            what = f"no organisation of this testnet is called {name[:80]!r}"
            raise BadInput("no-such-node", what, hint=f"it has {', '.join(self.orgs())}")
        return found

    def names(self) -> tuple[str, ...]:
        """The names of all nodes."""
        return tuple(node.name for node in self.nodes)

    def orgs(self) -> tuple[str, ...]:
        """The names of all organisations."""
        return tuple(dict.fromkeys(node.org for node in self.nodes))

    def base_port(self) -> int:
        """The port that those of its nodes follow (the first node's API has the next one)."""
        return int(self.nodes[0].api.rpartition(":")[2]) - 1

    def with_pid(self, name: str, pid: int | None) -> "Testnet":
        """The same, with another process behind one node."""
        nodes = tuple(replace(node, pid=pid) if node.name == name else node for node in self.nodes)
        return replace(self, nodes=nodes)

    def body(self) -> dict[str, object]:
        """What the file holds."""
        return {"schema": "mesh.testnet/1", "genesis": self.genesis, "nodes": [asdict(node) for node in self.nodes]}


def load(folder: Path) -> Testnet:
    """The testnet in ``folder``; raises BadInput ``no-testnet`` or ``cannot-read``."""
    folder = folder.absolute()
    path = folder / FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise BadInput("no-testnet", f"there is no testnet in {folder}", hint="`mesh testnet up` makes one; --dir names another") from error
    except OSError as error:
        raise BadInput("cannot-read", f"{path} cannot be read: {error.strerror}") from error
    try:
        document = json.loads(data)
        nodes = tuple(_node(row) for row in document["nodes"])
        if not nodes:
            raise ValueError("a testnet without a node")
        return Testnet(folder, str(document["genesis"]), nodes)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadInput("cannot-read", f"{path} does not describe a testnet", hint="remove the folder and begin again") from error


def _node(row: dict[str, object]) -> Node:
    texts = {key: row[key] for key in ("name", "org", "did", "node_id", "api", "api_key", "gossip", "link", "dir", "region")}
    pid, p2p = row["pid"], row["p2p"]
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(p2p, list):
        raise TypeError("a text that is none")
    if not (pid is None or (isinstance(pid, int) and 1 < pid <= MAX_PID)):
        raise TypeError("a process id that is none")
    if "\0" in str(texts["dir"]):
        raise ValueError("a folder that is none")
    node = Node(**{key: str(text) for key, text in texts.items()}, pid=pid, p2p=tuple(map(str, p2p)), validator=row["validator"] is True)
    _check_addresses(node)
    return node


def _check_addresses(node: Node) -> None:
    """Whoever has read the record asks these ports and looks whether they are free; raises ValueError."""
    for text in (node.api.removeprefix("http://"), node.gossip, node.link):
        parse_address(text)
    for place in node.p2p:
        _, _, host, _, port, *_ = place.split("/")
        parse_address(f"[{host}]:{port}")


def save(testnet: Testnet, folder: Path | None = None) -> None:
    """Write the file, whole or not at all, for its owner only (it holds API keys); raises Failed ``cannot-write``."""
    path = (folder or testnet.dir) / FILE
    try:
        write_whole(path, json.dumps(testnet.body(), indent=2).encode() + b"\n", 0o600)
    except OSError as error:
        raise Failed("cannot-write", f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def changing(folder: Path) -> Iterator[Testnet]:
    """The testnet in ``folder``, while no other command changes it; raises as ``load``."""
    with locked(folder):
        yield load(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands from changing the testnet in ``folder``; waits for one that does."""
    path = folder.absolute()
    if not path.is_dir():
        raise BadInput("no-testnet", f"there is no testnet in {path}", hint="`mesh testnet up` makes one; --dir names another")
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def elsewhere(folder: Path) -> str:
    """What a command about the testnet in ``folder`` has to say besides, typed where we stand; empty where it finds that by itself."""
    from meshos.node.cli.client_connection import testnet_here

    return "" if folder.absolute() == testnet_here().absolute() else f" --dir {shlex.quote(str(folder))}"
