"""How an organisation of several nodes may be broken, one function at a time: each of these must be found by the scenario ``org``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from meshos.consensus.org import agents as agents_of_state
from meshos.consensus.org import leading, machine, replicated, state, tasks
from meshos.consensus.org.change import Change
from meshos.consensus.org.commands import Begun, Command, ListOrphans, Placement, RecordIntent, RecordLead, RecordReceipts
from meshos.consensus.org.entries import placed_key, write_placement
from meshos.consensus.raft.events import Stale
from meshos.effects import Ok
from meshos.errors import MeshError
from meshos.flow import Propose, Sleep
from meshos.flow_machine import Perform
from meshos.ids import AgentId, NodeId
from meshos.node.kernel import agents, group
from meshos.protocols.tasks import serve
from meshos.protocols.tasks.wire import decode_request
from meshos.simulations.mutations import Mutation, replaced
from meshos.storage.store import View


@contextmanager
def terms_are_not_compared() -> Iterator[None]:
    """What comes in the name of a lead that is over counts."""

    def put(change: Change, agent: AgentId, node: NodeId, term: int) -> None:
        change.put(placed_key(agent), write_placement(Placement(agent, node, term)))

    with replaced(leading, "must_lead", lambda change, term: None), replaced(agents_of_state, "_put_placement", put):
        yield


@contextmanager
def orphans_are_left() -> Iterator[None]:
    """A new leader does not end what the one before left open."""

    async def nothing(self: serve.TaskServices, _: object) -> int:
        return 0

    with replaced(serve.TaskServices, "recover", nothing):
        yield


@contextmanager
def orphans_run_again() -> Iterator[None]:
    """A new leader runs again whatever it finds open."""
    record = tasks.record_intent

    def broken(change: Change, command: RecordIntent) -> object:
        given = record(change, command)
        if isinstance(given, Begun):
            given = replace(given, intent=replace(given.intent, rerun=True))
        return given

    async def again(self: serve.TaskServices, intent: Any) -> object:
        return await self._run(intent, b"\xa0", intent.timeout_ms / 1000, 1, 5)

    with replaced(tasks, "record_intent", broken), replaced(serve.TaskServices, "_recover_alone", again):
        yield


@contextmanager
def any_node_runs_tasks() -> Iterator[None]:
    """A node that does not lead takes its followers' word for a leader's: it lists what is open, and ends it."""
    orphans = machine.OrgMachine._perform

    def broken(self: machine.OrgMachine, now: float, perform: Perform, command: object) -> None:
        if isinstance(command, ListOrphans):
            self._answer((perform.reply_to, perform.op), Ok(self._orphans()))
        else:
            orphans(self, now, perform, command)

    async def keep(self: serve.TaskServices, _: object) -> None:
        while True:
            await Sleep(1.0)
            try:
                await self.recover(None)
            except MeshError:
                continue

    with replaced(machine.OrgMachine, "_perform", broken), replaced(serve.TaskServices, "keep_recovering", keep):
        yield


@contextmanager
def agents_run_on() -> Iterator[None]:
    """A leader that lost the lead does not end its agents."""

    async def nothing(self: agents.AgentFlows, _: object) -> None:
        return None

    with replaced(agents.AgentFlows, "end_all", nothing):
        yield


@contextmanager
def agents_stay_where_they_were() -> Iterator[None]:
    """A new leader starts nothing."""

    async def nothing(self: agents.AgentFlows, term: int) -> None:
        self._ran = term

    with replaced(agents.AgentFlows, "run_all", nothing):
        yield


@contextmanager
def reads_are_old() -> Iterator[None]:
    """Every node answers from what it has."""
    perform = machine.OrgMachine._perform

    def broken(self: machine.OrgMachine, now: float, asked: Perform, command: object) -> None:
        if self.replica._machine.asks(command):
            command = Stale(command)
            asked = replace(asked, operation=Propose[object](command))
        perform(self, now, asked, command)

    with replaced(machine.OrgMachine, "_perform", broken):
        yield


@contextmanager
def nobody_is_taken_up() -> Iterator[None]:
    """Nodes that join are not added."""
    with replaced(group, "next_change", lambda now, **_: ()):
        yield


@contextmanager
def keys_are_forgotten() -> Iterator[None]:
    """Each node takes a repeated call for a new one."""
    with replaced(serve, "decode_request", lambda body: replace(decode_request(body), key="")):
        yield


@contextmanager
def leads_are_forgotten() -> Iterator[None]:
    """Who leads is acknowledged, and not written."""

    def broken(view: View, command: Command, at_ms: int) -> object:
        result, writes = state.apply(view, command, at_ms)
        return result, () if isinstance(command, RecordLead) else writes

    with replaced(replicated, "apply", broken):
        yield


@contextmanager
def receipts_are_miscounted() -> Iterator[None]:
    """Recorded receipts are counted as one more than they are."""

    def broken(view: View, command: Command, at_ms: int) -> object:
        result, writes = state.apply(view, command, at_ms)
        if isinstance(command, RecordReceipts):
            assert isinstance(result, int)
            return result + 1, writes
        return result, writes

    with replaced(replicated, "apply", broken):
        yield


MUTATIONS = (
    Mutation("terms-are-not-compared", "a lead that is over still counts", terms_are_not_compared),
    Mutation("orphans-are-left", "a new leader leaves open tasks open", orphans_are_left, "stuck", "tasks open"),
    Mutation("orphans-run-again", "a new leader runs every open task again", orphans_run_again, "safety", "must not run twice"),
    Mutation("any-node-ends-tasks", "nodes that do not lead end open tasks", any_node_runs_tasks),
    Mutation("agents-run-on", "a leader that lost the lead keeps its agents", agents_run_on, "stuck", "should run"),
    Mutation("agents-stay", "a new leader starts no agents", agents_stay_where_they_were),
    Mutation("reads-are-old", "nodes answer from what they have", reads_are_old, "safety", "not linearizable"),
    Mutation("nobody-is-taken-up", "nodes that join are not added", nobody_is_taken_up, "stuck"),
    Mutation("keys-are-forgotten", "a call that is repeated runs again", keys_are_forgotten, "safety", "must not run twice"),
    Mutation(
        "leads-are-forgotten",
        "who leads is acknowledged and not written",
        leads_are_forgotten,
        "safety",
        "acknowledged operations are lost",
    ),
    Mutation("receipts-are-miscounted", "an answer that no state gives", receipts_are_miscounted, "safety", "not linearizable"),
)
