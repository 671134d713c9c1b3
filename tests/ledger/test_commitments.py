"""What agents' records are committed to, and what becomes of a withdrawn agent: its place is another's, and nothing old comes back."""

import pytest

from meshos.consensus.ledger import commitments
from meshos.consensus.ledger.commitments import COMMITMENTS, WITHDRAWN, Commit, Commitment, Withdrawn, least_version
from meshos.consensus.ledger.limits import MAX_VERSION_STEP, WITHDRAWN_MS
from meshos.consensus.ledger.members import ORGS
from meshos.ids import AgentId, agent_id
from tests.ledger.books import Books, did

ALPHA = did("alpha")
RECORD = b"r" * 32


@pytest.fixture
def books() -> Books:
    return Books()


def known(books: Books, name: str = "Reader") -> Commitment | None:
    return COMMITMENTS.read(books.state, agent_id(ALPHA, name))


def places(books: Books) -> int:
    org = ORGS.read(books.state, ALPHA)
    assert org is not None
    return org.agents


def forget(books: Books) -> None:
    """Time passes until what was withdrawn so far is forgotten."""
    books.block(later_ms=WITHDRAWN_MS)


def test_the_newest_record_of_an_agent_is_committed_to(books: Books) -> None:
    books.do("alpha-1", Commit("Reader", 3, b"3" * 32))
    assert known(books) == Commitment(ALPHA, 3, b"3" * 32, books.height)
    books.refused("alpha-1", Commit("Reader", 3, b"4" * 32), "version-conflict")
    books.refused("alpha-root", Commit("Reader", 2, None), "version-conflict")
    books.do("alpha-1", Commit("Reader", 4, None))
    assert known(books) == Commitment(ALPHA, 4, b"", books.height, books.time_ms + WITHDRAWN_MS)
    books.refused("alpha-1", Commit("Reader", 4, b"4" * 32), "version-conflict")


def test_nobody_commits_to_anothers_agent_or_withdraws_it(books: Books) -> None:
    books.do("alpha-1", Commit("Reader", 1, b"a" * 32))
    books.do("beta-1", Commit("Reader", 9, b"b" * 32))
    books.do("beta-1", Commit("Reader", 10, None))
    found = known(books)
    assert found is not None and found.record == b"a" * 32 and places(books) == 1


def test_an_agent_that_is_withdrawn_gives_its_place_to_another(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitments, "MAX_AGENTS", 2)
    for name in ("Reader", "Writer"):
        books.do("alpha-1", Commit(name, 1, RECORD))
    books.refused("alpha-1", Commit("Painter", 1, RECORD), "busy")
    books.do("alpha-1", Commit("Reader", 2, None))
    assert places(books) == 1
    books.do("alpha-1", Commit("Painter", 1, RECORD))
    books.refused("alpha-1", Commit("Reader", 3, RECORD), "busy")
    books.do("alpha-1", Commit("Writer", 2, None))
    books.do("alpha-1", Commit("Reader", 3, RECORD))
    assert places(books) == 2, "who comes back takes a place again"


def test_an_agent_is_withdrawn_once_and_only_if_it_is_there(books: Books) -> None:
    books.refused("alpha-1", Commit("Reader", 1, None), "not-committed")
    books.do("alpha-1", Commit("Reader", 1, RECORD))
    books.do("alpha-1", Commit("Reader", 2, None))
    books.refused("alpha-1", Commit("Reader", 3, None), "not-committed")
    assert places(books) == 0


def test_a_withdrawal_is_executed_once_and_under_its_own_nonce(books: Books) -> None:
    books.do("alpha-1", Commit("Reader", 1, RECORD))
    withdrawal = books.request("alpha-1", Commit("Reader", 2, None))
    books.skipped(books.request("alpha-1", Commit("Reader", 2, None), nonce=books.nonce("alpha-1") + 1), "nonce-ahead")
    books.block([withdrawal])
    books.skipped(withdrawal, "nonce-used")
    assert places(books) == 0


def test_no_record_comes_back_that_is_older_than_a_withdrawal_not_even_when_that_is_forgotten(books: Books) -> None:
    books.do("alpha-1", Commit("Reader", 7, RECORD))
    books.do("alpha-1", Commit("Reader", 8, None))
    books.refused("alpha-1", Commit("Reader", 7, RECORD), "version-conflict")
    forget(books)
    assert known(books) is None and WITHDRAWN.read(books.state, ALPHA) == Withdrawn(0, 8, 8)
    books.refused("alpha-1", Commit("Reader", 7, RECORD), "version-conflict")
    books.refused("alpha-1", Commit("Reader", 8, RECORD), "version-conflict")
    books.do("alpha-1", Commit("Reader", 9, RECORD))
    books.do("beta-1", Commit("Reader", 1, RECORD))


def test_a_deployment_that_looked_before_an_agent_was_withdrawn_is_committed_to_after_it(books: Books) -> None:
    """The floor rises only when a withdrawn agent is forgotten, and whoever deploys is above all that were withdrawn before."""
    new = AgentId(agent_id(ALPHA, "Painter"))
    books.do("alpha-1", Commit("Reader", 7, RECORD))
    books.do("alpha-1", Commit("Reader", 8, None))
    version = least_version(books.state, ALPHA, new) + 1
    books.do("alpha-1", Commit("Writer", 50, RECORD))
    books.do("alpha-1", Commit("Writer", 51, None))
    books.block(later_ms=WITHDRAWN_MS - 2_000)
    assert (version, known(books)) == (9, None) and known(books, "Writer") is not None
    books.do("alpha-1", Commit("Painter", version, RECORD))


def test_the_version_of_a_deployment_is_above_the_agents_own_and_of_one_that_is_not_there_above_all_withdrawn(books: Books) -> None:
    def least(name: str) -> int:
        return least_version(books.state, ALPHA, agent_id(ALPHA, name))

    assert least("Reader") == 0
    books.do("alpha-1", Commit("Reader", 3, RECORD))
    books.do("alpha-1", Commit("Writer", 8, RECORD))
    books.do("alpha-1", Commit("Writer", 9, None))
    assert (least("Reader"), least("Writer"), least("Painter")) == (3, 9, 9)
    forget(books)
    assert (least("Reader"), least("Writer"), least("Painter")) == (3, 9, 9)


def test_who_is_deployed_again_is_not_forgotten(books: Books) -> None:
    books.do("alpha-1", Commit("Reader", 1, RECORD))
    books.do("alpha-1", Commit("Reader", 2, None))
    books.do("alpha-1", Commit("Reader", 3, RECORD))
    books.do("alpha-1", Commit("Reader", 4, None))
    books.block(later_ms=WITHDRAWN_MS - 1_000)
    assert known(books) is not None, "the second withdrawal counts"
    books.do("alpha-1", Commit("Writer", 5, RECORD))
    forget(books)
    assert known(books) is None and places(books) == 1


def test_nobody_grows_the_state_by_deploying_and_withdrawing(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitments, "MAX_WITHDRAWN", 2)
    for name in ("Reader", "Writer", "Painter"):
        books.do("alpha-1", Commit(name, 1, RECORD))
    for name in ("Reader", "Writer", "Painter"):
        books.do("alpha-1", Commit(name, 2, None))
    books.refused("alpha-1", Commit("Dancer", 3, RECORD), "busy")
    books.do("alpha-1", Commit("Reader", 3, RECORD))
    books.refused("alpha-1", Commit("Dancer", 3, RECORD), "busy")
    forget(books)
    books.do("alpha-1", Commit("Dancer", 3, RECORD))


def test_a_node_that_lies_does_not_use_up_the_versions_of_its_organisation(books: Books) -> None:
    books.refused("alpha-1", Commit("Reader", MAX_VERSION_STEP + 1, RECORD), "version-conflict")
    books.do("alpha-1", Commit("Reader", MAX_VERSION_STEP, RECORD))
    books.refused("alpha-1", Commit("Reader", 2 * MAX_VERSION_STEP + 1, None), "version-conflict")
    books.do("alpha-1", Commit("Reader", MAX_VERSION_STEP + 1, None))
    forget(books)
    books.do("alpha-1", Commit("Writer", MAX_VERSION_STEP + 2, RECORD))
