"""The testnet's making, its record, its processes and its partitions; real files, ports, processes and sockets."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
import trio

from meshos.crypto.certificates import from_pem
from meshos.crypto.genesis_keys import check_all
from meshos.errors import BadInput, Failed, Refused, Unreachable
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node import folder
from meshos.node.cli.testnet import making, partition, processes, record, starting
from meshos.node.cli.testnet.record import Node, Testnet
from meshos.node.config import load
from meshos.node.runtime.fault_hook import FaultHook
from meshos.node.trust import TrustBook


class Done(Protocol):
    code: int
    out: str
    err: str


Mesh = Callable[..., Done]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Testnet:
    """A testnet of four organisations that nobody starts."""
    return making.make(tmp_path_factory.mktemp("made") / "testnet", orgs=4, base_port=20_000, timing="local")


# -- making ----------------------------------------------------------------------------------------------------------


def test_a_testnet_is_a_whole_mesh_of_orgs_with_keys_of_their_own(made: Testnet) -> None:
    data = Path(made.genesis).read_bytes()
    assert [problem for problem in check_all(data) if not problem.note] == []
    genesis = folder.read_genesis(Path(made.genesis))
    assert genesis.testnet and genesis.timing == "local" and [org.did for org in genesis.orgs] == sorted(node.did for node in made.nodes)
    for node in made.nodes:
        config = load(Path(node.dir))
        assert (config.name, config.org, f"http://{config.api}") == (node.name, node.did, node.api)
        assert folder.open_identity(config).node_id == node.node_id
        assert folder.read_genesis(config.genesis).hash == genesis.hash and config.certificate.is_file()
        assert {seed.node for seed in config.seeds} == {other.node_id for other in made.nodes} - {node.node_id}
    assert [node.api for node in made.nodes][:2] == ["http://127.0.0.1:20001", "http://127.0.0.1:20002"]
    ports = [at.rpartition(":")[2] for node in made.nodes for at in (node.api, node.gossip, node.link)]
    assert len(set(ports)) == 12


def test_an_organisations_nodes_have_certificates_of_its_root_and_ports_one_after_the_other(tmp_path: Path) -> None:
    several = making.make(tmp_path / "testnet", orgs=2, replicas=3, base_port=20_000, timing="local")
    genesis = folder.read_genesis(Path(several.genesis))
    assert [(node.name, node.org, node.validator) for node in several.nodes] == [
        ("alpha-1", "alpha", True),
        ("alpha-2", "alpha", False),
        ("alpha-3", "alpha", False),
        ("beta-1", "beta", True),
        ("beta-2", "beta", False),
        ("beta-3", "beta", False),
    ]
    assert [node.api.rpartition(":")[2] for node in several.nodes] == [str(20_001 + place) for place in range(6)]
    assert len({node.node_id for node in several.nodes}) == 6
    trust = TrustBook(genesis, tmp_path)
    for node in several.nodes:
        config = load(Path(node.dir))
        assert trust.check(from_pem(config.certificate.read_bytes())) == Peer(NodeId(node.node_id), OrgDid(node.did))
        assert (config.dir / folder.ROOT_FILE).exists() == node.validator, "the first has the root key, and no other"
        assert {seed.node for seed in config.seeds} == {several.node(f"{org}-1").node_id for org in several.orgs()} - {node.node_id}
    assert {node.name for node in several.of("beta")} == {"beta-1", "beta-2", "beta-3"}


def test_the_record_is_what_was_written_and_private(made: Testnet) -> None:
    assert record.load(made.dir) == made
    assert (made.dir / record.FILE).stat().st_mode & 0o077 == 0
    document = json.loads((made.dir / record.FILE).read_text())
    wanted = {"name", "org", "did", "node_id", "api", "api_key", "p2p", "gossip", "link", "pid", "dir", "region", "validator"}
    assert set(document["nodes"][0]) == wanted


def test_making_leaves_alone_what_is_there_and_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(BadInput) as caught:
        making.make(tmp_path / "mine", orgs=1, base_port=20_000, timing="local")
    assert caught.value.name == "file-exists" and (tmp_path / "mine" / "file").read_text() == "mine"
    with pytest.raises(BadInput) as caught:
        making.make(tmp_path / ("x" * 100), orgs=1, base_port=20_000, timing="local")
    assert caught.value.name == "path-too-long"
    with pytest.raises(BadInput):
        making.make(tmp_path / "bad", orgs=1, base_port=20_000, timing="no such timing")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"genesis": "g"}',
        '{"genesis": "g", "nodes": [{}]}',
        '{"genesis": "g", "nodes": 3}',
        '{"nodes": []}',
        '{"genesis": "g", "nodes": []}',
        "\x00",
        pytest.param("[" * 200_000, id="deep"),
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / record.FILE).write_text(text)
    with pytest.raises(BadInput) as caught:
        record.load(tmp_path)
    assert caught.value.name == "cannot-read"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pid", 1),
        ("pid", "12"),
        ("pid", -1),
        ("pid", 2**31),
        ("api", 3),
        ("api", "x"),
        ("api", "http://127.0.0.1:99999"),
        ("gossip", "g"),
        ("gossip", "127.0.0.1\0:20005"),
        ("link", "127.0.0.1:"),
        ("dir", "alpha\0"),
        ("p2p", "x"),
        ("p2p", ["x"]),
        ("p2p", ["/ip4/127.0.0.1/tcp/99999/p2p/n-0"]),
        ("p2p", ["/ip4/127.0.0.1/tcp"]),
    ],
)
def test_a_record_with_a_wrong_field_is_refused(made: Testnet, tmp_path: Path, key: str, value: object) -> None:
    document = made.body()
    nodes = document["nodes"]
    assert isinstance(nodes, list)
    nodes[0][key] = value
    (tmp_path / record.FILE).write_text(json.dumps(document))
    with pytest.raises(BadInput, match="does not describe a testnet"):
        record.load(tmp_path)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 200_000])
def test_what_answers_at_a_nodes_port_and_is_no_node_says_nothing(body: bytes) -> None:
    assert processes._json(body) is None


def test_a_taken_port_is_named_before_anything_starts(made: Testnet) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        node = replace(made.nodes[0], gossip=f"127.0.0.1:{port}")
        with pytest.raises(Refused) as caught:
            making.check_ports([node])
    assert caught.value.name == "port-taken" and f"{port} (gossip of alpha-1)" in caught.value.detail
    making.check_ports([node])


# -- processes -------------------------------------------------------------------------------------------------------


@contextmanager
def standing_in(node: Node, code: str = "import signal; signal.pause()") -> Iterator[Node]:
    """The node with a process of its own behind it that does what ``code`` says once it printed a line."""
    child = subprocess.Popen([sys.executable, "-c", f"print(flush=True); {code}", "--dir", node.dir], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield replace(node, pid=child.pid)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_process_is_paused_resumed_killed_and_seen(made: Testnet) -> None:
    with standing_in(made.nodes[0]) as node:
        assert processes.state(node) == "running"
        processes.send(node, signal.SIGSTOP)
        while processes.state(node) == "running":
            pass  # the kernel stops it when it runs next
        assert processes.state(node) == "paused"
        processes.kill([node])
        assert processes.state(node) == "stopped"
        with pytest.raises(BadInput) as caught:
            processes.send(node, signal.SIGCONT)
        assert caught.value.name == "node-not-running"


def test_a_paused_process_still_leaves_in_order(made: Testnet) -> None:
    leave = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print(flush=True); signal.pause()"
    with standing_in(made.nodes[0], leave) as node:
        processes.send(node, signal.SIGSTOP)
        assert processes.stop([node], lambda text: None) == []


def test_a_strangers_process_is_never_signalled(made: Testnet) -> None:
    with standing_in(replace(made.nodes[0], dir="/another/folder")) as other:
        node = replace(made.nodes[0], pid=other.pid)
        assert processes.state(node) == "stopped"
        processes.kill([node])
        assert processes.state(other) == "running"


def test_the_last_sentence_of_a_log_says_why(made: Testnet, tmp_path: Path) -> None:
    node = replace(made.nodes[0], dir=str(tmp_path))
    assert processes.why_it_ended(node) == "it left no log"
    (tmp_path / processes.LOG).write_bytes(b"x" * 100_000 + b"\nmesh: port taken \x1b[31m[port-taken]\nlast line\n\xff\n")
    assert processes.why_it_ended(node) == "port taken [31m[port-taken]"


def test_a_command_names_its_folder_only_where_another_would_be_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert record.elsewhere(Path("testnet")) == record.elsewhere(tmp_path / "testnet") == ""
    assert record.elsewhere(Path("a mesh")) == " --dir 'a mesh'"


def test_a_node_that_was_only_slow_is_not_looked_for_in_an_empty_log(made: Testnet, tmp_path: Path) -> None:
    node = replace(made.nodes[0], dir=str(tmp_path))
    assert "--timeout" in starting.what_now(node)
    (tmp_path / processes.LOG).write_text("ready\n")
    assert starting.what_now(node) == f"look at {tmp_path / processes.LOG}"


# -- partitions ------------------------------------------------------------------------------------------------------


def test_sides_are_orgs_or_nodes(made: Testnet) -> None:
    split = partition.sides(made, "alpha, beta-1/did:mesh:enterprise:gamma")
    assert [[node.name for node in side] for side in split] == [["alpha-1", "beta-1"], ["gamma-1"]]
    assert partition.cuts(split) == {"alpha-1": ["gamma-1"], "beta-1": ["gamma-1"], "gamma-1": ["alpha-1", "beta-1"]}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alpha", "bad-partition"),
        ("", "bad-partition"),
        ("alpha/", "bad-partition"),
        ("alpha/beta,alpha-1", "bad-partition"),
        ("alpha/x", "no-such-node"),
    ],
)
def test_what_is_no_partition_is_named(made: Testnet, text: str, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        partition.sides(made, text)
    assert caught.value.name == name


@contextmanager
def hooked(node: Node) -> Iterator[FaultHook]:
    """The node's own fault hook, listening in the node's folder; it knows all members but epsilon."""
    hook = FaultHook(lambda name: NodeId(name) if name != "epsilon-1" else None, lambda cut: None)
    started, stopping = threading.Event(), threading.Event()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(hook.serve, Path(node.dir) / partition.SOCKET)
            started.set()
            await trio.to_thread.run_sync(stopping.wait)
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert started.wait(20)
    try:
        yield hook
    finally:
        stopping.set()
        thread.join()


@pytest.mark.parametrize(
    "line",
    [b"[" * 60_000 + b"\n", b'{"cut": [%s]}\n' % (b"[" * 400 + b"]" * 400), b'{"cut": [3]}\n', b"\xff\n", b"\n"],
)
def test_a_line_that_is_none_is_answered_and_ends_nothing(made: Testnet, line: bytes) -> None:
    with standing_in(made.nodes[0]) as node, hooked(node) as hook:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(Path(node.dir) / partition.SOCKET))
            client.sendall(line)
            assert b'"error"' in client.recv(4096)
        assert partition.cut_off(node) == [] and hook.cut == frozenset()


def test_who_hangs_up_before_the_answer_ends_nothing(made: Testnet) -> None:
    with standing_in(made.nodes[0]) as node, hooked(node):
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(Path(node.dir) / partition.SOCKET))
                client.sendall(b'{"show": true}\n')
        assert partition.cut_off(node) == []


def test_a_node_is_told_whom_to_cut_and_to_heal(made: Testnet) -> None:
    with standing_in(made.nodes[0]) as node, hooked(node) as hook:
        running = made.with_pid(node.name, node.pid)
        partition.apply(running, {node.name: ["gamma-1", "delta-1"]})
        assert hook.cut == {"gamma-1", "delta-1"} and partition.cut_off(node) == ["gamma-1", "delta-1"]
        partition.apply(running, {node.name: []})
        assert hook.cut == frozenset() and partition.cut_off(node) == []
        with pytest.raises(Failed) as caught:
            partition.apply(running, {node.name: ["epsilon-1"]})
        assert caught.value.name == "fault-refused" and "epsilon-1" in caught.value.detail


def test_a_node_without_process_or_socket_is_named(made: Testnet) -> None:
    with pytest.raises(BadInput) as caught:
        partition.apply(made, {"alpha-1": ["beta-1"]})
    assert caught.value.name == "node-not-running"
    with standing_in(made.nodes[0]) as node, pytest.raises(Unreachable) as silent:
        partition.apply(made.with_pid(node.name, node.pid), {node.name: ["beta-1"]})
    assert silent.value.name == "fault-socket"


# -- the commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "told"), [(("--replicas", "2"), "1, 3 or 5"), (("--replicas", "5", "--orgs", "24"), "at most 99")])
def test_so_many_nodes_are_refused(mesh: Mesh, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    done = mesh("testnet", "up", *words)
    assert done.code == 2 and told in done.err and list(tmp_path.iterdir()) == []


def test_commands_name_what_is_not_there(made: Testnet, mesh: Mesh) -> None:
    there = ("testnet", "--dir", str(made.dir))
    assert "[no-such-node]" in mesh(*there, "kill", "omega-1").err
    told = mesh(*there, "kill", "alpha-1").err
    assert "[node-not-running]" in told and f"`mesh testnet start alpha-1 --dir {made.dir}`" in told
    assert "[node-not-running]" in mesh(*there, "partition", "alpha/beta").err
    assert "[testnet-differs]" in mesh(*there, "up", "--orgs", "3").err
    assert "has 1 nodes of each" in mesh(*there, "up", "--replicas", "3").err
    other = mesh(*there, "up", "--base-port", str(made.base_port() + 400))
    assert other.code == 2 and "[testnet-differs]" in other.err and f"ports from {made.base_port()} on" in other.err
    other = mesh(*there, "up", "--timing", "wan")
    assert other.code == 2 and "[testnet-differs]" in other.err and "has the timing local, not wan" in other.err
    healed = mesh(*there, "heal")
    assert healed.code == 2 and "[node-not-running]" in healed.err and f"`mesh testnet up --detach --dir {made.dir}`" in healed.err
    status = json.loads(mesh(*there, "status", "--json").out)
    assert {node["state"] for node in status["nodes"]} == {"stopped"} and status["schema"] == "mesh.testnet-status/1"
    down = mesh(*there, "down")
    assert down.code == 0 and f"next: mesh testnet up --dir {made.dir}" in down.err


def test_status_tells_who_ended_without_being_told_to(mesh: Mesh, tmp_path: Path) -> None:
    made = making.make(tmp_path / "testnet", orgs=2, base_port=20_400, timing="local")
    with standing_in(made.nodes[0]) as node:
        record.save(replace(made, nodes=(node, made.nodes[1])))
    alpha, beta = json.loads(mesh("testnet", "status", "--json").out)["nodes"]
    assert (alpha["state"], alpha["pid"]) == ("ended", None) and beta["state"] == "stopped"
    told = mesh("testnet", "status")
    assert "alpha-1  alpha  ended " in told.out and f"! alpha-1 ended without being told to: its log is {node.dir}/node.log" in told.err


def test_who_serves_at_an_address_that_is_not_this_machines_keeps_the_testnet_that_runs(mesh: Mesh, tmp_path: Path) -> None:
    made = making.make(tmp_path / "testnet", orgs=1, base_port=20_400, timing="local")
    with standing_in(made.nodes[0]) as node:
        record.save(replace(made, nodes=(node,)))
        refused = mesh("testnet", "serve", "--host", "192.0.2.7", "--detach")
        assert refused.code == 2 and "[not-own-address]" in refused.err
        assert processes.state(node) == "running" and record.load(made.dir).nodes == (node,)
