"""A node comes back from its backup whole, with one exception that is the point: its validator key."""

import io
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from meshos import genesis as g
from meshos.consensus.ledger import tree
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.orgs import AddNode, RotateValidator
from meshos.consensus.raft.applying import founding, write_generation
from meshos.crypto.keys import multikey
from meshos.crypto.keystore import TEST_COST
from meshos.crypto.signing import verify_many
from meshos.effects import Put, Write
from meshos.errors import BadInput, MeshError
from meshos.ids import NodeId, org_did
from meshos.node import agreeing, backup, folder
from meshos.node.backup_file import Writer
from meshos.node.cli import main, registering
from meshos.node.cli.client_connection import Target
from meshos.node.config import Address, NodeConfig, load
from meshos.node.config_text import to_toml
from meshos.node.founding import BEGUN
from meshos.protocols.ledger.port import LEDGER
from meshos.storage.level import LevelStore

MADE = "2026-01-31T12:00:00Z"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node that has run: made once, copied by each test."""
    top = tmp_path_factory.mktemp("node") / "acme-1"
    local = Address("127.0.0.1", 0)
    config = NodeConfig(dir=top, name="acme-1", org=org_did("enterprise", "acme"), api=local, gossip=local, link=local)
    org = folder.make_org(config, now=time.time(), cost=TEST_COST, root_cost=TEST_COST)
    genesis = g.new(folder.template(), mesh="test", time_ms=0, placement_seed=b"s" * 32, testnet=True, orgs=[org])
    folder.certify(config, genesis, now=time.time())
    store = LevelStore(config.data)
    store.prefixed("org").write([Put(b"key", b"value")])
    store.close()
    (top / "agents" / "a-1").mkdir(parents=True)
    (top / "agents" / "a-1" / "private").write_text("private")
    (top / "node.log").write_text("log")
    return top


@pytest.fixture
def node(template: Path, tmp_path: Path) -> NodeConfig:
    """A copy of it in the test's own folder."""
    shutil.copytree(template, tmp_path / "acme-1")
    return load(tmp_path / "acme-1")


@pytest.fixture
def file(node: NodeConfig, tmp_path: Path) -> Path:
    """Its backup."""
    backup.make(node, tmp_path / "file", made=MADE, cost=TEST_COST)
    return tmp_path / "file"


def refusal(run: Callable[[], object]) -> str:
    with pytest.raises(MeshError) as caught:
        run()
    return caught.value.name


def contents(top: Path) -> dict[str, bytes]:
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_everything_comes_back_but_the_validator_key(node: NodeConfig, file: Path, tmp_path: Path) -> None:
    before = folder.open_identity(node)
    restored = backup.restore(file, tmp_path / "again")
    config = load(tmp_path / "again")
    after = folder.open_identity(config)
    assert after.node_id == before.node_id == restored.backup.node
    assert after.validator.public != before.validator.public
    assert (restored.backup.validator, restored.validator) == (multikey(before.validator.public), multikey(after.validator.public))
    store = LevelStore(config.data)
    assert store.prefixed("org").get(b"key") == b"value"
    store.close()
    for name in ("node.toml", "genesis.json", "certificate.pem", "root.keys", "passphrase", "api-keys.json", "org.json"):
        assert (config.dir / name).read_bytes() == (node.dir / name).read_bytes()
        assert (config.dir / name).stat().st_mode == (node.dir / name).stat().st_mode
    assert not (config.dir / "agents").exists() and not (config.dir / "node.log").exists()


def test_the_validator_key_is_nowhere_in_the_file(node: NodeConfig, file: Path, tmp_path: Path) -> None:
    """Neither in plain nor in a key file that the passphrase beside it opens."""
    seed = folder.open_identity(node).validator.seed()
    assert seed not in file.read_bytes()
    sealed = node.keys.read_bytes()
    assert sealed not in file.read_bytes()


def test_the_file_and_the_folder_are_for_their_owner_only(file: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    backup.restore(file, tmp_path / "again")
    assert stat.S_IMODE((tmp_path / "again").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "again" / "keys").stat().st_mode) == 0o600


def test_a_running_node_is_not_saved(node: NodeConfig, tmp_path: Path) -> None:
    running = LevelStore(node.data)
    try:
        assert refusal(lambda: backup.make(node, tmp_path / "file", made=MADE)) == "folder-in-use"
    finally:
        running.close()
    assert not (tmp_path / "file").exists()


def test_nothing_is_written_over(node: NodeConfig, file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    assert refusal(lambda: backup.make(node, file, made=MADE)) == "file-exists"
    assert file.read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("mine")
    assert refusal(lambda: backup.restore(file, tmp_path / "full")) == "folder-not-empty"
    assert refusal(lambda: backup.restore(file, file)) == "folder-not-empty"
    assert contents(tmp_path / "full") == {"thing": b"mine"}


def test_the_node_is_left_as_it_was(node: NodeConfig, tmp_path: Path) -> None:
    before = contents(node.dir)
    backup.make(node, tmp_path / "file", made=MADE, cost=TEST_COST)
    assert contents(node.dir) == before


def test_a_backup_may_be_made_inside_of_the_folder(node: NodeConfig, tmp_path: Path) -> None:
    saved = backup.make(node, node.dir / "file", made=MADE, cost=TEST_COST)
    assert backup.restore(node.dir / "file", tmp_path / "again").backup.files == saved.files


def test_no_truncated_file_makes_a_folder(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    for size in [0, 5, 16, 18, 100, 1_000, *range(1_500, len(data), len(data) // 20), len(data) - 1]:
        file.write_bytes(data[:size])
        assert refusal(lambda: backup.restore(file, tmp_path / "again")) in ("not-a-backup", "backup-damaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme-1", "file"]


def test_no_altered_file_makes_a_folder(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    for place in [0, 17, 19, 60, 400, 700, 1_000, *range(1_500, len(data), len(data) // 20), len(data) - 1]:
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert refusal(lambda: backup.restore(file, tmp_path / "again")) in (
            "not-a-backup",
            "backup-damaged",
            "wrong-genesis",
            "schema-too-new",
        )
    file.write_bytes(data + b"x")
    assert refusal(lambda: backup.restore(file, tmp_path / "again")) == "backup-damaged"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme-1", "file"]


def test_the_backup_of_another_mesh_is_refused_before_anything_is_read(node: NodeConfig, file: Path, tmp_path: Path) -> None:
    assert refusal(lambda: backup.restore(file, tmp_path / "again", bytes(32))) == "wrong-genesis"
    genesis = folder.read_genesis(node.genesis)
    assert backup.restore(file, tmp_path / "again", genesis.hash).backup.genesis == genesis.hash.hex()


HEADER: dict[str, object] = dict.fromkeys(("made", "genesis", "mesh", "org", "name", "node", "validator"), "x") | {"schema": 1}


def forged(path: Path, files: list[tuple[str, bytes]], header: dict[str, object] = HEADER) -> Path:
    """A file with a good hash that says something bad."""
    out = (path / "forged").open("wb")
    writer = Writer(out, header)
    for name, content in files:
        source = path / "source"
        source.write_bytes(content)
        source.chmod(0o600)
        writer.add(name, source)
    writer.end()
    out.close()
    (path / "source").unlink(missing_ok=True)
    return path / "forged"


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "", ".", "a//b", "a/./b", "a\0b", "a\nb", "x" * 1_025])
def test_no_file_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    assert refusal(lambda: backup.restore(forged(tmp_path, [(name, b"bad")]), tmp_path / "again")) == "backup-damaged"
    assert [path.name for path in tmp_path.iterdir()] == ["forged"]


@pytest.mark.parametrize("files", [[("a", b"1"), ("a", b"2")], [("a", b"1"), ("a/b", b"2")], [("a/b", b"1"), ("a", b"2")]])
def test_no_file_comes_twice(files: list[tuple[str, bytes]], tmp_path: Path) -> None:
    assert refusal(lambda: backup.restore(forged(tmp_path, files), tmp_path / "again")) == "backup-damaged"


def test_what_holds_no_node_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: backup.restore(forged(tmp_path, []), tmp_path / "again")) == "no-node"
    assert refusal(lambda: backup.restore(forged(tmp_path, [], {}), tmp_path / "again")) == "backup-damaged"
    assert refusal(lambda: backup.restore(forged(tmp_path, [], HEADER | {"schema": 99}), tmp_path / "again")) == "schema-too-new"
    assert refusal(lambda: backup.restore(tmp_path / "missing", tmp_path / "again")) == "cannot-read"
    assert not (tmp_path / "again").exists()


def test_a_file_that_brings_a_validator_key_is_refused(node: NodeConfig, tmp_path: Path) -> None:
    """As one would that was put together by hand from a folder: the key would exist twice."""
    identity = folder.open_identity(node)
    header = HEADER | {"genesis": folder.read_genesis(node.genesis).hash.hex(), "node": identity.node_id}
    files = [(name, (node.dir / name).read_bytes()) for name in ("node.toml", "genesis.json", "keys", "passphrase")]
    path = forged(tmp_path, files, header)
    with pytest.raises(MeshError, match="other keys") as caught:
        backup.restore(path, tmp_path / "again")
    assert caught.value.name == "backup-damaged" and not (tmp_path / "again").exists()


@pytest.mark.parametrize("what", ["keys", "data"])
def test_keys_and_database_must_lie_in_the_folder(node: NodeConfig, what: str, tmp_path: Path) -> None:
    (node.dir / what).rename(tmp_path / "elsewhere")
    (node.dir / what).symlink_to(tmp_path / "elsewhere")
    assert refusal(lambda: backup.make(node, tmp_path / "file", made=MADE)) == "outside-of-folder"


def test_what_lies_outside_is_told(node: NodeConfig, tmp_path: Path) -> None:
    node.genesis.rename(tmp_path / "genesis.json")
    moved = to_toml(node).replace('genesis = "genesis.json"', 'genesis = "../genesis.json"')
    (node.dir / "node.toml").write_text(moved)
    config = load(node.dir)
    saved = backup.make(config, tmp_path / "file", made=MADE, cost=TEST_COST)
    assert saved.outside == (str(config.genesis),)
    assert backup.restore(tmp_path / "file", tmp_path / "again").backup.mesh == "test"


def test_a_full_disk_leaves_no_file_behind(node: NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MeshError):
        backup.make(node, tmp_path / "file", made=MADE, cost=TEST_COST)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme-1"]
    assert not [name for name in os.listdir(node.dir) if name.startswith(".")]


def test_a_file_that_became_shorter_while_it_was_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"longer")
    writer = Writer(io.BytesIO(), HEADER)
    whole = os.stat_result((0o100600, 1, 1, 1, 0, 0, 99, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: whole)
    assert refusal(lambda: writer.add("source", source)) == "cannot-write"


def test_only_a_node_that_decides_alone_comes_back(node: NodeConfig, tmp_path: Path) -> None:
    me = NodeId(folder.open_identity(node).node_id)
    (node.dir / BEGUN).touch()

    def restored_from(number: int, *writes: Write) -> str:
        store = LevelStore(node.data)
        store.prefixed("org").write(writes)
        store.close()
        backup.make(node, tmp_path / f"file {number}", made=MADE, cost=TEST_COST)
        try:
            backup.restore(tmp_path / f"file {number}", tmp_path / f"again {number}")
        except MeshError as error:
            assert not (tmp_path / f"again {number}").exists()
            return error.name
        return ""

    assert restored_from(1, write_generation(0)) == "other-nodes-decide", "it joined, and may have been given a vote since"
    assert restored_from(2, *founding([me])) == ""
    assert restored_from(3, *founding([me, NodeId("another")])) == "other-nodes-decide"
    assert restored_from(4, *founding([NodeId("another")])) == "other-nodes-decide"


def test_a_ledger_that_does_not_add_up_does_not_come_back(node: NodeConfig, tmp_path: Path) -> None:
    store = LevelStore(node.data)
    ledger = store.prefixed(LEDGER)
    _, writes = tree.update(ledger, {b"account/%d" % number: b"%d" % number for number in range(100)})
    ledger.write(writes)
    store.close()
    backup.make(node, tmp_path / "good.backup", made=MADE, cost=TEST_COST)
    backup.restore(tmp_path / "good.backup", tmp_path / "good")
    store = LevelStore(node.data)
    store.prefixed(LEDGER).write([Put(tree.STATE + b"account/7", b"7000000")])
    store.close()
    backup.make(node, tmp_path / "bad.backup", made=MADE, cost=TEST_COST)
    assert refusal(lambda: backup.restore(tmp_path / "bad.backup", tmp_path / "bad")) == "state-corrupt"
    assert not (tmp_path / "bad").exists()


def test_its_organisation_moves_its_seat_to_the_new_key_by_the_agreement(
    node: NodeConfig, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = backup.restore(file, tmp_path / "again")
    on_the_ledger = {"role": "node", "org": node.org, "validator": restored.backup.validator}
    sent: list[Body] = []

    def send(client: object, key: object, role: str, body: Body, timeout_s: float, *, mesh: bytes) -> dict[str, object]:
        sent.append(body)
        return {"height": 7}

    asked = SimpleNamespace(get=lambda *path: on_the_ledger)
    monkeypatch.setattr(registering, "Client", lambda target: nullcontext(asked))
    monkeypatch.setattr(registering, "send", send)
    done = registering.register(node, restored.agreement, cast(Target, None))
    (body,) = sent
    assert isinstance(body, RotateValidator) and (body.node, body.validator) == (restored.backup.node, restored.validator)
    assert all(verify_many(body.claims(folder.read_genesis(node.genesis).hash))), "the new key agrees"
    assert (done.changed, done.height) == (True, 7)
    on_the_ledger["validator"] = restored.validator
    assert not registering.register(node, restored.agreement, cast(Target, None)).changed and len(sent) == 1


def test_the_commands_say_what_matters(node: NodeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dir", str(node.dir), "--json"]
    assert main.run(["backup", str(tmp_path / "file"), *words]) == 0
    saved = json.loads(capsys.readouterr().out)
    assert saved["schema"] == "mesh.backup/1" and saved["name"] == "acme-1" and saved["outside"] == []
    assert main.run(["restore", str(tmp_path / "file"), "--dir", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr()
    assert "does not vote until" in printed.err and "never run the old copy again" in printed.err
    assert main.run(["restore", str(tmp_path / "file"), "--dir", str(tmp_path / "third"), "--genesis", str(node.genesis), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["oldValidator"] == saved["validator"] != body["validator"]
    agreed = agreeing.read(body["agreement"], folder.read_genesis(node.genesis).hash, node.org)
    assert isinstance(agreed, AddNode) and (agreed.node, agreed.validator) == (saved["node"], body["validator"])
    with pytest.raises(BadInput):
        load(tmp_path / "missing")
    assert main.run(["backup", str(tmp_path / "other"), "--dir", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.endswith("[no-node]\n")
