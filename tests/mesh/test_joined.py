"""What becomes of an organisation that has joined: it moves to another address, takes another root key, leaves, comes back, is expelled."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshos.node.config import FILE, load
from tests.mesh.conftest import Agents, vote_for
from tests.mesh.joiner import Joiner
from tests.mesh.testnet import Net, until

DID = "did:mesh:enterprise:wanderer"
FOUNDERS = ("alpha", "beta", "gamma", "delta")
ELSEWHERE = "127.0.0.2"


@pytest.fixture(scope="module")
def wanderer(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joiner]:
    joiner = Joiner("wanderer", tmp_path_factory.mktemp("wanderer") / "node", net.node("beta").p2p[0])
    try:
        joiner.begin()
        yield joiner
    finally:
        joiner.end()


def row(net: Net, org: str, name: str = "wanderer-1") -> dict[str, Any]:
    """What the founder's node knows of it."""
    members = net.ask(org, "GET", "/v1/members").body["members"]
    return next((member for member in members if member["name"] == name and member["state"] == "alive"), {})


def calls(joiner: Joiner, agents: Agents) -> bool:
    answer = json.loads(joiner.mesh("call", agents.echo, "echo", "--data", '{"text": "here"}', "--json"))
    return bool(answer["status"] == "completed" and answer["receipt"]["callerOrg"] == DID)


def test_it_moves_to_another_address_which_all_learn(wanderer: Joiner, net: Net, agents: Agents) -> None:
    until(lambda: all(row(net, org) for org in FOUNDERS), "it was never seen")
    wanderer.end()
    file = wanderer.place / FILE
    file.write_text(re.sub(r'(?m)^listen = "127\.0\.0\.1:8([234])', rf'listen = "{ELSEWHERE}:8\1', file.read_text()))
    moved = load(wanderer.place)
    assert {moved.gossip.host, moved.link.host} == {ELSEWHERE} and moved.api.host == "127.0.0.1"
    wanderer.begin()
    until(lambda: all(str(moved.link) in row(net, org).get("addresses", []) for org in FOUNDERS), "somebody has not heard where it is")
    assert calls(wanderer, agents)


def test_it_takes_another_root_key(wanderer: Joiner, net: Net, agents: Agents) -> None:
    here = ("--dir", str(wanderer.place))
    begun = json.loads(wanderer.mesh("org", "rotate-root", *here, "--json"))
    assert begun["waiting"] == []
    done = json.loads(wanderer.mesh("org", "rotate-root", "--commit", *here, "--json"))
    assert done["committed"] is True
    assert net.ask("alpha", "GET", f"/v1/ledger/orgs/{DID}").body["root"] == begun["next"]
    until(lambda: not (wanderer.place / "certificate.next.pem").exists(), "it has not swapped its certificate")
    until(lambda: all(row(net, org) for org in FOUNDERS), "they have parted")
    assert calls(wanderer, agents)


def test_with_the_new_root_key_it_is_the_member_that_it_was(wanderer: Joiner, agents: Agents) -> None:
    wanderer.end()
    assert wanderer.begin()["ready"] is True
    assert calls(wanderer, agents)


def test_it_leaves_and_comes_back_when_people_vote_for_it(wanderer: Joiner, net: Net, agents: Agents) -> None:
    wanderer.mesh("wallet", "close")
    until(lambda: not net.ask("alpha", "GET", f"/v1/ledger/orgs/{DID}").body["tabs"], "its tabs stay open")
    wanderer.mesh("org", "leave", "--dir", str(wanderer.place), "--yes")
    until(lambda: not any(row(net, org) for org in FOUNDERS), "it has left, and is there")
    wanderer.end()
    again(wanderer, net)
    until(lambda: all(row(net, org) for org in FOUNDERS), "it is not back")
    assert calls(wanderer, agents), "with what it had left in its account"


def test_it_is_expelled_and_comes_back_when_people_vote_for_it(wanderer: Joiner, net: Net, agents: Agents, tmp_path: Path) -> None:
    motion = tmp_path / "expel.yaml"
    motion.write_text(f"expel: {DID}\n")
    vote_for(net, net.must("propose", motion, "--org", "alpha").strip())
    until(lambda: not any(row(net, org) for org in FOUNDERS), "it is expelled, and is there")
    problem = "waits for admission"
    until(lambda: problem in wanderer.status(), "it does not know that it is no member")
    wanderer.end()
    again(wanderer, net)
    assert calls(wanderer, agents)


def again(joiner: Joiner, net: Net) -> None:
    """From a fresh folder, as its keys are retired: refused, voted for, and admitted by the same command."""
    joiner.place = joiner.place.with_name(f"{joiner.place.name}-again")
    assert "[admission-by-vote]" in joiner.refused()
    motion = joiner.place / "motion.yaml"
    motion.write_text(f"admit: {(joiner.place / 'application.txt').read_text()}")
    vote_for(net, net.must("propose", motion, "--org", "alpha").strip())
    assert joiner.begin()["ready"] is True
