"""Decisions of several coordinators and the powers of people: nothing risky without approval, nothing twice, nothing against the people."""

from dataclasses import replace

import pytest

from meshos.consensus.ledger.actions import Action, Quarantine, Tune
from meshos.consensus.ledger.approvals import (
    APPROVE,
    DECISIONS,
    EXECUTED,
    EXPIRED,
    FAILED,
    OPEN,
    REJECT,
    REJECTED,
    REVERSE,
    REVERSED,
    WAITING,
    Decision,
    Judge,
    Propose,
    approvals_needed,
    decision_id,
)
from meshos.consensus.ledger.audit import AUDIT, Entry, place
from meshos.consensus.ledger.commitments import Commit
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.limits import DAY_MS, HOUR_MS, MAX_KEPT_DECISIONS_PER_ORG
from meshos.consensus.ledger.motions import Entitle, Move, Vote, motion_id
from meshos.consensus.ledger.orgs import RemoveHuman
from meshos.consensus.ledger.parameters import PARAMETERS
from meshos.consensus.ledger.people import Pause, overrule, power
from meshos.consensus.ledger.quarantine import QUARANTINE
from meshos.ids import agent_id
from tests.ledger.books import Books, did, genesis

TIMEOUT_MS = 900_000
RISKY = Quarantine(did("delta"))
TUNE = Tune((("dispute-ms", 7_200_000),))
"""Doubles it: a risk of 80."""
PEOPLE = ("alpha-ada", "beta-ada", "gamma-ada", "delta-ada", "alpha-bob")
"""Who has a seat: a fifth of the power each."""


@pytest.fixture
def books() -> Books:
    return Books()


def proposed(books: Books, action: Action = RISKY, by: str = "alpha") -> bytes:
    return decision_id(books.genesis.hash, books.do(f"{by}-1", Propose(action, "because")))


def judge(books: Books, id_: bytes, act: str, *keys: str) -> None:
    for key in keys:
        books.do(key, Judge(id_, act, "I looked at it"))


def status(books: Books, id_: bytes) -> str:
    decision = DECISIONS.read(books.state, id_)
    return "gone" if decision is None else decision.status


def quarantined(books: Books) -> bool:
    return QUARANTINE.read(books.state, did("delta")) is not None


def dispute_ms(books: Books) -> int:
    parameters = PARAMETERS.read(books.state, b"")
    assert parameters is not None
    return parameters["dispute-ms"]


def trail(books: Books) -> list[Entry]:
    return sorted((AUDIT.decode(value) for _, value in books.state.scan(AUDIT.prefix)), key=lambda entry: entry.number)


# -- coordinators ------------------------------------------------------------------------------------------------------


def test_a_risky_decision_waits_for_three_coordinators(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, APPROVE, "beta-1")
    assert (status(books, id_), quarantined(books)) == (OPEN, False)
    judge(books, id_, APPROVE, "gamma-root")
    assert (status(books, id_), quarantined(books)) == (EXECUTED, True)


def test_a_decision_of_little_risk_is_executed_at_once(books: Books) -> None:
    books.do("delta-1", Commit("Reader", 1, bytes(32)))
    agent = agent_id(did("delta"), "Reader")
    id_ = proposed(books, Quarantine(agent))
    assert status(books, id_) == EXECUTED and QUARANTINE.read(books.state, agent) is not None


def test_many_small_steps_of_one_coordinator_have_the_risk_of_the_large_one(books: Books) -> None:
    small = Tune((("dispute-ms", 4_500_000),))
    assert status(books, proposed(books, small)) == EXECUTED, "a quarter more: a risk of 20"
    further = proposed(books, Tune((("dispute-ms", 5_400_000),)))
    assert status(books, further) == OPEN, "half more than was decided by several: 40"
    other = proposed(books, Tune((("directory-record-ttl-ms", 103_680_000),)), by="beta")
    assert status(books, other) == OPEN, "8, and the 20 that are moved already"
    assert status(books, proposed(books, Tune((("dispute-ms", 3_600_000),)), by="beta")) == EXECUTED, "the way back has none"
    judge(books, further, APPROVE, "beta-1", "gamma-1")
    assert (status(books, further), dispute_ms(books)) == (EXECUTED, 5_400_000)
    assert status(books, proposed(books, Tune((("dispute-ms", 6_000_000),)))) == EXECUTED, "from there on anew"


def test_a_coordinator_fills_neither_the_state_nor_the_list_with_decisions_that_change_nothing(books: Books) -> None:
    nothing = Propose(Tune((("dispute-ms", 3_600_000),)), "again")
    for _ in range(MAX_KEPT_DECISIONS_PER_ORG // 64):
        nonce = books.nonce("alpha-1")
        results = books.block([books.request("alpha-1", nothing, nonce=nonce + ahead) for ahead in range(64)])
        assert {result.outcome for result in results} == {"committed"}
    books.refused("alpha-1", nothing, "busy")
    assert status(books, proposed(books, by="beta")) == OPEN, "others are not kept from it"
    books.block(later_ms=DAY_MS)  # as many are forgotten as one block forgets
    assert status(books, decision_id(books.genesis.hash, books.do("alpha-1", nothing))) == EXECUTED


@pytest.mark.parametrize(("registered", "needed"), [(0, 3), (1, 3), (3, 3), (4, 3), (7, 3), (9, 3), (10, 4), (13, 5), (100, 34)])
def test_how_many_must_approve(registered: int, needed: int) -> None:
    assert approvals_needed(3, registered) == needed, "max(3, f_c + 1)"


def test_an_organisation_counts_once(books: Books) -> None:
    id_ = proposed(books)
    for key in ("alpha-1", "alpha-root"):
        books.refused(key, Judge(id_, APPROVE, "again"), "already-voted")
    judge(books, id_, APPROVE, "beta-1")
    books.refused("beta-root", Judge(id_, APPROVE, "again"), "already-voted")
    books.refused("beta-1", Judge(id_, REJECT, "after all"), "already-voted")
    assert status(books, id_) == OPEN


def test_rejects_end_it_when_it_cannot_be_approved_any_more(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, REJECT, "beta-1")
    assert status(books, id_) == OPEN, "alpha, gamma and delta can still approve"
    judge(books, id_, REJECT, "gamma-1")
    assert status(books, id_) == REJECTED
    books.refused("delta-1", Judge(id_, APPROVE, "late"), "decision-ended")
    assert not quarantined(books)


def test_it_expires_by_ledger_time(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, APPROVE, "beta-1")
    last = books.request("gamma-1", Judge(id_, APPROVE, "late"), expires_ms=books.time_ms + DAY_MS)
    result = books.block([last], later_ms=TIMEOUT_MS)[0]
    assert (result.name, status(books, id_), quarantined(books)) == ("decision-ended", EXPIRED, False)


def test_what_ends_in_the_block_in_which_another_is_forgotten_is_forgotten_in_its_turn(books: Books) -> None:
    first = proposed(books, Tune((("dispute-ms", 3_600_001),)))
    books.block(later_ms=DAY_MS - TIMEOUT_MS)
    second = proposed(books)
    books.block(later_ms=TIMEOUT_MS)
    assert (status(books, first), status(books, second)) == ("gone", EXPIRED), "in one block"
    books.block(later_ms=DAY_MS)
    assert status(books, second) == "gone"


def test_only_coordinators_propose_and_judge() -> None:
    books = Books(genesis(5, coordinators=4))
    books.refused("epsilon-1", Propose(RISKY, "because"), "not-a-coordinator")
    id_ = proposed(books)
    books.refused("epsilon-1", Judge(id_, APPROVE, "me too"), "not-a-coordinator")
    books.refused("beta-1", Judge(id_, REVERSE, "no"), "people-only")


def test_approvals_of_one_that_is_no_coordinator_any_more_do_not_count() -> None:
    books = Books(genesis(5))
    id_ = proposed(books, by="alpha")
    judge(books, id_, APPROVE, "beta-1")
    motion = motion_id(books.do("alpha-1", Move(Entitle(did("beta"), False))))
    for name in ("gamma", "delta", "epsilon"):
        books.do(f"{name}-1", Vote(motion, True))
    judge(books, id_, APPROVE, "gamma-1")
    assert status(books, id_) == OPEN
    judge(books, id_, APPROVE, "epsilon-1")
    assert status(books, id_) == EXECUTED


def test_too_few_coordinators_execute_nothing_risky_people_do() -> None:
    books = Books(genesis(4, coordinators=2))
    id_ = proposed(books)
    judge(books, id_, APPROVE, "beta-1")
    assert status(books, id_) == OPEN
    judge(books, id_, APPROVE, *PEOPLE[:4])
    assert status(books, id_) == EXECUTED


def test_what_cannot_be_proposed(books: Books) -> None:
    books.refused("alpha-1", Propose(Quarantine("nobody"), "because"), "subject-unknown")
    books.refused("alpha-1", Propose(Quarantine(did("delta"), lift=True), "because"), "not-quarantined")
    books.refused("alpha-1", Propose(Tune((("risk-threshold", 100),)), "because"), "parameter-not-autonomous")
    books.refused("alpha-1", Propose(Tune((("trust-uptime", 11),)), "because"), "parameter-out-of-bounds")
    books.refused("alpha-1", Propose(Tune((("dispute-ms", 1),)), "because"), "parameter-out-of-bounds")
    for _ in range(8):
        proposed(books)
    books.refused("alpha-1", Propose(RISKY, "because"), "busy")


def test_what_was_approved_too_late_to_be_done_has_failed(books: Books) -> None:
    first, second = proposed(books, by="alpha"), proposed(books, by="beta")
    judge(books, first, APPROVE, "gamma-1", "beta-1")
    judge(books, second, APPROVE, "gamma-1", "alpha-1")
    assert (status(books, first), status(books, second)) == (EXECUTED, FAILED)
    assert trail(books)[-1].why == "already-quarantined"


# -- exactly once ------------------------------------------------------------------------------------------------------


def test_a_decision_is_done_once(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, APPROVE, "beta-1", "gamma-1")
    books.refused("alpha-1", Judge(id_, APPROVE, "too"), "decision-ended")
    books.refused("alpha-ada", Judge(id_, APPROVE, "too"), "decision-ended")
    assert [entry.what for entry in trail(books)].count(EXECUTED) == 1


def test_neither_a_proposal_nor_an_approval_is_used_twice_in_whatever_epoch(books: Books) -> None:
    proposal = books.request("alpha-1", Propose(RISKY, "because"), expires_ms=books.time_ms + DAY_MS)
    id_ = decision_id(books.genesis.hash, books.block([proposal])[0].id)
    approvals = [books.request(key, Judge(id_, APPROVE, "yes"), expires_ms=books.time_ms + DAY_MS - 1_000) for key in ("beta-1", "gamma-1")]
    books.block(approvals)
    judge(books, id_, REVERSE, *PEOPLE[:4])
    assert (status(books, id_), quarantined(books)) == (REVERSED, False)
    for request in (proposal, *approvals):
        books.skipped(request, "nonce-used")
    again = proposed(books)
    assert again != id_ and status(books, again) == OPEN, "the old approvals are for the old decision"


def test_a_decision_names_its_mesh() -> None:
    assert decision_id(genesis(4).hash, bytes(32)) != decision_id(genesis(5).hash, bytes(32))


def test_an_ended_decision_is_forgotten_and_its_id_means_nothing_then(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, APPROVE, "beta-1", "gamma-1")
    books.block(later_ms=DAY_MS - 1_000)
    assert status(books, id_) == EXECUTED
    books.block(later_ms=1_000)
    assert status(books, id_) == "gone"
    books.refused("alpha-ada", Judge(id_, REVERSE, "late"), "decision-unknown")
    assert quarantined(books)


# -- risk --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "risk"),
    [
        (Quarantine(did("alpha")), 90),
        (Quarantine(did("epsilon")), 70),
        (Quarantine("epsilon-1"), 50),
        (Quarantine("epsilon-1", lift=True), 60),
        (Quarantine(agent_id(did("alpha"), "Reader")), 20),
        (Quarantine(agent_id(did("alpha"), "Reader"), lift=True), 30),
        (Tune((("dispute-ms", 3_600_000),)), 0),
        (Tune((("dispute-ms", 3_600_001),)), 0),
        (Tune((("dispute-ms", 4_500_000),)), 20),
        (Tune((("dispute-ms", 7_200_000),)), 80),
        (Tune((("dispute-ms", 86_400_000),)), 80),
        (Tune((("trust-credentials", 25), ("trust-history", 30))), 18),
        (Tune((("directory-max-records", 40_000), ("directory-record-ttl-ms", 2_000_000))), 99),
        (Tune((("directory-max-records", 40_000), ("dispute-ms", 7_200_000))), 100),
    ],
)
def test_risk_follows_from_the_ledger(action: Action, risk: int) -> None:
    books = Books(genesis(5, coordinators=4))
    books.do("alpha-1", Commit("Reader", 1, bytes(32)))
    assert action.risk(Draft(books.state, 1, books.time_ms)) == risk


# -- people ------------------------------------------------------------------------------------------------------------


def test_four_fifths_of_human_power_approve_against_the_coordinators(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, REJECT, "beta-1", "gamma-1")
    judge(books, id_, APPROVE, *PEOPLE[:3])
    assert status(books, id_) == REJECTED
    judge(books, id_, APPROVE, PEOPLE[3])
    assert (status(books, id_), quarantined(books)) == (EXECUTED, True)


def test_they_reject_what_coordinators_would_approve(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, APPROVE, "beta-1")
    judge(books, id_, REJECT, *PEOPLE[:4])
    assert status(books, id_) == REJECTED
    books.refused("gamma-1", Judge(id_, APPROVE, "but"), "decision-ended")


def test_they_reverse_what_was_executed(books: Books) -> None:
    id_ = proposed(books, TUNE)
    judge(books, id_, APPROVE, "beta-1", "gamma-1")
    assert dispute_ms(books) == 7_200_000
    judge(books, id_, REVERSE, *PEOPLE[:3])
    assert status(books, id_) == EXECUTED
    judge(books, id_, REVERSE, PEOPLE[4])
    assert (status(books, id_), dispute_ms(books)) == (REVERSED, 3_600_000)


def test_what_was_changed_again_since_is_not_reversed(books: Books) -> None:
    first = proposed(books, TUNE)
    judge(books, first, APPROVE, "beta-1", "gamma-1")
    second = proposed(books, Tune((("dispute-ms", 10_800_000),)))
    judge(books, second, APPROVE, "beta-1", "gamma-1")
    judge(books, first, REVERSE, *PEOPLE[:3])
    books.refused(PEOPLE[3], Judge(first, REVERSE, "back"), "reversal-stale")
    assert (status(books, first), dispute_ms(books)) == (EXECUTED, 10_800_000)


def test_a_person_may_think_again_and_counts_once(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, REJECT, *PEOPLE[:3])
    books.refused(PEOPLE[0], Judge(id_, REJECT, "again"), "already-voted")
    judge(books, id_, APPROVE, PEOPLE[0])
    judge(books, id_, REJECT, PEOPLE[3])
    assert status(books, id_) == OPEN
    judge(books, id_, REJECT, PEOPLE[4])
    assert status(books, id_) == REJECTED


def test_who_has_no_seat_has_no_power(books: Books) -> None:
    id_ = proposed(books)
    books.refused("delta-bob", Judge(id_, REJECT, "please"), "no-power")


def test_a_key_that_was_removed_has_no_power_left(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, REJECT, *PEOPLE[:3])
    books.do("alpha-root", RemoveHuman("alpha-ada"))
    judge(books, id_, REJECT, PEOPLE[3])
    assert status(books, id_) == OPEN


def test_without_seats_nobody_overrules() -> None:
    books = Books(genesis(4, seats=0))
    books.refused("alpha-ada", Judge(proposed(books), REJECT, "please"), "no-power")
    assert not overrule(Draft(books.state, 1, books.time_ms), ("alpha-ada", "beta-ada"))


def test_power_is_a_chambers_points_divided_among_its_seats() -> None:
    base = genesis(4, seats=3)
    council = base.governance.seats
    technical = tuple(replace(seat, chamber="technical") for seat in council[:2])
    books = Books(replace(base, governance=replace(base.governance, seats=(*council, *technical))))
    draft = Draft(books.state, 1, books.time_ms)
    powers = [power(draft, key) for key in PEOPLE[:4]]
    assert powers == [100, 100, 40, 0], "of 240: 20/3 + 20/2 of 40 points, times 6"
    assert overrule(draft, PEOPLE[:2]) and not overrule(draft, (PEOPLE[0], PEOPLE[2]))


# -- pausing -----------------------------------------------------------------------------------------------------------


def test_a_person_pauses_autonomy(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, APPROVE, "beta-1")
    books.do("delta-bob", Pause(600_000, "something is wrong"))
    books.refused("alpha-1", Propose(RISKY, "because"), "autonomy-paused")
    judge(books, id_, APPROVE, "gamma-1")
    assert (status(books, id_), quarantined(books)) == (OPEN, False)
    books.block(later_ms=600_000)
    assert (status(books, id_), quarantined(books)) == (EXECUTED, True), "approved meanwhile, executed when the pause ends"


def test_what_expires_during_a_pause_is_not_executed(books: Books) -> None:
    id_ = proposed(books)
    books.do("delta-bob", Pause(3_600_000, "something is wrong"))
    judge(books, id_, APPROVE, "beta-1", "gamma-1")
    books.block(later_ms=3_600_000)
    assert (status(books, id_), quarantined(books)) == (EXPIRED, False)


def test_people_decide_during_a_pause(books: Books) -> None:
    id_ = proposed(books)
    books.do("delta-bob", Pause(600_000, "something is wrong"))
    judge(books, id_, APPROVE, *PEOPLE[:4])
    assert status(books, id_) == EXECUTED


def test_an_hour_in_any_day_for_the_whole_mesh(books: Books) -> None:
    books.do("alpha-ada", Pause(HOUR_MS // 2, "one"))
    books.do("beta-ada", Pause(HOUR_MS // 2 - 1_000, "two, after the first"))
    books.refused("gamma-ada", Pause(2_000, "three"), "pause-used-up")
    books.do("gamma-ada", Pause(1_000, "three"))
    books.block(later_ms=DAY_MS - HOUR_MS // 2 - 5_000)
    books.refused("delta-ada", Pause(HOUR_MS, "four"), "pause-used-up")
    books.block(later_ms=HOUR_MS)
    books.refused("delta-ada", Pause(HOUR_MS + 1, "four"), "pause-used-up")
    books.do("delta-ada", Pause(HOUR_MS, "four"))


def test_no_window_of_a_day_has_more_than_an_hour_of_pauses(books: Books) -> None:
    """Asked for in every ten minutes; counted over every window that begins with a block."""
    now, spans = books.time_ms, []
    for _ in range(400):
        request = books.request("alpha-ada", Pause(600_000, "a while"), expires_ms=books.time_ms + DAY_MS)
        if not books.block([request], later_ms=600_000)[0].name:
            spans.append((books.time_ms, books.time_ms + 600_000))
    assert len(spans) > 10
    for start in range(now, books.time_ms, 600_000):
        assert sum(max(0, min(end, start + DAY_MS) - max(begin, start)) for begin, end in spans) <= HOUR_MS


# -- the trail ---------------------------------------------------------------------------------------------------------


def test_the_trail_says_who_and_why(books: Books) -> None:
    id_ = proposed(books)
    judge(books, id_, REJECT, *PEOPLE[:4])
    entries = [(entry.by, entry.what, entry.why) for entry in trail(books)]
    assert entries[0] == (did("alpha"), "proposed", "because")
    assert entries[1] == ("alpha-ada", REJECT, "I looked at it")
    assert entries[-1] == ("people", REJECTED, "")
    assert place(0) == place(4_096)


def test_open_decisions_are_listed(books: Books) -> None:
    first, second = proposed(books), proposed(books, by="beta")
    assert WAITING.read(books.state, b"") == (first, second)
    decision = DECISIONS.read(books.state, first)
    assert isinstance(decision, Decision)
    assert (decision.by, decision.action, decision.approved) == (did("alpha"), RISKY, (did("alpha"),))
    assert decision.expires_ms == books.time_ms - 1_000 + TIMEOUT_MS
