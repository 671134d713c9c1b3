"""A real node, recorded, killed and replayed: what a user of ``mesh sim replay --node`` does after an incident."""

import base64
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from meshos.consensus.org import replicated
from meshos.consensus.org.machine import MACHINE as ORG
from meshos.consensus.org.state import apply
from meshos.node import config, folder
from meshos.node.cli import main
from meshos.node.cli.testnet import making, processes, record
from meshos.node.config_text import to_toml
from meshos.node.kernel.payments import STORED as PAYMENTS
from meshos.node.kernel.watch import MACHINE as KERNEL
from meshos.node.recording import FOLDER
from meshos.protocols.ledger.port import LEDGER
from meshos.protocols.ledger.registrar import MACHINE as REGISTRAR
from meshos.protocols.relay.events import MACHINE as RELAY
from meshos.protocols.tasks.outbox import MACHINE as RECEIPTS

ECHO = Path(__file__).resolve().parents[2] / "examples" / "echo"
AGENT = {
    "name": "Echo",
    "description": "Gives back what it is given.",
    "runtime": {"mcp": {"command": ["python", "server.py"]}},
    "pricing": {"perQuery": "0.5 MESH"},
}
MACHINES = {"rpc", "membership", ORG, LEDGER, *PAYMENTS, REGISTRAR, "directory", RECEIPTS, KERNEL}


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
        for secret in (key.seed(), hashlib.sha512(key.seed()).digest()[:32]):
            found += [secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")]
    return found


def client_of(node: record.Node) -> httpx.Client:
    return httpx.Client(base_url=node.api, headers={"Authorization": f"Bearer {node.api_key}"}, timeout=60)


def written(client: httpx.Client) -> dict[str, float]:
    """The figures of the node's recorder, once all that was done before is on disk: half a second at most."""

    def figures() -> dict[str, float]:
        lines = (line for line in client.get("/metrics").text.splitlines() if line.startswith("mesh_recorder_"))
        return {name.removeprefix("mesh_recorder_"): float(value) for name, value in (line.split(" ") for line in lines)}

    before = figures()["bytes"]
    while (told := figures())["bytes"] == before:
        time.sleep(0.05)
    return told


def give(client: httpx.Client, to: str) -> None:
    answer = client.post("/v1/transactions", json={"transfer": {"to": f"did:mesh:enterprise:{to}", "amount": "2.5"}})
    assert answer.status_code == 200, answer.text


def call(client: httpx.Client, agent: str, task: str, **data: object) -> None:
    answer = client.post("/v1/tasks", json={"agentId": agent, "type": task, "data": data}).json()
    assert answer["status"] == "completed", answer


def deployed(client: httpx.Client) -> str:
    answer = client.post("/v1/agents", json={"agent": AGENT, "folder": str(ECHO)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["agentId"])


def known(client: httpx.Client, agent: str) -> None:
    """Return once the node has heard of it."""
    ends = time.monotonic() + 30
    while client.get(f"/v1/agents/{agent}").status_code != 200:
        assert time.monotonic() < ends, f"nobody told it of {agent}"
        time.sleep(0.05)


def test_a_validator_that_was_killed_is_replayed_from_its_folder(
    mesh: Mesh, tmp_path: Path, taken_down: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    making.make(tmp_path / "testnet", orgs=4, base_port=making.free_base_port(4, 23_000), timing="fast")
    node = tmp_path / "testnet" / "alpha-1"
    (node / config.FILE).write_text("recorder = true\n" + (node / config.FILE).read_text())
    up = mesh("testnet", "up", "--detach", "--json")
    assert up.code == 0, up.err
    nodes = record.load(tmp_path / "testnet").nodes
    alpha, beta = nodes[:2]
    with client_of(alpha) as at_alpha, client_of(beta) as at_beta:
        with ThreadPoolExecutor() as pool:
            of_alpha, of_beta = pool.map(deployed, (at_alpha, at_beta))
        known(at_beta, of_alpha)
        known(at_alpha, of_beta)
        call(at_beta, of_alpha, "echo", text="hello")
        call(at_alpha, of_beta, "echo", text="hello")
        call(at_alpha, of_alpha, "repeat", text="0123456789" * 10, times=1000)
        give(at_alpha, "gamma")
        give(at_beta, "alpha")
        made = at_alpha.post("/v1/keys", json={"name": "more", "role": "caller"}).json()
        told = written(at_alpha)
    assert told["gaps"] == told["dropped"] == told["disk_failures"] == 0
    os.kill(alpha.pid, signal.SIGKILL)

    done = mesh("sim", "replay", "--node", node, "--log", tmp_path / "log.jsonl", "--json")
    assert done.code == 0, done.out + done.err
    document = json.loads(done.out)
    assert document["schema"] == "mesh.sim-replay/1" and document["differences"] == [] and document["blind"] == {}
    assert set(document["same"]) - {RELAY} == MACHINES and document["skipped"] == {}, "the relay has work where a dial has failed"
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, document["steps"] + 1)) and len(rows) == sum(document["same"].values())
    assert any(row["event"].get("operation", {}).get("command", {}).get("type") == "RecordOutcome" for row in rows)

    recorded = b"".join(path.read_bytes() for path in sorted((node / FOLDER).iterdir()))
    assert of_alpha.encode() in recorded and b"hello" in recorded, "what was said is there"
    invited = mesh("org", "invite", "--dir", node).out.strip()
    assert len(invited) > 50 and made["key"].startswith("mk_")
    secrets = [*secrets_of(node), made["key"].encode(), invited.encode(), invited[-40:].encode()]
    assert not [secret[:4] for secret in secrets if secret in recorded]

    capsys.readouterr()
    assert main.run(["sim", "replay", "--node", str(node), "--machine", "org", "--until", "5"]) == 0
    told_of_org = capsys.readouterr().out
    assert told_of_org.startswith("ok  as recorded") and "membership" not in told_of_org
    assert main.run(["sim", "replay", "--node", str(node), "--machine", "orgs"]) == 2
    assert "no-such-machine" in capsys.readouterr().err
    assert main.run(["sim", "replay", "--node", str(tmp_path)]) == 2 and main.run(["sim", "replay"]) == 2
    assert main.run(["sim", "replay", "--node", str(node), "--html", str(tmp_path / "page.html")]) == 2
    capsys.readouterr()

    monkeypatch.setattr(replicated, "apply", lambda view, command, at_ms: apply(view, command, at_ms + 1))
    assert main.run(["sim", "replay", "--node", str(node)]) == 1
    assert capsys.readouterr().out.startswith("DIFFERS org at step ")


def test_a_node_records_where_it_is_told_to(tmp_path: Path) -> None:
    text = 'name = "a-1"\norg = "did:mesh:enterprise:acme"\nrecorder = true\n[api]\nlisten = "127.0.0.1:1"\n'
    text += '[gossip]\nlisten = "127.0.0.1:2"\n[link]\nlisten = "127.0.0.1:3"\n'
    settings = config.parse(text.encode(), tmp_path)
    assert settings.recorder and config.parse(to_toml(settings).encode(), tmp_path) == settings
    assert not config.parse(text.replace("true", "false").encode(), tmp_path).recorder
    assert not config.parse(text.replace("recorder = true\n", "").encode(), tmp_path).recorder
    with pytest.raises(Exception, match="recorder must be true or false"):
        config.parse(text.replace("true", '"no"').encode(), tmp_path)
