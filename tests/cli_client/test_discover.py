"""`mesh discover` beyond the question: what is left out, counted, weighed, paged, and agents that are like one."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_discover import Asked, _body, _next
from tests.cli_client.conftest import Mesh

LINES = (
    {"name": "Chess A", "description": "plays chess with people", "capabilities": ["chess", "analysis"], "region": "eu-1"},
    {"name": "Chess B", "description": "plays chess with machines", "capabilities": ["chess", "analysis"], "region": "us-1"},
    {"name": "Chess C", "description": "plays chess", "capabilities": ["chess"], "certifications": ["FIDE"], "region": "eu-1"},
    {"name": "Bare", "description": "plays go", "region": "eu-1"},
)


@pytest.fixture(autouse=True)
def ids(mesh: Mesh, tmp_path: Path) -> dict[str, str]:
    """The ids of the agents that are there, by name."""
    file = tmp_path / "agents.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in LINES))
    assert mesh("publish", str(file)).code == 0
    found = json.loads(mesh("discover", "plays chess go", "--limit", "100", "--json").out)
    return {row["name"]: row["agentId"] for row in found["agents"]}


def names(mesh: Mesh, *words: str) -> list[str]:
    ran = mesh("discover", *words, "--json")
    assert ran.code == 0, ran.err
    return [row["name"] for row in json.loads(ran.out)["agents"]]


def test_who_names_no_task_is_explained_next_not_called() -> None:
    target = Target(urlsplit("http://127.0.0.1:1"), "", "nowhere", options=" --org beta")
    assert _next([{"agentId": "a-0123456789abcdef", "tasks": []}], target) == "Next mesh explain a-01234567 --org beta"
    assert _next([{"agentId": "a-0123456789abcdef", "tasks": [{"name": "go"}]}], target).startswith("Next mesh call a-01234567 go ")


def test_what_is_excluded_is_left_out(mesh: Mesh) -> None:
    assert sorted(names(mesh, "plays chess", "--exclude-capability", "analysis")) == ["Bare", "Chess C"]
    assert sorted(names(mesh, "plays chess", "--exclude-region", "us-1", "--exclude-certification", "FIDE")) == ["Bare", "Chess A"]
    assert sorted(names(mesh, "plays chess", "--exclude-region", "us-1", "--exclude-region", "eu-1")) == []
    assert names(mesh, "plays chess", "--exclude-org", "did:mesh:enterprise:alpha") == []


def test_a_bound_of_zero_is_a_bound_and_what_was_not_said_is_not_sent() -> None:
    client = Client(Target(urlsplit("http://127.0.0.1:1"), "", "nowhere"))
    asked = Asked("chess", None, None, 3, {"maxLatency": 0.0, "region": None, "capabilities": []}, {"regions": None}, {"trust": 0.0})
    assert _body(client, asked) == {"query": "chess", "limit": 3, "filters": {"maxLatency": 0.0}}


def test_facets_are_a_second_table_and_only_where_they_are_wanted(mesh: Mesh) -> None:
    ran = mesh("discover", "plays chess", "--limit", "1", "--facets", "--capability", "chess")
    agents, facets = ran.out.split("\n\n")
    assert len(agents.splitlines()) == 2
    rows = [line.split() for line in facets.splitlines()]
    assert rows[0] == ["FACET", "VALUE", "AGENTS"] and ["capability", "analysis", "2"] in rows and ["region", "us-1", "1"] in rows
    assert "Counted over 3 agents that fulfil the filters" in ran.err
    assert "FACET" not in mesh("discover", "plays chess").out
    nothing = mesh("discover", "plays chess", "--facets", "--capability", "knitting")
    assert nothing.out == "none\n" and "Counted over 0 agents" in nothing.err
    assert len(mesh("discover", "plays chess", "--facets", "-q", "--limit", "2").out.split()) == 2


def test_pages_follow_one_another(mesh: Mesh) -> None:
    whole, shown, words = names(mesh, "plays chess"), [], ["discover", "plays chess", "--limit", "1", "--json"]
    first = mesh("discover", "plays chess", "--limit", "1")
    cursor = json.loads(mesh(*words).out)["cursor"]
    assert first.err.endswith(f"There are more: the same command with --cursor {cursor}\n")
    while True:
        answer = json.loads(mesh(*words).out)
        shown += [row["name"] for row in answer["agents"]]
        if answer["cursor"] is None:
            break
        words = ["discover", "plays chess", "--limit", "1", "--json", "--cursor", answer["cursor"]]
    assert shown == whole and len(whole) == 4 and "--cursor" not in mesh("discover", "plays chess").err
    wrong = mesh("discover", "plays chess", "--cursor", "nonsense")
    assert (wrong.code, wrong.out) == (2, "") and "[bad-cursor]" in wrong.err
    assert mesh("discover", "plays chess", "--cursor", "").code == 2, "an empty cursor is none, and not the first page"


def test_related_agents_and_substitutes(mesh: Mesh, ids: dict[str, str]) -> None:
    assert set(names(mesh, "--related", ids["Chess A"][:12])) == {"Chess B", "Chess C", "Bare"}
    assert names(mesh, "--substitute", ids["Chess A"][:12]) == ["Chess B"]
    assert names(mesh, "--substitute", ids["Chess A"], "--exclude-region", "us-1") == []
    bare = mesh("discover", "--substitute", ids["Bare"])
    assert bare.code == 0 and "Bare names no capabilities" in bare.err
    assert "[no-such-agent]" in mesh("discover", "--related", "a-0123456789abcdef").err
    for words in (["chess", "--related", ids["Bare"]], ["--related", ids["Bare"], "--substitute", ids["Bare"]], []):
        ran = mesh("discover", *words)
        assert (ran.code, ran.out) == (2, "") and "[usage]" in ran.err


def test_weights_are_passed_on_and_bounded(mesh: Mesh) -> None:
    assert names(mesh, "plays chess", "--weigh-trust", "0.5", "--weigh-latency", "1", "--weigh-price", "0.2")
    for option in ("--weigh-trust", "--weigh-latency", "--weigh-price"):
        assert mesh("discover", "chess", option, "1.5").code == 2
        assert mesh("discover", "chess", option, "heavy").code == 2


def test_agents_that_are_alike_are_one_and_all_of_them_if_wanted(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "copies.jsonl"
    file.write_text("\n".join(json.dumps(LINES[2] | {"name": f"Chess C copy {number}"}) for number in range(7)))
    assert mesh("publish", str(file)).code == 0
    ran = mesh("discover", "plays chess")
    assert "+7 alike" in ran.out and "the same command with --all shows each" in ran.err and len(ran.out.splitlines()) == 5
    ran = mesh("discover", "plays chess", "--all", "--limit", "20")
    assert "alike" not in ran.out and "--all" not in ran.err and len(ran.out.splitlines()) == 12
