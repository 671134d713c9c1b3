"""A stranger with an empty folder joins the mesh with one command, calls, goes, and comes back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshos.consensus.ledger.parameters import BY_INVITATION
from meshos.node.config import FILE, load
from tests.mesh.conftest import Agents, decide
from tests.mesh.joiner import Joiner
from tests.mesh.testnet import Net, mesh

GUEST = "did:mesh:enterprise:joiner"


@pytest.fixture(scope="module")
def joiner(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joiner]:
    joiner = Joiner("joiner", tmp_path_factory.mktemp("joiner") / "node", net.node("beta").p2p[0])
    try:
        yield joiner
    finally:
        joiner.end()


def test_one_command_from_an_empty_folder_to_the_first_call(joiner: Joiner, agents: Agents) -> None:
    told = joiner.begin()
    assert (told["org"], told["ready"]) == (GUEST, True)
    answer = json.loads(joiner.mesh("call", agents.echo, "echo", "--data", '{"text": "from outside"}', "--json"))
    assert answer["status"] == "completed" and answer["receipt"]["callerOrg"] == GUEST
    assert json.loads(joiner.mesh("wallet", "balance", "--json"))["balance"], "it was given something to begin with"


def test_given_again_it_goes_on_where_it_was(joiner: Joiner, agents: Agents) -> None:
    joiner.end()
    node = load(joiner.place).name
    assert joiner.begin()["name"] == node
    assert joiner.mesh("call", agents.echo, "echo", "--data", '{"text": "again"}').strip()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--genesis-hash", "00" * 32], "wrong-genesis"),
        (["--genesis-hash", "xyz"], "usage"),
        (["--kind", "planet"], "bad-org"),
        (["--org", "alpha"], "org-exists"),
    ],
)
def test_what_cannot_be_joined_leaves_nothing_behind(net: Net, tmp_path: Path, words: list[str], name: str) -> None:
    address = net.node("alpha").p2p[0]
    org = [] if "--org" in words else ["--org", "nobody"]
    done = mesh("join", address, *org, *words, "--dir", tmp_path / "node", cwd=tmp_path)
    assert done.code != 0 and f"[{name}]" in done.err
    assert not (tmp_path / "node" / FILE).exists()


def test_a_square_with_another_key_than_the_address_says_is_refused_and_the_next_address_is_tried(net: Net, tmp_path: Path) -> None:
    alpha, beta = net.node("alpha"), net.node("beta")
    wrong = alpha.p2p[0].replace(alpha.node_id, beta.node_id)
    words = ["--org", "alpha", "--dir", tmp_path / "node"]
    done = mesh("join", wrong, *words, cwd=tmp_path)
    assert "[square-bad-handshake]" in done.err, done
    done = mesh("join", wrong, beta.p2p[0], *words, cwd=tmp_path)
    assert "[org-exists]" in done.err, done


def test_where_people_vote_it_hands_over_an_application_and_where_members_invite_it_takes_an_invitation(
    net: Net, by_vote: None, tmp_path: Path
) -> None:
    beta = net.node("beta")
    words = ["join", beta.p2p[0], "--org", "guest", "--dir", tmp_path / "node", "--no-run"]
    refused = mesh(*words, cwd=tmp_path)
    assert refused.code == 4 and "[admission-by-vote]" in refused.err
    assert (tmp_path / "node" / "application.txt").read_text().startswith("mesh-application1-")
    decide(net, {"admission": BY_INVITATION})
    assert "[not-invited]" in mesh(*words, cwd=tmp_path).err
    invited = net.must("org", "invite", "--guest", "did:mesh:enterprise:guest", "--dir", beta.dir).strip()
    other = net.must("org", "invite", "--guest", "did:mesh:enterprise:somebody", "--dir", beta.dir).strip()
    assert "[not-invited]" in mesh(*words, "--invitation", other, cwd=tmp_path).err
    done = mesh(*words, "--invitation", invited, "--json", cwd=tmp_path)
    assert done.code == 0 and json.loads(done.out)["org"] == "did:mesh:enterprise:guest", done
    assert mesh(*words, cwd=tmp_path).code == 0, "who is a member already needs no invitation"
