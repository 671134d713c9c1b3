"""What this node has itself measured of agents, by calling them and by serving them: latency and answers given.

Nothing that an organisation says of itself gets in here. Averages decay (each call weighs an eighth of what is new), and the table
is bounded: who was not called for longest is forgotten first.
"""

from collections import OrderedDict
from dataclasses import dataclass

from meshos.consensus.org.commands import Status
from meshos.ids import AgentId
from meshos.protocols.directory.parts import Measured

AGENTS = 20_000
WEIGHT = 1 / 8
UNMEASURED = Measured()


@dataclass(slots=True)
class _Tally:
    latency_ms: float | None = None
    answering: float = 1.0
    calls: int = 0


class Measurements:
    """One node's own."""

    def __init__(self) -> None:
        self._tallies: OrderedDict[AgentId, _Tally] = OrderedDict()

    def ended(self, agent: AgentId, status: Status, total_ms: float) -> None:
        """A call of ``agent`` has ended. A tool that fails has answered; an outcome that nobody knows is no answer."""
        tally = self._tallies.setdefault(agent, _Tally())
        self._tallies.move_to_end(agent)
        tally.calls += 1
        if status in ("completed", "failed"):
            tally.latency_ms = total_ms if tally.latency_ms is None else tally.latency_ms + WEIGHT * (total_ms - tally.latency_ms)
        if status != "cancelled":
            tally.answering += WEIGHT * ((status in ("completed", "failed")) - tally.answering)
        if len(self._tallies) > AGENTS:
            self._tallies.popitem(last=False)

    def of(self, agent: AgentId) -> Measured:
        """What is known; trust waits for the issue that brings evidence, and stands at 50 without any."""
        tally = self._tallies.get(agent)
        if tally is None:
            return UNMEASURED
        return Measured(uptime=round(tally.answering, 4), avg_latency_ms=tally.latency_ms)
