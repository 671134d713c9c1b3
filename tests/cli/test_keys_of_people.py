"""A person's key and its agreement with an organisation: made and checked where it is, with no node about."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from meshos.consensus.ledger.orgs import RemoveHuman
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.keystore import TEST_COST, Passphrase
from meshos.errors import BadInput, Refused
from meshos.node import agreeing, person
from meshos.node.cli import main, signing
from meshos.node.cli.client_connection import Client
from meshos.node.folder import Identity

GENESIS, OTHER = b"g" * 32, b"h" * 32
ALPHA, BETA = "did:mesh:enterprise:alpha", "did:mesh:enterprise:beta"
KEY = SigningKey(bytes(range(32)))
NODE = Identity(SigningKey(b"n" * 32), SigningKey(b"v" * 32))


def test_an_agreement_says_who_and_where_and_holds_for_one_mesh_and_one_organisation() -> None:
    text = agreeing.of_person(KEY, GENESIS, ALPHA, "Ada")
    body = agreeing.read(f"  {text}\n", GENESIS, ALPHA)
    assert (body.org, body.fields()[1:3]) == (ALPHA, ["Ada", multikey(KEY.public)])
    node = agreeing.read(agreeing.of_node(NODE, GENESIS, ALPHA), GENESIS, ALPHA)
    assert node.fields()[1:3] == [NODE.node_id, multikey(NODE.validator.public)]
    for genesis, org in ((OTHER, ALPHA), (GENESIS, BETA)):
        with pytest.raises(Refused) as caught:
            agreeing.read(text, genesis, org)
        assert caught.value.name == "wrong-agreement"


@pytest.mark.parametrize("made", [agreeing.of_person(KEY, GENESIS, ALPHA, "Ada"), agreeing.of_node(NODE, GENESIS, ALPHA)])
def test_what_was_cut_off_or_changed_is_none(made: str) -> None:
    for text in (
        "",
        "x",
        made[:-5],
        made[1:],
        made[:40] + "A" + made[41:],
        made + "=",
        made + "A" * 5_000,
        agreeing.MARK,
        agreeing.MARK + "9g",
    ):
        with pytest.raises(Refused) as caught:
            agreeing.read(text, GENESIS, ALPHA)
        assert caught.value.name in ("agreement-malformed", "wrong-agreement"), text


def test_a_key_file_is_made_once_and_opened_by_its_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "people" / "ada.key"
    monkeypatch.setenv("MESH_PASSPHRASE", "secret")
    assert main.run(["key", "new", str(file), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["schema"], made["key"]) == ("mesh.key-new/1", multikey(person.open_key(file).public))
    assert file.stat().st_mode & 0o077 == 0
    assert main.run(["key", "new", str(file)]) == 2 and "[keys-exist]" in capsys.readouterr().err
    monkeypatch.delenv("MESH_PASSPHRASE")
    with pytest.raises(BadInput) as caught:
        person.passphrase_for(file, new=False)
    assert caught.value.name == "bad-passphrase", "nobody sits at a terminal here"


def test_a_passphrase_may_lie_beside_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESH_PASSPHRASE", raising=False)
    beside, file = tmp_path / "passphrase", tmp_path / "ada.key"
    beside.write_bytes(b"secret\n")
    beside.chmod(0o600)
    made = person.new_key(file, Passphrase(b"secret"), TEST_COST)
    assert person.open_key(file).public == made.public
    beside.chmod(0o644)
    with pytest.raises(BadInput) as caught:
        person.open_key(file)
    assert caught.value.name == "loose-permissions"
    with pytest.raises(BadInput) as caught:
        person.open_key(tmp_path / "nobody.key")
    assert caught.value.name == "no-keys"


@pytest.mark.parametrize(("name", "org"), [("", ALPHA), ("two\nlines", ALPHA), ("x" * 257, ALPHA), ("Ada", "alpha")])
def test_a_wrong_name_or_organisation_is_refused(name: str, org: str, tmp_path: Path) -> None:
    assert main.run(["key", "agree", str(tmp_path / "ada.key"), "--name", name, "--org", org]) == 2


def test_a_root_key_signs_for_no_other_mesh_than_its_own() -> None:
    known = {"role": "root", "nonce": 0, "genesis": OTHER.hex(), "time": "2026-01-31T12:00:00Z"}
    posted: list[object] = []
    client = cast(Client, SimpleNamespace(get=lambda *path: known, post=lambda *path, body, timeout_s: posted.append(body) or {}))
    with pytest.raises(Refused) as caught:
        signing.send(client, KEY, "root", RemoveHuman("ada"), 1.0, mesh=GENESIS)
    assert caught.value.name == "wrong-genesis" and not posted
    signing.send(client, KEY, "root", RemoveHuman("ada"), 1.0, mesh=OTHER)
    assert len(posted) == 1
