"""How a client command finds a node and talks to it: the standard library's HTTP client, nothing of the node.

Whatever goes wrong on the way becomes an error of the tree that says whether anything may have been done.
"""

import http.client
import ipaddress
import json
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from meshos.errors import KINDS, BadInput, Broken, Done, MeshError, Unreachable
from meshos.node.cli.output import clean, warn

if TYPE_CHECKING:
    from meshos.node.cli.testnet.record import Node, Testnet

TESTNET = Path("testnet")
ANSWER_S = 30.0
"""How long a node may take for anything that is no task, as its own limit (node/api/limits.py) plus a little."""
CONNECT_S = 0.25
"""How long a node on this machine may take to take a connection, while another could be asked."""
MAX_ANSWER = 256 * 1024 * 1024
"""A task's result of 128 MiB, written as JSON."""
MAX_TEXT = 500
"""Of a stranger's sentence in an error."""


@dataclass(frozen=True, slots=True)
class Target:
    """A node's API. ``name`` is what a person calls it; ``start`` the command that starts it, where it is a testnet's;
    ``options`` are those that named it, with a space before each: what follows is asked of the same node with them.
    """

    url: SplitResult
    key: str
    name: str
    start: str = ""
    options: str = ""

    def local(self) -> bool:
        """Whether the node runs on this machine, and so sees this machine's files."""
        return _is_loopback(self.url.hostname or "")


def find(node: str | None, key: str | None, directory: Path | None, org: str | None) -> Target:
    """The node that the options, the environment or a testnet's folder name; options go before the environment.

    Raises BadInput ``no-node-named``, ``bad-node``, ``usage`` (a node and another's organisation), or what ``testnet.json`` raises.
    """
    in_folder = directory or testnet_here()
    named = node if node is not None else None if org or directory else os.environ.get("MESH_NODE")
    if named and ("://" in named or ":" in named):
        if org is not None and (in_folder / "testnet.json").exists():
            _check_org(in_folder, named, org)
        return _target(named, key or os.environ.get("MESH_API_KEY") or _key_of(named, in_folder), named)
    if named or directory is not None or org is not None or (in_folder / "testnet.json").exists():
        return _in_testnet(in_folder, named, org, key)
    hint = "run `mesh testnet up --detach`, or pass --node and --api-key (the key is in `api-key` of the folder of a node)"
    raise BadInput("no-node-named", "no node is named", hint=hint)


def testnet_here() -> Path:
    """The testnet's folder that lies here; else the one that we stand in."""
    return Path() if Path("testnet.json").is_file() and not (TESTNET / "testnet.json").is_file() else TESTNET


def _in_testnet(folder: Path, name: str | None, org: str | None, key: str | None) -> Target:
    from meshos.node.cli.testnet import record

    testnet = record.load(folder)
    nodes = testnet.of(name) if name else testnet.of_org(org) if org else testnet.nodes
    if name and org:
        nodes = _both(testnet, nodes, name, org)
    running = [one for one in nodes if one.pid is not None] or list(nodes)
    if name is None and len(running) > 1:
        running = [next((one for one in running if _answers(one.api)), running[0])]
    if not running:
        raise BadInput("no-node-named", f"the testnet in {folder} has no node", hint="run `mesh testnet up`")
    target = _target(running[0].api, key or running[0].api_key, running[0].name)
    some_run = any(one.pid is not None for one in testnet.nodes)
    command = f"mesh testnet start {running[0].name}" if some_run else "mesh testnet up --detach"
    return replace(target, start=f"{command}{record.elsewhere(folder)}")


def _both(testnet: "Testnet", nodes: Sequence["Node"], name: str, org: str) -> tuple["Node", ...]:
    """Those of ``nodes``, which are called ``name``, that are of ``org``; raises BadInput ``usage`` if there are none."""
    of_org = testnet.of_org(org)
    found = tuple(node for node in nodes if node in of_org)
    if nodes and not found:
        raise BadInput("usage", f"--node {name} is of {nodes[0].org}, and --org asks for {org}", hint="leave one of the two out")
    return found


def _answers(api: str) -> bool:
    """Whether somebody takes connections there: of several nodes the first that does is asked."""
    url = urlsplit(api)
    try:
        socket.create_connection((url.hostname or "", url.port or 0), CONNECT_S).close()
    except OSError:
        return False
    return True


def _key_of(url: str, folder: Path) -> str:
    """The key that the testnet in ``folder``, if there is one, has for the node at ``url``."""
    if not (folder / "testnet.json").exists():
        return ""
    from meshos.node.cli.testnet import record

    return next((one.api_key for one in _at(record.load(folder), url)), "")


def _at(testnet: "Testnet", url: str) -> list["Node"]:
    """The node of ``testnet`` whose API is there, if one's is."""
    wanted = url if "://" in url else f"http://{url}"
    return [one for one in testnet.nodes if one.api.rstrip("/") == wanted.rstrip("/")]


def _check_org(folder: Path, url: str, org: str) -> None:
    """Return unless the node at ``url`` is one of the testnet in ``folder``, and not of ``org``."""
    from meshos.node.cli.testnet import record

    testnet = record.load(folder)
    _both(testnet, _at(testnet, url), url, org)


def _target(address: str, key: str, name: str) -> Target:
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        port = url.port
    except ValueError as error:
        raise BadInput("bad-node", f"{address[:80]!r} is not a node's address", hint="write it like http://127.0.0.1:8101") from error
    if url.scheme not in ("http", "https") or not url.hostname or (port is None and url.scheme == "http"):
        raise BadInput("bad-node", f"{address[:80]!r} is not a node's address", hint="write it like http://127.0.0.1:8101")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        hint = "use https, or a tunnel to its loopback address"
        raise BadInput("bad-node", f"the key would go to {url.hostname} unencrypted", hint=hint)
    if not key.isascii() or not key.isprintable():
        raise BadInput("bad-api-key", "this is not an API key", hint="keys look like mk_<id>_<secret>")
    return Target(url, key, name)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Client:
    """One connection to a node. Use it as a context; leaving it closes the connection, which cancels a task under way."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def get(self, *path: str) -> dict[str, object]:
        """The JSON object at ``path`` (its parts are quoted)."""
        return self.send("GET", path, None, ANSWER_S)

    def query(self, asked: Mapping[str, str], *path: str) -> dict[str, object]:
        """As ``get``, with a query."""
        return self.send("GET", path, None, ANSWER_S, f"?{urlencode(asked)}")

    def post(self, *path: str, body: Mapping[str, object], timeout_s: float = ANSWER_S) -> dict[str, object]:
        """The answer to ``body``."""
        return self.send("POST", path, body, timeout_s)

    def delete(self, *path: str, timeout_s: float = ANSWER_S) -> dict[str, object]:
        """The answer to removing what is at ``path``."""
        return self.send("DELETE", path, None, timeout_s)

    def send(
        self, method: str, path: tuple[str, ...], body: Mapping[str, object] | None, timeout_s: float, query: str = ""
    ) -> dict[str, object]:
        """One request; raises the node's own error, BadInput ``bad-id`` or Unreachable ``unreachable`` or ``no-answer``."""
        if not all(path):  # without its id it would be another path
            raise BadInput("bad-id", "the id is empty", hint="write the id, or how it begins")
        where = f"{self.target.url.hostname}:{self.target.url.port or 443}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.target.key}"} if self.target.key else {}
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection = self._open(timeout_s, where)
        outcome: Done = "not_done" if method == "GET" else "unknown"
        try:
            connection.request(method, "/" + "/".join(quote(part, safe="") for part in path) + query, data, headers)
            response = connection.getresponse()
            text = response.read(MAX_ANSWER + 1)
            if response.length and len(text) <= MAX_ANSWER:
                raise http.client.IncompleteRead(text, response.length)
        except KeyboardInterrupt:
            if outcome == "unknown":
                warn(f"no longer waiting for {where}, which may do it all the same; look before you repeat it")
            raise
        except TimeoutError as error:
            raise Unreachable(
                "no-answer", f"{where} did not answer within {timeout_s:g} s", hint=_after(outcome), outcome=outcome
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable("no-answer", f"{where} broke off before it answered", hint=_after(outcome), outcome=outcome) from error
        return _read(response.status, text, where)

    def _open(self, timeout_s: float, where: str) -> http.client.HTTPConnection:
        if self._connection is not None:
            if self._connection.sock is not None:
                self._connection.sock.settimeout(timeout_s)
            self._connection.timeout = timeout_s
            return self._connection
        host, port = self.target.url.hostname or "", self.target.url.port
        if self.target.url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout_s, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        try:
            connection.connect()
        except ssl.SSLError as error:
            hint = "set SSL_CERT_FILE to the authority that signed it"
            raise Unreachable("no-trust", f"the certificate of {where} is not trusted here", hint=hint, outcome="not_done") from error
        except OSError as error:
            hint = f"run `{self.target.start}`" if self.target.start else "run `mesh testnet up --detach` or pass --node"
            raise Unreachable("unreachable", f"no node answers at {where}", hint=hint, outcome="not_done") from error
        assert isinstance(connection.sock, socket.socket)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        return connection


def _after(outcome: Done) -> str:
    return "unknown whether it was done; look before you repeat it" if outcome == "unknown" else "try again"


def _read(status: int, text: bytes, where: str) -> dict[str, object]:
    try:
        if len(text) > MAX_ANSWER:
            raise ValueError("too long")
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise Unreachable(
            "bad-answer", f"what answers at {where} is no node of a mesh", hint="look at --node", outcome="unknown"
        ) from error
    if status >= 400:
        raise error_of(value)
    return cast("dict[str, object]", value)


def error_of(problem: Mapping[str, object]) -> MeshError:
    """The error that a problem document tells of."""
    exit_code = problem.get("exit")
    kind = next((kind for kind in KINDS.values() if kind.exit_code == exit_code), Broken)
    name, detail, hint = (clean(str(problem.get(part) or ""))[:MAX_TEXT] for part in ("name", "detail", "hint"))
    outcome = problem.get("outcome")
    known: Done | None = outcome if outcome in ("done", "not_done", "unknown") else None
    return kind(name or "internal", detail or "the node gave no reason", hint=hint, outcome=known)


def full_id(client: Client, prefix: str) -> str:
    """The id of the agent that ``prefix`` begins; raises what the node says (``no-such-agent``, ``ambiguous-id``)."""
    if len(prefix) == 18 and prefix.startswith("a-"):
        return prefix
    found = client.get("v1", "agents", prefix).get("agentId")
    if not isinstance(found, str):
        raise Unreachable("bad-answer", "the node answered with an agent that has no id", hint="look at --node", outcome="not_done")
    return found
