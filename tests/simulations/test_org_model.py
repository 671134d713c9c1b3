"""An organisation's history is that of one state: deduplicated by key, the first outcome counts, versions rise."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from meshos.consensus.org.commands import (
    AwaitOutcome,
    Begun,
    Command,
    DeployAgent,
    Ended,
    GetAgent,
    GetConfig,
    GetTask,
    Intent,
    ListAgents,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    Running,
    SetConfig,
    Status,
    Tool,
    WithdrawAgent,
)
from meshos.consensus.org.machine import OrgMachine
from meshos.consensus.org.queries import answer
from meshos.consensus.org.replicated import GROUP
from meshos.consensus.org.replicated import OrgState as OrgReplicated
from meshos.consensus.org.state import apply
from meshos.consensus.raft.applying import founding
from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.replica import Replica
from meshos.effects import Err, Machine
from meshos.errors import Refused, Unreachable
from meshos.flow_machine import Flows
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.node.kernel.asking import ASK_ORG, ask_org
from meshos.simulations.history import History, Linearizable
from meshos.simulations.linearizability import Operation, check
from meshos.simulations.org_model import OrgState, Refusal, organisation, settle, timeless
from meshos.simulations.work import Asking
from meshos.simulations.world import SimNode, Spec, Violation, World
from meshos.storage.memory import MemoryStore
from meshos.storage.store import View

CALLER = Peer(NodeId("n009"), OrgDid("did:mesh:enterprise:acme"))
AGENT = AgentId("a-1")


def deploy(version: int = 1, agent: AgentId = AGENT) -> DeployAgent:
    return DeployAgent(agent, "Agent", version, b"", "/", b"", (Tool("do", True),), 5, "tester", CALLER.node, 0)


def intent(task: str = "t-1", key: str = "key", body: bytes = b"b" * 32, agent: AgentId = AGENT) -> RecordIntent:
    return RecordIntent(TaskId(task), CALLER, agent, "do", key, True, body, b"", 1000)


def outcome(task: str = "t-1", status: Status = "completed") -> RecordOutcome:
    return RecordOutcome(TaskId(task), status)


def given(*ops: Command | GetTask) -> list[object]:
    """What a state answers to ``ops``, one after the other."""
    results: list[object] = []
    state = OrgState()
    for op in ops:
        if isinstance(op, GetTask):
            results.append(timeless(answer(state, op)))
        else:
            result, writes = apply(state, op, 0)
            results.append(timeless(result))
            state = state.after(writes)
    return results


def in_turn(*pairs: tuple[object, object]) -> list[Operation]:
    return [Operation("c", op, result, 2 * at, 2 * at + 1) for at, (op, result) in enumerate(pairs)]  # type: ignore[arg-type]


BEGUN = Begun(Intent(TaskId("t-1"), CALLER, AGENT, "do", b"b" * 32, True, 5, 0, 1000, ""))
VERSION_1 = given(deploy())[0]


def test_the_first_outcome_counts_for_everybody() -> None:
    ops = (deploy(), intent(), outcome(), outcome(status="failed"), GetTask(TaskId("t-1")))
    answers = given(*ops)
    first, second, asked = answers[2:]
    assert isinstance(first, Ended) and first.status == "completed" and second == first and asked == first
    assert check(in_turn(*zip(ops, answers, strict=True)), organisation()).answer == "ok"
    failed = given(deploy(), intent(), outcome(status="failed"))[2]
    wrong = [*answers[:4], failed]
    conflict = check(in_turn(*zip(ops, wrong, strict=True)), organisation()).conflict
    assert conflict is not None and isinstance(conflict.failing.op, GetTask)


def test_a_repeated_call_is_not_begun_twice() -> None:
    twice = in_turn((deploy(), VERSION_1), (intent(), BEGUN), (intent("t-2"), Running(TaskId("t-1"))))
    assert check(twice, organisation()).answer == "ok"
    begun_again = Begun(Intent(TaskId("t-2"), CALLER, AGENT, "do", b"b" * 32, True, 5, 0, 1000, ""))
    assert check(in_turn((deploy(), VERSION_1), (intent(), BEGUN), (intent("t-2"), begun_again)), organisation()).answer == "violation"
    conflict = (intent("t-3", body=b"c" * 32), Refusal("idempotency-conflict"))
    assert check([*twice, *[Operation("d", conflict[0], conflict[1], 50, 51)]], organisation()).answer == "ok"


def test_versions_rise() -> None:
    second = given(deploy(), deploy(2))[1]
    raced = [
        Operation("a", deploy(2), second, 0, 9),
        Operation("b", deploy(2), Refusal("version-conflict"), 1, 8),
        Operation("c", deploy(1), VERSION_1, 0, 2),
    ]
    assert check(raced, organisation()).answer == "ok"
    assert check([*raced, Operation("d", GetAgent(AGENT), VERSION_1, 10, 11)], organisation()).answer == "violation"


def test_who_awaits_an_outcome_is_answered_after_it() -> None:
    ended = given(deploy(), intent(), outcome())[2]
    waiting = Operation("w", AwaitOutcome(TaskId("t-1")), ended, 3, 20)
    before = in_turn((deploy(), VERSION_1), (intent(), BEGUN))
    assert check([*before, waiting, Operation("c", outcome(), ended, 10, 12)], organisation()).answer == "ok"
    assert check([*before, waiting, Operation("c", outcome(), ended, 21, 22)], organisation()).answer == "violation"


def sizes(history: list[Operation]) -> list[int]:
    return sorted(map(len, organisation().split(history)))


def test_agents_names_and_tasks_are_decided_apart_unless_something_looks_at_all() -> None:
    other = AgentId("a-2")
    history = in_turn((deploy(), VERSION_1), (deploy(agent=other), given(deploy(agent=other))[0]), (SetConfig("n", b"v", "t"), None))
    history += in_turn((GetConfig("n"), None))
    assert sizes(history) == [1, 1, 2]
    tasks = in_turn((intent("t-1", "k-1"), BEGUN), (intent("t-2", "k-2", agent=other), BEGUN), (GetTask(TaskId("t-1")), None))
    assert sizes([*history, *tasks]) == [1, 1, 2, 2, 3], "a task is decided with the deployments of its agent"
    assert sizes([*history, *tasks, *in_turn((intent("t-3", "k-1"), BEGUN))]) == [1, 1, 2, 2, 4], "tasks that share a key are one"
    led = in_turn((RecordLead(CALLER.node, 1), None))
    assert sizes([*history, *tasks, *led]) == [1, 2, 2, 2, 3, 4], "who leads matters to all but to names"
    assert sizes([*history, *tasks, *in_turn((ListAgents(), ()))]) == [8]


@pytest.mark.parametrize(
    ("error", "operations", "open_"),
    [
        (Refused("task-unknown", "no"), 1, 0),
        (Refused("busy", "full"), 0, 0),
        (Unreachable("deadline-exceeded", "late"), 1, 1),
        (Refused("not-holder", "no"), 0, 0),
    ],
)
def test_what_an_error_says_of_the_command(error: Refused | Unreachable, operations: int, open_: int) -> None:
    history = History(lambda: 0.0)
    settle(history, history.invoke("c", GetTask(TaskId("t"))), Err(error))
    found = history.operations()
    assert len(found) == operations and sum(operation.returned is None for operation in found) == open_


class Clients:
    """Clients of one node's organisation: each has one command under way, and gives up on it when the node dies."""

    def __init__(self, node: SimNode, until_s: float) -> None:
        world = node.world
        self.history = History(lambda: world.now)
        self._world, self._node, self._until_s = world, node, until_s
        self._asking = Asking(world)
        self._rng = world.generator("clients")
        self._open: dict[str, tuple[int, int, int]] = {}
        for client in range(4):
            world.at(client / 10, self._next, f"c{client}")

    def _next(self, client: str) -> None:
        self._close(client)
        if self._world.now > self._until_s:
            return
        self._world.after(self._rng.expovariate(15.0), self._next, client)
        if client not in self._open and self._node.alive:
            op = self._drawn()
            number = self._asking.ask(self._node, ASK_ORG, op, 5.0)
            self._open[client] = (self.history.invoke(client, op), number, self._node.epoch)  # type: ignore[arg-type]
            self._close(client)

    def _close(self, client: str) -> None:
        if client not in self._open:
            return
        token, number, epoch = self._open[client]
        if number in self._asking.ended:
            settle(self.history, token, self._asking.ended[number])
        elif epoch != self._node.epoch:
            self.history.info(token)
        else:
            return
        del self._open[client]

    def _drawn(self) -> object:
        rng = self._rng
        agent = AgentId(f"a-{rng.randrange(2)}")
        task = f"{agent}-t-{rng.randrange(12)}"
        draws: tuple[Callable[[], object], ...] = (
            lambda: deploy(rng.randrange(1, 8), agent),
            lambda: WithdrawAgent(agent, rng.randrange(1, 8), b"", "tester", 0) if rng.random() < 0.1 else GetAgent(agent),
            lambda: intent(task, f"key-{rng.randrange(6)}", bytes([rng.randrange(2)]) * 32, agent),
            lambda: intent(task, f"key-{rng.randrange(6)}", b"b" * 32, agent),
            lambda: outcome(task, rng.choice(("completed", "failed", "cancelled"))),
            lambda: GetTask(TaskId(task)),
            lambda: SetConfig("name", rng.randbytes(1), "tester"),
            lambda: GetConfig("name"),
        )
        return rng.choice(draws)()


def built(node: SimNode) -> dict[str, Machine]:
    """An organisation's machine, and what asks it."""
    make = partial(Replica, "org", GROUP, node.name, OrgReplicated(), node.views["org"], org=CALLER.org, config=LAN, rng=node.rng)
    replica = make(now=node.now(), wall_ms=node.wall_ms())
    return {"org": OrgMachine(replica), "flows": Flows({ASK_ORG: ask_org}, limit=100)}


def clients_of(seed: int) -> dict[str, float]:
    """A node that is killed a few times under its clients; raises Violation."""
    world = World(seed)
    world.disk_range_s = (0.001, 0.05)  # so that answers wait, and a crash finds some of them waiting
    node = world.add(Spec(NodeId("n001"), CALLER.org, built, stores=("org",)))
    node.stores["org"].write(founding([node.name]))
    clients = Clients(node, 3.0)
    rng = random.Random(seed)
    for number in range(3):
        at = 0.8 * (1 + number) + rng.random() / 2
        world.at(at, node.crash)
        world.at(at + 0.1, node.start)
    node.start()
    world.run(4.0)
    checker = Linearizable(clients.history, organisation())
    checker.finish(world)
    return checker.figures


def test_a_node_that_is_killed_again_and_again_keeps_its_organisations_history_linearizable() -> None:
    figures = [clients_of(seed) for seed in range(4)]
    assert all(each["operations checked"] > 60 and not each["histories undecided"] for each in figures)
    assert sum(each["of unknown outcome"] for each in figures) > 3


def again(view: View, command: Command, at_ms: int) -> object:
    """A state that knows no keys."""
    if isinstance(command, RecordIntent):
        command = replace(command, key=f"{command.task}-{at_ms}")
    return apply(view, command, at_ms)


def last_counts(view: View, command: Command, at_ms: int) -> object:
    """A state whose tasks end as whoever ended them last has said."""
    result, writes = apply(view, command, at_ms)
    if isinstance(command, RecordOutcome) and isinstance(result, Ended):
        result = replace(result, status=command.status)
    return result, writes


def unsynced(self: MemoryStore) -> None:
    """A disk that says it has written."""


@pytest.mark.parametrize(
    ("where", "broken"),
    [
        ("meshos.consensus.org.replicated.apply", again),
        ("meshos.consensus.org.replicated.apply", last_counts),
        ("meshos.storage.memory.MemoryStore.sync", unsynced),
    ],
)
def test_a_broken_state_is_found(where: str, broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, broken)
    with pytest.raises(Violation, match="no order explains"):
        for seed in range(20):
            clients_of(seed)
