"""The agents that a node has shown lately: who reads an id off an answer writes its beginning, also where others hold the record."""

from collections.abc import Iterable

from meshos.ids import AgentId

SHOWN = 10_000
"""Ids remembered, the latest: a hundred full answers, 1 MB."""


class Shown:
    """See the module's text."""

    def __init__(self) -> None:
        self._ids: dict[AgentId, None] = {}

    def note(self, agents: Iterable[AgentId]) -> None:
        """These are shown now; of more than ``SHOWN`` the longest ago are forgotten."""
        for agent in agents:
            self._ids.pop(agent, None)
            self._ids[agent] = None
        for agent in list(self._ids)[: max(0, len(self._ids) - SHOWN)]:
            del self._ids[agent]

    def beginning(self, prefix: str) -> list[AgentId]:
        """Those whose ids begin so."""
        return [agent for agent in self._ids if agent.startswith(prefix)]
