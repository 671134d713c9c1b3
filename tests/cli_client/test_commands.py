"""What the client commands print, where, and how they end."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meshos.node.cli import client_discover
from meshos.node.cli.client_mesh import status_lines
from tests.cli_client.conftest import AGENT, ROOT, Mesh, Node


def test_deploy_prints_the_id_alone_and_says_what_is_next(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "clock.yaml"
    file.write_text(AGENT)
    ran = mesh("deploy", "--agent", str(file))
    assert ran.code == 0
    assert len(ran.out.strip()) == 18
    assert "ok Clock version" in ran.err
    assert ran.err.strip().splitlines()[-1] == 'Next mesh discover "tells the time in another city"'
    quiet = mesh("deploy", "--agent", str(file), "-q")
    assert (quiet.out, quiet.err) == (ran.out, "")
    document = json.loads(mesh("deploy", "--agent", str(file), "--json").out)
    assert next(iter(document)) == "schema"
    assert document["schema"] == "mesh.deploy/1"
    assert document["agentId"] == ran.out.strip()


def test_deploy_says_how_many_run_and_where(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "clock.yaml"
    file.write_text(AGENT)
    one = mesh("deploy", "--agent", str(file))
    assert "replicas" not in one.err and "region" not in one.err
    ran = mesh("deploy", "--agent", str(file), "--replicas", "3", "--region", "eu-west-1")
    assert ran.code == 0 and " runs on alpha-1 (1 of 3 replicas by now: mesh agents), " in ran.err
    assert "! its region is to be eu-west-1, but alpha-1 is in us-east-1: " in ran.err
    same = mesh("deploy", "--agent", str(file), "--region", "us-east-1")
    assert same.code == 0 and "region" not in same.err


def test_a_wrong_agent_file_shows_the_line(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "clock.yaml"
    file.write_text(AGENT.replace("2 MESH", "2 MSH"))
    ran = mesh("deploy", "--agent", str(file))
    assert ran.code == 2
    assert ran.out == ""
    assert "clock.yaml:4:" in ran.err
    assert "[bad-price]" in ran.err
    assert "^" in ran.err
    assert ran.err.strip().splitlines()[-1].startswith("mesh: ")


def test_files_that_cannot_be_read(mesh: Mesh, tmp_path: Path) -> None:
    assert "[cannot-read]" in mesh("deploy", "--agent", "nowhere.yaml").err
    (tmp_path / "big.yaml").write_bytes(b"#" * 100_000)
    assert "[cannot-read]" in mesh("deploy", "--agent", "big.yaml").err
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    ran = mesh("deploy", "--agent", "binary.yaml")
    assert (ran.code, "[cannot-read]" in ran.err) == (2, True)
    assert mesh("publish", "nowhere.jsonl").code == 2


def test_discover_is_a_table_with_reasons(mesh: Mesh, clock: str) -> None:
    ran = mesh("discover", "time in a city")
    assert ran.code == 0
    head, row = ran.out.splitlines()
    assert head.split() == ["SCORE", "TRUST", "PRICE", "LATENCY", "ID", "NAME", "ORG", "WHY"]
    assert row.split() == ["0.75", "50", "2", "MESH", "-", clock[:10], "Clock", "alpha", "city,", "in,", "time"]
    assert ran.err == f"Next mesh call {clock[:10]} echo --data JSON\n"
    assert mesh("discover", "time in a city", "-q").out == clock + "\n"


def test_what_is_next_names_the_same_node(mesh: Mesh, node: Node, clock: str) -> None:
    there = ("--node", node.url, "--api-key", node.key)
    assert mesh("discover", "time", *there, to=None).err == f"Next mesh call {clock[:10]} echo --data JSON --node {node.url}\n"
    called = mesh("call", clock, "echo", *there, to=None).err.rstrip()
    assert called.endswith(f" --node {node.url}") and "; mesh explain t-" in called
    assert node.key not in called


def test_discover_passes_its_filters_on(mesh: Mesh, clock: str) -> None:
    assert mesh("discover", "time", "--max-price", "1").out == "none\n"
    assert mesh("discover", "time", "--region", "eu-1").out == "none\n"
    assert mesh("discover", "time", "--min-trust", "80").out == "none\n"
    assert mesh("discover", "time", "--certification", "HIPAA").out == "none\n"
    assert clock[:10] in mesh("discover", "time", "--max-price", "2", "--region", "us-east-1", "--min-trust", "10").out
    wrong = mesh("discover", "time", "--max-price", "cheap")
    assert (wrong.code, wrong.out) == (2, "")
    assert "[bad-amount]" in wrong.err and "it is zero or more" in wrong.err
    assert mesh("discover", "time", "--max-price", "0").code == 0


def test_a_partial_answer_says_so_on_stderr(mesh: Mesh, partial_node: Node) -> None:
    ran = mesh("discover", "anything", to=partial_node)
    assert "! partial: this node has not compared" in ran.err
    assert client_discover._partly(51, 2) == "49 of 51 cells answered; of the others this is what the node has itself"
    assert "partial" not in ran.out


def test_call_prints_the_result_alone(mesh: Mesh, clock: str) -> None:
    ran = mesh("call", clock, "echo", "--data", '{"ü": [1, null], "city": "Graz"}')
    assert ran.code == 0
    assert ran.out == '{"ü": [1, null], "city": "Graz"}\n'
    assert ran.err.startswith("ok 1 ms on alpha-1, 2 MESH; mesh explain t-")
    assert mesh("call", clock[:6], "text", "--data", '{"size": 4}').out == 'ab"ü\n'


def test_call_reads_files_and_stdin(mesh: Mesh, clock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert mesh("call", clock, "echo", "--data", "@x.json").out == '{"a": 1}\n'
    (tmp_path / "stdin").write_text('{"b": 2}')
    with (tmp_path / "stdin").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert mesh("call", clock, "echo", "--data", "@-").out == '{"b": 2}\n'
    (tmp_path / "patent.pdf").write_bytes(b"hello")
    assert "patent.pdf:2cf24dba" in mesh("call", clock, "echo", "--file", "document=patent.pdf").out


def test_call_ends_as_its_task_did(mesh: Mesh, clock: str) -> None:
    failed = mesh("call", clock, "refuse")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("mesh: the tool says no; mesh explain t-")
    assert failed.err.rstrip().endswith("[tool-failed]")
    expired = mesh("call", clock, "sleep", "--data", '{"seconds": 60}', "--timeout", "0.05")
    assert (expired.code, "[task-expired]" in expired.err) == (1, True)
    document = mesh("call", clock, "refuse", "--json")
    assert document.code == 1
    assert json.loads(document.out)["status"] == "failed"


@pytest.mark.parametrize("data", ["", "{", "[]", "1", '{"a": NaN', "@nowhere.json"])
def test_wrong_arguments_are_refused_before_anything_is_sent(mesh: Mesh, clock: str, data: str) -> None:
    ran = mesh("call", clock, "echo", "--data", data)
    assert (ran.code, ran.out) == (2, "")
    assert "[bad-data]" in ran.err or "[cannot-read]" in ran.err
    assert mesh("call", clock, "echo", "--file", "patent.pdf").code == 2


def test_what_is_larger_than_a_call_takes_is_refused_by_its_size(
    mesh: Mesh, clock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.json").write_text(json.dumps({"a": "x" * (1 << 20)}))
    (tmp_path / "large.bin").write_bytes(b"x" * (8 << 20))
    (tmp_path / "small.bin").write_bytes(b"x")
    ran = mesh("call", clock, "echo", "--data", "@large.json")
    assert (ran.code, ran.out) == (4, "") and "large.json has more than 1 MiB" in ran.err and "[too-large]" in ran.err, ran
    with (tmp_path / "large.json").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        ran = mesh("call", clock, "echo", "--data", "@-")
    assert ran.code == 4 and "stdin has more than 1 MiB" in ran.err and "[too-large]" in ran.err, ran
    ran = mesh("call", clock, "echo", "--file", "a=small.bin", "--file", "b=large.bin")
    assert ran.code == 4 and "with large.bin the files have more than 8 MiB" in ran.err and "[too-large]" in ran.err, ran
    assert mesh("call", clock, "echo", "--file", "b=large.bin").code == 0


def test_agents_undeploy_and_ids_by_their_beginning(mesh: Mesh, clock: str) -> None:
    ran = mesh("agents")
    assert ran.out.splitlines()[1].split()[:4] == [clock[:10], "Clock", "running", "1/1"]
    assert mesh("agents", "-q").out.strip() == clock
    assert "[no-such-agent]" in mesh("undeploy", "a-ffffffff").err
    assert mesh("undeploy", clock[:8]).err == "ok Clock is gone; nodes that cannot be reached now hear of it later\n"
    assert mesh("agents").out == "none\n"
    gone = mesh("call", clock, "echo")
    assert (gone.code, "[no-such-agent]" in gone.err) == (4, True)


def test_a_file_that_says_nothing_is_no_publication(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n  \n")
    ran = mesh("publish", "empty.jsonl")
    assert ran.code == 2 and "says nothing" in ran.err and "ok" not in ran.err


def test_publish_counts_lines_as_the_file_does(mesh: Mesh, tmp_path: Path) -> None:
    lines = ['{"name": "One"}', "", "{", *[json.dumps({"name": f"Agent {i}"}) for i in range(150)], '{"nameless": 1}']
    (tmp_path / "agents.jsonl").write_text("\n".join(lines))
    ran = mesh("publish", "agents.jsonl")
    assert ran.code == 0
    assert "! agents.jsonl:3:" in ran.err
    assert "! agents.jsonl:154:" in ran.err
    assert ran.err.splitlines()[-1] == "ok 151 agents published, 2 lines refused"
    document = json.loads(mesh("publish", "agents.jsonl", "--json").out)
    assert document["accepted"] == 151
    assert [one["line"] for one in document["refused"]] == [3, 154]
    (tmp_path / "bad.jsonl").write_text("{")
    assert mesh("publish", "bad.jsonl").code == 1
    for identity in mesh("agents", "-q").out.split():
        mesh("undeploy", identity)


def test_publish_reads_stdin_and_passes_over_a_byte_order_mark(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "marked.jsonl").write_bytes(b'\xef\xbb\xbf{"name": "Marked"}\n{"name": "Other"}\n')
    assert mesh("publish", "marked.jsonl").err == "ok 2 agents published, 0 lines refused\n"
    (tmp_path / "bad.jsonl").write_text('{"name": "Third"}\n{')
    with (tmp_path / "bad.jsonl").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        ran = mesh("publish", "-")
    assert ran.code == 0 and "! stdin:2: " in ran.err and ran.err.endswith("ok 1 agent published, 1 line refused\n"), ran
    with (tmp_path / "bad.jsonl").open() as stdin:
        stdin.read()
        monkeypatch.setattr(sys, "stdin", stdin)
        ran = mesh("publish", "-")
    assert (ran.code, "stdin says nothing" in ran.err) == (2, True), ran
    for identity in mesh("agents", "-q").out.split():
        mesh("undeploy", identity)


def test_other_files_may_begin_with_a_byte_order_mark_too(mesh: Mesh, clock: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert mesh("call", clock, "echo", "--data", "@x.json").out == '{"a": 1}\n'
    (tmp_path / "clock.yaml").write_bytes(b"\xef\xbb\xbf" + AGENT.encode())
    assert mesh("deploy", "--agent", "clock.yaml", "-q").out.strip() == clock


def test_publish_counts_an_agent_once_however_often_its_line_stands_there(mesh: Mesh, tmp_path: Path) -> None:
    lines = [json.dumps({"name": f"Agent {i}"}) for i in range(60)]
    (tmp_path / "agents.jsonl").write_text("\n".join(lines * 4))
    ran = mesh("publish", "agents.jsonl")
    assert (ran.code, ran.err.splitlines()[-1]) == (0, "ok 60 agents published, 0 lines refused")
    assert json.loads(mesh("publish", "agents.jsonl", "--json").out)["accepted"] == 60
    for identity in mesh("agents", "-q").out.split():
        mesh("undeploy", identity)


def test_members_and_status(mesh: Mesh) -> None:
    ran = mesh("members")
    rows = ran.out.splitlines()
    assert rows[0].split() == ["NODE", "ORG", "STATE", "SINCE", "LOAD", "NOTE"]
    assert rows[1].split() == ["alpha-1", "alpha", "+", "alive", "4", "m", "12%"]
    assert rows[2].split() == ["gamma-1", "gamma", "?", "suspect", "3", "s", "-", "2", "probes", "lost"]
    assert ran.err == "2 members: 1 alive, 1 suspect, as alpha-1 sees it\n"
    status = mesh("status")
    assert status.code == 0
    assert status.out.startswith("alpha-1 of alpha, healthy, up 4 m\n")
    assert "Org      raft leader alpha-1, term 3, 2 behind; 3 of 3 can vote, can lose 1 more\n" in status.out
    assert json.loads(mesh("members", "--json").out)["schema"] == "mesh.members/1"


def test_the_nodes_of_an_organisation_are_listed_and_removed(mesh: Mesh) -> None:
    ran = mesh("org", "nodes")
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[0] == ["NODE", "ROLE", "LAG", "STATE", "ID"]
    assert rows[1] == ["alpha-1", "leader", "0", "+", "alive", "12D3KooWalpha"]
    assert rows[3] == ["alpha-3", "voter", "-", "x", "dead", "12D3KooWalphc"]
    assert ran.err == "3 voters: can lose 1 more; term 3, entry 42, as its leader alpha-1 sees it\n"
    found = json.loads(mesh("org", "nodes", "--json").out)
    assert found["schema"] == "mesh.org-nodes/1" and [node["role"] for node in found["nodes"]] == ["voter"] * 3
    assert mesh("org", "nodes", "-q").out.split() == ["12D3KooWalpha", "12D3KooWalphb", "12D3KooWalphc"]
    assert "alpha-3 is removed" in mesh("org", "remove", "alpha-3").err
    again = json.loads(mesh("org", "remove", "12D3KooWalphc", "--json").out)
    assert (again["name"], again["changed"]) == ("alpha-3", False)
    nobody = mesh("org", "remove", "nobody")
    assert nobody.code == 2 and "[no-such-node]" in nobody.err


def test_explain(mesh: Mesh, clock: str) -> None:
    ran = mesh("explain", "budget-exceeded", to=None)
    assert ran.code == 0
    assert "Do: " in ran.out
    assert "budget-exceeded" in mesh("explain", "--list", to=None).out
    assert "[unknown-name]" in mesh("explain", "nonsense", to=None).err
    task = json.loads(mesh("call", clock, "echo", "--json").out)["taskId"]
    assert mesh("explain", task).out == "it completed on alpha-1\n"
    assert mesh("explain", "t-0").code == 4


def test_explain_a_score(mesh: Mesh, clock: str) -> None:
    ran = mesh("explain", clock[:12], "--query", "what time is it", "--capability", "time", "--weigh-trust", "0.5")
    assert ran.code == 0 and ran.out.endswith("what time is it\n('time',) 0.5\n"), ran.err
    without = mesh("explain", clock, "--query", "time", "--exclude-capability", "x", "--exclude-org", "did:mesh:enterprise:beta")
    assert without.out.endswith("without ('x',) ('did:mesh:enterprise:beta',)\n"), without
    assert json.loads(mesh("explain", clock, "--query", "time", "--json").out)["facts"] == {"score": 0.5}
    assert "[usage]" in mesh("explain", clock, "--exclude-region", "eu").err
    for words in (["budget-exceeded", "--query", "x"], [clock, "--query", " "], [clock, "--weigh-trust", "1"], ["--query", "x"]):
        refused = mesh("explain", *words)
        assert (refused.code, refused.out) == (2, "") and "[usage]" in refused.err, words
    assert mesh("explain", "a-0123456789abcdef", "--query", "x").code == 4


def test_which_node_is_asked(mesh: Mesh, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = mesh("members", to=None)
    assert (nobody.code, "[no-node-named]" in nobody.err) == (2, True)
    assert mesh("members", "--node", node.url, "--api-key", node.key, to=None).code == 0
    assert mesh("members", "--node", node.url.removeprefix("http://"), "--api-key", node.key, to=None).code == 0
    assert "[no-key]" in mesh("members", "--node", node.url, to=None).err
    (tmp_path / "testnet").mkdir()
    row = {
        "name": "beta-1",
        "org": "beta",
        "did": "did:mesh:enterprise:beta",
        "node_id": "x",
        "api": node.url,
        "api_key": node.key,
        "p2p": [],
        "gossip": "127.0.0.1:2",
        "link": "127.0.0.1:3",
        "pid": 12345,
        "dir": "",
        "region": "local",
        "validator": True,
    }
    dead = {**row, "name": "alpha-1", "org": "alpha", "pid": None, "api": "http://127.0.0.1:1"}
    (tmp_path / "testnet" / "testnet.json").write_text(json.dumps({"schema": "mesh.testnet/1", "genesis": "g", "nodes": [dead, row]}))
    assert mesh("members", to=None).code == 0, "the first that runs"
    assert mesh("members", "--org", "beta", to=None).code == 0
    assert mesh("members", "--node", "beta-1", to=None).code == 0
    assert mesh("members", "--node", node.url, to=None).code == 0, "its key comes from the folder"
    assert mesh("members", "--dir", "testnet", to=None).code == 0
    unreachable = "no node answers at 127.0.0.1:1; run `mesh testnet {}` [unreachable]"
    assert unreachable.format("start alpha-1") in mesh("members", "--org", "alpha", to=None).err
    nobody = mesh("members", "--org", "nobody", to=None)
    assert nobody.code == 2 and "no organisation of this testnet is called 'nobody'; it has alpha, beta [" in nobody.err
    assert "no node of this testnet is called 'nobody'; it has alpha-1, beta-1 [" in mesh("members", "--node", "nobody", to=None).err
    for named in ("beta-1", "beta", node.url, node.url.removeprefix("http://")):
        assert mesh("members", "--node", named, "--org", "beta", to=None).code == 0
        both = mesh("members", "--node", named, "--org", "alpha", to=None)
        assert (both.code, both.out) == (2, "") and f"--node {named} is of beta, and --org asks for alpha" in both.err, both
        assert "[usage]" in both.err and len(both.err.splitlines()) == 1
    assert "'nobody'" in mesh("members", "--node", "beta-1", "--org", "nobody", to=None).err
    monkeypatch.chdir(tmp_path / "testnet")
    assert mesh("members", "--org", "beta", to=None).code == 0, "in its own folder"
    assert mesh("members", "--node", node.url, to=None).code == 0, "and so the key"
    monkeypatch.chdir("/")
    there = str(tmp_path / "testnet")
    assert unreachable.format(f"start alpha-1 --dir {there}") in mesh("members", "--org", "alpha", "--dir", there, to=None).err
    nobody = {"schema": "mesh.testnet/1", "genesis": "g", "nodes": [dead]}
    (tmp_path / "testnet" / "testnet.json").write_text(json.dumps(nobody))
    assert unreachable.format(f"up --detach --dir {there}") in mesh("members", "--dir", there, to=None).err


@pytest.mark.parametrize("address", ["http://", "ftp://x:1", "http://127.0.0.1:99999", "http://example.org:80", "http://[::1", "x:y"])
def test_addresses_that_are_none(mesh: Mesh, address: str) -> None:
    ran = mesh("members", "--node", address, to=None)
    assert (ran.code, "[bad-node]" in ran.err) == (2, True), ran.err


def test_nobody_answers(mesh: Mesh) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ran = mesh("members", "--node", url, to=None)
    assert ran.code == 3
    assert ran.err == f"mesh: no node answers at {url[7:]}; run `mesh testnet up --detach` or pass --node [unreachable]\n"
    problem = json.loads(mesh("members", "--node", url, "--json", to=None).out)
    assert (problem["name"], problem["outcome"], problem["exit"]) == ("unreachable", "not_done", 3)


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (b"", "no-answer"),
        (b"SSH-2.0-OpenSSH\r\n", "no-answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "bad-answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "bad-answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "no-answer"),
        (b'HTTP/1.1 500 x\r\nContent-Length: 20\r\n\r\n{"detail":"\\u001b[2J"}'[:-2], "bad-answer"),
    ],
)
def test_something_else_answers(mesh: Mesh, reply: bytes, name: str) -> None:
    code = "\n".join(
        [
            "import socket",
            "listening = socket.create_server(('127.0.0.1', 0))",
            "print(listening.getsockname()[1], flush=True)",
            "client = listening.accept()[0]",
            "client.recv(9999)",
            f"client.sendall({reply!r})",
        ]
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ran = mesh("members", "--node", f"http://127.0.0.1:{server.stdout.readline().strip()}", to=None)
    assert ran.code == 3
    assert f"[{name}]" in ran.err
    assert "\x1b" not in ran.err


def test_strangers_cannot_play_with_the_terminal(mesh: Mesh, tmp_path: Path) -> None:
    nasty = {"name": "\x1b[31mEvil\u202e\x07 [bold]x[/bold]", "description": "time \x1b]0;title\x07"}
    (tmp_path / "a.jsonl").write_text(json.dumps(nasty))
    mesh("publish", "a.jsonl")
    for words in (["discover", "time"], ["agents"]):
        out = mesh(*words).out
        assert "Evil" in out
        assert "[bold]x[/bold]" in out
        assert not any(sign in out for sign in "\x1b\x07\u202e")
    for identity in mesh("agents", "-q").out.split():
        mesh("undeploy", identity)


def test_client_commands_load_nothing_of_the_node(node: Node) -> None:
    """Pydantic is there because Typer itself reads options with it."""
    code = (
        "import sys; from meshos.node.cli import main\n"
        "main.run(sys.argv[1:]); heavy = {'numpy','trio','fastapi','httpx','hypercorn','libp2p','mcp','cryptography','web3'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    environment = {"PATH": "/usr/bin:/bin", "MESH_NODE": node.url, "MESH_API_KEY": node.key}

    ran = subprocess.run(
        [sys.executable, "-c", code, "discover", "time"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "HEAVY []" in ran.stdout, ran.stdout


def test_a_negative_amount_is_no_option(mesh: Mesh) -> None:
    for amount in ("-5", "-0.5"):
        ran = mesh("wallet", "transfer", "did:mesh:enterprise:beta", amount)
        assert (ran.code, ran.out) == (2, "") and "no amount or number here is negative" in ran.err, ran
    ran = mesh("wallet", "transfer", "did:mesh:enterprise:beta", "--", "-5")
    assert ran.code == 2 and "[bad-amount]" in ran.err and "above zero" in ran.err


@pytest.mark.parametrize("query", ["", "  "])
def test_a_search_for_nothing_is_refused(mesh: Mesh, query: str) -> None:
    ran = mesh("discover", query)
    assert (ran.code, ran.out) == (2, "") and "the query is empty" in ran.err


@pytest.mark.parametrize(
    ("directory", "told"),
    [
        ({"records": 12}, "12"),
        ({"records": 12, "cells": None, "cellsFrom": None}, "12, the directory is whole"),
        ({"records": 12, "cells": None, "cellsFrom": 2000}, "12, the directory is whole; it is cut into cells once there are 2000"),
        ({"records": 2300, "cells": None, "cellsFrom": 2000}, "2300, the directory is whole; it is being cut into cells"),
        ({"records": 431, "cells": 128, "cellsFrom": None}, "431 here, the directory is in 128 cells"),
    ],
)
def test_status_tells_how_the_directory_lies(directory: dict[str, object], told: str) -> None:
    assert f"Records  {told}" in status_lines({"directory": directory})


def test_status_tells_that_autonomy_is_paused_and_until_when() -> None:
    until = "2026-11-26T10:00:00.000Z"
    (line,) = [line for line in status_lines({"humans": {"approvalsWaiting": 1, "pausedUntil": until}}) if line.startswith("Humans")]
    assert line == f"Humans   autonomy is paused until {until}; 1 approval waits: mesh approvals"
    (line,) = [line for line in status_lines({"humans": {"approvalsWaiting": 0, "pausedUntil": None}}) if line.startswith("Humans")]
    assert line == "Humans   no approval waits"


@pytest.mark.parametrize("words", [["undeploy", ""], ["call", "", "x"], ["ledger", "tx", ""], ["org", "remove", ""]])
def test_an_empty_id_is_refused_before_anything_is_sent(mesh: Mesh, words: list[str]) -> None:
    ran = mesh(*words)
    assert (ran.code, ran.out) == (2, "") and "empty" in ran.err, ran
    unsent = mesh("undeploy", "", "--node", "http://127.0.0.1:1", to=None)
    assert (unsent.code, "[bad-id]" in unsent.err) == (2, True), unsent


@pytest.mark.parametrize("identity", ["../members", "a/b", "..", "a?b", "a#b", "a%2Fb"])
def test_an_id_never_reaches_another_route(mesh: Mesh, identity: str) -> None:
    for words in (["undeploy", identity], ["call", identity, "x"]):
        ran = mesh(*words)
        assert (ran.code, ran.out) == (4, "") and f"no agent {identity} is known" in ran.err, ran
