"""The caller's side: promises within limits, each task counted once, vouchers that only grow, a tab that opens and closes by itself."""

from random import Random
from typing import Any

import pytest

from meshos import cbor
from meshos.consensus.ledger.accounts import ACCOUNTS, Account
from meshos.consensus.ledger.tabs import TABS, CloseTab, OpenTab, Tab, TopUpTab
from meshos.effects import Err, Ok, Tick
from meshos.errors import Unreachable
from meshos.flow import Propose
from meshos.flow_machine import Abandon
from meshos.ids import AgentId, OrgDid, TaskId
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import Concluded
from meshos.protocols.payments.budget import Budget
from meshos.protocols.payments.commands import (
    Acknowledge,
    EndTab,
    GetVoucher,
    ListTabs,
    PayNow,
    Promise,
    Promised,
    Settle,
    TabStatus,
    TakeUnsettled,
)
from meshos.protocols.payments.limits import (
    ATTEMPT_S,
    DAY_MS,
    FORGET_PROMISE_MS,
    IDLE_MS,
    MIN_RESERVE_MICRO,
    NUDGE_S,
    PATIENCE_S,
    RESERVED_CALLS,
)
from meshos.protocols.payments.owing import CLOSING, MOVES, NONE, OPEN, OPENING, TOPPING_UP, Owing
from meshos.protocols.payments.paying import Paying
from meshos.protocols.payments.voucher import Voucher
from meshos.protocols.tasks.outbox import PutReceipts
from meshos.storage.memory import MemoryStore
from tests.payments.lone import ALPHA, BETA, GENESIS, ME, PROVIDER, TAB, WALL_MS, Ledger, Lone, puts

PRICE = 1_000_000
BUDGET = Budget(100 * PRICE, 150 * PRICE)


def begin(ledger: Ledger, store: MemoryStore | None = None, budget: Budget = BUDGET, now: float = 100.0) -> Lone:
    store = store or MemoryStore(Random(0))
    lone = Lone(Paying(ME, GENESIS, budget, ledger, store, now=now, wall_ms=WALL_MS + round((now - 100) * 1000)), store)
    lone.now = now
    lone.step(Tick())
    return lone


def promise(number: int, most: int | None = PRICE, provider: OrgDid = BETA) -> Promise:
    return Promise(TaskId(f"t-{number}"), AgentId("a-1"), provider, b"h" * 32, "", most, 10.0)


def settle(number: int, micro: int = PRICE) -> Settle:
    return Settle(TaskId(f"t-{number}"), micro, PROVIDER.node)


def sent(lone: Lone) -> tuple[int, Any]:
    """The transaction that was asked for since last time: its number, and its body."""
    ((op, send),) = [(op, command) for op, command in lone.asked if isinstance(command, Send)]
    lone.asked = []
    return op, send


def conclude(lone: Lone, op: int, outcome: str = "committed") -> None:
    lone.complete(op, Ok(Concluded(b"", b"", outcome)))


def opened(ledger: Ledger, reserved: int = 20 * PRICE, **budget: Any) -> Lone:
    """With an open tab, and nothing owed."""
    lone = begin(ledger, **budget)
    lone.ask(promise(0))
    op, _ = sent(lone)
    ledger.open(Tab(ME.node, ALPHA, BETA, reserved))
    lone.step(ledger.next())
    conclude(lone, op)
    lone.ask(settle(0, 0))
    return lone


def status(lone: Lone) -> TabStatus:
    (found,) = lone.ask(ListTabs()).value
    assert isinstance(found, TabStatus)
    return found


def voucher(lone: Lone) -> Voucher | None:
    op = lone.put(GetVoucher(BETA))
    lone.sign()
    outcome = lone.answers[op]
    assert isinstance(outcome, Ok)
    return outcome.value


# -- the tab -----------------------------------------------------------------------------------------------------------


def test_the_first_promise_opens_a_tab_for_some_calls_and_waits_for_nobody() -> None:
    lone = begin(Ledger())
    assert lone.ask(promise(1)) == Ok(PRICE)
    _, send = sent(lone)
    assert send.body == OpenTab(BETA, RESERVED_CALLS * PRICE + PRICE)
    assert status(lone).state == OPENING
    lone.ask(promise(2))
    assert not lone.asked, "one transaction at a time"
    cheap = begin(Ledger())
    cheap.ask(promise(1, 10))
    assert sent(cheap)[1].body.micro == MIN_RESERVE_MICRO + 10


def test_a_transaction_is_durable_before_it_is_sent_and_the_same_after_a_restart() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    lone.put(promise(1))
    assert lone.synced == 1
    first = sent(lone)[1]
    assert sent(begin(ledger, lone.store))[1] == first
    again = begin(ledger, lone.store)
    op, _ = sent(again)
    conclude(again, op, "expired")
    again.now += ATTEMPT_S
    again.step(Tick())
    other = sent(again)[1]
    assert other.body == first.body and other.ref != first.ref, "another transaction has another name"


@pytest.mark.parametrize("before", [True, False])
def test_a_tab_that_the_ledger_shows_is_open_whoever_says_so_first(before: bool) -> None:
    ledger = Ledger()
    lone = begin(ledger)
    lone.put(promise(1))
    op, _ = sent(lone)
    if not before:
        conclude(lone, op)
        assert status(lone).state == NONE, "what is not to be seen is not there"
        lone.now += ATTEMPT_S
    ledger.open(Tab(ME.node, ALPHA, BETA, 20 * PRICE))
    lone.step(ledger.next())
    if before:
        conclude(lone, op)
    assert (status(lone).state, status(lone).reserved) == (OPEN, 20 * PRICE)
    assert not lone.taken()


def test_what_fails_is_tried_again_with_growing_pauses() -> None:
    lone = begin(Ledger())
    lone.put(promise(1))
    for pause in (ATTEMPT_S, 2 * ATTEMPT_S, 4 * ATTEMPT_S):
        op, _ = sent(lone)
        lone.complete(op, Err(Unreachable("deadline-exceeded", "no quorum")))
        lone.put(promise(2))
        assert not lone.asked
        lone.now += pause
        lone.step(Tick())


def test_a_tab_is_topped_up_when_most_of_it_is_used() -> None:
    ledger = Ledger()
    lone = opened(ledger)
    for number in range(1, 15):
        assert not lone.asked
        lone.ask(promise(number))
    op, send = sent(lone)
    assert send.body == TopUpTab(TAB, RESERVED_CALLS * PRICE) and status(lone).state == TOPPING_UP
    ledger.put(TABS, TAB, Tab(ME.node, ALPHA, BETA, 40 * PRICE))
    conclude(lone, op)
    assert (status(lone).state, status(lone).reserved) == (OPEN, 40 * PRICE)


def test_what_is_set_aside_stays_within_the_limits_and_what_there_is() -> None:
    ledger = Ledger()
    lone = opened(ledger, budget=Budget(25 * PRICE, 25 * PRICE))
    for number in range(1, 15):
        lone.ask(promise(number))
    assert sent(lone)[1].body.micro == 5 * PRICE
    poor = Ledger()
    poor.put(ACCOUNTS, ALPHA, Account(3 * PRICE))
    lone = begin(poor)
    lone.put(promise(1))
    assert sent(lone)[1].body.micro == 3 * PRICE


def test_a_tab_that_is_gone_takes_what_was_signed_with_it_and_the_rest_is_owed_on_the_next() -> None:
    ledger = Ledger()
    lone = opened(ledger)
    for number in (1, 2, 3):
        lone.ask(promise(number))
    lone.ask(settle(1))
    assert voucher(lone) == Voucher(TAB, PRICE, voucher(lone).signature)
    lone.ask(settle(2))
    ledger.close()
    lone.now += 2
    lone.step(ledger.next())
    found = status(lone)
    assert (found.state, found.owed, found.signed) == (OPENING, PRICE, 0)
    op, send = sent(lone)
    assert isinstance(send.body, OpenTab)
    ledger.open(Tab(ME.node, ALPHA, BETA, 20 * PRICE), b"U" * 32)
    conclude(lone, op)
    lone.ask(settle(3))
    second = voucher(lone)
    assert second is not None and (second.tab, second.micro) == (b"U" * 32, 2 * PRICE)


def test_an_older_state_of_the_ledger_says_nothing_about_a_tab() -> None:
    ledger = Ledger()
    lone = opened(ledger)
    ledger.close()
    ledger.height -= 2
    lone.now += 2
    lone.step(ledger.next())
    assert status(lone).state == OPEN


def test_closing() -> None:
    ledger = Ledger()
    lone = opened(ledger)
    assert lone.ask(EndTab(OrgDid("did:mesh:hospital:nobody"))).error.name == "tab-not-open"
    lone.ask(promise(1))
    assert lone.ask(EndTab(BETA)).error.name == "tab-in-use"
    lone.ask(settle(1))
    assert lone.ask(EndTab(BETA)).error.name == "tab-in-use", "the voucher is not redeemed"
    ledger.put(TABS, TAB, Tab(ME.node, ALPHA, BETA, 20 * PRICE, PRICE))
    voucher(lone)
    lone.now += 2
    lone.step(ledger.next())
    lone.taken()
    assert lone.ask(EndTab(BETA)) == Ok(None)
    op, send = sent(lone)
    assert send.body == CloseTab(TAB)
    ledger.put(TABS, TAB, Tab(ME.node, ALPHA, BETA, 20 * PRICE, PRICE, closes_ms=WALL_MS + 99_000))
    conclude(lone, op)
    assert status(lone).state == CLOSING
    lone.ask(promise(2))
    lone.ask(settle(2))
    assert voucher(lone).micro == PRICE, "nothing new is signed on a tab that closes"
    ledger.close()
    lone.now += 2
    lone.step(ledger.next())
    assert status(lone).state == OPENING, "what came meanwhile is paid on another"


def test_a_refused_closing_leaves_the_tab_open() -> None:
    lone = opened(Ledger())
    lone.ask(EndTab(BETA))
    op, _ = sent(lone)
    conclude(lone, op, "expired")
    assert status(lone).state == OPEN


def test_what_nobody_uses_is_closed() -> None:
    ledger = Ledger()
    lone = opened(ledger)
    while lone.now < 100 + IDLE_MS / 1000 and not lone.asked:
        lone.now = lone.machine.deadline() or 0.0
        lone.step(Tick())
    assert isinstance(sent(lone)[1].body, CloseTab)


def test_no_state_meets_what_cannot_happen_in_it() -> None:
    for (state, what), after in MOVES.items():
        owing = Owing(BETA, state)
        owing.move(what)
        assert owing.state == after
    with pytest.raises(ValueError, match="a tab that is none does not meet 'close'"):
        Owing(BETA).move("close")


# -- limits ------------------------------------------------------------------------------------------------------------


def test_no_more_is_promised_than_the_limits_allow_and_tomorrow_they_allow_it_again() -> None:
    lone = begin(Ledger())
    for number in range(2):
        assert lone.ask(promise(number, 50 * PRICE)) == Ok(50 * PRICE)
    refused = lone.ask(promise(3, 1))
    assert refused.error.name == "over-limit" and "0 MESH are left" in refused.error.detail
    gamma = OrgDid("did:mesh:hospital:gamma")
    assert lone.ask(promise(4, None, gamma)) == Ok(50 * PRICE), "no more than for all together"
    assert isinstance(lone.ask(promise(5, None, gamma)), Err)
    lone.ask(settle(1, 10 * PRICE))
    assert lone.ask(promise(6, 40 * PRICE)) == Ok(40 * PRICE), "what it did not cost is free again"
    lone.ask(settle(6, 40 * PRICE))
    lone.now += DAY_MS / 1000
    assert lone.ask(promise(7, 50 * PRICE)) == Ok(50 * PRICE), "of which none is spent"


def test_who_has_nothing_promises_nothing() -> None:
    ledger = Ledger()
    ledger.put(ACCOUNTS, ALPHA, Account(PRICE - 1))
    answer = begin(ledger).ask(promise(1))
    assert isinstance(answer, Err) and answer.error.name == "insufficient-funds"
    ledger.put(ACCOUNTS, ALPHA, None)
    assert begin(ledger).ask(promise(1)) == Ok(PRICE), "where the ledger is not known, nothing is concluded from it"


# -- what is owed ------------------------------------------------------------------------------------------------------


def test_a_task_counts_once() -> None:
    lone = opened(Ledger())
    lone.ask(promise(1))
    lone.ask(promise(1))
    for _ in range(3):
        lone.ask(settle(1))
    lone.ask(settle(2))
    assert (status(lone).owed, status(lone).promised, status(lone).spent) == (PRICE, 0, PRICE)
    again = begin(Ledger(), lone.store)
    again.ask(settle(1))
    assert status(again).owed == PRICE


def test_no_more_is_owed_than_was_promised() -> None:
    lone = opened(Ledger())
    lone.ask(promise(1))
    lone.ask(settle(1, 5 * PRICE))
    assert status(lone).owed == PRICE


def test_a_call_waits_for_no_disk_and_a_voucher_does() -> None:
    lone = opened(Ledger())
    before = lone.synced
    lone.ask(promise(1))
    lone.ask(settle(1))
    assert lone.synced == before
    op = lone.put(GetVoucher(BETA))
    assert lone.synced == before + 1 and op not in lone.answers
    (sign,) = lone.signs
    assert cbor.decode(sign.payload, max_bytes=100) == [TAB, PRICE]
    lone.sign()
    assert isinstance(lone.answers[op], Ok)


def test_vouchers_grow_with_what_is_owed_up_to_what_is_set_aside() -> None:
    ledger = Ledger()
    lone = opened(ledger, reserved=2 * PRICE)
    assert voucher(lone) is None, "nothing is owed"
    assert lone.ask(GetVoucher(OrgDid("did:mesh:hospital:nobody"))) == Ok(None)
    seen = []
    for number in (1, 2, 3):
        lone.ask(promise(number))
        lone.ask(settle(number))
        found = voucher(lone)
        assert found is not None
        seen.append(found.micro)
    assert seen == [PRICE, 2 * PRICE, 2 * PRICE]
    assert not lone.signs and voucher(lone) == found, "the same is not signed twice in one life"
    again = begin(ledger, lone.store)
    assert voucher(again) == found, "and is the same in the next"
    assert not puts(again.step(Tick()))


def test_who_asks_while_it_is_signed_gets_the_same() -> None:
    lone = opened(Ledger())
    lone.ask(promise(1))
    lone.ask(settle(1))
    ops = [lone.put(GetVoucher(BETA)) for _ in range(3)]
    assert len(lone.signs) == 1
    lone.sign()
    assert len({lone.answers[op].value.signature for op in ops}) == 1


def test_a_voucher_that_is_not_acknowledged_is_sent_again() -> None:
    lone = opened(Ledger())
    lone.ask(promise(1))
    lone.ask(settle(1))
    for pause in (NUDGE_S, 2 * NUDGE_S, 4 * NUDGE_S):
        assert not lone.taken()
        lone.now += pause
        lone.step(Tick())
        ((_, nudge),) = lone.asked
        assert isinstance(nudge, PutReceipts) and nudge.receipts[0].provider == PROVIDER.node and not nudge.receipts[0].task
        lone.asked = []
    voucher(lone)
    lone.ask(Acknowledge(BETA, b"x" * 32, PRICE))
    assert status(lone).acknowledged == 0, "of another tab"
    lone.ask(Acknowledge(BETA, TAB, 5 * PRICE))
    assert status(lone).acknowledged == PRICE, "no more than was signed"
    lone.now += 1_000
    lone.step(Tick())
    assert not lone.taken()


def test_a_provider_that_refuses_is_sent_the_voucher_at_once() -> None:
    lone = opened(Ledger())
    lone.ask(PayNow(BETA))
    assert not lone.taken(), "there is none"
    lone.ask(promise(1))
    lone.ask(settle(1))
    lone.ask(PayNow(BETA))
    lone.ask(PayNow(BETA))
    assert [type(command) for command in lone.taken()] == [PutReceipts], "once"


# -- calls that nobody settled ---------------------------------------------------------------------------------------


def test_a_call_that_nobody_settles_is_asked_after_and_forgotten_in_the_end() -> None:
    lone = begin(Ledger())
    lone.ask(promise(1))
    lone.ask(promise(2))
    lone.ask(settle(2, 0))
    op = lone.put(TakeUnsettled())
    lone.now += 10 + PATIENCE_S
    assert lone.machine.deadline() == lone.now
    lone.step(Tick())
    assert lone.answers[op] == Ok((Promised(TaskId("t-1"), AgentId("a-1"), BETA, b"h" * 32, "", PRICE, WALL_MS),))
    asked = 1
    while status(lone).promised:
        op = lone.put(TakeUnsettled())
        while op not in lone.answers and status(lone).promised:
            lone.now = lone.machine.deadline() or 0.0
            lone.step(Tick())
        asked += 1
    assert lone.now >= 100 + FORGET_PROMISE_MS / 1000 and 25 < asked < 40
    assert lone.machine.statistics()["forgotten"] == 1
    assert not list(lone.store.scan(b"call/"))


def test_after_a_restart_they_are_asked_after_at_once() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    for number in range(20):
        lone.ask(promise(number))
    again = begin(ledger, lone.store)
    assert status(again).promised == 20 * PRICE
    taken = [call.task for _ in range(2) for call in again.ask(TakeUnsettled()).value]
    assert sorted(taken) == sorted(f"t-{number}" for number in range(20))
    op = again.put(TakeUnsettled())
    again.step(Abandon(op, Propose[object](TakeUnsettled()), "test"))
    again.now += 1_000
    again.step(Tick())
    assert op not in again.answers


def test_what_it_does_not_know() -> None:
    lone = begin(Ledger())
    assert lone.ask("what?").error.name == "unknown-command"
    with pytest.raises(TypeError, match="no use"):
        lone.step("an event of somebody else")


def test_its_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.payments.paying.MAX_PROVIDERS", 1)
    monkeypatch.setattr("meshos.protocols.payments.promises.MAX_PROMISED", 1)
    lone = begin(Ledger())
    lone.ask(promise(1))
    assert lone.ask(promise(2)).error.name == "busy"
    assert lone.ask(promise(1, PRICE, OrgDid("did:mesh:hospital:gamma"))).error.name == "busy"
