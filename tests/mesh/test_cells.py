"""A directory that its mesh has cut into cells: trained by one node, endorsed by the others on the ledger, asked through a killed node."""

from collections.abc import Iterator
from typing import Any

import pytest

from meshos.protocols.directory.cells.limits import CELLS_FROM
from tests.mesh.conftest import bring_up, decide, end
from tests.mesh.testnet import Net, until

THINGS = ("chess", "weather", "invoices", "photos", "trains", "music", "genomes", "recipes", "maps", "tides")
DOINGS = ("reads", "writes", "counts", "sorts", "draws", "plays", "predicts", "translates", "compares", "archives")
ORGS = ("alpha", "beta", "gamma", "delta")
SPREAD_S = 240.0
"""For two thousand records to be read by the model, sent to all and taken in, on a busy machine."""


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """A testnet whose directory is in cells."""
    folder = tmp_path_factory.mktemp("cells")
    try:
        net = bring_up(folder, 4)
        for part, org in enumerate(ORGS[:2]):
            net.publish(org, *map(card, range(part, CELLS_FROM, 2)))
        until(
            lambda: all(net.metrics(org).get("directory_records", 0) >= CELLS_FROM for org in ORGS),
            "the records are not everywhere",
            patience_s=SPREAD_S,
        )
        decide(net, {"directory-cells": 1})
        until(
            lambda: all(net.discover(org, "plays chess")["cellsAsked"] > 1 for org in ORGS),
            "the directory is still whole",
            patience_s=SPREAD_S,
        )
        until(lambda: all(net.discover(org, "plays chess")["complete"] for org in ORGS), "some cells are not answered for")
        yield net
    finally:
        end(folder)


def card(number: int) -> dict[str, object]:
    """Different in what it does, and with a word of its own."""
    thing, doing = THINGS[number % 10], DOINGS[number // 10 % 10]
    return {"name": f"agent-{number}", "description": f"{doing} {thing} number word{number:04}", "packages": []}


def names(answer: Any) -> list[str]:
    return [agent["name"] for agent in answer["agents"]]


def test_every_node_finds_the_same_in_a_few_cells(cut: Net) -> None:
    for number in (7, 404, 1999):
        found = [cut.discover(org, f"word{number:04} {THINGS[number % 10]}") for org in ORGS]
        assert all(answer["complete"] for answer in found)
        assert {names(answer)[0] for answer in found} == {f"agent-{number}"}


def test_every_node_says_in_how_many_cells_it_has_the_directory(cut: Net) -> None:
    for org in ORGS:
        directory = cut.ask(org, "GET", "/v1/status").body["directory"]
        assert directory["cells"] > 1 and directory["cellsFrom"] is None
        assert f"Records  {directory['records']} here, the directory is in {directory['cells']} cells" in cut.must("status", "--org", org)


def test_whoever_has_an_id_reaches_its_record_from_any_node(cut: Net) -> None:
    (agent, *_) = cut.discover("alpha", "word0404 trains")["agents"]
    for org in ORGS:
        assert cut.ask(org, "GET", f"/v1/agents/{agent['agentId']}").body["name"] == agent["name"]
        (shown, *_) = cut.discover(org, "word0404 trains")["agents"]  # what a node shows it knows by less, whoever holds it
        assert cut.ask(org, "GET", f"/v1/agents/{shown['agentId'][:10]}").body["name"] == shown["name"]


def test_every_node_explains_the_same_score_of_a_record_wherever_it_lies(cut: Net) -> None:
    query = "word0404 trains"
    (agent, *_) = cut.discover("alpha", query)["agents"]
    for org in ORGS:
        answer = cut.ask(org, "POST", f"/v1/explain/{agent['agentId']}", {"query": query})
        assert answer.status == 200, answer
        facts = answer.body["facts"]
        assert (facts["rank"], facts["cellAsked"]) == (1, True) and abs(facts["score"] - facts["fit"]) <= 1e-4
        assert agent["name"] in cut.must("explain", agent["agentId"], "--org", org)
    told = cut.must("explain", agent["agentId"], "--query", query, "--org", "gamma")
    assert f"cell {facts['cell']}, which was among" in told and "word0404 0." in told


def test_with_a_holder_killed_nothing_is_missing_and_what_comes_then_reaches_it_later(cut: Net) -> None:
    cut.must("testnet", "kill", "delta-1")
    answer = cut.discover("alpha", "word0007 recipes")
    assert answer["complete"] and names(answer)[0] == "agent-7"
    cut.publish("beta", {"name": "late", "description": "bakes zwieback in a wood oven", "packages": []})
    until(lambda: names(cut.discover("gamma", "zwieback in a wood oven"))[:1] == ["late"], "it is not found")
    cut.must("testnet", "start", "delta-1")
    until(lambda: names(cut.discover("delta", "zwieback in a wood oven"))[:1] == ["late"], "it is not found there")
