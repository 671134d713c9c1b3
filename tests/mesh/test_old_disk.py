"""A validator whose disk is not as it left it: put back to an old copy, or damaged. It does not vote on it, and the others go on."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshos.consensus.ledger.tree import TREE
from meshos.effects import Put
from meshos.protocols.ledger.port import LEDGER
from meshos.storage.level import LevelStore
from tests.mesh.conftest import Agents
from tests.mesh.testnet import Net, until

HURT = "delta"
OTHERS = ("alpha", "beta", "gamma")


@contextmanager
def stopped(net: Net) -> Iterator[Path]:
    """The folder of the node, killed; it runs again afterwards."""
    net.must("testnet", "kill", HURT)
    yield Path(net.node(HURT).dir)
    net.must("testnet", "start", HURT)


def copied(place: Path, to: Path) -> None:
    """All that lies in the folder; a socket is no file."""
    shutil.copytree(place, to, ignore=shutil.ignore_patterns("*.sock"))


def pay(net: Net, org: str, amount: int = 1) -> int:
    """The height of a transfer that is committed."""
    answer = net.ask(org, "POST", "/v1/transactions", {"transfer": {"to": net.node("alpha").did, "amount": str(amount)}})
    assert answer.body.get("outcome") == "committed", answer
    return int(answer.body["height"])


def head(net: Net, org: str = HURT) -> dict[str, object]:
    answer: dict[str, object] = net.ask(org, "GET", "/v1/ledger/head").body
    return answer


def signers(net: Net, height: int) -> list[str]:
    """Whose votes the block's certificate holds, as each of the others has it, sooner or later."""

    def said_by(org: str) -> list[str]:
        return until(lambda: net.ask(org, "GET", f"/v1/ledger/blocks/{height}").body.get("signedBy"), f"{org} never had it")

    return [signer for org in OTHERS for signer in said_by(org)]


@contextmanager
def tree_of(place: Path) -> Iterator[tuple[dict[bytes, bytes], Callable[[dict[bytes, bytes]], None]]]:
    """The nodes of the ledger's tree in the folder of a node that is stopped, and how to write them."""
    store = LevelStore(place / "data")
    ledger = store.prefixed(LEDGER)
    yield dict(ledger.scan(TREE)), lambda nodes: ledger.write([Put(key, value) for key, value in nodes.items()])
    store.close()


@pytest.fixture(scope="module")
def old(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the node's folder; blocks that it voted for have come since."""
    copy = tmp_path_factory.mktemp("old") / HURT
    with stopped(net) as place:
        copied(place, copy)
    until(lambda: head(net)["votes"], "it never voted again")
    until(lambda: net.node(HURT).did in signers(net, pay(net, "beta")), "it never voted")
    return copy


def test_a_disk_that_was_put_back_does_not_vote_and_the_newest_one_does_again(net: Net, old: Path, tmp_path: Path) -> None:
    newest = tmp_path / HURT
    with stopped(net) as place:
        place.rename(newest)
        copied(old, place)
    until(lambda: head(net)["silent"] == "disk-rolled-back", "nobody told it")
    assert "this node does not vote: disk-rolled-back" in net.must("ledger", "head", "--org", HURT)
    assert "does not vote: disk-rolled-back" in net.must("status", "--org", HURT)
    heights = [pay(net, org) for org in (*OTHERS, HURT)]
    until(lambda: head(net)["height"] == heights[-1], "it does not follow")
    assert not any(net.node(HURT).did in signers(net, height) for height in heights)
    assert head(net)["stateRoot"] == head(net, "alpha")["stateRoot"]
    with stopped(net) as place:
        shutil.rmtree(place)
        newest.rename(place)
    until(lambda: head(net)["votes"], "its newest disk knows of all its votes")
    until(lambda: net.node(HURT).did in signers(net, pay(net, "gamma")), "it never voted")


def test_a_damaged_database_is_refused_by_name_and_the_others_go_on(net: Net, agents: Agents, tmp_path: Path) -> None:
    newest = tmp_path / HURT
    with stopped(net) as place:
        copied(place, newest)
        log = max(place.glob("data/*.log"), key=lambda file: file.stat().st_size)
        data = bytearray(log.read_bytes())
        data[len(data) // 2] ^= 1
        log.write_bytes(data)
        refused = net.mesh("testnet", "start", HURT)
        assert refused.code != 0 and "[store-corrupt]" in refused.err, refused
        pay(net, "beta")
        shutil.rmtree(place)
        newest.rename(place)
    until(lambda: net.acquainted("alpha", HURT))
    until(lambda: head(net)["votes"], "it never voted again")


def test_a_state_that_does_not_add_up_is_noticed_and_not_voted_on(net: Net, agents: Agents) -> None:
    """What the database holds is whole to itself; the nodes of the ledger's tree are not what their parents say. They are mended where they
    lie: a copy of before would be an old one, since the node has voted until it noticed.
    """
    with stopped(net) as place, tree_of(place) as (nodes, write):
        write(dict.fromkeys(nodes, b"\0"))
    until(lambda: pay(net, "beta") and head(net)["silent"] == "state-corrupt", "it never noticed")
    assert "this node does not vote: state-corrupt" in net.must("ledger", "head", "--org", HURT)
    assert net.node(HURT).did not in signers(net, pay(net, "gamma"))
    with stopped(net) as place, tree_of(place) as (_, write):
        write(nodes)
    until(lambda: head(net)["votes"], "it never voted again")
    until(lambda: net.node(HURT).did in signers(net, pay(net, "gamma")), "it never voted")
