"""POST /v1/discover over real sockets, in front of a real directory: the body's meaning, the answer's form, refusals by name."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio

from meshos.ids import AgentId, agent_id
from meshos.node.api.app import build
from meshos.node.api.keys import KeyRing
from meshos.node.api.server import Listen, serve
from meshos.node.api.shapes import Caller, Discovered, DiscoverQuery, Explanation
from meshos.node.facade import discovering, explaining
from meshos.protocols.directory.explaining import ScoreAsked
from meshos.protocols.directory.parts import Measured
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.services import EXPLAIN
from tests.api.memory_node import MemoryNode
from tests.directory.world import Mesh, org

PROFILES = (
    Profile("chess one", "Plays chess against people.", capabilities=("chess", "analysis"), region="eu-1", per_query=2_000_000),
    Profile("chess two", "Plays chess against machines.", capabilities=("Chess", "Analysis"), certifications=("FIDE",), region="us-1"),
    Profile("chess three", "Plays chess quickly.", capabilities=("chess",), region="eu-1"),
    Profile("clock", "Tells the time in any city.", capabilities=("time",)),
)
IDS = {profile.name: agent_id(org(0), profile.name) for profile in PROFILES}


@dataclass(slots=True)
class DirectoryNode(MemoryNode):
    """A memory node whose agents are found by the directory of a node in the simulator."""

    mesh: Mesh = field(default_factory=lambda: Mesh(71, nodes=1))

    async def discover(self, query: DiscoverQuery, caller: Caller) -> Discovered:
        answer = self.mesh.discover(0, discovering.request_of(query, query.related))
        return discovering.discovered(answer, embeddings=query.embeddings)

    async def explain_score(self, agent_id: AgentId, query: DiscoverQuery, caller: Caller) -> Explanation:
        request = discovering.request_of(query, None)
        flow = self.mesh.start(0, EXPLAIN, ScoreAsked(agent_id, request))
        self.mesh.run(1.0)
        return explaining.score(self.mesh.outcome(flow), request.weigh)


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks the API as a caller."""

    client: httpx.AsyncClient

    async def __call__(self, status: int = 200, **body: object) -> Any:
        answer = await self.client.post("/v1/discover", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
async def asked(nursery: trio.Nursery) -> AsyncIterator[tuple[DirectoryNode, Ask]]:
    node, ring = DirectoryNode(), KeyRing()
    node.mesh.publish(0, *PROFILES)
    key = ring.mint("caller", "caller")
    url = await nursery.start(lambda task_status: serve(build(node, ring), Listen(), task_status=task_status))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        yield node, Ask(client)
    nursery.cancel_scope.cancel()


def names(answer: Any) -> list[str]:
    return [one["name"] for one in answer["agents"]]


async def test_negative_filters_leave_out_what_has_one_of_them(asked: tuple[DirectoryNode, Ask]) -> None:
    _, ask = asked
    for exclude, left in (
        ({"capabilities": ["ANALYSIS"]}, {"chess three", "clock"}),
        ({"certifications": ["fide"]}, {"chess one", "chess three", "clock"}),
        ({"regions": ["EU-1", "us-1"]}, {"clock"}),
        ({"organisations": [org(0)]}, set()),
        ({"organisations": [org(1)]}, set(IDS)),
        ({"capabilities": ["time"], "regions": ["us-1"]}, {"chess one", "chess three"}),
    ):
        assert set(names(await ask(query="chess", filters={"exclude": exclude}))) == left, exclude
    both = {"region": "eu-1", "exclude": {"capabilities": ["analysis"]}}
    assert names(await ask(query="chess", filters=both)) == ["chess three"]


async def test_openapi_says_all_that_the_body_takes(asked: tuple[DirectoryNode, Ask]) -> None:
    _, ask = asked
    document = (await ask.client.get("/openapi.json")).json()
    body = document["components"]["schemas"]["DiscoverBody"]["properties"]
    assert {"query", "related", "filters", "weigh", "facets", "limit", "cursor", "collapse", "embeddings", "idempotencyKey"} == set(body)
    exclude = document["components"]["schemas"]["ExcludeBody"]["properties"]
    assert {"capabilities", "certifications", "regions", "organisations"} == set(exclude)


async def test_facets_are_there_when_they_are_asked_for(asked: tuple[DirectoryNode, Ask]) -> None:
    _, ask = asked
    assert "facets" not in await ask(query="chess")
    found = await ask(query="chess", limit=1, facets=True, filters={"capabilities": ["chess"]})
    assert len(found["agents"]) == 1 and found["facets"] == {
        "agents": 3,
        "capabilities": [{"value": "chess", "agents": 3}, {"value": "analysis", "agents": 2}],
        "certifications": [{"value": "fide", "agents": 1}],
        "regions": [{"value": "eu-1", "agents": 2}, {"value": "us-1", "agents": 1}],
    }


async def test_pages_go_on_and_end(asked: tuple[DirectoryNode, Ask]) -> None:
    _, ask = asked
    whole = await ask(query="plays chess", limit=100)
    assert whole["cursor"] is None and len(whole["agents"]) == 4
    shown, cursor = [], None
    for _ in range(4):
        page = await ask(query="plays chess", limit=1, **({} if cursor is None else {"cursor": cursor}))
        shown += names(page)
        cursor = page["cursor"]
    assert shown == names(whole) and cursor is None
    at = (await ask(query="plays chess", limit=1))["cursor"]
    refused = await ask(400, query="something else", cursor=at)
    assert (refused["name"], refused["outcome"], refused["exit"]) == ("bad-cursor", "not_done", 2) and refused["hint"]
    assert (await ask(400, query="plays chess", cursor="nonsense"))["name"] == "bad-cursor"
    assert (await ask(400, query="plays chess", cursor=at, weigh={"trust": 0.5}))["name"] == "bad-cursor"


async def test_weights_move_what_is_measured_to_be_better(asked: tuple[DirectoryNode, Ask]) -> None:
    node, ask = asked
    told = {IDS["chess three"]: Measured(99.0, 9, 1.0, 20.0)}
    node.mesh.parts[node.mesh.ids[0]].measures = lambda agent: told.get(agent, Measured(30.0, 9, 1.0, 3000.0))
    plain = await ask(query="plays chess against people")
    assert names(plain)[0] == "chess one"
    weighed = await ask(query="plays chess against people", weigh={"trust": 1, "latency": 0.5})
    assert names(weighed)[0] == "chess three" and {"trust 99", "20 ms"} <= set(weighed["agents"][0]["matched"])
    scores = [one["score"] for one in weighed["agents"]]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)


async def test_related_agents_and_substitutes(asked: tuple[DirectoryNode, Ask]) -> None:
    _, ask = asked
    found = await ask(related=IDS["chess one"])
    assert set(names(found)) == {"chess two", "chess three", "clock"} and names(found)[-1] == "clock"
    assert names(await ask(related=IDS["chess one"], filters={"capabilities": ["chess", "analysis"]})) == ["chess two"]
    assert (await ask(404, related="a-0123456789abcdef"))["name"] == "no-such-agent"
    assert (await ask(400, related=IDS["clock"], query="chess"))["name"] == "bad-request"
    assert (await ask(400, query="  "))["name"] == "bad-query"
    assert (await ask(400, query="x", filters={"exclude": {"organisations": ["alpha"]}}))["name"] == "bad-did"


async def test_agents_that_say_nearly_the_same_are_one_unless_each_is_asked_for(asked: tuple[DirectoryNode, Ask]) -> None:
    node, ask = asked
    text = "Solves sudoku puzzles of every size for people who are in a hurry and explains each of its steps."
    node.mesh.publish(0, *(Profile(f"sudoku {number}", text) for number in range(9)), seconds=3)
    shown = await ask(query="sudoku puzzles", limit=1)
    (one,) = shown["agents"]
    each = [found for found in (await ask(query="sudoku puzzles", collapse=False))["agents"] if found["name"].startswith("sudoku")]
    others = {found["agentId"] for found in each} - {one["agentId"]}
    assert len(each) == 9 and one["alikeCount"] == 8 and len(one["alike"]) == len(set(one["alike"])) <= 4 and set(one["alike"]) <= others
    assert all((found["alike"], found["alikeCount"]) == ([], 0) for found in each)
    await ask(400, query="sudoku", collapse="no")


async def test_a_score_is_explained_as_the_question_was_asked(asked: tuple[DirectoryNode, Ask]) -> None:
    _, ask = asked
    body = {"query": "plays chess", "weigh": {"price": 0.5}, "filters": {"regions": ["eu-1"]}}
    refused = await ask.client.post(f"/v1/explain/{IDS['chess one']}", json=body)
    assert refused.status_code == 400 and refused.json()["name"] == "bad-request"
    body["filters"] = {"region": "eu-1", "exclude": {"capabilities": ["analysis"]}}
    found = (await ask(**body))["agents"]
    for name in ("chess one", "chess three"):
        answer = await ask.client.post(f"/v1/explain/{IDS[name]}", json=body)
        told = answer.json()
        assert answer.status_code == 200 and (told["kind"], told["subject"]) == ("score", IDS[name]) and told["lines"]
        shown = next((one for one in found if one["name"] == name), None)
        assert (told["facts"]["rank"] is None) == (shown is None) and (shown is None or told["facts"]["score"] == shown["score"])
        assert told["facts"]["conditions"][0] == {"text": "in eu-1", "fulfilled": True}
    assert (await ask.client.post("/v1/explain/a-0123456789abcdef", json=body)).json()["name"] == "no-such-agent"
    for bad in ({}, {"query": ""}, {"query": "x" * 2_001}, {"query": "x", "limit": 3}, {"query": "x", "weigh": {"trust": 2}}):
        assert (await ask.client.post(f"/v1/explain/{IDS['clock']}", json=bad)).status_code == 400, bad
    document = (await ask.client.get("/openapi.json")).json()
    assert {"query", "filters", "weigh", "idempotencyKey"} == set(document["components"]["schemas"]["ScoreBody"]["properties"])
