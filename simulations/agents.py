"""Simulated agents: tools that take their time, and do not always stop when they are told to.

A tool does what it does (what counts as having *run*) at some moment of its time, told or not told. Most are quick, some take longer
than anybody waits for. Half of them go on after a cancel, a deadline or the death of the node, as agents do that run elsewhere
or do not listen.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meshos import cbor
from meshos.errors import Unreachable
from meshos.protocols.tasks.ports import CallTool, ToolResult
from meshos.simulations.world import Lasting, World

QUICK_S = (0.001, 0.2)
SLOW_S = (0.5, 8.0)


@dataclass(slots=True)
class _Run:
    stubborn: bool
    stopped: bool = False

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

    def call(self, effect: CallTool) -> Lasting:
        """Begin a tool's run."""
        rng = self._rng
        lasts_s = rng.uniform(*(SLOW_S if rng.random() < self.slow else QUICK_S))
        run = _Run(stubborn=rng.random() < 0.5)
        self._world.after(lasts_s * rng.random(), self._does, run, effect)
        if lasts_s > effect.timeout_s:
            return Lasting(effect.timeout_s, self._too_slow(run, effect), run.leave)
        return Lasting(lasts_s, lambda: ToolResult(cbor.encode({"ran": effect.tool}), False, "0"), run.leave)

    def _does(self, run: _Run, effect: CallTool) -> None:
        """The moment from which on it has run."""
        if run.stopped:
            return
        key = (effect.agent, effect.task)
        self.runs[key] = self.runs.get(key, 0) + 1

    def _too_slow(self, run: _Run, effect: CallTool) -> Callable[[], object]:
        def ended() -> object:
            run.leave()
            raise Unreachable("deadline-exceeded", f"the tool {effect.tool!r} did not answer in {effect.timeout_s:g} s")

        return ended
