"""An organisation's application to be admitted: made where its root key is, read where others vote, with no node about."""

import base64
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from meshos import cbor
from meshos.consensus.ledger.motions import Admit
from meshos.crypto.certificates import new_root
from meshos.crypto.keys import SigningKey, multikey
from meshos.errors import Refused
from meshos.genesis import to_json
from meshos.ids import OrgDid
from meshos.node import applying, folder
from meshos.node.cli import main

GENESIS, OTHER = b"g" * 32, b"h" * 32
INITECH, BETA = OrgDid("did:mesh:enterprise:initech"), OrgDid("did:mesh:enterprise:beta")
ROOT, THIEF = SigningKey(b"r" * 32), SigningKey(b"t" * 32)
CERTIFICATE = new_root(ROOT, INITECH, now=1_700_000_000)
MADE = applying.of_root(ROOT, CERTIFICATE, GENESIS, INITECH)


def spelt(asked: Admit) -> str:
    return applying.MARK + base64.urlsafe_b64encode(cbor.encode(asked.fields()[1:])).decode().rstrip("=")


def refusal(text: str, genesis_hash: bytes = GENESIS) -> str:
    with pytest.raises(Refused) as caught:
        applying.read(text, genesis_hash)
    return caught.value.name


def test_an_application_is_exactly_the_motion_to_admit() -> None:
    asked = applying.read(f"  {MADE}\n", GENESIS)
    assert (asked.did, asked.root, asked.certificate) == (INITECH, multikey(ROOT.public), CERTIFICATE)
    assert MADE.startswith("mesh-application1-") and len(MADE.split()) == 1 and applying.text_of(asked) == MADE


def test_it_counts_in_one_mesh_for_one_organisation_and_one_key() -> None:
    asked = applying.read(MADE, GENESIS)
    assert refusal(MADE, OTHER) == "wrong-mesh"
    assert refusal(spelt(replace(asked, did=BETA))) == "application-malformed", "the certificate names another organisation"
    assert refusal(spelt(replace(asked, root=multikey(THIEF.public)))) == "application-malformed"
    theirs = replace(asked, root=multikey(THIEF.public), certificate=new_root(THIEF, INITECH, now=1_700_000_000))
    assert refusal(spelt(theirs)) == "wrong-mesh", "another's key did not sign it"
    assert refusal(spelt(replace(asked, certificate=b"x" * 400))) == "application-malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        MADE[:-5],
        MADE[1:],
        MADE[:60] + ("A" if MADE[60] != "A" else "B") + MADE[61:],
        MADE + "=",
        MADE + "A" * 9_000,
        applying.MARK,
        applying.MARK + "9g",
        applying.MARK + base64.urlsafe_b64encode(cbor.encode({"a": 1})).decode().rstrip("="),
        applying.MARK + base64.urlsafe_b64encode(cbor.encode([1, 2, 3, 4])).decode().rstrip("="),
        "mesh-agreement-1." + MADE.removeprefix(applying.MARK),
    ],
)
def test_what_was_cut_off_or_changed_is_none(text: str) -> None:
    assert refusal(text) in ("application-malformed", "wrong-mesh")


def test_the_command_makes_it_of_a_folder_with_a_root_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MESH_PASSPHRASE", "secret")
    at, genesis = tmp_path / "initech-1", tmp_path / "genesis.json"
    genesis.write_bytes(to_json(replace(folder.template(), mesh="other", time_ms=int(time.time() * 1000))))
    content = folder.read_genesis(genesis)
    assert main.run(["init", "--org", "initech", "--dir", str(at)]) == 0
    capsys.readouterr()
    assert main.run(["org", "apply", "--dir", str(at)]) == 2, "it has no genesis yet"
    assert "[cannot-read]" in capsys.readouterr().err
    assert main.run(["org", "apply", "--dir", str(at), "--genesis", str(genesis), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["org"], document["genesis"]) == ("mesh.org-apply/1", INITECH, content.hash.hex())
    assert applying.read(document["application"], content.hash).did == INITECH
    (at / folder.ROOT_FILE).rename(tmp_path / "elsewhere")
    assert main.run(["org", "apply", "--dir", str(at), "--genesis", str(genesis)]) == 2
    assert "[root-key-not-here]" in capsys.readouterr().err
