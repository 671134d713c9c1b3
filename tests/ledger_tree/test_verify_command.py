"""``mesh ledger verify``: a file and genesis.json, no node."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meshos import cbor
from meshos.consensus.ledger.light_client import encode_bundle
from meshos.genesis import to_json
from meshos.node.cli import main
from tests.ledger_tree.test_light_client import GENESIS, GOOD, bundle_of, chain_of


@pytest.fixture(autouse=True)
def mesh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the command is run, with the genesis of the mesh and a good proof in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genesis.json").write_bytes(to_json(GENESIS))
    (tmp_path / "good.proof").write_bytes(encode_bundle(GOOD))


def test_a_good_proof_says_what_it_proves_and_when(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["ledger", "verify", "good.proof"]) == 0
    printed = capsys.readouterr()
    assert "key     account/7\n" in printed.out and "after block 4" in printed.out
    assert printed.err.endswith("ok 5 of 7 validators of epoch 2 signed; 5 are enough\n")


def test_the_document_holds_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["ledger", "verify", "good.proof", "--genesis", "genesis.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mesh.ledger-verify/1" and found["ok"] is True
    assert found["valueHex"] == (GOOD.value or b"").hex() and found["header"]["hash"] == GOOD.signed.header.hash.hex()
    assert len(found["signers"]) == found["quorum"] == 5


def test_absence_and_a_readable_value_are_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    Path("absent.proof").write_bytes(encode_bundle(bundle_of(chain_of(), b"nobody", None)))
    assert main.run(["ledger", "verify", "absent.proof"]) == 0
    assert "none: it is proven that the ledger has nothing under this key" in capsys.readouterr().out
    from meshos.consensus.ledger import tree
    from tests.ledger_tree.states import Memory

    view, value = Memory(), cbor.encode([1, "two", b"\3"])
    chain, root = chain_of(), view.change({b"account": value})
    Path("value.proof").write_bytes(
        encode_bundle(chain.bundle(chain.signed(chain.header(root)), b"account", value, tree.prove(view, b"account")))
    )
    assert main.run(["ledger", "verify", "value.proof"]) == 0
    assert 'value   [1, "two", "03"]' in capsys.readouterr().out


def test_a_lie_ends_with_no_and_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.proof").write_bytes(encode_bundle(replace(GOOD, value=b"more")))
    assert main.run(["ledger", "verify", "bad.proof"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "(bad-proof)" in printed.err and printed.err.endswith("[not-proven]\n")
    assert main.run(["ledger", "verify", "bad.proof", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["name"]) == (False, "bad-proof")


def test_a_file_of_another_mesh_or_none_at_all_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.json").write_bytes(to_json(replace(GENESIS, mesh="other")))
    assert main.run(["ledger", "verify", "good.proof", "--genesis", "other.json"]) == 1
    assert "(wrong-genesis)" in capsys.readouterr().err
    assert main.run(["ledger", "verify", "missing.proof"]) == 2
    assert capsys.readouterr().err.endswith("[cannot-read]\n")


@pytest.mark.parametrize("data", [b"", b"no proof", b"{}", cbor.encode([1, 2]), encode_bundle(GOOD)[:-1], encode_bundle(GOOD) + b"x"])
def test_a_file_that_is_no_proof_is_called_that(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("some.file").write_bytes(data)
    assert main.run(["ledger", "verify", "some.file"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "some.file is no proof of the ledger's state" in printed.err and printed.err.endswith("[no-proof]\n")
