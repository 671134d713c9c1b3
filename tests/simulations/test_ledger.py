"""The scenario "ledger": whole nodes that pay and decide; its bookkeeper finds nothing in the product, and each way to break it."""

import pytest

from meshos.consensus.ledger.actions import Tune
from meshos.consensus.ledger.approvals import Decision, Judge
from meshos.consensus.ledger.people import Pause
from meshos.ids import NodeId, org_did
from meshos.simulations.genesis import person_key, simulated_genesis
from meshos.simulations.ledger.mutations import MUTATIONS
from meshos.simulations.ledger.overruling import Overruling
from meshos.simulations.mutations import Mutation, must_find
from meshos.simulations.run import run
from meshos.simulations.scenarios import scenario_named
from meshos.simulations.world import Violation


@pytest.mark.parametrize(("seed", "lies", "people"), [(1, 0, 1), (8, 1, 0)])
def test_a_mesh_that_pays_and_decides_keeps_its_books_also_where_a_validator_lies(seed: int, lies: int, people: int) -> None:
    report = run(scenario_named("ledger"), seed, until_s=70)
    assert (report.verdict, report.message) == ("ok", "")
    assert report.visited.get("validators of whole nodes lie", 0) == lies
    figures = report.figures
    assert figures["transfers told"] > 50 and figures["decisions ended"] > 3 and figures["redeemed micro"] > 0
    assert (figures["agents committed to"], figures["of them withdrawn"]) == (8, 4) and figures["quarantines on one word"] > 0
    assert report.visited.get("people judge and pause", 0) == people
    assert (figures["overruled by people"] > 0, figures["taken back by people"] > 0, figures["pauses"] > 0) == (people,) * 3


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_broken_books_are_found(mutation: Mutation) -> None:
    must_find(mutation, scenario_named("ledger"), range(1, 5))


ID, PAUSED_MS = b"d" * 32, 5_000


def decision(status: str, ended_ms: int = 10_000) -> Decision:
    return Decision("by", Tune(()), 40, 0, status, ended_ms=ended_ms)


@pytest.fixture
def people() -> Overruling:
    """Three of whom the first and any other have enough power."""
    orgs = {org_did("enterprise", name): NodeId(name) for name in ("a", "b", "c")}
    return Overruling(simulated_genesis(1, orgs, people=True))


def say(people: Overruling, act: str, *names: str) -> None:
    for name in names:
        people.judged(person_key(org_did("enterprise", name)), Judge(ID, act, "so"))


def test_what_people_with_enough_power_rejected_is_not_executed_unless_they_approve_it_later(people: Overruling) -> None:
    say(people, "reject", "b", "c")
    assert not people.ended(ID, decision("executed")), "they have not enough"
    say(people, "reject", "a", "b")
    with pytest.raises(Violation, match="people have rejected it"):
        people.ended(ID, decision("executed"))
    people.ended(ID, decision("rejected"))
    say(people, "approve", "a")
    with pytest.raises(Violation, match="people have rejected it"):
        people.ended(ID, decision("executed"))
    say(people, "approve", "a", "c")
    assert people.ended(ID, decision("executed"))


def test_who_has_changed_his_mind_counts_once(people: Overruling) -> None:
    say(people, "reject", "a")
    say(people, "approve", "a")
    say(people, "reject", "b")
    assert not people.ended(ID, decision("executed"))


def test_what_is_taken_back_was_taken_back_by_people_after_it_was_executed(people: Overruling) -> None:
    say(people, "approve", "a", "b")
    people.ended(ID, decision("executed"))
    say(people, "reverse", "a")
    with pytest.raises(Violation, match="people have not said so"):
        people.ended(ID, decision("reversed"))
    say(people, "reverse", "a", "c")
    people.ended(ID, decision("reversed"))


def test_in_a_pause_nothing_is_executed_but_what_people_approve(people: Overruling) -> None:
    people.paused(Pause(PAUSED_MS, "so"), 9_000)
    people.paused(Pause(PAUSED_MS, "so"), 9_500)
    for ended_ms in (9_000, 19_000):
        people.ended(ID, decision("executed", ended_ms))
    for ended_ms in (10_000, 18_999):
        with pytest.raises(Violation, match="while autonomy is paused"):
            people.ended(ID, decision("executed", ended_ms))
    say(people, "approve", "a", "b")
    assert people.ended(ID, decision("executed", 10_000))
