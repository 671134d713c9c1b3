"""Whatever is sent in whatever order: tokens are conserved, no voucher is paid twice, nothing is done twice, no decision unapproved.

A walk sends what the ledger's users may send, right and wrong, as its seed says. After every block ``Books`` audits the whole state
(``consensus/ledger/conservation.py``), and ``Walk.check`` what the history adds to that. A walk that never gets anywhere proves nothing, so
the last test counts where the walks have been.
"""

from collections import Counter
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.consensus.ledger import evidence
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.actions import Action, Quarantine, Tune
from meshos.consensus.ledger.approvals import APPROVE, DECISIONS, EXECUTED, REJECT, REVERSE, Decision, Judge, Propose, decision_id
from meshos.consensus.ledger.audit import AUDIT, Entry
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.commitments import Commit
from meshos.consensus.ledger.limits import DAY_MS, MAX_LIFETIME_MS, MAX_RENT_DAYS
from meshos.consensus.ledger.members import ORGS as ALL_ORGS
from meshos.consensus.ledger.motions import Admit, Configure, Entitle, Move, Reinstate, Vote, motion_id
from meshos.consensus.ledger.orgs import Leave, RotateRoot, RotateValidator
from meshos.consensus.ledger.parameters import PARAMETERS
from meshos.consensus.ledger.people import Pause
from meshos.consensus.ledger.rents import Rent
from meshos.consensus.ledger.results import COMMITTED, SKIPPED, Result
from meshos.consensus.ledger.seats import Seat
from meshos.consensus.ledger.tabs import TABS, CloseTab, OpenTab, TopUpTab, tab_id
from meshos.consensus.pbft.evidence import encode_evidence
from meshos.consensus.pbft.messages import Evidence
from meshos.consensus.pbft.messages import Vote as Ballot
from meshos.crypto.signing import Domain
from tests.ledger.books import FUNDS, Books, did, genesis
from tests.ledger.test_orgs import carried

ORGS = ("alpha", "beta", "gamma", "delta", "epsilon")
AMOUNTS = (1, 7, 100, FUNDS // 5, FUNDS // 2, FUNDS * 2)
STEPS = 200


class Walk:
    """A ledger of five organisations, and what happened to it."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.books = Books(genesis(5))
        self.roots = {name: f"{name}-root" for name in (*ORGS, "zeta")}
        self.sent: list[bytes] = []
        self.committed: Counter[bytes] = Counter()
        self.seen: Counter[str] = Counter()
        self.tabs: list[tuple[bytes, str, str]] = []
        self.motions: list[bytes] = []
        self.decisions: list[bytes] = []
        self.vouchers: dict[bytes, int] = {}
        self.paid: Counter[bytes] = Counter()
        self.done: Counter[str] = Counter()
        self.trail = 0

    def go(self) -> "Walk":
        carried(self.books, Configure((("directory-free-records", 5), ("directory-record-price", 30))), ("alpha", "beta", "gamma", "delta"))
        steps: list[tuple[int, Callable[[], None]]] = [
            (10, self.transfer),
            (6, self.open_tab),
            (12, self.redeem),
            (4, self.top_up),
            (4, self.close),
            (2, self.commit),
            (6, self.rent),
            (6, self.move),
            (10, self.vote),
            (2, self.rotate),
            (3, self.seat),
            (1, self.lie),
            (8, self.propose),
            (20, self.judge),
            (1, self.pause),
            (6, self.time_passes),
            (4, self.replay),
        ]
        weights = [weight for weight, _ in steps]
        for _ in range(STEPS):
            self.rng.choices(steps, weights)[0][1]()
            self.check()
        self.leave()
        self.check()
        return self

    def org(self) -> str:
        return self.rng.choice((*ORGS, *ORGS, "zeta"))

    def some(self) -> list[str]:
        return self.rng.sample(ORGS, self.rng.randint(1, 5))

    def send(self, *orders: tuple[str, Body]) -> list[Result]:
        """In one block; nonces as the keys need them."""
        books, more, requests = self.books, Counter[str](), []
        for key, body in orders:
            requests.append(books.request(key, body, books.nonce(key) + more[key], books.time_ms + MAX_LIFETIME_MS))
            more[key] += 1
        assert all(books.holds(request) for request in requests)
        results = books.block(requests, later_ms=self.rng.choice((1, 1_000, 20_000)))
        self.sent += requests
        for (_, body), result in zip(orders, results, strict=True):
            self.seen[f"{body.KIND} {result.outcome}"] += 1
            if result.outcome == COMMITTED:
                self.committed[result.id] += 1
        return results

    # -- what is sent

    def transfer(self) -> None:
        self.send((f"{self.org()}-{self.rng.choice(('root', '1'))}", Transfer(did(self.org()), self.rng.choice(AMOUNTS))))

    def open_tab(self) -> None:
        caller, provider = f"{self.org()}-1", self.org()
        result = self.send((caller, OpenTab(did(provider), self.rng.choice(AMOUNTS))))[0]
        if result.outcome == COMMITTED:
            self.tabs = [*self.tabs[-7:], (tab_id(result.id), caller, provider)]

    def redeem(self) -> None:
        """Twice at once, and sometimes by somebody else."""
        if not self.tabs:
            return
        id_, caller, provider = self.rng.choice(self.tabs)
        micro, before = self.rng.choice(AMOUNTS), TABS.read(self.books.state, id_)
        self.vouchers[id_] = max(micro, self.vouchers.get(id_, 0))
        order = (f"{self.org() if self.rng.random() < 0.1 else provider}-1", self.books.redemption(id_, caller, micro))
        first, second = self.send(order, order)
        assert second.outcome != COMMITTED, "the same voucher twice"
        if first.outcome == COMMITTED:
            assert before is not None and before.redeemed < micro <= before.reserved
            self.paid[id_] += micro - before.redeemed

    def top_up(self) -> None:
        if self.tabs:
            id_, caller, _ = self.rng.choice(self.tabs)
            self.send((self.rng.choice((caller, "alpha-root")), TopUpTab(id_, self.rng.choice(AMOUNTS))))

    def close(self) -> None:
        if self.tabs:
            id_, caller, provider = self.rng.choice(self.tabs)
            self.send((self.rng.choice((caller, f"{provider}-1")), CloseTab(id_)))

    def commit(self) -> None:
        self.send((f"{self.org()}-1", Commit("Reader", self.rng.randint(1, 9), self.rng.choice((None, bytes(32), bytes(32))))))

    def rent(self) -> None:
        """Until a day that may be over, too far away, or paid for; for more than it has, or than it wants to pay."""
        rng, day = self.rng, self.books.time_ms // DAY_MS + self.rng.choice((-1, 0, 3, 29, 29, MAX_RENT_DAYS - 1, MAX_RENT_DAYS))
        self.send((f"{self.org()}-1", Rent(rng.choice((1, 7, 100, 10_000)), day, rng.choice((*AMOUNTS, FUNDS * 9)))))

    def move(self) -> None:
        whom, rng = self.org(), self.rng
        agrees = self.books.agrees(f"{whom}-root", did(whom), "root")
        subject = rng.choice(
            (
                Admit(did(whom), f"{whom}-root", b"0", agrees),
                Entitle(did(whom), rng.random() < 0.7),
                Configure((("directory-max-records-per-org", rng.choice((5, 9_000, 90_000))),)),
                Configure((("directory-record-price", rng.choice((0, 1, 30, 900))),)),
                Reinstate(did(whom)),
            )
        )
        result = self.send((f"{self.org()}-1", Move(subject)))[0]
        if result.outcome == COMMITTED:
            self.motions = [*self.motions[-2:], motion_id(result.id)]

    def vote(self) -> None:
        if self.motions:
            motion, in_favour = self.rng.choice(self.motions), self.rng.random() < 0.8
            self.send(*((f"{org}-1", Vote(motion, in_favour)) for org in self.some()))

    def rotate(self) -> None:
        org, number = self.rng.choice(ORGS), self.rng.randint(0, 99)
        new = f"{org}-{number}"
        if self.rng.random() < 0.7:
            agrees = self.books.agrees(new, did(org), "validator")
            self.send((f"{org}-1", RotateValidator(did(org), f"{org}-1", new, agrees)))
            return
        agrees = self.books.agrees(new, did(org), "root")
        if self.send((self.roots[org], RotateRoot(did(org), new, b"0", agrees)))[0].outcome == COMMITTED:
            self.roots[org] = new

    def seat(self) -> None:
        name = self.rng.choice(ORGS)
        org = ALL_ORGS.read(self.books.state, did(name))
        moves = 0 if org is None else org.moves + self.rng.choice((0, 0, 0, 1))
        self.send((f"{name}-1", Seat(did(name), self.rng.choice((None, f"{name}-1", f"{name}-1")), moves)))

    def lie(self) -> None:
        key = f"{self.rng.choice(ORGS)}-1-votes"
        domain = Domain(self.books.genesis.hash, "pbft", 0, 0, 1, "prepare")
        one, other = (Ballot("prepare", 0, 0, 1, h, 0, self.books.sign(key, domain, h)) for h in (b"a" * 32, b"b" * 32))
        request = evidence.accuse(encode_evidence(Evidence(one, other)), key)
        assert self.books.holds(request)
        self.seen[f"evidence {self.books.block([request])[0].outcome}"] += 1

    def propose(self) -> None:
        whom, rng = self.org(), self.rng
        tune = Tune((("dispute-ms", rng.choice((10_000, 3_000_000, 3_600_000, 9_000_000))),))
        actions: tuple[Action, ...] = (Quarantine(did(whom)), Quarantine(did(whom), lift=True), Quarantine(f"{whom}-1"), tune)
        result = self.send((f"{self.org()}-1", Propose(rng.choice(actions), "because")))[0]
        if result.outcome == COMMITTED:
            self.decisions = [*self.decisions[-2:], decision_id(self.books.genesis.hash, result.id)]

    def judge(self) -> None:
        if not self.decisions:
            return
        decision = self.rng.choice(self.decisions)
        if self.rng.random() < 0.5:
            act, who = self.rng.choice((APPROVE, APPROVE, REJECT)), "1"
        else:
            act, who = self.rng.choice((APPROVE, REJECT, REVERSE)), "ada"
        self.send(*((f"{org}-{who}", Judge(decision, act, "so")) for org in self.some()))

    def pause(self) -> None:
        self.send((f"{self.org()}-ada", Pause(self.rng.choice((60_000, 600_000, 3_600_000)), "wait")))

    def leave(self) -> None:
        name = self.rng.choice(ORGS)
        self.send((self.roots[name], Leave(self.rng.choice((None, did("alpha"), did("zeta"))))))

    def time_passes(self) -> None:
        self.books.block(later_ms=self.rng.choice((60_000, 60_000, 900_000, 4_000_000, 90_000_000, 300_000_000)))

    def replay(self) -> None:
        again = [self.rng.choice(self.sent) for _ in range(min(3, len(self.sent)))]
        for result in self.books.block(again):
            assert result.outcome == SKIPPED or result.id not in self.committed
            if result.outcome == COMMITTED:
                self.committed[result.id] += 1

    # -- what must hold

    def check(self) -> None:
        state = self.books.state
        assert all(count == 1 for count in self.committed.values()), "a transaction was committed twice"
        for id_, paid in self.paid.items():
            tab = TABS.read(state, id_)
            assert paid <= self.vouchers[id_] and (tab is None or tab.redeemed == paid)
        entries = sorted((AUDIT.decode(value) for _, value in state.scan(AUDIT.prefix)), key=lambda entry: entry.number)
        for entry in entries[self.trail :]:
            if entry.what == EXECUTED:
                self.executed(entry, entries)
            self.seen[f"{entry.what} {entry.by if entry.by in ('people', 'coordinators') else ''}".strip()] += 1
        self.trail = len(entries)

    def executed(self, entry: Entry, entries: list[Entry]) -> None:
        """A decision was executed: for the first time, by those who may."""
        self.done[entry.subject] += 1
        assert self.done[entry.subject] == 1, "a decision was executed twice"
        decision = DECISIONS.read(self.books.state, bytes.fromhex(entry.subject))
        parameters = PARAMETERS.read(self.books.state, b"")
        assert isinstance(decision, Decision) and parameters is not None
        people = {one.by for one in entries if one.subject == entry.subject and one.what == APPROVE and one.by.endswith("-ada")}
        if entry.by == "people":
            assert len(people) >= 4, "four fifths of five equal seats"
        elif entry.by == "coordinators":
            assert len(set(decision.approved)) >= 3
        else:
            assert decision.risk <= parameters["risk-threshold"]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_a_walk_breaks_nothing(seed: int) -> None:
    Walk(seed).go()


def test_walks_get_everywhere() -> None:
    seen = Counter[str]()
    for seed in range(15):
        seen += Walk(seed).go().seen
    kinds = "transfer open-tab redeem-tab top-up-tab close-tab commit rent move vote rotate-validator rotate-root seat propose judge pause"
    wanted = [f"{kind} committed" for kind in (*kinds.split(), "leave")]
    wanted += ["evidence committed", "redeem-tab refused", "transfer refused", "leave refused", "judge refused", "open-tab refused"]
    wanted += ["executed people", "executed coordinators", "rejected people", "rejected coordinators", "expired", "reversed people"]
    wanted += ["rent refused"]
    wanted += ["motion-carried", "motion-rejected", "motion-expired", "suspended"]
    assert [what for what in wanted if not seen[what]] == []
