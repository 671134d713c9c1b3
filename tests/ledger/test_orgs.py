"""Organisations, their keys and their seats: who comes in, who votes for whom, who can take what away from whom."""

from dataclasses import replace

import pytest

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.accounts import ACCOUNTS, Account, Transfer
from meshos.consensus.ledger.keys import HUMAN, NODE, RETIRED, ROOT, VALIDATOR
from meshos.consensus.ledger.keys import KEYS as ALL_KEYS
from meshos.consensus.ledger.limits import MAX_RETIRED_KEYS, RETIRED_MS, STATEMENT_MS
from meshos.consensus.ledger.members import CERTIFICATES, COORDINATORS, ORGS
from meshos.consensus.ledger.motions import MOTIONS, Admit, Configure, Entitle, Motion, Move, Subject, Vote, motion_id
from meshos.consensus.ledger.orgs import AddHuman, AddNode, Leave, RemoveHuman, RemoveNode, RotateRoot, RotateValidator
from meshos.consensus.ledger.packing import pack
from meshos.consensus.ledger.parameters import BY_VOTE, OPEN, PARAMETERS, from_genesis
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.seats import SEATS, Seat, Seats, statement
from meshos.consensus.ledger.transaction import domain
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL
from meshos.errors import Broken
from tests.ledger.books import FUNDS, Books, did, genesis

VOTING_MS = 259_200_000


@pytest.fixture
def books() -> Books:
    return Books()


def add_node(books: Books, org: str, node: str) -> AddNode:
    agree = books.agrees(node, did(org), NODE), books.agrees(f"{node}-votes", did(org), VALIDATOR)
    return AddNode(did(org), node, f"{node}-votes", *agree)


def admission(books: Books, name: str) -> Admit:
    return Admit(did(name), f"{name}-root", b"0" + name.encode(), books.agrees(f"{name}-root", did(name), ROOT))


def seat(books: Books, org: str, node: str | None, *nodes: str, ends_ms: int | None = None) -> Seat:
    entry = ORGS.read(books.state, did(org))
    assert entry is not None
    if ends_ms is None:
        ends_ms = books.time_ms + 60_000 if nodes else 0
    said = statement(did(org), node, entry.moves, ends_ms)
    signed = tuple((name, books.sign(name, domain(books.genesis.hash, "seat"), said)) for name in nodes)
    return Seat(did(org), node, entry.moves, signed, ends_ms)


def seated(books: Books) -> dict[str, tuple[str, str]]:
    seats = SEATS.read(books.state, b"")
    assert isinstance(seats, Seats)
    return {entry.org.split(":")[-1]: (entry.node, entry.key) for entry in seats.entries}


def carried(books: Books, subject: Subject, by: tuple[str, ...] = ("alpha", "beta", "gamma")) -> bytes:
    """A motion that is carried by these organisations."""
    id_ = motion_id(books.do(f"{by[0]}-1", Move(subject)))
    for name in by[1:]:
        books.do(f"{name}-1", Vote(id_, True))
    return id_


def open_motion(books: Books, id_: bytes) -> Motion | None:
    return MOTIONS.read(books.state, id_)


# -- motions -----------------------------------------------------------------------------------------------------------


def test_an_organisation_comes_in_with_q_votes(books: Books) -> None:
    id_ = motion_id(books.do("alpha-1", Move(admission(books, "zeta"))))
    books.do("beta-root", Vote(id_, True))
    assert ORGS.read(books.state, did("zeta")) is None, "two of four are no quorum"
    books.do("gamma-1", Vote(id_, True))
    assert open_motion(books, id_) is None
    assert ACCOUNTS.read(books.state, did("zeta")) == Account(0) and CERTIFICATES.read(books.state, did("zeta")) == b"0zeta"
    books.do("alpha-root", Transfer(did("zeta"), 10))
    books.do("zeta-root", Transfer(did("alpha"), 4))
    assert books.balance("zeta") == 6


def test_an_organisation_votes_once(books: Books) -> None:
    id_ = motion_id(books.do("alpha-1", Move(admission(books, "zeta"))))
    for key in ("alpha-1", "alpha-root"):
        books.refused(key, Vote(id_, True), "already-voted")
    books.do("beta-1", Vote(id_, False))
    books.refused("beta-root", Vote(id_, True), "already-voted")


def test_a_motion_ends_when_it_can_no_longer_be_carried(books: Books) -> None:
    id_ = motion_id(books.do("alpha-1", Move(admission(books, "zeta"))))
    books.do("beta-1", Vote(id_, False))
    assert open_motion(books, id_) is not None
    books.do("gamma-1", Vote(id_, False))
    assert open_motion(books, id_) is None
    books.refused("delta-1", Vote(id_, True), "motion-not-open")


def test_the_trail_tells_who_moved_what_who_voted_how_and_how_it_ended(books: Books) -> None:
    id_ = motion_id(books.do("alpha-1", Move(Entitle(did("delta"), False))))
    books.do("beta-1", Vote(id_, False))
    books.do("gamma-1", Vote(id_, True))
    books.do("delta-1", Vote(id_, True))
    trail = [(one.by, one.what, one.why) for one in reversed(queries.audit(books.state, 9)) if one.subject == id_.hex()]
    words = f"{did('delta')} is no meta-coordinator"
    votes = [(did("beta"), "voted-against", ""), (did("gamma"), "voted-for", ""), (did("delta"), "voted-for", "")]
    assert trail == [(did("alpha"), "moved", words), *votes, (did("alpha"), "motion-carried", words)]


def test_a_motion_expires(books: Books) -> None:
    id_ = motion_id(books.do("alpha-1", Move(admission(books, "zeta"))))
    late = books.request("beta-1", Vote(id_, True), expires_ms=books.time_ms + VOTING_MS)
    books.block(later_ms=VOTING_MS - 60_000)
    assert open_motion(books, id_) is not None
    books.block(later_ms=60_000)
    assert open_motion(books, id_) is None
    books.skipped(late, "transaction-expired")
    books.refused("beta-1", Vote(id_, True), "motion-not-open")


def test_who_speaks_for_an_organisation(books: Books) -> None:
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    books.refused("alpha-2", Move(admission(books, "zeta")), "no-voice")
    carried(books, admission(books, "zeta"))
    books.refused("zeta-root", Move(admission(books, "eta")), "not-seated")


def test_who_moved_an_admission_gives_the_gift_once_and_only_what_it_has(books: Books) -> None:
    carried(books, Configure((("admission-gift", 600_000),)))
    carried(books, admission(books, "zeta"))
    assert (books.balance("alpha"), books.balance("zeta")) == (FUNDS - 600_000, 600_000)
    carried(books, admission(books, "eta"))
    assert (books.balance("alpha"), books.balance("eta")) == (FUNDS - 600_000, 0), "alpha has less than the gift"
    books.do("zeta-root", Leave(did("beta")))
    back = Admit(did("zeta"), "zeta-new", b"0", books.agrees("zeta-new", did("zeta"), ROOT))
    id_ = motion_id(books.do("beta-1", Move(back)))
    for name in ("gamma", "delta"):
        books.do(f"{name}-1", Vote(id_, True))
    assert books.balance("zeta") == 0, "who comes back is given nothing"


def test_who_has_left_gives_nothing_any_more(books: Books) -> None:
    carried(books, Configure((("admission-gift", 1_000),)))
    id_ = motion_id(books.do("delta-1", Move(admission(books, "zeta"))))
    books.do("delta-root", Leave(None))
    for name in ("alpha", "beta"):
        books.do(f"{name}-1", Vote(id_, True))
    assert (books.balance("delta"), books.balance("zeta")) == (FUNDS, 0)


def test_a_testnet_is_open_with_a_gift_and_any_other_mesh_admits_by_vote() -> None:
    real, testnet = from_genesis(genesis()), from_genesis(replace(genesis(), testnet=True))
    assert (real["admission"], real["admission-gift"]) == (BY_VOTE, 0)
    assert (testnet["admission"], testnet["admission-gift"]) == (OPEN, 100_000_000)


EARLIER = (
    *("approval-timeout-ms", "directory-max-records", "directory-max-records-per-org", "directory-record-ttl-ms", "dispute-ms"),
    *("risk-threshold", "trust-attestations", "trust-compliance", "trust-credentials", "trust-history", "trust-uptime"),
    "voting-period-ms",
)
"""The parameters of the first builds, in the order in which they kept them."""


def test_a_ledger_of_an_earlier_build_is_read_as_it_was_meant(books: Books) -> None:
    of_genesis = from_genesis(genesis())
    kept = pack(1, *2 * [[of_genesis[name] for name in EARLIER]])
    assert PARAMETERS.decode(kept) == of_genesis, "strangers come in by vote, and get nothing"
    assert books.state.get(PARAMETERS.key(b"")) == kept, "a mesh that has never set what is new keeps the state that it had"
    carried(books, Configure((("admission", OPEN), ("trust-history", 30), ("trust-credentials", 25))))
    changed = PARAMETERS.read(books.state, b"")
    assert changed is not None
    assert [changed[name] for name in ("admission", "admission-gift", "trust-history", "voting-period-ms")] == [OPEN, 0, 30, VOTING_MS]


@pytest.mark.parametrize("rows", [[], [1] * (len(EARLIER) - 1)])
def test_parameters_that_are_missing_are_said(rows: list[int]) -> None:
    with pytest.raises(Broken) as caught:
        PARAMETERS.decode(pack(1, rows, rows))
    assert caught.value.name == "ledger-broken"


def test_what_cannot_be_moved(books: Books) -> None:
    books.refused("alpha-1", Move(admission(books, "beta")), "already-a-member")
    taken = Admit(did("zeta"), "beta-root", b"0", books.agrees("beta-root", did("zeta"), ROOT))
    books.refused("alpha-1", Move(taken), "key-in-use")
    books.refused("alpha-1", Move(Entitle(did("zeta"), True)), "not-a-member")
    books.refused("alpha-1", Move(Configure((("trust-history", 99),))), "parameter-out-of-bounds")
    for _ in range(8):
        books.do("alpha-1", Move(admission(books, "zeta")))
    books.refused("alpha-1", Move(admission(books, "zeta")), "busy")


def test_a_motion_that_cannot_be_carried_any_more_stays_open(books: Books) -> None:
    first = motion_id(books.do("alpha-1", Move(admission(books, "zeta"))))
    books.do("beta-1", Vote(first, True))
    carried(books, admission(books, "zeta"))
    books.refused("gamma-1", Vote(first, True), "already-a-member")
    assert open_motion(books, first) is not None


def test_the_new_root_must_agree_to_belong_to_that_organisation(books: Books) -> None:
    stolen = Admit(did("eta"), "zeta-root", b"0", admission(books, "zeta").agrees)
    assert books.holds(books.request("alpha-1", Move(admission(books, "zeta"))))
    assert not books.holds(books.request("alpha-1", Move(stolen)))


def test_parameters_and_coordinators_are_moved(books: Books) -> None:
    carried(books, Configure((("trust-credentials", 25), ("trust-history", 30))))
    parameters = PARAMETERS.read(books.state, b"")
    assert parameters is not None
    assert (parameters.version, parameters["trust-credentials"], parameters["trust-history"], parameters["trust-uptime"]) == (2, 25, 30, 10)
    carried(books, Entitle(did("delta"), False))
    assert COORDINATORS.read(books.state, b"") == (did("alpha"), did("beta"), did("gamma"))
    carried(books, Entitle(did("delta"), True))
    assert COORDINATORS.read(books.state, b"") == (did("alpha"), did("beta"), did("delta"), did("gamma"))


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_root_key_registers_and_removes(books: Books) -> None:
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    books.do("alpha-2", Transfer(did("beta"), 1))
    human = AddHuman(did("alpha"), "Cy", "alpha-cy", books.agrees("alpha-cy", did("alpha"), HUMAN))
    books.do("alpha-root", human)
    books.do("alpha-cy", Pause(1_000, "a look around"))
    books.do("alpha-root", RemoveNode("alpha-2"))
    books.do("alpha-root", RemoveHuman("alpha-cy"))
    books.skipped(books.request("alpha-2", Transfer(did("beta"), 1)), "unknown-signer")
    books.skipped(books.request("alpha-cy", Pause(1_000, "again")), "unknown-signer")


def test_nobody_registers_for_another(books: Books) -> None:
    books.refused("beta-root", add_node(books, "alpha", "alpha-2"), "signer-not-allowed")
    books.skipped(books.request("alpha-1", add_node(books, "alpha", "alpha-2")), "signer-not-allowed")
    human = AddHuman(did("alpha"), "Cy", "alpha-cy", books.agrees("alpha-cy", did("alpha"), HUMAN))
    books.refused("beta-root", human, "signer-not-allowed")
    books.refused("beta-root", RemoveHuman("alpha-ada"), "key-unknown")
    books.refused("beta-root", RemoveNode("alpha-1"), "key-unknown")
    books.refused("alpha-root", RemoveNode("alpha-ada"), "key-unknown")


def test_one_key_has_one_role(books: Books) -> None:
    taken = AddHuman(did("alpha"), "Cy", "beta-1", books.agrees("beta-1", did("alpha"), HUMAN))
    books.refused("alpha-root", taken, "key-in-use")
    books.refused("alpha-root", add_node(books, "alpha", "beta-1"), "key-in-use")


def test_a_key_cannot_be_taken_before_its_holder_registers_it(books: Books) -> None:
    honest = add_node(books, "alpha", "alpha-2")
    stolen = AddNode(did("beta"), honest.node, honest.validator, honest.node_agrees, honest.validator_agrees)
    assert books.holds(books.request("alpha-root", honest)) and not books.holds(books.request("beta-root", stolen))


def test_nobody_grows_the_state_by_changing_keys(books: Books) -> None:
    def rotation(number: int) -> RotateValidator:
        key = f"votes-{number}"
        return RotateValidator(did("alpha"), "alpha-1", key, books.agrees(key, did("alpha"), VALIDATOR))

    for begin in range(0, MAX_RETIRED_KEYS // 2, 64):
        nonce = books.nonce("alpha-1")
        requests = [books.request("alpha-1", rotation(begin + more), nonce=nonce + more) for more in range(64)]
        assert {result.outcome for result in books.block(requests)} == {"committed"}
    books.refused("alpha-1", rotation(MAX_RETIRED_KEYS), "busy")
    books.do("alpha-root", RemoveHuman("alpha-ada"))
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    for number in range(MAX_RETIRED_KEYS // 2 - 1):
        key = f"carl-{number}"
        books.do("alpha-root", AddHuman(did("alpha"), "Carl", key, books.agrees(key, did("alpha"), HUMAN)))
        books.do("alpha-root", RemoveHuman(key))
    books.refused("alpha-root", add_node(books, "alpha", "alpha-3"), "busy")
    books.do("alpha-root", RemoveNode("alpha-2"))
    books.block(later_ms=RETIRED_MS + 1)  # as many are forgotten as one block forgets
    books.do("alpha-root", add_node(books, "alpha", "alpha-3"))


def test_a_retired_key_comes_back_only_when_all_it_signed_has_expired(books: Books) -> None:
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    spent = books.request("alpha-2", Transfer(did("beta"), 1), expires_ms=books.time_ms + 80_000_000)
    books.block([spent])
    books.do("alpha-root", RemoveNode("alpha-2"))
    again = add_node(books, "alpha", "alpha-2")
    books.refused("alpha-root", again, "key-in-use")
    books.block(later_ms=RETIRED_MS + 1)
    books.do("alpha-root", again)
    books.skipped(spent, "transaction-expired")


def test_the_root_key_is_rotated(books: Books) -> None:
    rotation = RotateRoot(did("alpha"), "alpha-new", b"0new", books.agrees("alpha-new", did("alpha"), ROOT))
    books.refused("beta-root", rotation, "signer-not-allowed")
    books.do("alpha-root", rotation)
    books.skipped(books.request("alpha-root", Transfer(did("beta"), 1)), "unknown-signer")
    books.do("alpha-new", Transfer(did("beta"), 1))
    assert CERTIFICATES.read(books.state, did("alpha")) == b"0new"
    back = RotateRoot(did("alpha"), "alpha-root", b"0", books.agrees("alpha-root", did("alpha"), ROOT))
    books.refused("alpha-new", back, "key-in-use")


def test_a_validator_key_is_rotated_by_its_node_or_the_root(books: Books) -> None:
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    fresh = RotateValidator(did("alpha"), "alpha-1", "alpha-fresh", books.agrees("alpha-fresh", did("alpha"), VALIDATOR))
    books.refused("alpha-2", fresh, "signer-not-allowed")
    books.refused("beta-root", fresh, "signer-not-allowed")
    books.do("alpha-1", fresh)
    assert seated(books)["alpha"] == ("alpha-1", "alpha-fresh")
    assert books.validators is not None and books.validators.entries[0].key == "alpha-fresh"
    again = RotateValidator(did("alpha"), "alpha-1", "alpha-1-votes", books.agrees("alpha-1-votes", did("alpha"), VALIDATOR))
    books.refused("alpha-1", again, "key-in-use")
    gone = ALL_KEYS.read(books.state, "alpha-1-votes")
    assert gone is not None and gone.role == RETIRED


# -- seats -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(books: Books) -> Books:
    """alpha has three nodes."""
    for node in ("alpha-2", "alpha-3"):
        books.do("alpha-root", add_node(books, "alpha", node))
    return books


def test_a_majority_of_the_nodes_hands_the_seat_over(three: Books) -> None:
    three.refused("alpha-1", seat(three, "alpha", "alpha-2"), "no-authority")
    three.refused("alpha-2", seat(three, "alpha", "alpha-2", "alpha-2"), "no-authority")
    three.do("alpha-2", seat(three, "alpha", "alpha-2", "alpha-3"))
    assert seated(three)["alpha"] == ("alpha-2", "alpha-2-votes")
    assert three.validators is not None and three.validators.entries[0].node == "alpha-2"


def test_half_of_the_nodes_is_no_majority(books: Books) -> None:
    books.do("alpha-root", add_node(books, "alpha", "alpha-2"))
    books.refused("alpha-2", seat(books, "alpha", "alpha-2"), "no-authority")
    books.do("alpha-2", seat(books, "alpha", "alpha-2", "alpha-1"))


def test_anybody_may_carry_what_the_nodes_signed(three: Books) -> None:
    three.do("beta-1", seat(three, "alpha", "alpha-3", "alpha-1", "alpha-3"))
    assert seated(three)["alpha"][0] == "alpha-3"


def test_nodes_of_others_are_no_majority(three: Books) -> None:
    three.refused("beta-1", seat(three, "alpha", "alpha-2", "alpha-2", "beta-1", "gamma-1"), "no-authority")
    three.refused("beta-root", seat(three, "alpha", "alpha-2"), "no-authority")


def test_a_statement_of_the_nodes_is_used_once(three: Books) -> None:
    there = seat(three, "alpha", "alpha-2", "alpha-2", "alpha-3")
    three.do("alpha-2", there)
    three.do("alpha-root", seat(three, "alpha", "alpha-1"))
    three.refused("alpha-2", there, "statement-used")
    assert seated(three)["alpha"][0] == "alpha-1"


def test_a_statement_of_the_nodes_has_an_end(three: Books) -> None:
    """Given in one outage, it would otherwise be good in any later one."""
    there = seat(three, "alpha", "alpha-2", "alpha-2", "alpha-3")
    three.block(later_ms=60_000)
    three.refused("alpha-2", there, "statement-expired")
    far = three.time_ms + STATEMENT_MS
    three.refused("alpha-2", seat(three, "alpha", "alpha-2", "alpha-2", "alpha-3", ends_ms=far + 60_000), "statement-expired")
    three.refused("alpha-2", seat(three, "alpha", "alpha-2", "alpha-2", "alpha-3", ends_ms=0), "statement-expired")
    three.do("alpha-2", seat(three, "alpha", "alpha-2", "alpha-2", "alpha-3", ends_ms=far))
    three.do("alpha-root", Seat(did("alpha"), "alpha-1", 1))
    assert seated(three)["alpha"][0] == "alpha-1", "what the root key signs ends as its transaction does"


def test_a_forged_statement_does_not_hold(three: Books) -> None:
    honest = seat(three, "alpha", "alpha-2", "alpha-2", "alpha-3")
    turned = Seat(honest.org, "alpha-3", honest.moves, honest.nodes, honest.ends_ms)
    longer = Seat(honest.org, honest.node, honest.moves, honest.nodes, honest.ends_ms + 1)
    assert three.holds(three.request("alpha-2", honest))
    assert not three.holds(three.request("alpha-2", turned)) and not three.holds(three.request("alpha-2", longer))


def test_the_root_key_alone_hands_it_over_too(three: Books) -> None:
    three.do("alpha-root", seat(three, "alpha", "alpha-3"))
    assert seated(three)["alpha"] == ("alpha-3", "alpha-3-votes")
    three.refused("alpha-root", seat(three, "alpha", "beta-1"), "key-unknown")
    three.refused("alpha-root", RemoveNode("alpha-3"), "node-seated")


def test_new_seats_come_in_a_few_at_a_checkpoint(books: Books) -> None:
    for name in ("zeta", "eta"):
        carried(books, admission(books, name))
        books.do(f"{name}-root", add_node(books, name, f"{name}-1"))
    books.do("zeta-root", seat(books, "zeta", "zeta-1"))
    books.refused("eta-root", seat(books, "eta", "eta-1"), "seats-full")
    while books.height % CHECKPOINT_INTERVAL != CHECKPOINT_INTERVAL - 1:
        books.block(later_ms=1)
    books.do("eta-root", seat(books, "eta", "eta-1"))
    assert books.validators is not None
    assert [entry.org for entry in books.validators.entries] == [did(n) for n in ("alpha", "beta", "delta", "eta", "gamma", "zeta")]


def test_a_seat_is_given_up_but_not_the_last() -> None:
    books = Books(genesis(2))
    books.do("alpha-root", seat(books, "alpha", None))
    assert list(seated(books)) == ["beta"]
    books.refused("beta-root", seat(books, "beta", None), "last-seat")
    books.refused("beta-root", Leave(None), "last-seat")


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_who_leaves_has_no_key_no_seat_and_no_account_that_receives(books: Books) -> None:
    books.do("delta-root", Leave(did("alpha")))
    assert books.balance("alpha") == 2 * FUNDS and books.balance("delta") == 0
    assert "delta" not in seated(books) and did("delta") not in (COORDINATORS.read(books.state, b"") or ())
    for key in ("delta-root", "delta-1"):
        books.skipped(books.request(key, Transfer(did("alpha"), 1)), "unknown-signer")
    books.refused("alpha-root", Transfer(did("delta"), 1), "account-unknown")


def test_what_is_left_behind_waits_for_the_return(books: Books) -> None:
    books.do("delta-root", Leave(None))
    assert books.balance("delta") == FUNDS
    back = Admit(did("delta"), "delta-new", b"0", books.agrees("delta-new", did("delta"), ROOT))
    id_ = motion_id(books.do("alpha-1", Move(back)))
    books.do("beta-1", Vote(id_, True))  # two of the three that are left
    books.do("delta-new", Transfer(did("alpha"), FUNDS))


def test_an_heir_must_be_a_member(books: Books) -> None:
    books.refused("delta-root", Leave(did("zeta")), "account-unknown")


def test_a_vote_of_one_that_lost_its_seat_does_not_count() -> None:
    books = Books(genesis(5))
    id_ = motion_id(books.do("alpha-1", Move(admission(books, "zeta"))))
    books.do("beta-1", Vote(id_, True))
    books.do("alpha-root", seat(books, "alpha", None))
    books.do("gamma-1", Vote(id_, True))
    assert open_motion(books, id_) is not None, "beta and gamma of four"
    books.do("delta-1", Vote(id_, True))
    assert open_motion(books, id_) is None
