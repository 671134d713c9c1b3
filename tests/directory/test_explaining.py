"""Why a score: its parts add up to what discover shows, conditions are told as they count, and what is not found is told why."""

import dataclasses

import pytest

from meshos.bench import retrieval
from meshos.errors import Refused
from meshos.ids import AgentId, agent_id
from meshos.node.facade import explaining as told
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells import limits as cell_limits
from meshos.protocols.directory.explaining import Explained, ScoreAsked, each
from meshos.protocols.directory.filters import Exclude, Filters
from meshos.protocols.directory.parts import Measured
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverRequest
from meshos.protocols.directory.services import EXPLAIN
from meshos.protocols.directory.weighing import NOTHING, Weigh
from tests.directory.test_asking import AGENTS, FILTERS, QUESTIONS, in_cells
from tests.directory.test_collapsing import FLOODED, real_cards
from tests.directory.world import Mesh, org

ROUNDED = 1.01e-4
"""Parts are computed from one record, scores among many: the last of four places may differ."""


def explain(mesh: Mesh, number: int, agent: AgentId, request: DiscoverRequest) -> Explained:
    flow = mesh.start(number, EXPLAIN, ScoreAsked(agent, request))
    mesh.run(2.0)
    found = mesh.outcome(flow)
    assert isinstance(found, Explained)
    return found


def check(mesh: Mesh, number: int, request: DiscoverRequest, every: int = 1) -> int:
    """Every shown agent's parts add up to its score; how many."""
    answer = mesh.discover(number, dataclasses.replace(request, limit=limits.FOUND))
    for place, found in [*enumerate(answer.agents)][::every]:
        why = explain(mesh, number, found.record.agent_id, request)
        parts, weigh = why.parts, request.weigh
        assert why.score == found.score and why.rank == place + 1 and why.passes and why.under is None is why.barred
        fit = parts.meaning + parts.pieces + sum(word.part for word in parts.words)
        counted = told.counted(found.measured, found.record.profile.per_query)
        sum_ = fit + weigh.trust * counted.trust + weigh.latency * counted.latency + weigh.price * counted.price
        assert sum_ / (1 + weigh.trust + weigh.latency + weigh.price) == pytest.approx(found.score, abs=ROUNDED)
        assert {word.word for word in parts.words if word.part} >= {word for word in found.matched if " " not in word} - {
            *request.filters.capabilities,
            *request.filters.certifications,
            "free",
        }
    return len(answer.agents)


@pytest.fixture(scope="module")
def real() -> Mesh:
    """A node that holds real cards."""
    mesh = Mesh(51, nodes=1)
    mesh.publish(0, *(dataclasses.replace(card, per_query=at * 10_000) for at, card in enumerate(real_cards(250))), seconds=20)
    mesh.parts[mesh.ids[0]].measures = lambda agent: Measured(float(int(agent[2:4], 16) % 100), 3, 1.0, float(int(agent[4:7], 16)))
    return mesh


@pytest.mark.parametrize("weigh", [NOTHING, Weigh(0.5, 0.25, 1.0)])
def test_the_parts_of_a_score_add_up_to_what_discover_shows_over_real_cards(real: Mesh, weigh: Weigh) -> None:
    questions = [one.text for one in retrieval.material().questions][::30]
    assert sum(check(real, 0, DiscoverRequest(text, weigh=weigh), every=7) for text in questions) > 300


def test_in_cells_too_wherever_the_record_lies() -> None:
    mesh = in_cells(52)
    for asker, text in enumerate(QUESTIONS):
        for filters in FILTERS[:2]:
            assert check(mesh, asker, DiscoverRequest(text, filters=filters, weigh=Weigh(price=0.5)), every=3) > 0


def test_whether_its_cell_was_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = in_cells(53)
    monkeypatch.setattr(cell_limits, "SCANNED", 0.05)
    layout = mesh.parts[mesh.ids[6]].layout
    asked = {True: 0, False: 0}
    for at, one in enumerate(AGENTS[:24]):
        why = explain(mesh, 6, agent_id(org(at % 3), one.name), DiscoverRequest(QUESTIONS[0]))
        assert why.cell == layout.places_of([why.record])[0][0]
        assert why.asked or why.rank is None, "what is found lies in a cell that was asked"
        asked[why.asked] += 1
        (line,) = [line for line in told.score(why, NOTHING).lines if "lies in cell" in line]
        assert ("was not among" in line) != why.asked
    assert asked[True] and asked[False]


@pytest.fixture(scope="module")
def small() -> Mesh:
    mesh = Mesh(54, nodes=1)
    mesh.publish(
        0,
        Profile("chess", "Plays chess with people.", ("Chess", "play"), certifications=("FIDE",), region="eu-1", per_query=2_000_000),
        Profile("clock", "Tells the time in any city."),
        *(Profile(f"radiologist {number}", f"{FLOODED}.") for number in range(9)),
        seconds=3,
    )
    return mesh


CHESS = agent_id(org(0), "chess")


def test_each_condition_is_told_as_it_counts_alone(small: Mesh) -> None:
    filters = Filters(
        trust_min=40,
        trust_max=49,
        certifications=("fide", "HIPAA"),
        capabilities=("CHESS",),
        region="eu-1",
        max_latency_ms=300,
        max_price_micro=1_000_000,
        exclude=Exclude(("play",), ("HIPAA",), ("us-1",), (org(0),)),
    )
    why = explain(small, 0, CHESS, DiscoverRequest("plays chess", filters=filters))
    assert {one.text: one.fulfilled for one in why.conditions} == {
        "capability CHESS": True,
        "certification fide": True,
        "certification HIPAA": False,
        "in eu-1": True,
        "at most 1 MESH a query": False,
        "at most 300 ms a call": False,
        "trust 40 or more": True,
        "trust 49 or less": False,
        "without capability play": False,
        "without certification HIPAA": True,
        "not in us-1": True,
        f"not of {org(0)}": False,
    }
    assert len(each(filters)) == 12 and why.rank is None and not why.passes
    lines = told.score(why, NOTHING).lines
    assert "it does not fulfil: certification HIPAA" in lines and "it is not found, for what it does not fulfil" in lines


def test_a_condition_that_it_fulfils_alone_is_one_that_discover_finds_it_by(small: Mesh) -> None:
    for region, price in (("eu-1", 2_000_000), ("us-1", 2_000_000), ("eu-1", 1)):
        filters = Filters(region=region, max_price_micro=price)
        why = explain(small, 0, CHESS, DiscoverRequest("plays chess", filters=filters))
        shown = small.discover(0, DiscoverRequest("plays chess", filters=filters)).agents
        assert why.passes == (CHESS in [one.record.agent_id for one in shown]) == (why.rank is not None)


def test_what_is_shown_under_another_or_in_quarantine_says_so(small: Mesh) -> None:
    (first, *_) = small.discover(0, DiscoverRequest("read a chest x-ray", 1)).agents
    assert first.alike_count == 8
    why = explain(small, 0, first.alike[0], DiscoverRequest("read a chest x-ray"))
    assert (why.rank, why.under) == (None, first.record.agent_id)
    assert any(f"shown under {first.record.agent_id}" in line for line in told.score(why, NOTHING).lines)
    small.quarantine.add(CHESS)
    why = explain(small, 0, CHESS, DiscoverRequest("plays chess"))
    small.quarantine.clear()
    assert (why.rank, why.barred) == (None, CHESS) and f"it is not found: {CHESS} is in quarantine" in told.score(why, NOTHING).lines
    assert told.score(why, NOTHING).facts["quarantined"] is True


def test_it_is_told_in_sentences_and_in_numbers_that_are_the_same(small: Mesh) -> None:
    weigh = Weigh(price=0.5)
    why = explain(small, 0, CHESS, DiscoverRequest("who plays chess or zugzwang", weigh=weigh))
    shown = told.score(why, weigh)
    assert shown.kind == "score" and shown.subject == CHESS
    assert shown.lines[0].startswith(
        f"chess of {org(0)} scores {why.score:.4f}: it fits {why.fit:.4f}, and weighed with price 0.3333 × 0.5"
    )
    assert "chess 0." in shown.lines[2] and "it has no zugzwang" in shown.lines[2] and "it ranks 1 of" in shown.lines[-1]
    facts = shown.facts
    parts = [facts["meaning"]["part"], facts["pieces"]["part"], *(word["part"] for word in facts["words"])]  # type: ignore[index, union-attr, attr-defined]
    assert sum(parts) == pytest.approx(facts["fit"], abs=ROUNDED) and facts["cell"] is None and facts["rank"] == 1
    assert facts["weighed"]["price"] == {"weight": 0.5, "value": pytest.approx(1 / 3, abs=1e-6)}  # type: ignore[index]


@pytest.mark.parametrize("agent", ["a-0123456789abcdef", "nobody"])
def test_an_agent_that_nobody_knows_is_refused_by_name(small: Mesh, agent: str) -> None:
    with pytest.raises(Refused) as caught:
        explain(small, 0, AgentId(agent), DiscoverRequest("plays chess"))
    assert caught.value.name == "no-such-agent"
