"""What commands do to an organisation's state: deterministic, bounded, and the first outcome counts."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.consensus.org import agents, change, codec, leading, state, tasks
from meshos.consensus.org.commands import (
    Agent,
    Begun,
    CallOff,
    Command,
    DeployAgent,
    Ended,
    GetAgent,
    GetArguments,
    GetConfig,
    GetOwed,
    GetPlacement,
    GetTask,
    ListAgents,
    ListRemoved,
    PlaceAgent,
    Placement,
    Problem,
    ReadAudit,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    RecordReceipts,
    RemoveNode,
    Running,
    SetConfig,
    Tool,
    WithdrawAgent,
)
from meshos.consensus.org.entries import read_caller, read_meta
from meshos.consensus.org.limits import (
    AUTOMATIC_DEDUP_MS,
    DEDUP_MS,
    MAX_AGENT_FILE_BYTES,
    MAX_CONFIG_BYTES,
    MAX_RECORDED_ARGUMENTS_BYTES,
    MAX_RECORDED_RESULT_BYTES,
    WITHDRAWN_MS,
)
from meshos.consensus.org.queries import answer, open_intents
from meshos.consensus.org.state import apply
from meshos.errors import BadInput, Broken, MeshError, Refused
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.storage.memory import MemoryStore

AGENT = AgentId("a-1")
BETA = Peer(NodeId("beta-1"), OrgDid("did:mesh:hospital:beta"))
GAMMA = Peer(NodeId("gamma-1"), OrgDid("did:mesh:hospital:gamma"))
DEPLOY = DeployAgent(
    AGENT, "One", 1, b"file", "/folder", b"record", (Tool("read", True), Tool("pay", False)), 7, "alice", NodeId("12D3KooWone"), 0
)
AT = 1_700_000_000_000


def pay_intent(task: str = "t-1", **changes: object) -> RecordIntent:
    command = RecordIntent(TaskId(task), BETA, AGENT, "pay", "key", True, b"h" * 32, b"arguments", 1000)
    return replace(command, **changes)  # type: ignore[arg-type]


class _State:
    """A state to which commands are applied one after another."""

    def __init__(self) -> None:
        self.store = MemoryStore(Random(0))
        self.at_ms = AT
        self.run(DEPLOY)

    def run(self, command: Command, later_ms: int = 0) -> object:
        self.at_ms += later_ms
        result, writes = apply(self.store, command, self.at_ms)
        self.store.write(writes)
        return result

    def refused(self, command: Command, name: str) -> None:
        before = list(self.store.scan(b""))
        with pytest.raises(MeshError, match=rf"\[{name}\]"):
            self.run(command)
        assert list(self.store.scan(b"")) == before


def test_intent_and_outcome() -> None:
    org = _State()
    begun = org.run(pay_intent())
    assert isinstance(begun, Begun)
    assert (begun.intent.caller, begun.intent.rerun, begun.intent.price_micro, begun.intent.at_ms) == (BETA, False, 7, AT)
    assert org.run(pay_intent("t-2")) == Running(TaskId("t-1")), "the same call again"
    assert open_intents(org.store) == (begun.intent,)
    first = RecordOutcome(TaskId("t-1"), "completed", b"result", b"r" * 32, None, b"receipt", b"signature", 7, "replica-0")
    ended = org.run(first, later_ms=50)
    assert isinstance(ended, Ended)
    assert (ended.status, ended.result, ended.ended_ms, ended.owed_micro) == ("completed", b"result", AT + 50, 7)
    assert org.run(RecordOutcome(TaskId("t-1"), "cancelled")) == ended, "the first outcome counts"
    assert org.run(pay_intent("t-3")) == ended
    assert answer(org.store, GetTask(TaskId("t-1"))) == ended
    assert answer(org.store, GetOwed(BETA.org)) == 7
    assert open_intents(org.store) == ()
    assert org.run(RecordReceipts(((TaskId("t-1"), b"counter"), (TaskId("t-none"), b"x")))) == 1
    assert org.run(RecordReceipts(((TaskId("t-1"), b"another"),))) == 0
    assert answer(org.store, GetTask(TaskId("t-1"))) == replace(ended, countersignature=b"counter")


def test_what_is_refused_changes_nothing() -> None:
    org = _State()
    org.run(pay_intent())
    org.refused(pay_intent("t-2", body_hash=b"x" * 32), "idempotency-conflict")
    org.refused(pay_intent("t-1", key="other"), "task-exists")
    org.refused(pay_intent("t-2", key="other", tool="none"), "unknown-tool")
    org.refused(pay_intent("t-2", agent=AgentId("a-none")), "agent-unknown")
    org.refused(pay_intent("t-2", agent=AgentId("a" * 5000)), "agent-unknown")
    org.refused(pay_intent("t-2", key="k" * 129), "bad-command")
    org.refused(pay_intent("t-2", key="other", timeout_ms=0), "bad-command")
    org.refused(pay_intent("t-2", key="other", timeout_ms=3_600_001), "bad-command")
    org.refused(RecordOutcome(TaskId("t-none"), "completed"), "task-unknown")
    org.refused(RecordOutcome(TaskId("t-1"), "finished"), "bad-command")  # type: ignore[arg-type]
    org.refused(DEPLOY, "version-conflict")
    org.refused(replace(DEPLOY, version=2, agent_file=bytes(MAX_AGENT_FILE_BYTES + 1)), "bad-command")
    org.refused(replace(DEPLOY, version=2, name=""), "bad-command")
    org.refused(replace(DEPLOY, version=2, price_micro=-1), "bad-command")
    org.refused(WithdrawAgent(AgentId("a-none"), 2, b"", "alice", 0), "agent-unknown")
    org.refused(SetConfig("", b"", "alice"), "bad-command")
    org.refused(SetConfig("name", bytes(MAX_CONFIG_BYTES + 1), "alice"), "bad-command")


def test_other_callers_and_agents_have_keys_of_their_own() -> None:
    org = _State()
    org.run(replace(DEPLOY, agent=AgentId("a-2")))
    org.run(pay_intent())
    assert isinstance(org.run(pay_intent("t-2", caller=GAMMA)), Begun)
    assert isinstance(org.run(pay_intent("t-3", agent=AgentId("a-2"))), Begun)
    other_node = Peer(NodeId("beta-2"), BETA.org)
    assert org.run(pay_intent("t-4", caller=other_node)) == Running(TaskId("t-1")), "a key belongs to the organisation"


@pytest.mark.parametrize(("chosen", "kept_ms"), [(True, DEDUP_MS), (False, AUTOMATIC_DEDUP_MS)])
def test_keys_are_forgotten_and_nothing_is_left(chosen: bool, kept_ms: int) -> None:
    org = _State()
    empty = {key for key, _ in org.store.scan(b"")}
    for number in range(5):
        org.run(pay_intent(f"t-{number}", key=f"k{number}", chosen=chosen))
        org.run(RecordOutcome(TaskId(f"t-{number}"), "completed", b"result", b"", None, b"r", b"s", 0, ""))
    assert isinstance(org.run(pay_intent("t-x", key="k0", chosen=chosen), later_ms=kept_ms - 1), Ended)
    assert isinstance(org.run(pay_intent("t-x", key="k0", chosen=chosen), later_ms=1), Begun), "24 h are over"
    assert org.run(pay_intent("t-y", key="k0", chosen=chosen)) == Running(TaskId("t-x")), "the new one is remembered"
    org.run(RecordOutcome(TaskId("t-x"), "failed"))
    org.run(pay_intent("t-z", key="kz", chosen=chosen))
    assert org.run(pay_intent("t-y", key="k0", chosen=chosen)) == answer(org.store, GetTask(TaskId("t-x")))
    org.run(RecordOutcome(TaskId("t-z"), "failed"))
    for number in range(3):
        task = TaskId(f"t-last-{number}")
        org.run(pay_intent(task, key=f"last{number}"), later_ms=DEDUP_MS)
        org.run(RecordOutcome(task, "failed"))
    left = {key for key, _ in org.store.scan(b"")} - empty
    assert {key.split(b"/")[0] for key in left} == {b"task", b"key", b"expiry", b"caller"}
    assert [key for key in left if key.startswith(b"task/")] == [b"task/t-last-2"]
    assert len([key for key in left if key.startswith((b"key/", b"expiry/"))]) == 2


def test_a_task_that_tried_nothing_gives_its_key_back() -> None:
    org = _State()
    org.run(pay_intent())
    problem = Problem.of(Refused("busy", "x" * 1000))
    ended = org.run(RecordOutcome(TaskId("t-1"), "failed", problem=problem, forget=True))
    assert isinstance(ended, Ended) and ended.problem is not None
    assert len(ended.problem.detail) == 400
    assert isinstance(org.run(pay_intent("t-2")), Begun)
    assert isinstance(org.run(pay_intent("t-3")), Running)


def test_arguments_are_kept_for_what_may_run_again() -> None:
    org = _State()
    for task, tool, size, kept in (
        ("t-1", "pay", 3, False),
        ("t-2", "read", 3, True),
        ("t-3", "read", None, False),
    ):
        begun = org.run(pay_intent(task, tool=tool, key=task, arguments=None if size is None else bytes(size)))
        assert isinstance(begun, Begun)
        assert begun.intent.rerun == kept
        assert answer(org.store, GetArguments(TaskId(task))) == (bytes(size or 0) if kept else None)
    org.refused(pay_intent("t-4", tool="read", key="t-4", arguments=bytes(MAX_RECORDED_ARGUMENTS_BYTES + 1)), "bad-command")
    org.run(RecordOutcome(TaskId("t-2"), "completed"))
    assert answer(org.store, GetArguments(TaskId("t-2"))) is None


def test_results_beyond_the_bounds_are_recorded_by_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MAX_KEPT_BYTES", 10)
    org = _State()
    for task, size, kept in (("t-2", 6, True), ("t-3", 6, False), ("t-4", 4, True)):
        org.run(pay_intent(task, key=task))
        given = org.run(RecordOutcome(TaskId(task), "completed", bytes(size), b"h" * 32))
        assert isinstance(given, Ended) and given.result == bytes(size), "whoever ran it gets it"
        found = answer(org.store, GetTask(TaskId(task)))
        assert isinstance(found, Ended)
        assert (found.result, found.result_size) == (bytes(size) if kept else None, size)
    org.run(pay_intent("t-5", key="5"))
    org.refused(RecordOutcome(TaskId("t-5"), "completed", bytes(MAX_RECORDED_RESULT_BYTES + 1), b"h" * 32), "bad-command")
    given = org.run(RecordOutcome(TaskId("t-5"), "completed", None, b"h" * 32, size=2**21))
    assert isinstance(given, Ended) and (given.result, given.result_size) == (None, 2**21)


def test_placed_by_the_later_term() -> None:
    org = _State()
    first, second = NodeId("first"), NodeId("second")
    org.run(PlaceAgent(AGENT, first, 3))
    org.run(PlaceAgent(AGENT, second, 5))
    org.refused(PlaceAgent(AGENT, first, 4), "stale-term")
    assert answer(org.store, GetPlacement(AGENT)) == Placement(AGENT, second, 5)
    org.refused(PlaceAgent(AgentId("a-none"), first, 6), "agent-unknown")


@given(st.data())
def test_commands_as_bytes(data: st.DataObject) -> None:
    """Each command comes back as it was; whatever else the bytes may be, they are a command or refused."""
    command = data.draw(COMMANDS)
    encoded = codec.encode(command)
    assert codec.decode(encoded) == command
    at = data.draw(st.integers(0, len(encoded) - 1))
    altered = encoded[:at] + data.draw(st.binary(max_size=3)) + encoded[at + data.draw(st.integers(0, 3)) :]
    try:
        other = codec.decode(altered)
    except BadInput as error:
        assert error.name == "bad-command"
    else:
        assert codec.decode(codec.encode(other)) == other


def test_full_tables_say_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MAX_AGENTS", 1)
    for name, value in (("MAX_OPEN_TASKS", 3), ("MAX_OPEN_PER_CALLER", 2), ("MAX_TASKS", 5), ("MAX_TASKS_PER_CALLER", 4)):
        monkeypatch.setattr(tasks, name, value)
    org = _State()
    org.refused(replace(DEPLOY, agent=AgentId("a-2")), "busy")
    for number in range(2):
        org.run(pay_intent(f"t-{number}", key=str(number)))
    org.refused(pay_intent("t-2", key="2"), "busy")
    org.run(pay_intent("t-g", caller=GAMMA))
    org.refused(pay_intent("t-h", caller=GAMMA, key="h"), "busy")
    for task in ("t-0", "t-1", "t-g"):
        org.run(RecordOutcome(TaskId(task), "completed"))
    for number in (2, 3):
        org.run(pay_intent(f"t-{number}", key=str(number)))
        org.run(RecordOutcome(TaskId(f"t-{number}"), "completed"))
    org.refused(pay_intent("t-4", key="4"), "busy")
    org.refused(pay_intent("t-4", caller=GAMMA, key="4"), "busy")
    assert isinstance(org.run(pay_intent("t-4", key="3")), Ended), "what is remembered is still answered"
    assert isinstance(org.run(pay_intent("t-4", key="4"), later_ms=DEDUP_MS), Begun), "room again when the old ones expire"


def test_a_withdrawn_agent_gives_its_place_away_after_a_week_if_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MAX_AGENTS", 2)
    org = _State()
    second, third, fourth = (replace(DEPLOY, agent=AgentId(f"a-{number}")) for number in (2, 3, 4))
    org.run(second)
    org.run(WithdrawAgent(AGENT, 4, b"tombstone", "alice", 0))
    org.run(WithdrawAgent(second.agent, 4, b"tombstone", "alice", 0), later_ms=1_000)
    org.refused(third, "busy")
    org.run(third, later_ms=WITHDRAWN_MS)
    assert answer(org.store, GetAgent(second.agent)) is not None, "the one that was withdrawn first"
    with pytest.raises(Refused, match="agent-unknown"):
        answer(org.store, GetAgent(AGENT))
    org.run(fourth, later_ms=1_000)
    org.refused(DEPLOY, "busy")
    assert {agent.agent for agent in answer(org.store, ListAgents(withdrawn=True))} == {third.agent, fourth.agent}


def test_agents() -> None:
    org = _State()
    again = org.run(replace(DEPLOY, version=3, price_micro=9))
    assert isinstance(again, Agent) and again.version == 3
    org.refused(WithdrawAgent(AGENT, 3, b"", "alice", 0), "version-conflict")
    gone = org.run(WithdrawAgent(AGENT, 4, b"tombstone", "alice", 0))
    assert gone == replace(again, version=4, record=b"tombstone", withdrawn=True)
    assert answer(org.store, GetAgent(AGENT)) == gone
    assert answer(org.store, ListAgents()) == ()
    assert answer(org.store, ListAgents(withdrawn=True)) == (gone,)
    org.refused(pay_intent(), "agent-unknown")
    for number in range(2, 6):
        org.run(replace(DEPLOY, agent=AgentId(f"a-{number}")))
    page = answer(org.store, ListAgents(after="a-3", limit=1))
    assert isinstance(page, tuple) and [agent.agent for agent in page] == ["a-4"]  # type: ignore[union-attr]
    with pytest.raises(Refused, match="agent-unknown"):
        answer(org.store, GetAgent(AgentId("a-none")))
    with pytest.raises(Refused, match="task-unknown"):
        answer(org.store, GetTask(TaskId("t" * 9999)))


def test_configuration_and_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "MAX_AUDIT", 3)
    monkeypatch.setattr(state, "MAX_CONFIG_ENTRIES", 2)
    org = _State()
    org.run(SetConfig("one", b"1", "bob"))
    org.run(SetConfig("two", b"2", "bob"), later_ms=5)
    org.refused(SetConfig("three", b"3", "bob"), "busy")
    org.run(SetConfig("one", b"1b", "bob"))
    org.run(SetConfig("two", None, "carol"))
    assert (answer(org.store, GetConfig("one")), answer(org.store, GetConfig("two"))) == (b"1b", None)
    entries = answer(org.store, ReadAudit())
    assert isinstance(entries, tuple)
    assert [(entry.number, entry.by, entry.what, entry.subject) for entry in entries] == [  # type: ignore[union-attr]
        (2, "bob", "config", "two"),
        (3, "bob", "config", "one"),
        (4, "carol", "config", "two"),
    ]
    assert [entry.number for entry in answer(org.store, ReadAudit(start=3, limit=1))] == [3]  # type: ignore[union-attr]


def test_time_never_goes_back() -> None:
    org = _State()
    org.run(SetConfig("a", b"", "bob"), later_ms=100)
    ended = org.run(pay_intent(), later_ms=-1000)
    assert isinstance(ended, Begun) and ended.intent.at_ms == AT + 100


def test_damage_is_named() -> None:
    org = _State()
    for damage in (b"", b"\x9f", b"\x01", b"\xa0"):
        org.store.write([])
        org.store._map._values[b"agent/a-1"] = damage
        with pytest.raises(Broken, match="state-broken"):
            answer(org.store, GetAgent(AGENT))


TASKS = st.sampled_from(["t-1", "t-2", "t-3"]).map(TaskId)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        pay_intent,
        TASKS,
        caller=st.sampled_from([BETA, GAMMA]),
        tool=st.sampled_from(["read", "pay", "none"]),
        key=st.sampled_from(["k", "l"]),
        chosen=st.booleans(),
        body_hash=st.sampled_from([b"a" * 32, b"b" * 32]),
        term=st.integers(0, 5),
    ),
    st.builds(
        RecordOutcome,
        TASKS,
        st.sampled_from(["completed", "failed", "cancelled"]),
        st.one_of(st.none(), st.just(b"result")),
        receipt=st.just(b"r"),
        owed_micro=st.integers(0, 5),
        forget=st.booleans(),
    ),
    st.builds(lambda task, key: CallOff(task, BETA, AGENT, key), TASKS, st.sampled_from(["", "k"])),
    st.builds(PlaceAgent, st.just(AGENT), st.sampled_from([NodeId("a"), NodeId("b")]), st.integers(0, 5)),
    st.builds(RecordLead, st.sampled_from([NodeId("a"), NodeId("b")]), st.integers(0, 5)),
    st.builds(RemoveNode, st.sampled_from([NodeId("a"), NodeId("b")]), st.just("bob")),
    st.builds(RecordReceipts, st.lists(st.tuples(TASKS, st.just(b"c")), max_size=2).map(tuple)),
    st.builds(SetConfig, st.sampled_from(["x", "y"]), st.one_of(st.none(), st.binary(max_size=2)), st.just("bob")),
    st.builds(lambda version: replace(DEPLOY, version=version), st.integers(1, 4)),
    st.builds(lambda version: WithdrawAgent(AGENT, version, b"", "bob", 0), st.integers(1, 4)),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(COMMANDS, st.integers(-5, DEDUP_MS // 3)), max_size=30))
def test_any_commands(commands: list[tuple[Command, int]]) -> None:
    """Two copies stay equal; counters are what they count; a refusal writes nothing; a task never ends twice in two ways."""
    one, two = _State(), _State()
    ends: dict[str, Ended] = {}
    for command, later_ms in commands:
        outcomes = []
        for org in (one, two):
            try:
                outcomes.append(org.run(command, later_ms))
            except (Refused, BadInput) as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        assert list(one.store.scan(b"")) == list(two.store.scan(b""))
        keys = [key for key, _ in one.store.scan(b"")]
        meta = read_meta(one.store)
        callers = [read_caller(one.store, org) for org in (BETA.org, GAMMA.org)]
        counted = {prefix: sum(key.startswith(prefix) for key in keys) for prefix in (b"task/", b"open/", b"expiry/", b"key/")}
        assert meta.tasks == counted[b"task/"] == counted[b"expiry/"] == sum(caller.tasks for caller in callers)
        assert meta.open == counted[b"open/"] == sum(caller.open for caller in callers) == len(open_intents(one.store))
        assert counted[b"key/"] <= counted[b"task/"]
        assert meta.kept == sum(len(value) for _, value in one.store.scan(b"result/"))
        result = outcomes[0]
        if isinstance(result, Ended):
            known = ends.setdefault(f"{result.intent.task}@{result.intent.at_ms}", result)
            assert (known.status, known.result, known.ended_ms) == (result.status, result.result, result.ended_ms)


def test_what_comes_in_the_name_of_a_lead_that_is_over_is_refused() -> None:
    org = _State()
    first, second = NodeId("first"), NodeId("second")
    org.run(RecordLead(first, 5))
    org.run(pay_intent("t-1", term=5))
    org.run(RecordLead(second, 6))
    for command in (
        pay_intent("t-2", key="other", term=5),
        replace(DEPLOY, version=2, term=5),
        WithdrawAgent(AGENT, 2, b"", "alice", 5),
        PlaceAgent(AGENT, first, 5),
        RecordLead(first, 5),
    ):
        org.refused(command, "stale-term")
    assert [intent.task for intent in open_intents(org.store)] == ["t-1"], "what was recorded before is for the new leader to end"
    ended = org.run(RecordOutcome(TaskId("t-1"), "completed"))
    assert isinstance(ended, Ended) and ended.status == "completed", "how a task ended may be told by whoever ran it"
    for command in (pay_intent("t-3", key="new", term=6), replace(DEPLOY, version=2, node=second, term=6), RecordLead(second, 6)):
        org.run(command)
    assert answer(org.store, GetPlacement(AGENT)) == Placement(AGENT, second, 6), "who deploys an agent runs it"
    leads = [(entry.by, entry.subject) for entry in answer(org.store, ReadAudit()) if entry.what == "lead"]  # type: ignore[union-attr]
    assert leads == [("first", "5"), ("second", "6")], "and each lead is told once"


def test_a_removed_node_stays_removed() -> None:
    org = _State()
    gone = NodeId("gone")
    assert answer(org.store, ListRemoved()) == frozenset()
    assert org.run(RemoveNode(gone, "alice")) is True and org.run(RemoveNode(gone, "bob")) is False
    assert answer(org.store, ListRemoved()) == {gone}
    removals = [(entry.by, entry.subject) for entry in answer(org.store, ReadAudit()) if entry.what == "remove-node"]  # type: ignore[union-attr]
    assert removals == [("alice", "gone")]
    org.refused(RemoveNode(NodeId(""), "alice"), "bad-command")
    org.refused(RemoveNode(NodeId("n" * 129), "alice"), "bad-command")


def test_the_table_of_removed_nodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "MAX_REMOVED", 2)
    org = _State()
    for number in range(2):
        org.run(RemoveNode(NodeId(f"n{number}"), "alice"))
    org.refused(RemoveNode(NodeId("n2"), "alice"), "busy")
    assert org.run(RemoveNode(NodeId("n1"), "alice")) is False


@settings(max_examples=120, deadline=None)
@given(COMMANDS)
def test_a_command_comes_out_of_the_log_as_it_went_in(command: Command) -> None:
    assert codec.decode(codec.encode(command)) == command


def test_arguments_that_are_too_large_to_be_recorded_are_left_out_of_the_log_too() -> None:
    command = pay_intent(arguments=None)
    assert codec.decode(codec.encode(command)) == command
