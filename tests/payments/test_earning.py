"""The provider's side: what is owed without a voucher stays within the credit, and every voucher becomes money once."""

from random import Random
from typing import Any

import pytest

from meshos.consensus.ledger.tabs import TABS, RedeemTab, Tab
from meshos.crypto import merkle
from meshos.effects import Err, Ok, Tick
from meshos.flow import Propose
from meshos.flow_machine import Abandon
from meshos.ids import NodeId, OrgDid, Peer, TaskId
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import Concluded
from meshos.protocols.payments import earning as module
from meshos.protocols.payments.commands import Accept, Accepted, Admit, Earning, ListEarnings, Release, TakeOver
from meshos.protocols.payments.earning import Earnings
from meshos.protocols.payments.limits import ATTEMPT_S, CREDIT_WAIT_S, LEAVES, LOOK_S, WRITE_OFF_MS
from meshos.protocols.payments.voucher import Voucher
from meshos.storage.memory import MemoryStore
from tests.payments.lone import ALPHA, BETA, ME, PROVIDER, TAB, WALL_MS, Ledger, Lone, puts

PRICE = 1_000_000
CREDIT = 4 * PRICE
REDEEM_S = 60.0
CALLER = ME


class Ledgers:
    """``Books`` that the test writes."""

    def __init__(self) -> None:
        self.owed: dict[OrgDid, int] = {}
        self.open: set[TaskId] = set()

    def owed_micro(self, caller: OrgDid) -> int:
        return self.owed.get(caller, 0)

    def is_open(self, task: TaskId) -> bool:
        return task in self.open


class Provider(Lone):
    """The machine, with books and a ledger in which alpha-1 has a tab."""

    def __init__(self, *, reserved: int = 100 * PRICE, store: MemoryStore | None = None, of: "Provider | None" = None) -> None:
        self.ledger, self.books = (of.ledger, of.books) if of else (Ledger(), Ledgers())
        if of is None and reserved:
            self.ledger.open(Tab(CALLER.node, ALPHA, BETA, reserved))
        store = of.store if of else MemoryStore(Random(0))
        machine = Earnings(PROVIDER, self.ledger, self.books, store, now=100.0, credit_micro=CREDIT, redeem_s=REDEEM_S)
        super().__init__(machine, store)
        self.step(Tick())

    def admit(self, number: int, micro: int = PRICE, caller: Peer = CALLER) -> int:
        self.books.open.add(TaskId(f"t-{number}"))
        return self.put(Admit(TaskId(f"t-{number}"), caller, micro))

    def end(self, number: int, micro: int = PRICE, *, say: bool = True) -> None:
        """The task's outcome is recorded."""
        self.books.open.discard(TaskId(f"t-{number}"))
        self.books.owed[ALPHA] = self.books.owed.get(ALPHA, 0) + micro
        if say:
            self.ask(Release(TaskId(f"t-{number}"), ALPHA))

    def work(self, *numbers: int) -> None:
        for number in numbers:
            assert self.answers[self.admit(number)] == Ok(None)
            self.end(number)

    def accept(self, micro: int, *numbers: int, tab: bytes = TAB, caller: Peer = CALLER) -> Accepted:
        leaves = tuple((TaskId(f"t-{number}"), leaf(number)) for number in numbers)
        outcome = self.ask(Accept(caller, Voucher(tab, micro, b"v" * 64) if micro else None, leaves))
        assert isinstance(outcome, Ok) and isinstance(outcome.value, Accepted)
        return outcome.value

    def earning(self) -> Earning:
        (found,) = self.ask(ListEarnings()).value
        assert isinstance(found, Earning)
        return found

    def redemption(self) -> tuple[int, RedeemTab]:
        ((op, send),) = [(op, command) for op, command in self.asked if isinstance(command, Send)]
        self.asked = []
        assert isinstance(send.body, RedeemTab)
        return op, send.body

    def redeem(self) -> RedeemTab:
        """The redemption that is under way is committed."""
        op, body = self.redemption()
        tab = TABS.read(self.ledger, TAB)
        assert tab is not None and tab.redeemed < body.micro <= tab.reserved
        self.ledger.put(TABS, TAB, Tab(tab.caller, tab.org, tab.provider, tab.reserved, body.micro, tab.closes_ms, body.receipts))
        self.complete(op, Ok(Concluded(b"", b"", "committed")))
        return body

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.step(Tick())

    def look(self) -> None:
        self.now += LOOK_S
        self.step(self.ledger.next())


def leaf(number: int) -> bytes:
    return merkle.leaf_hash(b"%d" % number)


def name(outcome: Any) -> str:
    assert isinstance(outcome, Err)
    return outcome.error.name


# -- credit ------------------------------------------------------------------------------------------------------------


def test_an_organisation_owes_up_to_its_credit_and_no_more() -> None:
    provider = Provider(reserved=0)
    provider.work(1, 2)
    ops = [provider.admit(number) for number in (3, 4, 5)]
    assert [provider.answers[op] for op in ops[:2]] == [Ok(None), Ok(None)]
    assert name(provider.answers[ops[2]]) == "unpaid", "what is under way counts"
    provider.end(3)
    provider.end(4, 0)
    assert provider.answers[provider.admit(6)] == Ok(None), "what cost nothing does not"
    assert name(provider.answers[provider.admit(7, 1)]) == "unpaid"
    assert (provider.earning().owed, provider.earning().unpaid) == (3 * PRICE, 3 * PRICE)


def test_another_organisation_has_a_credit_of_its_own() -> None:
    provider = Provider(reserved=0)
    provider.work(1, 2, 3, 4)
    other = Peer(NodeId("gamma-1"), OrgDid("did:mesh:hospital:gamma"))
    assert provider.answers[provider.admit(5, PRICE, other)] == Ok(None)


def test_a_call_dearer_than_the_credit_is_made_by_who_owes_nothing() -> None:
    provider = Provider(reserved=0)
    assert provider.answers[provider.admit(1, 10 * CREDIT)] == Ok(None)
    assert name(provider.answers[provider.admit(2, 1)]) == "unpaid"


def test_a_call_that_ended_without_a_word_holds_nothing() -> None:
    provider = Provider(reserved=0)
    for number in range(4):
        provider.admit(number)
        provider.end(number, 0, say=False)
    assert provider.answers[provider.admit(5)] == Ok(None)


def test_what_was_owed_before_there_were_vouchers_is_not_asked_for() -> None:
    provider = Provider(reserved=0)
    provider.books.owed[ALPHA] = 50 * PRICE
    provider.work(1, 2, 3, 4)
    again = Provider(of=provider)
    assert name(again.answers[again.admit(5)]) == "unpaid", "and what came since is, also after a restart"


def test_who_takes_over_begins_anew() -> None:
    provider = Provider(reserved=0)
    provider.work(1, 2, 3, 4)
    provider.ask(TakeOver())
    assert provider.answers[provider.admit(5)] == Ok(None)


def test_a_burst_waits_for_its_vouchers() -> None:
    provider = Provider()
    ops = [provider.admit(number) for number in range(6)]
    assert [op in provider.answers for op in ops] == [True] * 4 + [False] * 2
    for number in range(4):
        provider.end(number)
    assert provider.accept(2 * PRICE) == Accepted(2 * PRICE)
    assert [provider.answers.get(op) for op in ops] == [Ok(None)] * 6


def test_it_waits_a_moment_only_and_only_where_the_tab_has_enough() -> None:
    provider = Provider(reserved=6 * PRICE)
    provider.work(1, 2, 3, 4)
    ops = [provider.admit(5), provider.admit(6, 3 * PRICE)]
    assert ops[0] not in provider.answers and name(provider.answers[ops[1]]) == "unpaid"
    assert provider.machine.deadline() == provider.now + CREDIT_WAIT_S
    provider.later(CREDIT_WAIT_S)
    assert name(provider.answers[ops[0]]) == "unpaid"
    provider.ledger.put(TABS, TAB, Tab(CALLER.node, ALPHA, BETA, 90 * PRICE, closes_ms=WALL_MS + 1))
    assert name(provider.answers[provider.admit(7)]) == "unpaid", "a tab that closes secures nothing"


def test_a_call_that_is_called_off_waits_no_more() -> None:
    provider = Provider()
    provider.work(1, 2, 3, 4)
    op = provider.admit(5)
    provider.step(Abandon(op, Propose[object](Admit(TaskId("t-5"), CALLER, PRICE)), "test"))
    provider.later(CREDIT_WAIT_S)
    assert op not in provider.answers
    assert provider.machine.statistics()["waiting"] == 0


def test_what_no_voucher_of_a_day_covers_is_written_off() -> None:
    provider = Provider()
    provider.work(1, 2, 3)
    provider.accept(PRICE)
    provider.later(WRITE_OFF_MS / 1000)
    assert provider.earning().unpaid == 2 * PRICE, "when the day began, nothing was owed"
    provider.later(WRITE_OFF_MS / 1000)
    assert provider.earning().unpaid == 0, "it was owed all day"
    provider.work(4)
    provider.later(WRITE_OFF_MS / 2000)
    provider.accept(2 * PRICE)  # a late one for what was written off counts for what is owed now
    assert provider.earning().unpaid == 0
    provider.work(5)
    provider.later(WRITE_OFF_MS / 2000)
    assert provider.earning().unpaid == PRICE, "a moment old"
    assert provider.machine.statistics()["written_off_micro"] == 2 * PRICE


# -- vouchers ----------------------------------------------------------------------------------------------------------


def test_a_voucher_covers_what_is_owed_and_counts_once_it_is_on_disk() -> None:
    provider = Provider()
    provider.work(1, 2, 3)
    effects = provider.step_of(Accept(CALLER, Voucher(TAB, 2 * PRICE, b"v" * 64), ()))
    assert {put.key for put in puts(effects)} == {b"tab/" + TAB, b"caller/" + ALPHA.encode()}
    assert provider.earning().unpaid == PRICE
    assert provider.accept(2 * PRICE) == Accepted(2 * PRICE), "the same again is not more"
    assert provider.accept(PRICE) == Accepted(2 * PRICE), "nor is one that came late"
    assert provider.earning() == Earning(ALPHA, 3 * PRICE, PRICE, 2 * PRICE)
    again = Provider(of=provider)
    assert again.earning() == Earning(ALPHA, 3 * PRICE, PRICE, 2 * PRICE)


@pytest.mark.parametrize(
    ("tab", "micro", "refused"),
    [
        (None, PRICE, "tab-not-open"),
        (Tab("alpha-2", ALPHA, BETA, 9 * PRICE), PRICE, "not-your-tab"),
        (Tab(CALLER.node, OrgDid("did:mesh:hospital:gamma"), BETA, 9 * PRICE), PRICE, "not-your-tab"),
        (Tab(CALLER.node, ALPHA, OrgDid("did:mesh:hospital:gamma"), 9 * PRICE), PRICE, "not-your-tab"),
        (Tab(CALLER.node, ALPHA, BETA, 9 * PRICE), 9 * PRICE + 1, "voucher-above-reserve"),
    ],
)
def test_a_voucher_that_the_ledger_does_not_back_covers_nothing_and_the_receipts_are_kept(
    tab: Tab | None, micro: int, refused: str
) -> None:
    provider = Provider(reserved=0)
    provider.work(1)
    if tab is not None:
        provider.ledger.open(tab)
    assert provider.accept(micro, 1) == Accepted(0, refused)
    assert provider.earning().unpaid == PRICE
    assert len(list(provider.store.scan(b"leaf/"))) == 1


def test_on_a_tab_of_which_another_node_of_ours_redeemed_only_the_rest_counts() -> None:
    provider = Provider(reserved=0)
    provider.ledger.open(Tab(CALLER.node, ALPHA, BETA, 90 * PRICE, 70 * PRICE))
    provider.work(1, 2)
    provider.accept(71 * PRICE)
    assert provider.earning().unpaid == PRICE


# -- redeeming ---------------------------------------------------------------------------------------------------------


def test_a_voucher_is_redeemed_when_its_time_has_come_with_the_root_of_the_receipts() -> None:
    provider = Provider()
    provider.work(1, 2, 3)
    provider.accept(PRICE, 1)
    provider.later(REDEEM_S / 2)
    provider.accept(3 * PRICE, 2, 3, 1)
    assert not provider.asked and provider.machine.deadline() == 100.0 + REDEEM_S
    provider.later(REDEEM_S / 2)
    body = provider.redeem()
    assert body == RedeemTab(TAB, CALLER.node, 3 * PRICE, merkle.root_of([leaf(1), leaf(2), leaf(3)]), b"v" * 64)
    assert provider.earning() == Earning(ALPHA, 3 * PRICE, 0, 0)
    assert not list(provider.store.scan(b"leaf/")) and len(list(provider.store.scan(b"redeemed/"))) == 1
    provider.work(4)
    provider.accept(4 * PRICE, 4)
    provider.later(REDEEM_S)
    assert provider.redeem().receipts == merkle.root_of([leaf(4)]), "each receipt stands in one root"


def test_it_is_redeemed_at_once_when_most_of_the_tab_is_used_or_the_tab_closes() -> None:
    provider = Provider(reserved=5 * PRICE)
    provider.accept(4 * PRICE - 1)
    assert not provider.asked
    provider.accept(4 * PRICE)
    assert provider.redeem().micro == 4 * PRICE
    provider.accept(4 * PRICE + 1)
    assert not provider.asked, "of what is left it is little"
    provider.ledger.put(TABS, TAB, Tab(CALLER.node, ALPHA, BETA, 5 * PRICE, 4 * PRICE, closes_ms=WALL_MS + 10_000))
    provider.look()
    assert provider.redeem().micro == 4 * PRICE + 1


def test_many_receipts_bring_the_redemption_on_and_there_are_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    provider.accept(PRICE, *range(LEAVES - 1))
    assert not provider.asked
    provider.accept(PRICE + 1, LEAVES)
    provider.redemption()
    monkeypatch.setattr(module, "MAX_LEAVES", LEAVES + 2)
    provider.accept(0, *range(1_000, 1_010))
    assert len(list(provider.store.scan(b"leaf/"))) == LEAVES + 2


def test_one_redemption_at_a_time_and_the_same_after_a_restart() -> None:
    provider = Provider()
    provider.accept(PRICE, 1)
    before = provider.synced
    provider.later(REDEEM_S)
    assert provider.synced == before + 1, "durable before it is sent"
    provider.accept(2 * PRICE, 2)
    provider.later(2 * REDEEM_S)
    first = provider.asked
    assert len(first) == 1
    again = Provider(of=provider)
    ((_, send),) = again.asked
    assert send == first[0][1], "the same name and the same bytes: it is sent once"
    assert again.redeem().micro == PRICE
    again.later(REDEEM_S)
    assert again.redeem().micro == 2 * PRICE


@pytest.mark.parametrize("outcome", [Ok(Concluded(b"", b"", "expired")), Ok(Concluded(b"", b"", "unknown")), Err(module.busy("it"))])
def test_whatever_came_of_it_the_ledger_tells(outcome: Any) -> None:
    provider = Provider()
    provider.accept(PRICE, 1)
    provider.later(REDEEM_S)
    op, body = provider.redemption()
    provider.complete(op, outcome)
    assert not provider.asked, "not at once"
    provider.later(ATTEMPT_S)
    op, second = provider.redemption()
    assert second == body
    provider.ledger.put(TABS, TAB, Tab(CALLER.node, ALPHA, BETA, 100 * PRICE, PRICE))
    provider.complete(op, outcome)
    assert provider.earning().unredeemed == 0 and not list(provider.store.scan(b"leaf/"))


def test_what_a_closed_tab_did_not_give_is_lost_and_counted() -> None:
    provider = Provider()
    provider.accept(2 * PRICE)
    provider.ledger.height -= 1
    provider.ledger.close()
    provider.now += LOOK_S
    provider.step(Tick())
    provider.look()
    assert provider.machine.statistics()["lost_micro"] == 2 * PRICE
    assert provider.machine.statistics()["tabs"] == 0 and not list(provider.store.scan(b"tab/"))


def test_an_older_state_of_the_ledger_takes_no_tab_away() -> None:
    provider = Provider()
    provider.accept(2 * PRICE)
    provider.ledger.close()
    provider.ledger.height -= 3
    provider.look()
    assert provider.machine.statistics()["tabs"] == 1


def test_redemptions_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_REDEMPTIONS", 2)
    provider = Provider()
    for number in range(1, 5):
        provider.accept(number * PRICE, number)
        provider.later(REDEEM_S)
        provider.redeem()
    assert len(list(provider.store.scan(b"redeemed/"))) == 2


def test_its_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLERS", 1)
    monkeypatch.setattr(module, "MAX_TABS_KNOWN", 0)
    provider = Provider()
    assert provider.accept(PRICE) == Accepted(0, "busy")
    other = Peer(NodeId("gamma-1"), OrgDid("did:mesh:hospital:gamma"))
    assert name(provider.answers[provider.admit(1, PRICE, other)]) == "busy"


def test_what_it_does_not_know() -> None:
    provider = Provider()
    assert name(provider.ask("what?")) == "unknown-command"
    with pytest.raises(TypeError, match="no use"):
        provider.step("an event of somebody else")
