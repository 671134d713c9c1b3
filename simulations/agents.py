"""Simulated agents: tools that take their time, and do not always stop when they are told to.

A tool does what it does (what counts as having *run*) at some moment of its time, told or not told. Most are quick, some take longer
than anybody waits for. Half of them go on after a cancel, a deadline, the end of their agent or the death of the node, as agents do that
run elsewhere or do not listen. An agent takes calls on the nodes that have started it and not stopped it since.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meshos import cbor
from meshos.errors import Failed, Refused, Unreachable
from meshos.ids import AgentId
from meshos.node.kernel.agents import StopAgent
from meshos.protocols.tasks.ports import CallTool, ToolResult
from meshos.simulations.world import Lasting, SimNode, World

QUICK_S = (0.001, 0.2)
SLOW_S = (0.5, 8.0)


@dataclass(slots=True)
class _Run:
    stubborn: bool
    stopped: bool = False
    cut: bool = False

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self.stopped = not self.stubborn


class Agents:
    """Every tool's runs by (agent, task), what really happened whatever the nodes believe. A share ``slow`` of the calls is slow."""

    def __init__(self, world: World) -> None:
        self.runs: dict[tuple[str, str], int] = {}
        self.slow = 0.15
        self._world = world
        self._rng = world.generator("tools")
        self._started: dict[tuple[str, AgentId], tuple[int, list[_Run]]] = {}  # by node: in which of its lives, and what runs

    def start(self, node: SimNode, agent: AgentId) -> None:
        """It takes calls on ``node`` from now on; one that ran before is replaced."""
        self._end(node, agent)
        self._started[node.name, agent] = (node.epoch, [])

    def stop(self, node: SimNode, effect: StopAgent) -> None:
        """It takes none any more, and what ran is cut."""
        self._end(node, effect.agent)

    def on(self, node: SimNode) -> set[AgentId]:
        """The agents that take calls there."""
        return {agent for (name, agent), (epoch, _) in self._started.items() if name == node.name and epoch == node.epoch}

    def _end(self, node: SimNode, agent: AgentId) -> None:
        _, runs = self._started.pop((node.name, agent), (0, []))
        for run in runs:
            run.cut = True
            run.leave()

    def call(self, node: SimNode, effect: CallTool) -> Lasting:
        """Begin a tool's run."""
        epoch, runs = self._started.get((node.name, effect.agent), (0, []))
        if epoch != node.epoch:
            raise Refused("agent-not-here", f"{effect.agent} does not run on {node.name}")
        rng = self._rng
        lasts_s = rng.uniform(*(SLOW_S if rng.random() < self.slow else QUICK_S))
        run = _Run(stubborn=rng.random() < 0.5)
        runs.append(run)
        self._world.after(lasts_s * rng.random(), self._does, run, effect)
        if lasts_s > effect.timeout_s:
            return Lasting(effect.timeout_s, self._too_slow(run, effect), run.leave)
        return Lasting(lasts_s, self._ended(run, effect), run.leave)

    def _does(self, run: _Run, effect: CallTool) -> None:
        """The moment from which on it has run."""
        if run.stopped:
            return
        key = (effect.agent, effect.task)
        self.runs[key] = self.runs.get(key, 0) + 1

    def _ended(self, run: _Run, effect: CallTool) -> Callable[[], object]:
        def ended() -> object:
            if run.cut:
                raise Failed("agent-crashed", f"{effect.agent} was stopped while {effect.tool!r} ran", outcome="unknown")
            return ToolResult(cbor.encode({"ran": effect.tool}), False, "0")

        return ended

    def _too_slow(self, run: _Run, effect: CallTool) -> Callable[[], object]:
        def ended() -> object:
            run.leave()
            raise Unreachable("deadline-exceeded", f"the tool {effect.tool!r} did not answer in {effect.timeout_s:g} s")

        return ended
