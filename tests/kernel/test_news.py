"""What becomes news of decisions: each thing once, in the order in which the ledger did it."""

from typing import cast

from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.actions import Quarantine, Tune
from meshos.consensus.ledger.approvals import APPROVE, REJECT, Judge, Propose, decision_id
from meshos.consensus.ledger.limits import DISCHARGE_MS
from meshos.consensus.ledger.motions import Entitle, Move, Vote, motion_id
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.testimonies import Testify as Accuse  # pytest takes what begins with Test for its own
from meshos.consensus.pbft.block import Block, Certified, Header
from meshos.consensus.pbft.events import Decided
from meshos.node.kernel.news import MOST, DecisionNews
from meshos.node.kernel.watch import Happened, Watch
from meshos.protocols.ledger.port import LedgerView
from tests.ledger.books import Books, did

TIMEOUT_MS = 900_000


class Window:
    """The ledger of ``books`` as a node sees it."""

    restoring = False

    def __init__(self, books: Books) -> None:
        self._books = books
        self.get, self.scan = books.state.get, books.state.scan

    @property
    def height(self) -> int:
        return self._books.height

    @property
    def time_ms(self) -> int:
        return self._books.time_ms


def news_of(books: Books) -> DecisionNews:
    return DecisionNews(cast(LedgerView, Window(books)))


def told(news: DecisionNews) -> list[tuple[str, object]]:
    return [(one.kind, dict(one.fields).get("what", "")) for one in news.take()]


def proposed(books: Books) -> bytes:
    return decision_id(books.genesis.hash, books.do("alpha-1", Propose(Quarantine(did("delta")), "because")))


def test_opened_approved_and_executed() -> None:
    books = Books()
    news = news_of(books)
    id_ = proposed(books)
    (opened,) = news.take()
    assert opened.text == f"alpha proposes decision {id_.hex()[:8]}, quarantine {did('delta')}, risk 90: because"
    books.do("beta-1", Judge(id_, APPROVE, "yes"))
    (one,) = news.take()
    assert one.text == f"beta says approve of decision {id_.hex()[:8]}: yes"
    assert dict(one.fields) == {"decision": id_.hex(), "what": "approve", "by": "beta", "why": "yes"}
    books.do("gamma-1", Judge(id_, APPROVE, "yes"))
    assert told(news) == [("decision", "approve"), ("decision", "executed")]
    assert told(news) == [], "each thing once"


def test_rejected_expired_and_paused() -> None:
    books = Books()
    news = news_of(books)
    first, _ = proposed(books), proposed(books)
    books.do("beta-1", Judge(first, REJECT, "no"))
    books.do("gamma-1", Judge(first, REJECT, "no"))
    books.do("alpha-ada", Pause(1_000, "wait"))
    books.block(later_ms=TIMEOUT_MS)
    kinds = [("decision", what) for what in ("proposed", "proposed", "reject", "reject", "rejected")]
    assert told(news) == [*kinds, ("pause", ""), ("decision", "expired")]


def test_what_was_before_the_start_and_what_is_no_decision_is_no_news() -> None:
    books = Books()
    proposed(books)
    news = news_of(books)
    books.do("alpha-1", Transfer(did("beta"), 1))
    assert news.take() == []


def test_of_very_many_at_once_the_newest_are_told() -> None:
    books = Books()
    news = news_of(books)
    small = [Propose(Tune((("directory-record-ttl-ms", 86_400_001 + n),)), str(n)) for n in range(MOST)]
    books.block([books.request("alpha-1", body, nonce=n) for n, body in enumerate(small)])
    found = news.take()
    assert len(found) == MOST and found[-2].text.endswith(f": {MOST - 1}") and dict(found[-1].fields)["what"] == "executed"


def decided(height: int) -> Decided:
    header = Header(height, 0, 1, bytes(32), bytes(32), bytes(32), bytes(32))
    return Decided(cast(Certified, type("Made", (), {"block": Block(header, ())})()), ())


def test_the_kernel_tells_it_after_the_block() -> None:
    said = Happened("decision", "it is executed", ())
    effects = Watch(news=lambda: [said]).step(0.0, decided(1))
    assert [effect.kind for effect in effects if isinstance(effect, Happened)] == ["block", "decision"]


def test_a_motion_that_is_moved_voted_on_carried_or_rejected() -> None:
    books = Books()
    news = news_of(books)
    id_ = motion_id(books.do("alpha-1", Move(Entitle(did("delta"), False))))
    (moved,) = news.take()
    assert (moved.kind, moved.text) == ("motion", f"alpha moves motion {id_.hex()[:8]}: {did('delta')} is no meta-coordinator")
    books.do("beta-1", Vote(id_, False))
    (voted,) = news.take()
    assert voted.text == f"beta votes against motion {id_.hex()[:8]}"
    assert dict(voted.fields) == {"motion": id_.hex(), "what": "voted-against", "by": "beta", "why": ""}
    books.do("gamma-1", Vote(id_, True))
    books.do("delta-1", Vote(id_, True))
    assert told(news) == [("motion", "voted-for"), ("motion", "voted-for"), ("motion", "carried")]
    other = motion_id(books.do("alpha-1", Move(Entitle(did("delta"), True))))
    for org in ("beta", "gamma"):
        books.do(f"{org}-1", Vote(other, False))
    assert told(news) == [("motion", what) for what in ("moved", "voted-against", "voted-against", "rejected")]


def test_who_testifies_about_a_holder_that_it_is_discharged_and_that_it_holds_again() -> None:
    books = Books()
    news = news_of(books)
    books.do("alpha-1", Accuse("delta-1", "stale", bytes(32)))
    books.do("beta-1", Accuse("delta-1", "forged", bytes(32)))
    assert [one.text for one in news.take()] == [
        "alpha says that node delta-1 lies about the directory: stale",
        "beta says that node delta-1 lies about the directory: forged",
        "node delta-1 holds nothing of the directory any more: 2 organisations say: forged, stale",
    ]
    books.block(later_ms=DISCHARGE_MS)
    (again,) = news.take()
    assert (again.kind, again.text) == ("holder", "node delta-1 may hold its part of the directory again")
    assert dict(again.fields) == {"peer": "delta-1", "what": "holds-again", "by": "", "why": ""}
