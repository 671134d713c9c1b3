"""The node's own transactions: each nonce once, each name once, nothing concluded but from what is decided."""

from random import Random
from typing import Any

import pytest

from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import KEYS, NODE, RETIRED, Key
from meshos.consensus.ledger.kinds import read
from meshos.consensus.ledger.results import Result
from meshos.effects import Completed, Err, Ok, Tell, Tick
from meshos.errors import Unreachable
from meshos.flow import Propose
from meshos.flow_machine import Abandon
from meshos.protocols.ledger import sender as module
from meshos.protocols.ledger.limits import IN_FLIGHT, KEPT, LAPSE_MARGIN_MS, LIFETIME_MS, QUEUED, RESUBMIT_S
from meshos.protocols.ledger.port import Submit, WallTime
from meshos.protocols.ledger.sender import IsKnown, Send, Sender
from meshos.protocols.ledger.slots import Concluded
from meshos.storage.memory import MemoryStore
from tests.payments.lone import ALPHA, BETA, GENESIS, ME, WALL_MS, Ledger, Lone


def begin(ledger: Ledger, store: MemoryStore | None = None, now: float = 100.0) -> Lone:
    store = store or MemoryStore(Random(0))
    lone = Lone(Sender(ME.node, GENESIS, ledger, store, now=now, wall_ms=WALL_MS), store)
    lone.now = now
    lone.step(Tick())
    return lone


def pay(micro: int) -> Body:
    return Transfer(BETA, micro)


def submitted(lone: Lone) -> list[bytes]:
    return [command.request for command in lone.taken() if isinstance(command, Submit)]


def tx(request: bytes) -> Any:
    return read(request).transaction


def decide(ledger: Ledger, request: bytes, outcome: str = "committed", name: str = "") -> None:
    """The chain executes ``request``."""
    transaction = tx(request)
    ledger.put(KEYS, ME.node, Key(NODE, ALPHA, transaction.nonce + 1))
    ledger.results[request] = Result(outcome, name, ledger.height + 1, 0, transaction.id)


def test_what_is_decided_is_told_and_nothing_else() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    op = lone.put(Send(b"a", pay(5)))
    assert lone.synced == 1 and not lone.asked, "durable and signed before it is submitted"
    lone.sign()
    (request,) = submitted(lone)
    assert (tx(request).nonce, tx(request).expires_ms, tx(request).key) == (0, WALL_MS + LIFETIME_MS, ME.node)
    for outcome in (Ok(None), Err(Unreachable("deadline-exceeded", "no quorum"))):
        lone.complete(1, outcome)
        assert op not in lone.answers
    decide(ledger, request)
    lone.step(ledger.next())
    assert lone.answers[op].value == Concluded(b"a", tx(request).id, "committed", "", 2)
    assert lone.machine.deadline() is None


def test_a_refusal_is_an_end_too() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    op = lone.put(Send(b"a", pay(5)))
    lone.sign()
    decide(ledger, submitted(lone)[0], "refused", "insufficient-funds")
    lone.step(ledger.next())
    assert (lone.answers[op].value.outcome, lone.answers[op].value.name) == ("refused", "insufficient-funds")


def test_the_same_name_is_sent_once_also_after_a_restart() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    lone.put(Send(b"a", pay(5)))
    lone.put(Send(b"a", pay(5)))
    lone.sign()
    (request,) = submitted(lone)
    again = begin(ledger, lone.store)
    op = again.put(Send(b"a", pay(5)))
    again.sign()
    assert submitted(again) == [request], "the same bytes"
    decide(ledger, request)
    again.step(ledger.next())
    assert again.answers[op].value.outcome == "committed"
    third = begin(ledger, again.store)
    assert third.ask(Send(b"a", pay(5))) == again.answers[op]
    assert not third.asked and not third.signs


def test_a_name_stands_for_one_body_while_it_waits_is_on_its_way_and_has_ended_also_after_a_restart() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    other = Send(b"a", pay(6))

    def refused(by: Lone) -> bool:
        answer = by.ask(other)
        return isinstance(answer, Err) and (answer.error.name, answer.error.outcome) == ("idempotency-conflict", "not_done")

    lone.put(Send(b"a", pay(5)))
    assert refused(lone), "on its way"
    lone.sign()
    (request,) = submitted(lone)
    assert refused(begin(ledger, lone.store)), "on its way, after a restart"
    decide(ledger, request)
    lone.step(ledger.next())
    assert refused(lone) and refused(begin(ledger, lone.store)), "ended"
    for number in range(IN_FLIGHT):
        lone.put(Send(b"%d" % number, pay(1)))
    lone.put(Send(b"waits", pay(1)))
    answer = lone.ask(Send(b"waits", pay(2)))
    assert isinstance(answer, Err) and answer.error.name == "idempotency-conflict"


def test_a_name_stands_for_one_thing_however_long_ago_it_was_asked_for() -> None:
    ledger = Ledger()
    lone = begin(ledger)

    def conflicts(at: Lone) -> bool:
        answer = at.ask(Send(b"a", pay(6)))
        return isinstance(answer, Err) and answer.error.name == "idempotency-conflict"

    assert lone.ask(IsKnown(b"a")) == Ok(False)
    lone.put(Send(b"a", pay(5)))
    assert conflicts(lone) and lone.ask(IsKnown(b"a")) == Ok(True)
    lone.sign()
    (request,) = submitted(lone)
    again = begin(ledger, lone.store)
    assert conflicts(again)
    again.sign()
    decide(ledger, request)
    again.step(ledger.next())
    third = begin(ledger, again.store)
    assert conflicts(again) and conflicts(third) and third.ask(IsKnown(b"a")) == Ok(True)
    assert again.ask(Send(b"a", pay(5))).value.outcome == "committed"


def test_it_is_submitted_again_with_growing_pauses() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    lone.put(Send(b"a", pay(5)))
    lone.sign()
    (request,) = submitted(lone)
    for pause in (RESUBMIT_S, 2 * RESUBMIT_S, 4 * RESUBMIT_S):
        assert lone.machine.deadline() == lone.now + pause
        lone.now += pause
        lone.step(Tick())
        assert submitted(lone) == [request]


def test_nonces_follow_one_another_and_only_some_are_in_flight() -> None:
    ledger = Ledger()
    ledger.put(KEYS, ME.node, Key(NODE, ALPHA, 7))
    lone = begin(ledger)
    ops = [lone.put(Send(b"%d" % number, pay(1 + number))) for number in range(IN_FLIGHT + 3)]
    lone.sign()
    requests = submitted(lone)
    assert [tx(request).nonce for request in requests] == list(range(7, 7 + IN_FLIGHT))
    decide(ledger, requests[0])
    decide(ledger, requests[1])
    lone.step(ledger.next())
    assert [op in lone.answers for op in ops[:3]] == [True, True, False]
    lone.sign()
    assert [tx(request).nonce for request in submitted(lone)] == [7 + IN_FLIGHT, 8 + IN_FLIGHT]


def test_what_is_full_says_so() -> None:
    lone = begin(Ledger())
    for number in range(IN_FLIGHT + QUEUED):
        lone.put(Send(b"%d" % number, pay(1)))
    answer = lone.ask(Send(b"one more", pay(1)))
    assert isinstance(answer, Err) and answer.error.name == "busy"
    for command in ("what?", Send(b"", pay(1)), Send(b"x" * 65, pay(1))):
        answer = lone.ask(command)
        assert isinstance(answer, Err) and answer.error.name == "unknown-command"
    with pytest.raises(TypeError, match="no use"):
        lone.step("an event of somebody else")


def test_a_node_that_the_ledger_does_not_know_sends_nothing() -> None:
    for key in (None, Key("", ALPHA, 3), Key("root", ALPHA)):
        ledger = Ledger()
        ledger.put(KEYS, ME.node, key)
        answer = begin(ledger).ask(Send(b"a", pay(1)))
        assert isinstance(answer, Err) and answer.error.name == "unknown-signer"


def test_nothing_gets_a_nonce_from_a_state_of_which_only_a_part_is_here() -> None:
    ledger = Ledger()
    ledger.put(KEYS, ME.node, None)  # its key is not laid down yet
    ledger.restoring = True
    lone = begin(ledger)
    op = lone.put(Send(b"a", pay(1)))
    assert op not in lone.answers and not lone.signs, "it waits"
    ledger.restoring = False
    ledger.put(KEYS, ME.node, Key(NODE, ALPHA, 9))
    lone.step(ledger.next())
    lone.sign()
    assert [tx(request).nonce for request in submitted(lone)] == [9]


def test_after_a_crash_that_lost_the_newest_blocks_a_used_nonce_is_not_given_again() -> None:
    """The block that decided was not on disk yet, and what this machine concluded from it was."""
    for first in (True, False):
        ledger = Ledger()
        lone, _, (request,), filler = lapsed(ledger, b"a")
        decide(ledger, request if first else filler)
        lone.step(ledger.next())
        older = Ledger()
        assert older.height < ledger.height
        again = begin(older, lone.store, lone.now)
        op = again.put(Send(b"b", pay(2)))
        assert not again.signs and op not in again.answers, "it waits"
        decide(older, request if first else filler)
        again.step(older.next())
        again.sign()
        assert [tx(one).nonce for one in submitted(again)] == [1]


def test_a_retired_key_executes_nothing_any_more() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    op = lone.put(Send(b"a", pay(1)))
    lone.sign()
    ledger.put(KEYS, ME.node, Key(RETIRED, ALPHA))
    lone.step(ledger.next())
    assert (lone.answers[op].value.outcome, lone.answers[op].value.name) == ("refused", "unknown-signer")


def test_a_later_block_without_it_proves_that_it_expired() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    op = lone.put(Send(b"a", pay(1)))
    lone.sign()
    lone.step(ledger.next(LIFETIME_MS - 1))
    assert op not in lone.answers, "the next block may still hold it"
    lone.step(ledger.next(1))
    assert lone.answers[op].value.outcome == "expired"
    lone.taken()
    lone.put(Send(b"b", pay(2)))
    lone.sign()
    assert [tx(request).nonce for request in submitted(lone)] == [0], "its nonce is free"


def lapsed(ledger: Ledger, *names: bytes) -> tuple[Lone, list[int], list[bytes], bytes]:
    """Transactions that lapsed by our clock while the ledger was silent; gives the filler of the first."""
    lone = begin(ledger)
    ops = [lone.put(Send(name, pay(1 + number))) for number, name in enumerate(names)]
    lone.sign()
    requests = submitted(lone)
    lone.now += (LIFETIME_MS + LAPSE_MARGIN_MS) / 1000
    lone.step(Tick())
    lone.sign()
    filler = next(request for request in submitted(lone) if request not in requests and tx(request).nonce == 0)
    assert not set(ops) & set(lone.answers), "nothing is known yet"
    return lone, ops, requests, filler


def test_where_the_ledger_is_silent_a_filler_brings_the_truth_to_light() -> None:
    for first in (True, False):
        ledger = Ledger()
        lone, (op,), (request,), filler = lapsed(ledger, b"a")
        body = read(filler).body
        assert (body.to, body.micro) == (ALPHA, 1), "it moves one millionth from the organisation to itself"
        decide(ledger, request if first else filler)
        lone.step(ledger.next())
        assert lone.answers[op].value.outcome == ("committed" if first else "expired")
        assert lone.machine.deadline() is None


def test_where_the_wall_clock_is_set_its_ends_are_by_the_new_time() -> None:
    """The replica of this node takes nothing that has expired by the clock of this machine, be it wrong: seed 29 of "ledger"."""
    ledger = Ledger()
    lone = begin(ledger)
    lone.put(Send(b"a", pay(1)))
    lone.sign()
    submitted(lone)
    later_ms = WALL_MS + 1_700_000
    lone.step(WallTime(later_ms))
    lone.sign()
    (filler,) = submitted(lone)
    assert tx(filler).nonce == 0 and tx(filler).expires_ms > later_ms, "what has expired by that clock is given up at once"
    lone.put(Send(b"b", pay(2)))
    lone.sign()
    assert [tx(request).expires_ms for request in submitted(lone)] == [later_ms + LIFETIME_MS]


def test_a_filler_survives_a_restart() -> None:
    ledger = Ledger()
    lone, _, (request,), filler = lapsed(ledger, b"a")
    again = begin(ledger, lone.store, lone.now)
    op = again.put(Send(b"a", pay(1)))
    again.sign()
    assert submitted(again) == [filler]
    decide(ledger, request)
    again.step(ledger.next())
    assert again.answers[op].value.outcome == "committed"


def test_nonces_behind_one_that_expired_get_their_turn() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    first = lone.put(Send(b"a", pay(1)))
    lone.sign()
    lone.now += 30
    second = lone.put(Send(b"b", pay(2)))
    lone.sign()
    requests = submitted(lone)
    lone.step(ledger.next(LIFETIME_MS + 1))
    assert lone.answers[first].value.outcome == "expired" and second not in lone.answers
    lone.sign()
    (filler,) = [request for request in submitted(lone) if request not in requests]
    assert tx(filler).nonce == 0
    decide(ledger, filler)
    decide(ledger, requests[-1])
    lone.step(ledger.next())
    assert lone.answers[second].value.outcome == "committed"


def test_a_nonce_that_was_used_by_what_is_not_known_here_is_unknown() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    op = lone.put(Send(b"a", pay(1)))
    lone.sign()
    ledger.put(KEYS, ME.node, Key(NODE, ALPHA, 1))
    lone.step(ledger.next())
    assert lone.answers[op].value.outcome == "unknown"


def test_whoever_left_is_not_told_and_what_has_a_nonce_goes_on() -> None:
    ledger = Ledger()
    lone = begin(ledger)
    ops = [lone.put(Send(b"%d" % number, pay(1))) for number in range(IN_FLIGHT + 1)]
    for op in (ops[0], ops[-1]):
        lone.step(Abandon(op, Propose[object](Send(b"", pay(1))), "test"))
    assert lone.machine.statistics() == {"in_flight": IN_FLIGHT, "queued": 0}
    lone.sign()
    decide(ledger, submitted(lone)[0])
    effects = lone.step(ledger.next())
    assert not [effect for effect in effects if isinstance(effect, Tell) and isinstance(effect.event, Completed)]


def test_what_ended_is_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    assert KEPT > 3
    ledger = Ledger()
    lone = begin(ledger)
    for number in range(5):
        lone.put(Send(b"%d" % number, pay(1)))
        lone.sign()
        decide(ledger, submitted(lone)[0])
        lone.step(ledger.next())
    assert len(list(lone.store.scan(b"done/"))) == 3 and not list(lone.store.scan(b"slot/"))
    again = begin(ledger, lone.store)
    assert isinstance(again.ask(Send(b"4", pay(1))), Ok)
    assert again.put(Send(b"0", pay(1))) not in again.answers, "it would be sent again"
