"""Filters: what a condition of the index picks is what a plain reading of each record would, and bad ones are refused by name."""

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.errors import BadInput
from meshos.ids import OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.facets import facets_of, values_of
from meshos.protocols.directory.filters import Exclude, Filters, acceptor, check, condition_of
from meshos.protocols.directory.parts import Measured
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import AgentRecord
from meshos.protocols.directory.shelf import Shelf
from meshos.storage.index.facets import ANYTHING
from tests.directory.world import EMBEDDER, changed_index, org, record, signed

WORDS = ("Time", "time", "TIME ZONE", "straße", "STRASSE", "", "capability", "certification x", "x")
ENTRIES = st.lists(st.sampled_from([word for word in WORDS if word]), max_size=3).map(tuple)
REGIONS = st.sampled_from(("", "eu-west-1", "EU-west-1", "us-east-1", "x"))
PRICES = st.sampled_from((0, 1, 5, 6, 2**53))

records = st.builds(
    lambda number, capabilities, certifications, region, price, by: dataclasses.replace(
        record(f"agent {number}", by=by),
        profile=Profile(
            f"agent {number}", "Does it.", capabilities=capabilities, certifications=certifications, region=region, per_query=price
        ),
    ),
    st.integers(0, 99),
    ENTRIES,
    ENTRIES,
    REGIONS,
    PRICES,
    st.integers(0, 2),
)
excludes = st.builds(
    Exclude, ENTRIES, ENTRIES, st.lists(REGIONS, max_size=2).map(tuple), st.lists(st.integers(0, 2).map(org), max_size=2).map(tuple)
)
filters = st.builds(
    Filters,
    st.none() | st.sampled_from((0.0, 50.0, 60.0)),
    st.none() | st.sampled_from((50.0, 100.0)),
    ENTRIES,
    ENTRIES,
    st.none() | REGIONS,
    st.none() | st.sampled_from((100.0, 1000.0)),
    st.none() | PRICES,
    excludes,
)


def measures(agent: str) -> Measured:
    """Something else for every agent."""
    number = int(agent[2:4], 16)
    return Measured(trust_score=float(number % 101), avg_latency_ms=None if number % 3 == 0 else float(10 * number))


def plainly(filters: Filters) -> Callable[[AgentRecord], bool]:
    """The filters read record by record, as they were before there were facets, and the negative ones."""

    def folded(entries: tuple[str, ...]) -> set[str]:
        return {entry.casefold() for entry in entries}

    def accepts(record: AgentRecord) -> bool:
        profile, out, measured = record.profile, filters.exclude, measures(record.agent_id)
        latency = measured.avg_latency_ms
        return (
            (filters.region is None or profile.region.casefold() == filters.region.casefold())
            and (filters.max_price_micro is None or profile.per_query <= filters.max_price_micro)
            and folded(filters.certifications) <= folded(profile.certifications)
            and folded(filters.capabilities) <= folded(profile.capabilities)
            and (filters.trust_min is None or measured.trust_score >= filters.trust_min)
            and (filters.trust_max is None or measured.trust_score <= filters.trust_max)
            and (filters.max_latency_ms is None or (latency is not None and latency <= filters.max_latency_ms))
            and not folded(out.capabilities) & folded(profile.capabilities)
            and not folded(out.certifications) & folded(profile.certifications)
            and profile.region.casefold() not in folded(out.regions)
            and record.mesh_id not in out.organisations
        )

    return accepts


@given(st.lists(records, max_size=30, unique_by=lambda one: one.agent_id), filters)
@settings(max_examples=200, deadline=None)
def test_the_condition_and_the_measures_pick_what_a_plain_reading_picks(held: list[AgentRecord], asked: Filters) -> None:
    shelf = Shelf(EMBEDDER)
    changed_index(shelf, [signed(one, f"n{one.mesh_id.rpartition('-')[2]}-a") for one in held])
    keep, condition = acceptor(measures, asked), condition_of(asked)
    expected = {one.agent_id for one in held if plainly(asked)(one)}
    found = shelf.search("does it", 100, keep, condition)
    assert {match.record.agent_id for match in found} == expected
    assert len(shelf.fulfilling(keep, condition)) == len(expected)


def test_no_filter_is_no_condition_and_no_predicate() -> None:
    assert condition_of(Filters()) is ANYTHING and acceptor(measures, Filters()) is None
    assert condition_of(Filters(trust_min=3)) is ANYTHING and acceptor(measures, Filters(trust_min=3)) is not None
    assert condition_of(Filters(exclude=Exclude(regions=("x",)))) is not ANYTHING


def test_facets_cannot_be_mistaken_for_one_another() -> None:
    odd = dataclasses.replace(record(), profile=Profile("odd", "", capabilities=("region x", "A", "a"), certifications=("capability b",)))
    found = facets_of(odd)
    assert found == ("capability region x", "capability a", "certification capability b", "region ", f"org {odd.mesh_id}")
    counted = [(facet, 1) for facet in found]
    assert [value for value, _ in values_of("capability", counted)] == ["region x", "a"] and not values_of("region", counted)


@pytest.mark.parametrize(
    ("wrong", "name", "says"),
    [
        (Filters(capabilities=("x",) * (limits.FILTER_ENTRIES + 1)), "bad-query", "capabilities has 65 entries"),
        (Filters(certifications=("x" * (limits.FILTER_CHARS + 1),)), "bad-query", "certifications"),
        (Filters(region="x" * (limits.FILTER_CHARS + 1)), "bad-query", "region"),
        (Filters(exclude=Exclude(regions=("x",) * 65)), "bad-query", "exclude.regions"),
        (Filters(exclude=Exclude(capabilities=("x" * 201,))), "bad-query", "exclude.capabilities"),
        (Filters(certifications=("\ud800",)), "bad-query", "certifications"),
        (Filters(exclude=Exclude(regions=("\udfff",))), "bad-query", "exclude.regions"),
        (Filters(region="\ud800"), "bad-query", "region"),
        (Filters(max_price_micro=-1), "bad-query", "price"),
        (Filters(max_price_micro=2**63), "bad-query", "price"),
        (Filters(exclude=Exclude(organisations=("alpha",))), "bad-did", "alpha"),
    ],
)
def test_filters_beyond_their_bounds_are_refused(wrong: Filters, name: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        check(wrong)
    assert caught.value.name == name and says in caught.value.detail


def test_filters_within_their_bounds_are_taken() -> None:
    names = ("x" * limits.FILTER_CHARS,) * limits.FILTER_ENTRIES
    check(Filters(0, 100, names, names, "x", 1.0, 2**63 - 1, Exclude(names, names, names, (OrgDid("did:mesh:enterprise:alpha"),))))
