"""The organisation's machine: durable before answered, waiting, holds, orphans, time."""

from collections import deque
from dataclasses import replace
from random import Random

import pytest

from meshos.consensus.org import machine, tasks
from meshos.consensus.org.commands import (
    AwaitOutcome,
    Begun,
    CallOff,
    Ended,
    GetTask,
    HoldTask,
    ListOrphans,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    Running,
    SetConfig,
)
from meshos.consensus.org.limits import DEDUP_MS, LOOK_S
from meshos.consensus.org.machine import MACHINE
from meshos.consensus.raft.events import Fence, WallTime
from meshos.consensus.raft.replica import Replica
from meshos.effects import Completed, Err, Ok, Persist, Tell, Tick, WriteBack
from meshos.errors import MeshError
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, Peer, TaskId
from meshos.storage.memory import MemoryStore
from tests.org.lone import found, org_machine
from tests.org.test_state import AGENT, AT, BETA, DEPLOY, pay_intent

TASK = TaskId("t-1")


ME = Peer(NodeId("12D3KooWme"), OrgDid("did:mesh:enterprise:acme"))


class _Driver:
    """Steps one machine over one store; ``answers`` holds what each operation was answered, ``syncs`` counts what had to be on disk."""

    def __init__(self) -> None:
        self.store = MemoryStore(Random(0))
        self.now = 5.0
        self.ops = 0
        self.restart()
        self.ask(DEPLOY)

    def restart(self, wall_ms: int = AT) -> None:
        found(self.store, ME)
        self.machine = org_machine(self.store, ME, now=self.now, wall_ms=wall_ms)
        self.answers: dict[int, object] = {}
        self.syncs = 0
        self.tick()
        assert self.machine.lead is not None, "one node needs nobody's vote"

    def tick(self) -> None:
        """Its deadlines up to now."""
        while (due := self.machine.deadline()) is not None and due <= self.now:
            self.step(Tick())

    def step(self, event: object) -> list[object]:
        """Everything that ``event`` causes; gives the effects that others carry out."""
        queue, outside = deque([event]), list[object]()
        while queue:
            effects = self.machine.step(self.now, queue.popleft())
            kinds = [type(effect) for effect in effects]
            assert kinds == sorted(kinds, key=lambda kind: kind is not Persist), "what is persisted comes before what is told"
            for effect in effects:
                if isinstance(effect, Persist | WriteBack):
                    self.store.write(effect.writes)
                    self.syncs += isinstance(effect, Persist)
                elif isinstance(effect, Tell) and effect.machine == MACHINE:
                    queue.append(effect.event)
                else:
                    outside.append(effect)
        for effect in outside:
            assert isinstance(effect, Tell) and isinstance(effect.event, Completed)
            assert effect.event.op not in self.answers, "answered once"
            self.answers[effect.event.op] = effect.event.outcome
        return outside

    def waits(self) -> tuple[int, int]:
        """How many hold a task, and how many wait for one."""
        figures = self.machine.statistics()
        return figures["held"], figures["waiting"]

    def begin(self, command: object) -> int:
        self.ops += 1
        self.step(Perform(self.ops, Propose(command), None))
        return self.ops

    def ask(self, command: object) -> object:
        outcome = self.answers[self.begin(command)]
        return outcome.value if isinstance(outcome, Ok) else outcome

    def beside(self, command: object) -> None:
        """Have ``command`` decided as another node would: this machine is not asked."""
        self.ops += 1
        for effect in self.machine.replica.step(self.now, Perform(self.ops, Propose(command), None, "elsewhere")):
            assert isinstance(effect, Tell) and effect.machine == MACHINE
            self.step(effect.event)

    def abandon(self, op: int, command: object) -> list[object]:
        return self.step(Abandon(op, Propose(command)))

    def name(self, op: int) -> str:
        outcome = self.answers[op]
        assert isinstance(outcome, Err)
        return outcome.error.name


def test_a_question_costs_no_disk() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    before = driver.syncs
    assert driver.ask(GetTask(TASK)) == Running(TASK)
    assert driver.syncs == before


def test_begun_says_the_machines_time() -> None:
    driver = _Driver()
    begun = driver.ask(pay_intent())
    assert isinstance(begun, Begun)
    assert begun.now == driver.now


def test_all_who_wait_are_told_once() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    waiting = [driver.begin(HoldTask(TASK, None)), driver.begin(AwaitOutcome(TASK)), driver.begin(AwaitOutcome(TASK))]
    gone = driver.begin(AwaitOutcome(TASK))
    driver.abandon(gone, AwaitOutcome(TASK))
    assert driver.waits() == (1, 2)
    ended = driver.ask(RecordOutcome(TASK, "completed", b"result"))
    assert isinstance(ended, Ended)
    assert all(driver.answers[op] == Ok(ended) for op in waiting)
    assert gone not in driver.answers
    assert driver.ask(AwaitOutcome(TASK)) == ended
    assert driver.ask(HoldTask(TASK, None)) == ended
    assert driver.waits() == (0, 0)


@pytest.mark.parametrize(("deadline", "status"), [(None, "cancelled"), (6.0, "cancelled"), (5.0, "expired")])
def test_an_abandoned_hold_ends_the_task(deadline: float | None, status: str) -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    hold, waiting = driver.begin(HoldTask(TASK, deadline)), driver.begin(AwaitOutcome(TASK))
    before = driver.syncs
    driver.abandon(hold, HoldTask(TASK, deadline))
    assert driver.syncs > before
    outcome = driver.answers[waiting]
    assert isinstance(outcome, Ok) and isinstance(outcome.value, Ended)
    assert outcome.value.status == status
    assert driver.abandon(hold, HoldTask(TASK, deadline)) == [], "a second word changes nothing"
    assert driver.ask(RecordOutcome(TASK, "completed", b"too late")) == outcome.value


def test_an_abandoned_hold_of_an_ended_task_changes_nothing() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    hold = driver.begin(HoldTask(TASK, None))
    ended = driver.ask(RecordOutcome(TASK, "completed"))
    assert driver.abandon(hold, HoldTask(TASK, None)) == []
    assert driver.ask(GetTask(TASK)) == ended


def test_an_intent_that_was_abandoned_before_it_was_held() -> None:
    """The Flow was cancelled while its intent was on the way to the disk."""
    driver = _Driver()
    op = driver.begin(pay_intent())
    repeated = driver.begin(pay_intent("t-2"))
    assert driver.abandon(repeated, pay_intent("t-2")) == [], "who only repeated it cancels nothing"
    driver.abandon(op, pay_intent())
    ended = driver.ask(GetTask(TASK))
    assert isinstance(ended, Ended) and ended.status == "cancelled"


def test_an_intent_that_is_held_is_not_cancelled_by_its_own_proposal() -> None:
    driver = _Driver()
    op = driver.begin(pay_intent())
    driver.begin(HoldTask(TASK, None))
    assert driver.abandon(op, pay_intent()) == []
    assert driver.ask(GetTask(TASK)) == Running(TASK)


def test_called_off_ends_the_hold_and_whoever_waits() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    hold, waiting = driver.begin(HoldTask(TASK, driver.now + 5)), driver.begin(AwaitOutcome(TASK))
    ended = driver.ask(CallOff(TASK, BETA, AGENT, ""))
    assert isinstance(ended, Ended) and ended.status == "cancelled"
    assert driver.answers[hold] == driver.answers[waiting] == Ok(ended)
    assert driver.ask(RecordOutcome(TASK, "completed", b"too late")) == ended, "the first end counts"
    assert driver.ask(CallOff(TASK, BETA, AGENT, "")) == ended
    assert driver.waits() == (0, 0)


def test_called_off_after_its_time_it_has_expired() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    driver.begin(HoldTask(TASK, driver.now + 5))
    driver.now += pay_intent().timeout_ms / 1000
    ended = driver.ask(CallOff(TASK, BETA, AGENT, ""))
    assert isinstance(ended, Ended) and ended.status == "expired"


def test_called_off_after_it_has_ended_changes_nothing() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    ended = driver.ask(RecordOutcome(TASK, "completed", b"result"))
    assert driver.ask(CallOff(TASK, BETA, AGENT, "")) == ended
    assert isinstance(ended, Ended) and (ended.status, ended.result) == ("completed", b"result")


def test_called_off_by_another_organisation_changes_nothing() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    other = Peer(BETA.node, OrgDid("did:mesh:community:other"))
    assert driver.name(driver.begin(CallOff(TASK, other, AGENT, ""))) == "task-unknown"
    assert driver.ask(GetTask(TASK)) == Running(TASK)


def test_a_repetition_that_is_called_off_ends_nothing_and_is_not_begun() -> None:
    driver = _Driver()
    driver.ask(pay_intent(key="k"))
    repetition = CallOff(TaskId("t-again"), BETA, AGENT, "k")
    assert driver.name(driver.begin(repetition)) == "task-repeats"
    assert driver.ask(GetTask(TASK)) == Running(TASK)
    assert driver.name(driver.begin(replace(repetition, key="other"))) == "task-unknown"
    driver.ask(RecordOutcome(TASK, "completed", b"result"))
    assert driver.name(driver.begin(repetition)) == "task-repeats", "the first call may have cost something"
    driver.now += DEDUP_MS / 1000
    assert driver.name(driver.begin(repetition)) == "task-unknown", "its key is free again"
    assert driver.name(driver.begin(pay_intent("t-again", key="k"))) == "cancelled"


def test_called_off_before_it_came_it_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MAX_CALLED_OFF", 2)
    driver = _Driver()
    for number in range(3):
        assert driver.name(driver.begin(CallOff(TaskId(f"t-{number}"), BETA, AGENT, ""))) == "task-unknown"
    driver.restart()
    for number in (1, 2):
        assert driver.name(driver.begin(pay_intent(f"t-{number}", key=str(number)))) == "cancelled"
    assert isinstance(driver.ask(pay_intent("t-0", key="0")), Begun), "the oldest made room"
    assert driver.machine.replica.view().get(b"open/t-1") is None


def test_orphans_are_the_tasks_of_before() -> None:
    driver = _Driver()
    driver.ask(pay_intent("t-1"))
    driver.ask(pay_intent("t-2", key="ended"))
    driver.ask(RecordOutcome(TaskId("t-2"), "completed"))
    driver.restart()
    driver.ask(pay_intent("t-3", key="new"))
    orphans = driver.ask(ListOrphans())
    assert isinstance(orphans, tuple)
    assert [intent.task for intent in orphans] == ["t-1"]
    waiting = driver.begin(AwaitOutcome(TASK))
    driver.ask(RecordOutcome(TASK, "outcome_unknown"))
    assert isinstance(driver.answers[waiting], Ok), "a repeated call waits for the recovery"
    assert driver.ask(ListOrphans()) == ()


def test_time() -> None:
    driver = _Driver()
    driver.now += 2.5
    begun = driver.ask(pay_intent())
    assert isinstance(begun, Begun) and begun.intent.at_ms == AT + 2500
    driver.step(WallTime(AT + 60_000))
    driver.now += 1
    ended = driver.ask(RecordOutcome(TASK, "completed"))
    assert isinstance(ended, Ended) and ended.ended_ms == AT + 61_000
    driver.restart(wall_ms=AT - 3_600_000)
    begun = driver.ask(pay_intent("t-2", key="2"))
    assert isinstance(begun, Begun) and begun.intent.at_ms == AT + 61_000, "a clock that is an hour late"


def test_what_it_does_not_know() -> None:
    driver = _Driver()
    assert driver.name(driver.begin("what?")) == "unknown-command"
    assert driver.name(driver.begin(AwaitOutcome(TaskId("t-none")))) == "task-unknown"
    assert driver.name(driver.begin(HoldTask(TaskId("t-none"), None))) == "task-unknown"
    assert driver.name(driver.begin(SetConfig("", b"", "bob"))) == "bad-command"
    assert driver.step(Tick()) == []
    assert driver.abandon(12345, AwaitOutcome(TASK)) == []
    with pytest.raises(TypeError, match="no use"):
        driver.step("an event of somebody else")


def test_waiting_is_bounded_and_holding_is_not_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_WAITING", 2)
    driver = _Driver()
    driver.ask(pay_intent())
    for _ in range(2):
        driver.begin(AwaitOutcome(TASK))
    assert driver.name(driver.begin(AwaitOutcome(TASK))) == "busy"
    hold = driver.begin(HoldTask(TASK, None))
    assert hold not in driver.answers


def test_errors_are_of_the_tree() -> None:
    driver = _Driver()
    outcome = driver.answers[driver.begin(pay_intent(tool="none"))]
    assert isinstance(outcome, Err) and isinstance(outcome.error, MeshError)
    assert isinstance(pay_intent(), RecordIntent)


def test_an_end_that_another_node_has_recorded_is_told_to_those_who_wait_here() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    waiting = [driver.begin(HoldTask(TASK, None)), driver.begin(AwaitOutcome(TASK))]
    driver.beside(RecordOutcome(TASK, "completed", b"result"))
    assert not driver.answers.keys() & set(waiting), "nobody tells this machine"
    driver.now += LOOK_S
    driver.tick()
    ended = driver.ask(GetTask(TASK))
    assert isinstance(ended, Ended) and ended.result == b"result"
    assert [driver.answers[op] for op in waiting] == [Ok(ended)] * 2 and driver.waits() == (0, 0)
    due = driver.machine.deadline()
    assert due is None or due > driver.now + 10 * LOOK_S, "nobody waits, so there is nothing to look at"


def test_a_look_takes_its_time_and_misses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOOKED_AT", 2)
    driver = _Driver()
    waiting = []
    for number in range(5):
        driver.ask(pay_intent(f"t-{number}", key=str(number)))
        waiting.append(driver.begin(HoldTask(TaskId(f"t-{number}"), None)))
    for number in range(5):
        driver.beside(RecordOutcome(TaskId(f"t-{number}"), "cancelled"))
    for looks in (2, 4, 5):
        driver.now += LOOK_S
        driver.tick()
        assert sum(op in driver.answers for op in waiting) == looks


def test_an_intent_of_a_lead_that_is_over_is_left_to_the_leader_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _Driver()
    terms = iter((1, 1, 2))  # when it is asked for, when it is proposed, when it is recorded
    monkeypatch.setattr(Replica, "fence", property(lambda self: Fence("org", next(terms))))
    assert driver.ask(pay_intent()) == Running(TASK), "it may be run there, so it is neither run here nor said not to be done"
    monkeypatch.undo()
    orphans = driver.ask(ListOrphans())
    assert isinstance(orphans, tuple) and [intent.task for intent in orphans] == [TASK]


def test_an_intent_that_comes_after_a_later_leader_was_not_done() -> None:
    driver = _Driver()
    driver.ask(RecordLead(NodeId("later"), 99))
    outcome = driver.answers[driver.begin(pay_intent())]
    assert isinstance(outcome, Err) and (outcome.error.name, outcome.error.outcome) == ("not-leading", "not_done")
    assert driver.name(driver.begin(GetTask(TASK))) == "task-unknown"


def test_a_node_that_does_not_lead_begins_nothing_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    monkeypatch.setattr(Replica, "fence", None)
    assert driver.name(driver.begin(pay_intent("t-2", key="2"))) == "not-leading"
    assert driver.name(driver.begin(ListOrphans())) == "not-leading", "what is open is run by whoever leads"


def test_what_is_about_to_be_ended_is_no_orphan() -> None:
    driver = _Driver()
    driver.ask(pay_intent())
    hold = driver.begin(HoldTask(TASK, None))
    effects = driver.machine.step(driver.now, Abandon(hold, Propose(HoldTask(TASK, None))))
    asked = driver.machine.step(driver.now, Perform(77, Propose(ListOrphans()), None))
    told = [effect.event for effect in asked if isinstance(effect, Tell) and isinstance(effect.event, Completed)]
    assert told == [Completed(77, Ok(()))]
    for effect in effects:
        if isinstance(effect, Tell) and effect.machine == MACHINE:
            driver.step(effect.event)
    assert isinstance(driver.ask(GetTask(TASK)), Ended)
