"""Facets of an answer: counted over everything that fulfils the filters, as a plain count has it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.ids import agent_id
from meshos.protocols.directory import limits
from meshos.protocols.directory import tally as tallying
from meshos.protocols.directory.filters import Exclude, Filters
from meshos.protocols.directory.parts import Measured
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.search import DiscoverRequest
from meshos.protocols.directory.tally import Tally
from meshos.storage.index.facets import Condition
from meshos.storage.index.index import Index
from tests.directory.test_index import documents, fulfils, steps, unit
from tests.directory.world import Mesh, org

PROFILES = (
    Profile("a", "Plays chess.", capabilities=("Chess", "chess", "go"), certifications=("FIDE",), region="EU-1"),
    Profile("b", "Plays chess.", capabilities=("chess",), region="eu-1", per_query=7),
    Profile("c", "Tells the time.", capabilities=("time",), certifications=("fide", "ISO")),
)
__all__ = ["documents", "unit"]


def counted(mesh: Mesh, filters: Filters = Filters(), query: str = "anything at all") -> Tally:  # noqa: B008
    found = mesh.discover(0, DiscoverRequest(query, 1, filters, facets=True)).facets
    assert found is not None
    return found


@given(steps, st.sampled_from([Condition(), Condition(every=(("a", "b"),)), Condition(none=("c",), cost=2), Condition(cells=(1, 2))]))
@settings(max_examples=60, deadline=None)
def test_facets_are_counted_as_a_plain_count_has_them_after_any_updates(given_steps: list, condition: Condition) -> None:  # type: ignore[type-arg]
    index, held = Index(), {}
    for put, drop in given_steps:
        index.update(put, drop)
        for document in put:
            held[document.key] = document
        for key in drop:
            if key not in {document.key for document in put}:
                held.pop(key, None)
    passing = [document for document in held.values() if fulfils(document, condition)]
    found = index.snapshot().fulfilling(condition)
    assert len(found) == len(passing) and sorted(map(str, found.tags())) == sorted(str(document.tag) for document in passing)
    assert found.counts() == Counter(facet for document in passing for facet in set(document.facets))
    half = found.where(lambda tag: isinstance(tag, int) and tag % 2 == 0)
    assert half.counts() == Counter(facet for document in passing if document.tag % 2 == 0 for facet in set(document.facets))


def test_all_that_fulfil_the_filters_are_counted_whatever_the_question_and_the_limit() -> None:
    mesh = Mesh(51, nodes=1)
    mesh.publish(0, *PROFILES)
    assert counted(mesh) == Tally(3, (("chess", 2), ("go", 1), ("time", 1)), (("fide", 2), ("iso", 1)), (("eu-1", 2),))
    assert counted(mesh, Filters(region="eu-1", max_price_micro=6)) == Tally(1, (("chess", 1), ("go", 1)), (("fide", 1),), (("eu-1", 1),))
    assert counted(mesh, Filters(exclude=Exclude(capabilities=("CHESS",)))).records == 1
    assert counted(mesh, Filters(trust_min=51)) == Tally(0, (), (), ())
    assert mesh.discover(0, DiscoverRequest("anything")).facets is None


def test_measures_and_quarantine_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TALLIED_AT_ONCE", 2)
    assert tallying.limits is limits
    mesh = Mesh(52, nodes=2)
    mesh.publish(0, *PROFILES)
    mesh.publish(1, Profile("d", "Plays chess.", capabilities=("chess",)))
    mesh.run(3)
    mesh.parts[mesh.ids[0]].measures = lambda agent: Measured(80.0 if agent == agent_id(org(0), "b") else 50.0)
    assert counted(mesh).capabilities[0] == ("chess", 3)
    assert counted(mesh, Filters(trust_min=60)) == Tally(1, (("chess", 1),), (), (("eu-1", 1),))
    mesh.quarantine = {agent_id(org(0), "a")}
    assert counted(mesh).capabilities[0] == ("chess", 2) and counted(mesh).records == 3
    mesh.quarantine = {org(1)}
    assert counted(mesh).capabilities[0] == ("chess", 2) and counted(mesh).records == 3
    mesh.quarantine = {mesh.ids[0]}
    assert counted(mesh) == Tally(1, (("chess", 1),), (), ())


def test_of_many_values_the_most_frequent_are_shown() -> None:
    mesh = Mesh(53, nodes=1)
    mesh.publish(0, *(Profile(f"agent {n}", "Does it.", capabilities=("all", f"only {n:02}")) for n in range(30)), seconds=5)
    shown = counted(mesh).capabilities
    assert shown[0] == ("all", 30) and shown[1] == ("only 00", 1) and len(shown) == limits.FACETS_SHOWN
