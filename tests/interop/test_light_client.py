"""The light client in TypeScript, written from docs/reference/wire.md alone, on the vectors and on proofs of a mesh that runs."""

import json
from pathlib import Path

from meshos.node import folder as files
from meshos.node.config import load
from tests.interop import programs
from tests.mesh.testnet import Net

VECTORS = programs.ROOT / "tests" / "vectors"


def rows(name: str) -> int:
    """How many rows a file of vectors has, of a part ``file.part``."""
    file, part = name.split(".")
    return len(json.loads((VECTORS / f"{file}.json").read_text(encoding="utf-8"))[part])


def test_it_agrees_with_every_vector() -> None:
    said, code = programs.run([*programs.light_client("test/vectors"), str(VECTORS)])
    assert code == 0
    floats = said.pop("cbor.values") - rows("cbor.values")
    assert -6 < floats < 0, "it reads all values but the floating-point numbers"
    assert said.pop("genesis.genesis") == 1
    assert said == {name: rows(name) for name in said} and len(said) >= 14


def test_it_proves_what_a_running_mesh_says(net: Net, tmp_path: Path) -> None:
    genesis = load(Path(net.node("alpha").dir)).genesis
    verify = programs.light_client("src/verify")
    for number, key in enumerate((f"account/{net.node('alpha').did}", "account/did:mesh:enterprise:nobody", f"org/{net.node('beta').did}")):
        file = tmp_path / f"{number}.proof"
        net.must("ledger", "proof", key, "--out", file, "--org", "beta")
        said, code = programs.run([*verify, str(genesis), str(file), files.read_genesis(genesis).hash.hex()])
        ours = json.loads(net.must("ledger", "verify", file, "--genesis", genesis, "--json"))
        assert code == 0 and said["ok"] and bytes.fromhex(said["key"]).decode() == key
        assert (said["height"], (said["value"] is not None)) == (ours["height"], ours["present"])
        assert len(said["signers"]) >= 3


def test_it_refuses_a_proof_that_was_changed_and_another_genesis(net: Net, tmp_path: Path) -> None:
    genesis = load(Path(net.node("alpha").dir)).genesis
    verify, file = programs.light_client("src/verify"), tmp_path / "one.proof"
    net.must("ledger", "proof", f"account/{net.node('alpha').did}", "--out", file, "--org", "alpha")
    good = file.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 12)):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        said, code = programs.run([*verify, str(genesis), str(file)])
        assert code == 1 and not said["ok"] and said["name"], at
    file.write_bytes(good)
    said, code = programs.run([*verify, str(VECTORS / "given" / "first.genesis.json"), str(file)])
    assert (code, said["name"]) == (1, "wrong-genesis")
    said, code = programs.run([*verify, str(genesis), str(file), "00" * 32])
    assert (code, said["name"]) == (1, "wrong-genesis")
