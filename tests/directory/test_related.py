"""Agents that are like a given one, by what its record says alone."""

from unittest.mock import Mock

import numpy as np
import pytest

from meshos.errors import BadInput, Refused
from meshos.ids import AgentId, agent_id
from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.storage.index.index import Index
from meshos.storage.index.pieces import unpacked
from meshos.storage.index.question import resembling
from meshos.storage.index.segment import Document
from tests.directory.world import Mesh, org, record

PROFILES = (
    Profile("chess one", "Plays chess against people and analyses games.", capabilities=("chess", "analysis")),
    Profile("chess two", "Plays chess against people.", capabilities=("Chess",)),
    Profile("chess three", "Analyses games of chess that people have played.", capabilities=("ANALYSIS", "chess", "pgn")),
    Profile("clock", "Tells the time in any city of the world.", capabilities=("time",)),
)
ONE = agent_id(org(0), "chess one")


def names(answer: DiscoverAnswer) -> list[str]:
    return [one.record.name for one in answer.agents]


def mesh_of(*profiles: Profile) -> Mesh:
    mesh = Mesh(61, nodes=1)
    mesh.publish(0, *profiles)
    return mesh


def test_the_most_alike_come_first_and_the_agent_itself_does_not_come() -> None:
    mesh = mesh_of(*PROFILES)
    answer = mesh.discover(0, DiscoverRequest(related=ONE))
    assert names(answer)[-1] == "clock" and set(names(answer)) == {"chess two", "chess three", "clock"} and answer.complete
    assert "chess" in answer.agents[0].matched and all(0 <= one.score <= 1 for one in answer.agents)
    assert answer.agents[0].score > 2 * answer.agents[-1].score


def test_no_model_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = mesh_of(*PROFILES)
    mesh.run(30)  # all vectors are checked by now
    read = Mock(side_effect=AssertionError("nothing is to be embedded"))
    monkeypatch.setattr("tests.directory.world.EMBEDDER.read", read, raising=False)
    assert names(mesh.discover(0, DiscoverRequest(related=ONE)))


def test_substitutes_have_all_its_capabilities() -> None:
    mesh = mesh_of(*PROFILES)
    same = Filters(capabilities=PROFILES[0].capabilities)
    assert names(mesh.discover(0, DiscoverRequest(related=ONE, filters=same))) == ["chess three"]


def test_an_agent_in_quarantine_can_be_replaced_and_replaces_none() -> None:
    mesh = mesh_of(*PROFILES)
    mesh.quarantine = {ONE, agent_id(org(0), "chess two")}
    assert names(mesh.discover(0, DiscoverRequest(related=ONE))) == ["chess three", "clock"]


def test_related_agents_are_paged_as_others_are() -> None:
    mesh = mesh_of(*PROFILES)
    whole, pages = mesh.discover(0, DiscoverRequest(related=ONE)), [mesh.discover(0, DiscoverRequest(limit=1, related=ONE))]
    while pages[-1].cursor is not None:
        pages.append(mesh.discover(0, DiscoverRequest(limit=1, related=ONE, cursor=pages[-1].cursor)))
    assert [name for page in pages for name in names(page)] == names(whole) and len(pages) == 3


def test_an_agent_that_nobody_knows_is_refused_and_so_are_a_question_and_an_agent_together() -> None:
    mesh = mesh_of(*PROFILES)
    mesh.withdraw(0, "clock")
    for unknown in (AgentId("a-0123456789abcdef"), agent_id(org(0), "clock"), AgentId("x" * 1000)):
        with pytest.raises(Refused, match="no-such-agent"):
            mesh.discover(0, DiscoverRequest(related=unknown))
    with pytest.raises(BadInput, match="bad-query"):
        mesh.discover(0, DiscoverRequest("chess", related=ONE))
    with pytest.raises(BadInput, match="bad-query"):
        mesh.discover(0, DiscoverRequest(related=AgentId("a-\ud800")))


def test_a_record_comes_nearest_to_itself_and_signs_are_rows_of_length_one() -> None:
    index, held = Index(), [record(f"agent {number}", text=f"Does thing {number} with {number * 7} others.") for number in range(20)]
    index.update([Document(one.name, one.profile.text(), one.meaning(), None, one.pieces) for one in held])
    snapshot = index.snapshot()
    for one in held[:5]:
        asked = resembling(one.profile.text(), one.meaning(), one.pieces, snapshot)
        assert np.linalg.norm(asked.pieces, axis=1) == pytest.approx(1) and len(asked.weights) == len(unpacked(one.pieces))
        assert [term.rarity for term in asked.terms] == sorted((term.rarity for term in asked.terms), reverse=True)
        hits = snapshot.search(asked, 3)
        assert hits[0].key == one.name and hits[0].score > 0.8 and hits[1].score < hits[0].score


def test_a_record_without_pieces_or_words_is_a_question_all_the_same() -> None:
    index, one = Index(), record(text="Plays chess.")
    index.update([Document("k", one.profile.text(), one.meaning(), None, one.pieces)])
    snapshot = index.snapshot()
    assert snapshot.search(resembling("", one.meaning(), b"", snapshot), 3)[0].key == "k"
