"""What happens to validators that lie, and how the rules are upgraded."""

from dataclasses import replace

import pytest

from meshos.consensus.ledger import evidence
from meshos.consensus.ledger.actions import Quarantine, Tune
from meshos.consensus.ledger.approvals import APPROVE, DECISIONS, EXECUTED, OPEN, REJECT, Judge, Propose, decision_id
from meshos.consensus.ledger.keys import NODE, VALIDATOR
from meshos.consensus.ledger.limits import NOTICE_BLOCKS, RETIRED_MS
from meshos.consensus.ledger.motions import MOTIONS as ALL_MOTIONS
from meshos.consensus.ledger.motions import Admit, Motion, Move, Reinstate, Upgrade, Vote, motion_id
from meshos.consensus.ledger.orgs import AddNode, RotateValidator
from meshos.consensus.ledger.results import COMMITTED, SKIPPED
from meshos.consensus.ledger.seats import SEATS, Seat
from meshos.consensus.ledger.upgrades import RULES, Rules, Support
from meshos.consensus.pbft.evidence import encode_evidence
from meshos.consensus.pbft.messages import Evidence
from meshos.consensus.pbft.messages import Vote as Ballot
from meshos.crypto.signing import Domain
from meshos.errors import Failed, MeshError, Refused
from tests.ledger.books import Books, did


@pytest.fixture
def books() -> Books:
    return Books()


def ballot(books: Books, key: str, header: bytes, height: int = 7) -> Ballot:
    domain = Domain(books.genesis.hash, "pbft", 0, 2, height, "commit")
    return Ballot("commit", 0, 2, height, header, 1, books.sign(key, domain, header))


def lie(books: Books, key: str = "beta-1-votes") -> bytes:
    """The request that proves it."""
    found = Evidence(ballot(books, key, b"a" * 32), ballot(books, key, b"b" * 32))
    return evidence.accuse(encode_evidence(found), key)


def suspended(books: Books) -> list[str]:
    seats = SEATS.read(books.state, b"")
    assert seats is not None
    return [entry.org.split(":")[-1] for entry in seats.entries if entry.suspended]


# -- evidence ----------------------------------------------------------------------------------------------------------


def test_two_votes_for_different_blocks_suspend_the_vote_and_keep_the_seat(books: Books) -> None:
    request = lie(books)
    assert books.holds(request) and books.ledger.admit(books.store, request, books.time_ms) is None
    assert books.block([request])[0].outcome == COMMITTED
    assert suspended(books) == ["beta"]
    assert books.validators is not None and (books.validators.n, books.validators.q) == (4, 3)
    books.refused("beta-1", Move(Reinstate(did("beta"))), "validator-suspended")


def test_who_has_lied_decides_nothing_with_the_other_coordinators_either(books: Books) -> None:
    risky = Propose(Quarantine(did("delta")), "because")
    waits = decision_id(books.genesis.hash, books.do("alpha-1", risky))
    books.do("beta-1", Judge(waits, APPROVE, "yes"))
    books.block([lie(books)])
    for key in ("beta-1", "beta-root"):
        books.refused(key, Propose(Tune((("dispute-ms", 3_600_001),)), "because"), "validator-suspended")
        books.refused(key, Judge(waits, REJECT, "no"), "validator-suspended")
    books.do("gamma-1", Judge(waits, APPROVE, "yes"))
    decision = DECISIONS.read(books.state, waits)
    assert decision is not None and decision.status == OPEN, "the approval that beta gave before does not count"
    books.do("delta-1", Judge(waits, APPROVE, "yes"))
    decision = DECISIONS.read(books.state, waits)
    assert decision is not None and decision.status == EXECUTED


def test_the_agreement_names_the_seat_and_the_ledger_its_key(books: Books) -> None:
    found = encode_evidence(Evidence(ballot(books, "beta-1-votes", b"a" * 32), ballot(books, "beta-1-votes", b"b" * 32)))
    assert books.ledger.accusation(found) == lie(books)
    books.ledger.validators_of = {}.get
    assert books.ledger.accusation(found) is None


def test_the_same_lie_convicts_once(books: Books) -> None:
    request = lie(books)
    assert [result.outcome for result in books.block([request, request])] == [COMMITTED, SKIPPED]
    error = books.ledger.admit(books.store, request, books.time_ms)
    assert error is not None and error.name == "already-convicted"


def test_a_batch_takes_one_accusation_of_a_key(books: Books) -> None:
    batch = books.ledger.batch(books.store, books.time_ms)
    errors = [batch.admit(lie(books, key)) for key in ("beta-1-votes", "beta-1-votes", "gamma-1-votes")]
    assert [None if error is None else error.name for error in errors] == [None, "already-convicted", None]


def test_forged_evidence_does_not_hold(books: Books) -> None:
    forged = Evidence(ballot(books, "beta-1-votes", b"a" * 32), ballot(books, "gamma-1-votes", b"b" * 32))
    assert not books.holds(evidence.accuse(encode_evidence(forged), "beta-1-votes"))
    for key in ("beta-1-votes", "alpha-1-votes"):
        assert books.holds(lie(books, key)) and not books.holds(evidence.accuse(encode_evidence(forged), key))


@pytest.mark.parametrize("key", ["stranger", "beta-1", "beta-root", "beta-ada"])
def test_only_a_validators_key_is_convicted(books: Books, key: str) -> None:
    books.skipped(lie(books, key), "accused-unknown")


def test_what_is_no_evidence_has_a_name(books: Books) -> None:
    one, other = ballot(books, "beta-1-votes", b"a" * 32), ballot(books, "beta-1-votes", b"b" * 32)
    no_lies = [Evidence(one, one), Evidence(one, ballot(books, "beta-1-votes", b"b" * 32, height=8)), Evidence(one, replace(other, view=3))]
    for request in [evidence.accuse(encode_evidence(no_lie), "beta-1-votes") for no_lie in no_lies]:
        with pytest.raises(Refused) as caught:
            books.ledger.claims(request)
        assert caught.value.name == "no-evidence"
    whole = encode_evidence(Evidence(one, other))
    for request, name in [
        (evidence.accuse(b"rubbish", "beta-1-votes"), "bad-encoding"),
        (evidence.accuse(whole, "k" * 97), "transaction-malformed"),
        (evidence.accuse(bytes(700), "beta-1-votes"), "too-large"),
        (b"\x84\x02\x01\x01\x01", "unknown-version"),
        (b"\x84\xf5\x01\x01\x01", "transaction-malformed"),
    ]:
        books.skipped(request, name)


def test_a_key_that_was_rotated_away_is_still_convicted_and_stays_so(books: Books) -> None:
    request = lie(books)
    fresh = RotateValidator(did("beta"), "beta-1", "beta-fresh", books.agrees("beta-fresh", did("beta"), VALIDATOR))
    books.do("beta-1", fresh)
    assert books.block([request])[0].outcome == COMMITTED
    assert suspended(books) == ["beta"], "the organisation's vote, whichever key holds the seat"
    books.block(later_ms=RETIRED_MS + 1)
    books.skipped(request, "already-convicted")


def test_a_burnt_key_never_votes_again_and_others_give_the_vote_back(books: Books) -> None:
    books.block([lie(books)])
    books.refused("alpha-1", Move(Reinstate(did("beta"))), "key-burnt")
    agree = books.agrees("beta-2", did("beta"), NODE), books.agrees("beta-2-votes", did("beta"), VALIDATOR)
    books.do("beta-root", AddNode(did("beta"), "beta-2", "beta-2-votes", *agree))
    books.do("beta-root", Seat(did("beta"), "beta-2", 0))
    assert suspended(books) == ["beta"], "another key is no pardon"
    books.do("beta-root", Seat(did("beta"), None, 1))
    books.do("beta-root", Seat(did("beta"), "beta-2", 2))
    assert suspended(books) == ["beta"], "nor is giving the seat up and taking it again"
    books.refused("beta-root", Seat(did("beta"), "beta-1", 3), "key-burnt")
    id_ = motion_id(books.do("alpha-1", Move(Reinstate(did("beta")))))
    for name in ("gamma", "delta"):
        books.do(f"{name}-1", Vote(id_, True))
    assert suspended(books) == []


def test_a_suspended_vote_does_not_count_for_a_motion(books: Books) -> None:
    agrees = books.agrees("zeta-root", did("zeta"), "root")
    id_ = motion_id(books.do("beta-1", Move(Admit(did("zeta"), "zeta-root", b"0", agrees))))
    books.do("alpha-1", Vote(id_, True))
    books.block([lie(books)])
    books.do("gamma-1", Vote(id_, True))
    assert ALL_MOTIONS.read(books.state, id_) is not None
    books.do("delta-1", Vote(id_, True))
    assert ALL_MOTIONS.read(books.state, id_) is None


# -- upgrades ----------------------------------------------------------------------------------------------------------


def moved(books: Books, version: int, height: int) -> tuple[bytes, str]:
    """A motion for an upgrade with all the votes but the last; then the name under which the last is refused."""
    id_ = motion_id(books.do("alpha-1", Move(Upgrade(version, height))))
    books.do("beta-1", Vote(id_, True))
    return id_, books.run("gamma-1", Vote(id_, True)).name


def test_an_activation_height_is_set_only_after_q_announced_their_support(books: Books) -> None:
    height = 40 + NOTICE_BLOCKS
    for name in ("alpha", "beta"):
        books.do(f"{name}-1", Support(2))
    id_, refused = moved(books, 2, height)
    assert refused == "upgrade-not-possible" and isinstance(ALL_MOTIONS.read(books.state, id_), Motion)
    books.do("gamma-1", Support(3))
    books.do("gamma-1", Vote(id_, True))
    rules = RULES.read(books.state, b"")
    assert isinstance(rules, Rules) and (rules.version, rules.next_version, rules.height) == (1, 2, height)
    assert moved(books, 3, height + 500)[1] == "upgrade-not-possible", "one at a time"


def test_a_replica_stops_before_the_rules_that_it_does_not_know(books: Books) -> None:
    for name in ("alpha", "beta", "gamma"):
        books.do(f"{name}-1", Support(2))
    height = 20 + NOTICE_BLOCKS
    assert moved(books, 2, height)[1] == ""
    while books.height < height - 1:
        books.block(later_ms=1)
    before = books.entries()
    with pytest.raises(Failed) as caught:
        books.block(later_ms=1)
    assert caught.value.name == "upgrade-needed" and books.entries() == before


def test_an_upgrade_needs_notice_and_goes_forward_only(books: Books) -> None:
    for name in ("alpha", "beta", "gamma"):
        books.do(f"{name}-1", Support(2))
    assert moved(books, 2, 5)[1] == "upgrade-not-possible"
    assert moved(books, 1, 1_000)[1] == "upgrade-not-possible"


def test_reading_a_bad_accusation_never_raises_anything_but_a_refusal(books: Books) -> None:
    request = lie(books)
    for cut in range(1, len(request), 11):
        with pytest.raises(MeshError):
            books.ledger.claims(request[:cut])
