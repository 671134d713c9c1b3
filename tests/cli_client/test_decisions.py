"""What approvals, propose, approve and reject print, and how they end; the ledger's own word is in tests/mesh/test_approvals.py."""

import json
from pathlib import Path

import pytest

from tests.cli_client.conftest import Mesh


def proposed(mesh: Mesh, folder: Path, what: str = "quarantine: did:mesh:enterprise:delta") -> str:
    file = folder / "decision.yaml"
    file.write_text(f"reason: it answers wrongly\n{what}\n")
    ran = mesh("propose", str(file))
    assert ran.code == 0, ran.err
    assert "ok proposed: " in ran.err and "open: approved by 1 of 2 needed (alpha)" in ran.err
    return ran.out.strip()


def test_a_decision_is_proposed_listed_and_approved(mesh: Mesh, tmp_path: Path) -> None:
    id_ = proposed(mesh, tmp_path)
    listed = mesh("approvals")
    row = next(line for line in listed.out.splitlines() if line.startswith(id_[:8]))
    assert row.split()[:9] == [id_[:8], "quarantine", "delta", "90", "open", "1", "of", "2:", "alpha"] and row.endswith(
        "alpha  it answers wrongly"
    )
    assert listed.err.strip().splitlines()[-1].startswith("Next mesh approve ")
    assert id_ in mesh("approvals", "-q").out.split()
    approved = mesh("approve", id_[:8], "--reason", "so it is")
    assert (approved.code, approved.out) == (0, "executed\n") and f"ok approve of {id_[:8]} (quarantine delta)" in approved.err
    assert id_ not in mesh("approvals", "-q").out and id_ in mesh("approvals", "--all", "-q").out


def test_a_decision_is_rejected_with_a_reason(mesh: Mesh, tmp_path: Path) -> None:
    id_ = proposed(mesh, tmp_path, "parameters: {dispute-ms: 20000}")
    assert "dispute-ms = 20000" in mesh("approvals").out
    assert "[usage]" in mesh("reject", id_).err
    document = json.loads(mesh("reject", id_, "--reason", "no", "--json").out)
    assert (document["schema"], document["state"]) == ("mesh.reject/1", "rejected")
    assert "[no-such-decision]" in mesh("approve", "ffffffff").err


@pytest.mark.parametrize("text", ["", "reason: x", "quarantine: y", "reason: [x]\nlift: y", "- a", "{", "\x00", "reason: x\n\tlift: y"])
def test_a_file_that_holds_no_decision_is_named(mesh: Mesh, tmp_path: Path, text: str) -> None:
    file = tmp_path / "decision.yaml"
    file.write_text(text)
    ran = mesh("propose", str(file))
    assert (ran.code, ran.out) == (2, "") and "[bad-proposal]" in ran.err
    assert mesh("propose", "nowhere.yaml").code == 2


def test_a_key_that_is_not_there_or_not_a_persons(mesh: Mesh, tmp_path: Path) -> None:
    id_ = proposed(mesh, tmp_path)
    ran = mesh("approve", id_, "--key", "nobody.key")
    assert (ran.code, "[no-keys]" in ran.err) == (2, True)
    assert mesh("reject", id_, "--key", "nobody.key", "--reason", "two\nlines").code == 2
    assert mesh("pause", "--reason", "x").code == 2, "only a person pauses"


def test_what_is_in_quarantine_is_listed_and_lifted(mesh: Mesh, tmp_path: Path) -> None:
    for name in ("beta", "gamma"):
        mesh("approve", proposed(mesh, tmp_path, f"quarantine: did:mesh:enterprise:{name}"), "--reason", "so it is")
    assert {"did:mesh:enterprise:beta", "did:mesh:enterprise:gamma"} <= set(mesh("quarantine", "list", "-q").out.split()), "of two pages"
    listed = mesh("quarantine", "list")
    row = next(line for line in listed.out.splitlines() if line.startswith("did:mesh:enterprise:beta"))
    assert "organisation" in row and row.endswith("several") and "in quarantine at block 1" in listed.err
    document = json.loads(mesh("quarantine", "list", "--json").out)
    assert document["schema"] == "mesh.quarantine-list/1" and document["more"] is False and len(document["quarantined"]) >= 2
    lifted = json.loads(mesh("quarantine", "lift", "did:mesh:enterprise:beta", "--reason", "it is mended", "--json").out)
    assert (lifted["action"], lifted["reason"], lifted["state"]) == ({"lift": "did:mesh:enterprise:beta"}, "it is mended", "open")
    assert "[usage]" in mesh("quarantine", "lift", "did:mesh:enterprise:beta").err
