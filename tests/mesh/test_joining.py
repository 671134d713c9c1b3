"""A stranger with an empty folder joins the mesh with one command, calls, goes, and comes back."""

import json
import socket
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
        (["--genesis-hash", "00" * 8], "usage"),
        (["--kind", "planet"], "bad-org"),
        (["--org", "alpha"], "org-exists"),
    ],
)
def test_what_cannot_be_joined_is_refused_before_anything_is_made(net: Net, tmp_path: Path, words: list[str], name: str) -> None:
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


@pytest.mark.parametrize(
    ("words", "what"),
    [(["--org", "other"], "org is"), (["--name", "j-9"], "name is"), (["--host", "192.0.2.1"], "host is"), (["--leaf"], "leaf is false")],
)
def test_what_is_said_of_a_folder_that_says_something_else_is_refused(joiner: Joiner, words: list[str], what: str) -> None:
    done = mesh("join", joiner.address, *words, "--dir", joiner.place, cwd=joiner.place.parent)
    assert "[node-differs]" in done.err and what in done.err, done


def test_a_folder_of_another_mesh_is_refused_before_anybody_is_asked(joiner: Joiner) -> None:
    done = mesh("join", "127.0.0.1:9", "--genesis-hash", "00" * 32, "--dir", joiner.place, cwd=joiner.place.parent)
    assert "[wrong-genesis]" in done.err, done


def test_without_its_udp_port_it_goes_on_over_tcp_and_says_so(joiner: Joiner, net: Net, agents: Agents) -> None:
    joiner.end()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        link = load(joiner.place).link
        taken.bind((link.host, link.port))
        assert joiner.begin()["ready"] is True
        assert "TCP only" in joiner.status()
        assert joiner.mesh("call", agents.echo, "echo", "--data", '{"text": "over TCP"}').strip()
    joiner.end()
    joiner.begin()
    assert "TCP only" not in joiner.status()


def test_where_people_vote_it_hands_over_an_application_and_where_members_invite_it_takes_an_invitation(
    net: Net, by_vote: None, tmp_path: Path
) -> None:
    beta = net.node("beta")
    words = ["join", beta.p2p[0], "--org", "guest", "--dir", tmp_path / "node", "--no-run"]
    refused = mesh(*words, cwd=tmp_path)
    assert refused.code == 4 and "[admission-by-vote]" in refused.err
    application = tmp_path / "node" / "application.txt"
    assert application.read_text().startswith("mesh-application1-"), "its keys are kept, and what they have signed"
    application.unlink()
    decide(net, {"admission": BY_INVITATION})
    assert "[not-invited]" in mesh(*words, cwd=tmp_path).err
    invited = net.must("org", "invite", "--guest", f"@{application}", "--dir", beta.dir).strip()
    thief = ["join", beta.p2p[0], "--org", "guest", "--dir", tmp_path / "thief", "--no-run"]
    assert "[not-invited]" in mesh(*thief, "--invitation", invited, cwd=tmp_path).err, "it is for another root key"
    done = mesh(*words, "--invitation", invited, "--json", cwd=tmp_path)
    assert done.code == 0 and json.loads(done.out)["org"] == "did:mesh:enterprise:guest", done
    assert mesh(*words, cwd=tmp_path).code == 0, "who is a member already needs no invitation"
