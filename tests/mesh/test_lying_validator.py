"""A member that lies, in a testnet of its own. A flood of its account takes its share and no more. Two votes that it has signed convict it:
it loses its vote, and has it back once its node has another key and the organisations say so.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshos.consensus.ledger.limits import MAX_PENDING
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL
from meshos.consensus.pbft.messages import Relay
from meshos.consensus.pbft.relaying import RELAYED
from tests.mesh.conftest import bring_up, end
from tests.mesh.insider import Insider
from tests.mesh.testnet import Net, until

LIAR = "delta"
OTHERS = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def insider(four: Net) -> Insider:
    """In the place of the liar's node."""
    four.must("testnet", "kill", LIAR)
    return Insider(four, LIAR)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    folder = tmp_path_factory.mktemp("four")
    try:
        yield bring_up(folder, 4)
    finally:
        end(folder)


def head(net: Net, org: str) -> dict[str, object]:
    answer: dict[str, object] = net.ask(org, "GET", "/v1/ledger/head").body
    return answer


def org(net: Net, asked: str) -> dict[str, object]:
    """What the ledger says of the liar's organisation."""
    answer: dict[str, object] = net.ask(asked, "GET", f"/v1/ledger/orgs/{net.node(LIAR).did}").body
    return answer


def pay(net: Net, one: str) -> bool:
    """Whether a transfer of it is committed."""
    answer = net.ask(one, "POST", "/v1/transactions", {"transfer": {"to": net.node("beta").did, "amount": "1"}})
    return bool(answer.body.get("outcome") == "committed")


def to_the_next_checkpoint(net: Net) -> None:
    """Transfers, a block each, until the validators that were decided are in force; nobody waits for idle blocks."""
    now = head(net, "alpha")
    for _ in range(CHECKPOINT_INTERVAL - int(str(now["height"])) % CHECKPOINT_INTERVAL):
        assert pay(net, "alpha")
    until(lambda: head(net, "alpha")["epoch"] != now["epoch"], "the checkpoint never came")


def test_a_flood_of_one_account_is_cut_off_and_the_others_pay_as_before(four: Net, insider: Insider) -> None:
    """Each but the next: they have to wait for it, and it never comes."""
    flood = [insider.transfer(four.node("beta").did, nonce) for nonce in range(1, MAX_PENDING + RELAYED)]
    parts = [Relay(tuple(flood[at : at + RELAYED])) for at in range(0, len(flood), RELAYED)]
    most = MAX_PENDING - 1
    insider.say(*parts, until=lambda: all(head(four, one)["waiting"] == most for one in OTHERS))
    insider.say(*parts, until=lambda: pay(four, "gamma") and pay(four, "beta"))
    assert [head(four, one)["waiting"] for one in OTHERS] == [most] * 3


def test_who_signs_two_things_is_suspended_until_the_others_reinstate_it_with_another_key(
    four: Net, insider: Insider, tmp_path: Path
) -> None:
    place = Path(four.node(LIAR).dir)
    now = head(four, "alpha")
    height, view = int(str(now["height"])) + 1, int(str(now["view"]))
    two = [insider.vote("prepare", view, height, hash_ * 32) for hash_ in (b"\1", b"\2")]
    insider.say(*two, until=lambda: all(org(four, one).get("suspended") is True for one in OTHERS))

    motion = tmp_path / "reinstate.yaml"
    motion.write_text(f"reinstate: {four.node(LIAR).did}\n")
    burnt = four.mesh("propose", motion, "--org", "alpha")
    assert burnt.code != 0 and "[key-burnt]" in burnt.err, burnt

    to_the_next_checkpoint(four)
    four.must("testnet", "start", LIAR)
    until(lambda: head(four, LIAR)["height"] == head(four, "alpha")["height"], "it does not follow")
    assert head(four, LIAR)["votes"] is False
    assert "does not vote: validator-suspended" in four.must("ledger", "head", "--org", LIAR)
    assert "its vote does not count until the others give it back" in four.mesh("ledger", "org", "--org", LIAR).err

    four.must("testnet", "kill", LIAR)
    four.must("backup", tmp_path / "delta.backup", "--dir", place)
    place.rename(tmp_path / "convicted")
    restored = json.loads(four.must("restore", tmp_path / "delta.backup", "--dir", place, "--json"))
    four.must("testnet", "start", LIAR)
    four.must("org", "register", restored["agreement"], "--dir", place)
    id_ = four.must("propose", motion, "--org", "alpha").strip()
    for one, state in (("beta", "open\n"), ("gamma", "carried\n")):
        until(lambda one=one: four.ask(one, "GET", f"/v1/proposals/{id_}").status == 200)
        assert four.must("vote", "--proposal", id_[:8], "--choice", "for", "--org", one) == state
    assert org(four, "beta")["suspended"] is False
    to_the_next_checkpoint(four)
    until(lambda: head(four, LIAR)["votes"], "it never voted again")
