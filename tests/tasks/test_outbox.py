"""The outbox: at once, in batches, again with growing pauses, never without a bound."""

import pytest

from meshos.effects import Completed, Err, Ok, Tell, Tick
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, TaskId
from meshos.protocols.tasks import outbox
from meshos.protocols.tasks.limits import LINGER_S, OUTBOX_BATCH, OUTBOX_TRIES
from meshos.protocols.tasks.outbox import Countersigned, PutReceipts, ReceiptOutbox, TakeReceipts


def _receipt(number: int, provider: str = "p", tries: int = 0) -> Countersigned:
    return Countersigned(NodeId(provider), OrgDid("o"), TaskId(f"t-{number}"), b"signature", tries)


def _ask(machine: ReceiptOutbox, now: float, op: int, command: object) -> dict[int, object]:
    return _answers(machine.step(now, Perform(op, Propose(command, to="receipts"), None)))


def _answers(effects: list[object]) -> dict[int, object]:
    found: dict[int, object] = {}
    for effect in effects:
        assert isinstance(effect, Tell) and isinstance(effect.event, Completed)
        found[effect.event.op] = effect.event.outcome
    return found


def test_whoever_takes_waits_for_some_and_those_for_others() -> None:
    machine = ReceiptOutbox()
    assert _ask(machine, 0, 1, TakeReceipts()) == {}
    assert machine.deadline() is None
    assert _ask(machine, 0, 2, PutReceipts((_receipt(1),))) == {2: Ok(None)}
    assert _ask(machine, 0.1, 3, PutReceipts((_receipt(2),))) == {3: Ok(None)}
    assert machine.deadline() == LINGER_S
    assert _answers(machine.step(LINGER_S, Tick())) == {1: Ok((_receipt(1), _receipt(2)))}
    assert machine.deadline() is None
    assert _ask(machine, 1, 4, TakeReceipts()) == {}
    machine.step(1, Abandon(4, Propose(TakeReceipts())))
    assert _ask(machine, 1, 5, PutReceipts((_receipt(3),))) == {5: Ok(None)}
    assert machine.deadline() is None, "nobody takes"
    assert _ask(machine, 2, 6, TakeReceipts()) == {6: Ok((_receipt(3),))}
    assert machine.statistics() == {"waiting": 0, "dropped": 0}


def test_a_full_batch_waits_for_nobody() -> None:
    machine = ReceiptOutbox()
    _ask(machine, 0, 1, TakeReceipts())
    batch = tuple(_receipt(number) for number in range(OUTBOX_BATCH))
    assert _ask(machine, 0, 2, PutReceipts(batch)) == {2: Ok(None), 1: Ok(batch)}


def test_batches() -> None:
    machine = ReceiptOutbox()
    many = tuple(_receipt(number, f"p{number % 9}") for number in range(9 * (OUTBOX_BATCH + 1)))
    _ask(machine, 0, 1, PutReceipts(many))
    seen: list[Countersigned] = []
    for op in range(2, 6):
        for outcome in _ask(machine, 1, op, TakeReceipts()).values():
            assert isinstance(outcome, Ok)
            providers = [receipt.provider for receipt in outcome.value]
            assert len(set(providers)) <= 8 and max(map(providers.count, providers)) <= OUTBOX_BATCH
            seen += outcome.value
    assert sorted(seen, key=str) == sorted(many, key=str)


def test_pauses_grow_and_end() -> None:
    machine = ReceiptOutbox()
    _ask(machine, 0, 1, TakeReceipts())
    _ask(machine, 0, 2, PutReceipts((_receipt(1, tries=3), _receipt(2, tries=1), _receipt(3, tries=OUTBOX_TRIES))))
    assert machine.statistics() == {"waiting": 2, "dropped": 1}
    assert machine.deadline() == 1
    assert machine.step(1, Tick()) == []
    assert _answers(machine.step(1 + LINGER_S, Tick())) == {1: Ok((_receipt(2, tries=1),))}
    assert machine.deadline() == 4
    assert _answers(machine.step(4, Tick())) == {}
    assert _ask(machine, 5, 3, TakeReceipts()) == {3: Ok((_receipt(1, tries=3),))}
    assert machine.deadline() is None


def test_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "OUTBOX_RECEIPTS", 3)
    machine = ReceiptOutbox()
    _ask(machine, 0, 1, PutReceipts(tuple(_receipt(number, tries=number % 2) for number in range(6))))
    assert machine.statistics() == {"waiting": 3, "dropped": 3}


def test_what_it_does_not_know() -> None:
    machine = ReceiptOutbox()
    outcome = _ask(machine, 0, 1, "what?")[1]
    assert isinstance(outcome, Err) and outcome.error.name == "unknown-command"
    with pytest.raises(TypeError, match="no use"):
        machine.step(0, "an event of somebody else")
