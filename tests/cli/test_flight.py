"""A real node, recorded, killed and replayed: what a user of ``mesh sim replay --node`` does after an incident."""

import base64
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from meshos.consensus.org import replicated
from meshos.consensus.org.state import apply
from meshos.node import config, folder
from meshos.node.cli import main
from meshos.node.cli.testnet import making, processes, record
from meshos.node.recording import FOLDER

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Done(Protocol):
    code: int
    out: str
    err: str


Mesh = Callable[..., Done]


@pytest.fixture
def taken_down(tmp_path: Path) -> Iterator[None]:
    """Whatever the test leaves running is ended."""
    yield
    if making.exists(tmp_path / "testnet"):
        processes.kill(record.load(tmp_path / "testnet").nodes)


def secrets_of(node: Path) -> list[bytes]:
    """All that must never leave a node's folder, in every form in which it might be written."""
    settings = config.load(node)
    identity = folder.open_identity(settings)
    found = [settings.passphrase_file.read_bytes().strip(), (node / folder.API_KEY_FILE).read_bytes().strip(), b"mk_"]
    for key in (identity.node, identity.validator, folder.open_root(settings)):
        seed = key.seed()
        found += [seed, seed.hex().encode(), base64.b64encode(seed).rstrip(b"="), base64.urlsafe_b64encode(seed).rstrip(b"=")]
    return found


def recorder(client: httpx.Client) -> dict[str, float]:
    """The figures of the node's recorder."""
    pairs = (
        line.removeprefix("mesh_recorder_").split(" ") for line in client.get("/metrics").text.splitlines() if "mesh_recorder_" in line
    )
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}


def test_a_node_that_was_killed_is_replayed_from_its_folder(
    mesh: Mesh, tmp_path: Path, taken_down: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = making.free_base_port(2, 23_000)
    making.make(tmp_path / "testnet", orgs=2, base_port=ports, timing="fast")
    for file in (tmp_path / "testnet").glob("*/node.toml"):
        file.write_text("recorder = true\n" + file.read_text())
    up = mesh("testnet", "up", "--detach", "--json")
    assert up.code == 0, up.err
    deployed = mesh("deploy", "--agent", EXAMPLES / "echo" / "agent.yaml", "--org", "alpha", "--json")
    assert deployed.code == 0, deployed.err
    agent = json.loads(deployed.out)["agentId"]
    alpha, _ = record.load(tmp_path / "testnet").nodes
    with httpx.Client(base_url=alpha.api, headers={"Authorization": f"Bearer {alpha.api_key}"}, timeout=60) as client:
        for task, data in (("echo", {"text": "hello"}), ("repeat", {"text": "0123456789" * 10, "times": 1000})):
            answer = client.post("/v1/tasks", json={"agentId": agent, "type": task, "data": data}).json()
            assert answer["status"] == "completed", answer
        written = recorder(client)["bytes"]
        while (told := recorder(client))["bytes"] == written:  # half a second at most, and what was done before it is on disk
            time.sleep(0.05)
    assert told["gaps"] == told["dropped"] == told["disk_failures"] == 0
    node = tmp_path / "testnet" / "alpha-1"
    os.kill(alpha.pid, signal.SIGKILL)

    told = mesh("sim", "replay", "--node", node, "--log", tmp_path / "log.jsonl", "--json")
    assert told.code == 0, told.out + told.err
    document = json.loads(told.out)
    assert document["schema"] == "mesh.sim-replay/1" and document["differences"] == [] and document["blind"] == {}
    assert {"rpc", "membership", "org", "directory", "kernel"} <= set(document["same"]) and document["skipped"] == {}
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, document["steps"] + 1))
    assert any(row["event"].get("operation", {}).get("command", {}).get("type") == "RecordOutcome" for row in rows)

    recorded = b"".join(path.read_bytes() for path in sorted((node / FOLDER).iterdir()))
    assert agent.encode() in recorded and b"hello" in recorded, "what was said is there"
    assert not [secret[:4] for secret in secrets_of(node) if secret in recorded]

    capsys.readouterr()
    assert main.run(["sim", "replay", "--node", str(node), "--machine", "org", "--until", "1000"]) == 0
    told_of_org = capsys.readouterr().out
    assert told_of_org.startswith("ok  as recorded") and "membership" not in told_of_org
    assert main.run(["sim", "replay", "--node", str(node), "--machine", "orgs"]) == 2
    assert "no-such-machine" in capsys.readouterr().err
    assert main.run(["sim", "replay", "--node", str(tmp_path)]) == 2 and main.run(["sim", "replay"]) == 2
    capsys.readouterr()

    monkeypatch.setattr(replicated, "apply", lambda view, command, at_ms: apply(view, command, at_ms + 1))
    assert main.run(["sim", "replay", "--node", str(node)]) == 1
    assert capsys.readouterr().out.startswith("DIFFERS org at step ")


def test_a_node_records_where_it_is_told_to(tmp_path: Path) -> None:
    text = 'name = "a-1"\norg = "did:mesh:enterprise:acme"\nrecorder = true\n[api]\nlisten = "127.0.0.1:1"\n'
    text += '[gossip]\nlisten = "127.0.0.1:2"\n[link]\nlisten = "127.0.0.1:3"\n'
    settings = config.parse(text.encode(), tmp_path)
    assert settings.recorder and config.parse(config.to_toml(settings).encode(), tmp_path) == settings
    assert not config.parse(text.replace("true", "false").encode(), tmp_path).recorder
    assert not config.parse(text.replace("recorder = true\n", "").encode(), tmp_path).recorder
    with pytest.raises(Exception, match="recorder must be true or false"):
        config.parse(text.replace("true", '"no"').encode(), tmp_path)
