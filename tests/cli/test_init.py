"""From keys to a genesis to a certified node, and a second node by invitation: by the commands alone."""

import contextlib
import json
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from meshos.crypto.genesis_keys import trust_of
from meshos.errors import BadInput
from meshos.node import folder
from meshos.node.cli.genesis import millionths
from meshos.node.cli.main import run
from meshos.node.config import load
from meshos.node.trust import lists_in


class Done(Protocol):
    code: int
    out: str
    err: str


Mesh = Callable[..., Done]


@pytest.fixture(scope="session")
def two_orgs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two organisations with a node each, and their genesis: made once by the commands, copied by each test."""
    home = tmp_path_factory.mktemp("orgs")
    with contextlib.chdir(home):
        assert run(["init", "--org", "acme", "--dir", "acme-1"]) == 0
        assert run(["init", "--org", "globex", "--kind", "hospital", "--dir", "globex-1"]) == 0
        assert run(["genesis", "new", "genesis.json", "acme-1/org.json", "globex-1/org.json", "--allocation", "1000.5"]) == 0
    return home


@pytest.fixture
def founded(two_orgs: Path, tmp_path: Path) -> None:
    """A copy of the two organisations in the test's own folder."""
    shutil.copytree(two_orgs, tmp_path, dirs_exist_ok=True)


def test_a_node_is_made_finished_and_found_in_order(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    assert mesh("genesis", "check", "genesis.json").code == 0
    done = mesh("init", "--dir", "acme-1", "--genesis", "genesis.json", "--json")
    body = json.loads(done.out)
    assert done.code == 0 and body["schema"] == "mesh.init/1" and body["ready"] is True
    config = load(tmp_path / "acme-1")
    genesis = folder.read_genesis(config.genesis)
    entry = genesis.org(config.org)
    assert entry is not None and entry.allocation == 1_000_500_000 and entry.validator is not None
    assert entry.validator.node == folder.open_identity(config).node_id == body["node_id"]
    checked = mesh("doctor", "--dir", "acme-1", "--json")
    verdicts = {row["check"]: row["verdict"] for row in json.loads(checked.out)["checks"]}
    assert checked.code == 0 and {verdicts[name] for name in ("configuration", "keys", "genesis", "certificate")} == {"pass"}
    again = mesh("init", "--dir", "acme-1")
    assert again.code == 0 and "ready" in again.err, "called again it changes nothing"


def test_secrets_are_for_their_owner_only(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    home = tmp_path / "acme-1"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("keys", "root.keys", "passphrase", "api-key", "api-keys.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
    token = (home / "api-key").read_text().strip()
    assert token not in (home / "api-keys.json").read_text()
    (home / "passphrase").chmod(0o644)
    refused = mesh("init", "--dir", "acme-1")
    assert refused.code == 2 and "[loose-permissions]" in refused.err


def test_a_second_node_joins_by_invitation_once(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    mesh("init", "--dir", "acme-1", "--genesis", "genesis.json")
    token = mesh("org", "invite", "--node", "--dir", "acme-1").out.strip()
    joined = mesh("init", "--join", token, "--dir", "acme-2", "--name", "acme-2", "--genesis", "genesis.json", "--json")
    request = json.loads(joined.out)["request"]
    issued = mesh("org", "issue", "-", "--dir", "acme-1", stdin=request)
    assert issued.code == 0 and issued.out.startswith("-----BEGIN CERTIFICATE-----")
    (tmp_path / "c.pem").write_text(issued.out)
    assert mesh("init", "--dir", "acme-2", "--certificate", "c.pem").code == 0
    assert mesh("init", "--dir", "globex-1", "--genesis", "genesis.json", "--certificate", "c.pem").code == 4, "another node's certificate"
    assert mesh("org", "issue", "@acme-2/join-request.txt", "--dir", "acme-1").code == 0, "the same node may ask again"
    other = json.loads(mesh("init", "--join", token, "--dir", "acme-3", "--genesis", "genesis.json", "--json").out)["request"]
    refused = mesh("org", "issue", other, "--dir", "acme-1")
    assert refused.code == 4 and "[invitation-used]" in refused.err


def test_a_node_is_revoked_by_its_id_and_the_list_only_grows(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    mesh("init", "--dir", "acme-1", "--genesis", "genesis.json")
    token = mesh("org", "invite", "--dir", "acme-1").out.strip()
    joining = json.loads(mesh("init", "--join", token, "--dir", "acme-2", "--genesis", "genesis.json", "--json").out)
    assert mesh("org", "issue", joining["request"], "--dir", "acme-1").code == 0
    second = joining["node_id"]
    before = int(time.time())
    done = mesh("org", "revoke", second[:20], "--dir", "acme-1")
    file = tmp_path / "acme-1" / "revocations" / "enterprise.acme.crl"
    (made,) = lists_in(file.parent, trust_of(folder.read_genesis(tmp_path / "genesis.json")).roots)
    assert made.number >= before, "a folder that has lost its lists begins below them"
    assert done.code == 0 and done.out == f"{file}\n" and f"ok {second} is revoked; list {made.number} of" in done.err
    again = mesh("org", "revoke", second, "--dir", "acme-1")
    assert again.code == 0 and f"was revoked already; list {made.number} of" in again.err
    first = folder.open_identity(load(tmp_path / "acme-1")).node_id
    own = mesh("org", "revoke", first, "--dir", "acme-1")
    assert (
        own.code == 0 and "of did:mesh:enterprise:acme names 2 certificates" in own.err and "! that is the node of this folder" in own.err
    )
    body = json.loads(mesh("org", "revoke", second, "--dir", "acme-1", "--json").out)
    (grown,) = lists_in(file.parent, trust_of(folder.read_genesis(tmp_path / "genesis.json")).roots)
    assert grown.number > made.number, "two in one second have one number"
    assert (body["schema"], body["changed"], body["number"], body["listed"]) == ("mesh.org-revoke/1", False, grown.number, 2)
    assert (grown.org, len(grown.serials)) == ("did:mesh:enterprise:acme", 2)


def test_what_cannot_be_revoked_is_named(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    for name in ("acme-1", "globex-1"):
        mesh("init", "--dir", name, "--genesis", "genesis.json")
    stranger = folder.open_identity(load(tmp_path / "globex-1")).node_id
    for words in ((stranger,), (stranger, "--certificate", "globex-1/certificate.pem"), ("12D3KooW",), ("",)):
        refused = mesh("org", "revoke", *words, "--dir", "acme-1")
        assert refused.code == 2 and "[no-such-certificate]" in refused.err, words
    assert "[certificate-malformed]" in mesh("org", "revoke", stranger, "--certificate", "genesis.json", "--dir", "acme-1").err
    (tmp_path / "globex-1" / "root.keys").unlink()
    assert "[root-key-not-here]" in mesh("org", "revoke", stranger, "--dir", "globex-1").err
    assert not list((tmp_path / "acme-1" / "revocations").iterdir())


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (("init",), 2, "usage"),
        (("init", "--org", "Not A Name"), 2, "bad-org"),
        (("init", "--org", "acme", "--kind", "club"), 2, "bad-org"),
        (("init", "--join", "nonsense"), 4, "invitation-malformed"),
        (("init", "--org", "acme", "--seed", "nonsense"), 2, "bad-seed"),
        (("init", "--org", "acme", "--name", "Not A Name"), 2, "bad-config"),
        (("init", "--org", "acme", "--genesis", "missing.json"), 2, "cannot-read"),
        (("run", "--dir", "missing"), 2, "no-node"),
        (("org", "invite", "--dir", "missing"), 2, "no-node"),
        (("genesis", "check", "missing.json"), 2, "cannot-read"),
        (("genesis", "add", "missing.json"), 2, "usage"),
        (("genesis", "new", "g.json", "--timing", "soon"), 2, "usage"),
        (("testnet", "status"), 2, "no-testnet"),
    ],
)
def test_what_cannot_be_is_named(mesh: Mesh, tmp_path: Path, words: tuple[str, ...], code: int, name: str) -> None:
    done = mesh(*words)
    assert done.code == code and f"[{name}]" in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "node").exists(), "nothing was made"


def test_nothing_is_overwritten(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    keys = (tmp_path / "acme-1" / "keys").read_bytes()
    again = mesh("init", "--org", "acme", "--dir", "acme-1")
    assert again.code == 0 and (tmp_path / "acme-1" / "keys").read_bytes() == keys
    assert "[file-exists]" in mesh("genesis", "new", "genesis.json").err
    assert "[org-already-in-genesis]" in mesh("genesis", "add", "genesis.json", "acme-1/org.json").err
    taken = mesh("init", "--org", "acme", "--dir", "thief", "--genesis", "genesis.json")
    assert taken.code == 2 and "[org-exists]" in taken.err and not (tmp_path / "thief").exists()


def test_an_interrupted_init_is_taken_up(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "acme-1" / "node.toml").unlink()
    keys = (tmp_path / "acme-1" / "root.keys").read_bytes()
    assert mesh("init", "--org", "acme", "--dir", "acme-1").code == 0
    assert (tmp_path / "acme-1" / "root.keys").read_bytes() == keys


def test_genesis_check_says_what_is_wrong(founded: None, mesh: Mesh, tmp_path: Path) -> None:
    document = json.loads((tmp_path / "genesis.json").read_text())
    document["trustWeights"]["uptime"] = 99
    document["orgs"][0]["rootKey"] = document["orgs"][1]["rootKey"]
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    done = mesh("genesis", "check", "wrong.json")
    assert done.code == 1 and "$.trustWeights" in done.out and "[genesis-wrong]" in done.err
    problems = json.loads(mesh("genesis", "check", "wrong.json", "--json").out)
    assert problems["ok"] is False and len([p for p in problems["problems"] if not p["note"]]) >= 2


@pytest.mark.parametrize("amount", ["-1", "1e9", "1.0000001", "ten", "", "1,5", "\u0661", "1.", ".5", "1" * 13])
def test_a_bad_amount_is_refused(amount: str) -> None:
    with pytest.raises(BadInput) as caught:
        millionths(amount)
    assert caught.value.name == "bad-amount"


@pytest.mark.parametrize(("text", "amount"), [("0", 0), ("10", 10_000_000), ("0.000001", 1), ("12.5", 12_500_000)])
def test_an_amount_is_counted_in_millionths(text: str, amount: int) -> None:
    assert millionths(text) == amount
