"""What an organisation's nodes asked of the state that they share, and what each was answered: to be checked against ``org_model.py``.

Beside what people ask (``work.py``) all commands are here: intents and outcomes of tasks, called-off tasks, placements, who leads. They are
written down where a node's machine puts them to its Replica and hears of them again, so each node is a client; one that dies leaves
commands of unknown outcome. Questions about all tasks or agents at once are left out, since they would keep the history from being split.

In the end whoever leads is asked for all that was named. Beside the order of things one law is checked by itself, since it is told
in one sentence: what was acknowledged is there.
"""

from functools import partial

from meshos.consensus.org.commands import (
    Begun,
    CallOff,
    DeployAgent,
    Ended,
    GetAgent,
    GetConfig,
    GetTask,
    PlaceAgent,
    Query,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    SetConfig,
    WithdrawAgent,
)
from meshos.consensus.org.entries import lead_term, read_agent, read_placement, read_task
from meshos.consensus.org.queries import answer
from meshos.consensus.raft.replica import Replica
from meshos.effects import Completed, Err, Ok, Outcome, Tell
from meshos.errors import MeshError
from meshos.flow import Propose
from meshos.flow_machine import Perform
from meshos.ids import NodeId
from meshos.node.kernel.assembly import Assembly
from meshos.simulations.history import History, Kept, Linearizable
from meshos.simulations.linearizability import Operation
from meshos.simulations.mesh import Mesh
from meshos.simulations.org_model import APART, Refusal, organisation, settle
from meshos.simulations.world import SimNode, World
from meshos.storage.store import View


class StateChecker:
    """See the module's text. ``finish`` comes after the one that finds out that each organisation has one leader."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._histories = {org: History(lambda: mesh.world.now) for org in mesh.holder}
        self.figures: dict[str, float] = {}
        mesh.built = self._built

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``; what counts here is what goes on between a machine and its Replica."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        for org, history in self._histories.items():
            leader = next(node for node in self._mesh.nodes_of(org) if world.nodes[node].alive and self._leads(node))
            view = self._mesh.assemblies[leader].org.replica.view()
            _ask_for_all(history, view)
            kept, ordered = Kept(history, partial(_is_there, view)), Linearizable(history, organisation())
            for checker in (kept, ordered):
                checker.finish(world)
            self._count("commands checked", ordered.figures["operations checked"])
            self._count("commands acknowledged", kept.figures["operations acknowledged"])
            self._count("commands of unknown outcome", ordered.figures["of unknown outcome"])
            self._count("states undecided", ordered.figures["histories undecided"])

    def _count(self, name: str, more: float) -> None:
        self.figures[name] = self.figures.get(name, 0) + more

    def _leads(self, node: NodeId) -> bool:
        return self._mesh.assemblies[node].org.lead is not None

    def _built(self, node: SimNode, assembly: Assembly) -> None:
        """A life begins: hear what is put to its Replica."""
        _hear(assembly.org.replica, node.name, self._histories[node.spec.org])


def _hear(replica: Replica, node: NodeId, history: History) -> None:
    open_: dict[tuple[str, int], int] = {}
    step = replica.step

    def heard(now: float, event: object) -> list[object]:
        if type(event) is Perform and isinstance(event.operation, Propose) and isinstance(event.operation.command, APART):
            open_[event.reply_to, event.op] = history.invoke(node, event.operation.command)
        effects = step(now, event)
        for effect in effects:
            if type(effect) is Tell and type(effect.event) is Completed:
                token = open_.pop((effect.machine, effect.event.op), None)
                if token is not None:
                    settle(history, token, effect.event.outcome)
        return effects

    replica.step = heard  # type: ignore[method-assign]


def _ask_for_all(history: History, view: View) -> None:
    """Every task, agent and name that the history knows is looked at once more."""
    ops = [operation.op for operation in history.operations()]
    tasks = dict.fromkeys(op.task for op in ops if isinstance(op, RecordIntent | RecordOutcome | CallOff))
    agents = dict.fromkeys(op.agent for op in ops if isinstance(op, DeployAgent | WithdrawAgent))
    names = dict.fromkeys(op.name for op in ops if isinstance(op, SetConfig))
    questions: list[Query] = [*map(GetTask, tasks), *map(GetAgent, agents), *map(GetConfig, names)]
    for question in questions:
        settle(history, history.invoke("in the end", question), _answered(view, question))


def _answered(view: View, question: Query) -> Outcome[object]:
    try:
        return Ok(answer(view, question))
    except MeshError as error:
        return Err(error)


def _is_there(view: View, operation: Operation) -> bool:
    """Whether what was acknowledged is in the state, or something later in its place."""
    op, result = operation.op, operation.result
    if isinstance(result, Refusal):
        return True
    if isinstance(op, RecordIntent | RecordOutcome | CallOff) and isinstance(result, Begun | Ended):
        task = read_task(view, result.intent.task)
        ends = isinstance(result, Ended)
        return task is not None and (not ends or task.ended is not None) and task.intent.body_hash == result.intent.body_hash
    if isinstance(op, DeployAgent | WithdrawAgent):
        agent = read_agent(view, op.agent)
        return agent is not None and agent.version >= op.version
    if isinstance(op, PlaceAgent):
        placed = read_placement(view, op.agent)
        return placed is not None and placed.term >= op.term
    return not isinstance(op, RecordLead) or lead_term(view) >= op.term
