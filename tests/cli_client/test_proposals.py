"""What proposals, vote, and propose of a motion print, and how they end; the ledger's own word is in tests/mesh/test_motions.py."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli_client.conftest import Mesh


def moved(mesh: Mesh, folder: Path, what: str = "reinstate: did:mesh:enterprise:delta", *options: str) -> str:
    file = folder / "motion.yaml"
    file.write_text(what)
    ran = mesh("propose", str(file), *options)
    assert ran.code == 0, ran.err
    return ran.out.strip()


def test_a_motion_is_read_from_stdin(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stdin").write_text("parameters: {directory-cells: 1}\n")
    with (tmp_path / "stdin").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        ran = mesh("propose", "-", "--vote")
    assert ran.code == 0 and ran.err.startswith("ok moved: "), ran.err


def test_a_motion_is_moved_listed_shown_and_voted_on(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "motion.yaml"
    file.write_text("coordinator: {did: did:mesh:enterprise:delta, entitled: false}")
    ran = mesh("propose", str(file))
    id_, told = ran.out.strip(), ran.err.splitlines()
    assert told[0].startswith("ok moved: coordinator ")
    assert told[1] == "open: 3 of 4 organisations that vote carry it, 1 for it, 0 against; waits for beta, delta, gamma"
    assert told[2].startswith("it expires 2025-") and told[3] == f"Next, at each of these: mesh vote --proposal {id_[:8]} --choice for"
    listed = mesh("proposals")
    header, row = listed.out.splitlines()[0], next(line for line in listed.out.splitlines() if line.startswith(id_[:8]))
    assert header.split() == ["ID", "MOTION", "STATE", "BY", "FOR", "AGAINST", "NEEDED", "EXPIRES"]
    assert " open " in row and row.split("alpha", 1)[1].split()[:6] == ["1:", "alpha", "0", "3", "of", "4"]
    assert listed.err.strip().splitlines()[-1].startswith("Next mesh vote --proposal ")
    assert id_ in mesh("proposals", "-q").out.split()
    shown = mesh("proposals", id_[:8])
    assert f"{id_} is open" in shown.out and "waits    for beta, delta, gamma" in shown.out and "3 of 4 carry it" in shown.out
    voted = mesh("vote", "--proposal", id_[:8], "--choice", "for")
    assert (voted.code, voted.out) == (0, "carried\n") and f"ok the vote for {id_[:8]} (" in voted.err and "it is carried" in voted.err
    assert id_ not in mesh("proposals", "-q").out and id_ in mesh("proposals", "--all", "-q").out
    assert "is carried" in mesh("proposals", id_).out and " carried " in mesh("proposals", "--all").out


def test_answers_for_programs(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "motion.yaml"
    file.write_text("upgrade: {version: 2, height: 9000}")
    made = json.loads(mesh("propose", str(file), "--json").out)
    assert (made["schema"], made["motion"]) == ("mesh.propose/1", {"upgrade": {"version": 2, "height": 9000}})
    assert json.loads(mesh("proposals", "--json").out)["schema"] == "mesh.proposals/1"
    assert json.loads(mesh("proposals", made["id"], "--json").out)["schema"] == "mesh.proposal/1"
    done = json.loads(mesh("vote", "--proposal", made["id"], "--choice", "against", "--json").out)
    assert (done["schema"], done["state"]) == ("mesh.vote/1", "rejected")


def test_parameters_are_voted_on_only_where_that_is_said(mesh: Mesh, tmp_path: Path) -> None:
    id_ = moved(mesh, tmp_path, "parameters: {dispute-ms: 20000}", "--vote")
    assert id_ in mesh("proposals", "-q").out
    assert "[bad-proposal]" in mesh("propose", str(tmp_path / "motion.yaml")).err, "a decision needs a reason"
    (tmp_path / "motion.yaml").write_text("{reason: faster, parameters: {dispute-ms: 20000}}")
    decided = mesh("propose", str(tmp_path / "motion.yaml"))
    assert (decided.code, "ok proposed: dispute-ms = 20000" in decided.err) == (0, True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("reason: x\nreinstate: did:mesh:enterprise:delta", "reason-not-taken"),
        ("reason: x\nparameters: {dispute-ms: 20000}", "reason-not-taken"),
        ("quarantine: did:mesh:enterprise:delta", "bad-proposal"),
        ("reinstate: x\nupgrade: {version: 2, height: 9000}", "bad-proposal"),
        ("reinstate: x\ncolour: red", "bad-proposal"),
        ("reinstate: 2026-01-01", "bad-proposal"),
        ("upgrade: {version: 2, height: 1.5}", "bad-request"),
        ("coordinator: did:mesh:enterprise:delta", "bad-request"),
        ("- reinstate", "bad-proposal"),
        ("", "bad-proposal"),
    ],
)
def test_a_file_that_holds_no_motion_is_named(mesh: Mesh, tmp_path: Path, text: str, name: str) -> None:
    file = tmp_path / "motion.yaml"
    file.write_text(text)
    ran = mesh("propose", str(file), "--vote")
    assert (ran.code, ran.out, f"[{name}]" in ran.err) == (2, "", True), ran.err


def test_who_abstains_or_votes_on_nothing(mesh: Mesh, tmp_path: Path) -> None:
    id_ = moved(mesh, tmp_path)
    for choice in ("abstain", "maybe"):
        ran = mesh("vote", "--proposal", id_, "--choice", choice)
        assert ran.code == 2 and f"'{choice}' is not one of 'for', 'against';" in ran.err, ran
    assert "[no-such-proposal]" in mesh("vote", "--proposal", "ffffffff", "--choice", "for").err
    for id_ in ("", "a1/../b", "?state=open"):
        assert "[bad-proposal-id]" in mesh("vote", "--proposal", id_, "--choice", "for").err
    assert "[bad-proposal-id]" in mesh("proposals", "").err
    for words in (("--choice", "for"), ("--proposal", id_), ("--proposal", id_, "--choice", "yes")):
        assert "[usage]" in mesh("vote", *words).err
