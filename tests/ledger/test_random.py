"""Whatever is sent in whatever order: tokens are conserved, no voucher is paid twice, nothing is executed twice, no decision without its approvals.

After every block ``Books`` audits the whole state (``consensus/ledger/conservation.py``); here is what the history adds to that.
"""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from meshos.consensus.ledger import evidence
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.actions import Quarantine, Tune
from meshos.consensus.ledger.approvals import ACTS, APPROVE, DECISIONS, EXECUTED, Judge, Propose, decision_id
from meshos.consensus.ledger.audit import AUDIT
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.commitments import Commit
from meshos.consensus.ledger.limits import MAX_LIFETIME_MS
from meshos.consensus.ledger.motions import Admit, Configure, Entitle, Move, Reinstate, Vote, motion_id
from meshos.consensus.ledger.orgs import Leave, RotateRoot, RotateValidator
from meshos.consensus.ledger.parameters import PARAMETERS
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.results import COMMITTED, SKIPPED, Result
from meshos.consensus.ledger.seats import Seat
from meshos.consensus.ledger.tabs import TABS, CloseTab, OpenTab, TopUpTab, tab_id
from meshos.consensus.pbft.evidence import encode_evidence
from meshos.consensus.pbft.messages import Evidence
from meshos.consensus.pbft.messages import Vote as Ballot
from meshos.crypto.signing import Domain
from tests.ledger.books import FUNDS, Books, did, genesis

ORGS = ("alpha", "beta", "gamma", "delta", "epsilon")
orgs = st.sampled_from((*ORGS, "zeta"))
amounts = st.sampled_from((1, 7, 100, FUNDS // 2, FUNDS, FUNDS * 5))
SUFFIXES = st.sampled_from(("root", "1"))


class RandomLedger(RuleBasedStateMachine):
    tabs = Bundle("tabs")
    motions = Bundle("motions")
    decisions = Bundle("decisions")

    def __init__(self) -> None:
        super().__init__()
        self.books = Books(genesis(5, coordinators=5))
        self.sent: list[bytes] = []
        self.committed: Counter[bytes] = Counter()
        self.vouchers: dict[bytes, int] = {}
        self.paid: Counter[bytes] = Counter()

    def send(self, *orders: tuple[str, Body]) -> list[Result]:
        """In one block; nonces as the keys need them."""
        books, next_nonce, requests = self.books, Counter[str](), []
        for key, body in orders:
            requests.append(books.request(key, body, books.nonce(key) + next_nonce[key], books.time_ms + MAX_LIFETIME_MS))
            next_nonce[key] += 1
        assert all(books.holds(request) for request in requests)
        results = books.block(requests)
        self.sent += requests
        self.committed.update(result.id for result in results if result.outcome == COMMITTED)
        return results

    # -- money

    @rule(org=orgs, role=SUFFIXES, to=orgs, micro=amounts)
    def transfer(self, org: str, role: str, to: str, micro: int) -> None:
        self.send((f"{org}-{role}", Transfer(did(to), micro)))

    @rule(target=tabs, org=orgs, provider=orgs, micro=amounts)
    def open_tab(self, org: str, provider: str, micro: int) -> object:
        result = self.send((f"{org}-1", OpenTab(did(provider), micro)))[0]
        return (tab_id(result.id), f"{org}-1", provider) if result.outcome == COMMITTED else multiple()

    @rule(tab=tabs, micro=amounts, other=orgs, honest=st.booleans())
    def redeem(self, tab: tuple[bytes, str, str], micro: int, other: str, honest: bool) -> None:
        id_, caller, provider = tab
        self.vouchers[id_] = max(micro, self.vouchers.get(id_, 0))
        before = TABS.read(self.books.state, id_)
        body = self.books.redemption(id_, caller, micro)
        key = f"{provider if honest else other}-1"
        for result in self.send((key, body), (key, body)):
            if result.outcome == COMMITTED:
                assert before is not None
                self.paid[id_] += micro - before.redeemed

    @rule(tab=tabs, org=orgs, micro=amounts)
    def top_up(self, tab: tuple[bytes, str, str], org: str, micro: int) -> None:
        self.send((tab[1], TopUpTab(tab[0], micro)), (f"{org}-root", TopUpTab(tab[0], micro)))

    @rule(tab=tabs, by_provider=st.booleans())
    def close(self, tab: tuple[bytes, str, str], by_provider: bool) -> None:
        self.send((f"{tab[2]}-1" if by_provider else tab[1], CloseTab(tab[0])))

    # -- organisations

    @rule(org=orgs, version=st.integers(1, 3))
    def commit(self, org: str, version: int) -> None:
        self.send((f"{org}-1", Commit("Reader", version, bytes(32))))

    @rule(
        target=motions,
        org=orgs,
        subject=st.sampled_from(("admit", "entitle", "tune", "reinstate")),
        whom=orgs,
        value=st.integers(0, 1_000_000),
    )
    def move(self, org: str, subject: str, whom: str, value: int) -> object:
        agrees = self.books.agrees(f"{whom}-root", did(whom), "root")
        moved = {
            "admit": Admit(did(whom), f"{whom}-root", b"0", agrees),
            "entitle": Entitle(did(whom), value % 2 == 0),
            "tune": Configure((("directory-max-records-per-org", value),)),
            "reinstate": Reinstate(did(whom)),
        }[subject]
        result = self.send((f"{org}-1", Move(moved)))[0]
        return motion_id(result.id) if result.outcome == COMMITTED else multiple()

    @rule(motion=motions, voters=st.lists(orgs, max_size=5), in_favour=st.booleans())
    def vote(self, motion: bytes, voters: list[str], in_favour: bool) -> None:
        self.send(*((f"{org}-1", Vote(motion, in_favour)) for org in voters))

    @rule(org=orgs, fresh=st.integers(0, 2))
    def rotate(self, org: str, fresh: int) -> None:
        new = f"{org}-votes-{fresh}"
        agrees = self.books.agrees(new, did(org), "validator")
        self.send((f"{org}-1", RotateValidator(did(org), f"{org}-1", new, agrees)))

    @rule(org=orgs)
    def rotate_root(self, org: str) -> None:
        agrees = self.books.agrees(f"{org}-next", did(org), "root")
        self.send((f"{org}-root", RotateRoot(did(org), f"{org}-next", b"0", agrees)))

    @rule(org=orgs, moves=st.integers(0, 2), up=st.booleans())
    def seat(self, org: str, moves: int, up: bool) -> None:
        self.send((f"{org}-1", Seat(did(org), None if up else f"{org}-1", moves)))

    @rule(org=st.sampled_from(("delta", "epsilon")), heir=st.sampled_from((None, "alpha", "zeta")))
    def leave(self, org: str, heir: str | None) -> None:
        self.send((f"{org}-root", Leave(None if heir is None else did(heir))))

    @rule(org=orgs, height=st.integers(1, 2))
    def lie(self, org: str, height: int) -> None:
        key = f"{org}-1-votes"
        domain = Domain(self.books.genesis.hash, "pbft", 0, 0, height, "prepare")
        one, other = (Ballot("prepare", 0, 0, height, h, 0, self.books.sign(key, domain, h)) for h in (b"a" * 32, b"b" * 32))
        self.books.block([evidence.accusation(encode_evidence(Evidence(one, other)), key)])

    # -- decisions

    @rule(target=decisions, org=orgs, what=st.sampled_from(("org", "lift", "node", "tune")), whom=orgs, value=st.integers(0, 9_000_000))
    def propose(self, org: str, what: str, whom: str, value: int) -> object:
        action = {
            "org": Quarantine(did(whom)),
            "lift": Quarantine(did(whom), lift=True),
            "node": Quarantine(f"{whom}-1"),
            "tune": Tune((("dispute-ms", value),)),
        }[what]
        result = self.send((f"{org}-1", Propose(action, "because")))[0]
        return decision_id(self.books.genesis.hash, result.id) if result.outcome == COMMITTED else multiple()

    @rule(decision=decisions, judges=st.lists(orgs, max_size=5), act=st.sampled_from(ACTS), people=st.booleans())
    def judge(self, decision: bytes, judges: list[str], act: str, people: bool) -> None:
        self.send(*((f"{org}-{'ada' if people else '1'}", Judge(decision, act, "so")) for org in judges))

    @rule(org=orgs, for_ms=st.sampled_from((1_000, 600_000, 3_600_000)))
    def pause(self, org: str, for_ms: int) -> None:
        self.send((f"{org}-ada", Pause(for_ms, "wait")))

    # -- time and replays

    @rule(later_ms=st.sampled_from((1, 20_000, 1_000_000, 4_000_000, 90_000_000, 300_000_000)))
    def time_passes(self, later_ms: int) -> None:
        self.books.block(later_ms=later_ms)

    @rule(which=st.integers(0, 10_000))
    def replay(self, which: int) -> None:
        if self.sent:
            again = [self.sent[which % len(self.sent)], self.sent[-1]]
            assert all(result.outcome == SKIPPED for result in self.books.block(again) if result.id in self.committed)

    # -- what must hold

    @invariant()
    def nothing_was_executed_twice(self) -> None:
        assert all(count == 1 for count in self.committed.values())

    @invariant()
    def nobody_was_paid_more_than_was_signed(self) -> None:
        assert all(paid <= self.vouchers[id_] for id_, paid in self.paid.items())
        for id_, paid in self.paid.items():
            tab = TABS.read(self.books.state, id_)
            assert tab is None or tab.redeemed == paid

    @invariant()
    def no_decision_was_executed_twice_or_unapproved(self) -> None:
        state = self.books.state
        trail = sorted((AUDIT.decode(value) for _, value in state.scan(AUDIT.prefix)), key=lambda entry: entry.number)
        executed = Counter(entry.subject for entry in trail if entry.what == EXECUTED)
        assert all(count == 1 for count in executed.values())
        parameters = PARAMETERS.read(state, b"")
        assert parameters is not None
        for name, value in state.scan(DECISIONS.prefix):
            id_, decision = name.removeprefix(DECISIONS.prefix).hex(), DECISIONS.decode(value)
            assert decision.status != EXECUTED or executed[id_] == 1
            if decision.status == EXECUTED and decision.risk > parameters["risk-threshold"]:
                by = next(entry.by for entry in trail if entry.subject == id_ and entry.what == EXECUTED)
                yes = {entry.by for entry in trail if entry.subject == id_ and entry.what == APPROVE}
                assert len(decision.approved) >= 3 if by == "coordinators" else len([key for key in yes if key.endswith("ada")]) >= 4


RandomLedger.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
TestRandomLedger = RandomLedger.TestCase
