"""Questions to a mesh of directories: who asks what when, and what must hold of every answer, whoever lies.

*Safety*: what is shown was signed by its owner, and in the version that the mesh holds or an older one (else ``Violation``). What nobody
promises yet, and is counted: that no version is shown that is older than one that the same node has shown before.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshos.effects import Ok
from meshos.errors import MeshError
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory.record import verify
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest, Found
from meshos.simulations.directory.mesh import GENESIS, VERIFIER, DirectoryMesh, org_of
from meshos.simulations.node import Violation

TOP = 10
PATIENCE_S = 15.0
"""By then every answer is there: three waves of hedged searches, and what they found fetched."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what became of it. ``recall`` is the share of the exact ten best that were shown, in their newest version;
    ``outdated`` of those shown were in an older one, ``back`` in one older than the asker had shown before."""

    phase: str
    begun_s: float
    took_s: float
    recall: float
    complete: bool
    missing: int
    cells: int
    outdated: int
    back: int


class Questions:
    """``exact`` has for each of ``texts`` the digests of the best; ``newest`` the version that each agent has."""

    def __init__(
        self, mesh: DirectoryMesh, texts: Sequence[str], exact: Sequence[frozenset[bytes]], newest: Callable[[AgentId], int]
    ) -> None:
        self.mesh = mesh
        self.asked: list[Asked] = []
        self._texts, self._exact, self._newest = texts, exact, newest
        self._shown: dict[tuple[NodeId, AgentId], int] = {}
        askers = random.Random(f"{mesh.world.seed}/askers")
        self._askers = [askers.choice(mesh.ids) for _ in texts]  # in each phase the same, so that they can tell what has changed
        self._others = askers

    def ask(self, phase: str, numbers: Sequence[int], every_s: float, meanwhile: Callable[[], None] | None = None) -> list[Asked]:
        """Ask these, one after another; ``meanwhile`` is called before each, to have something happen."""
        world, under_way = self.mesh.world, list[tuple[object, NodeId, int, float]]()
        for number in numbers:
            if meanwhile is not None:
                meanwhile()
            asker = self._asker(number)
            under_way.append((self.mesh.ask(asker, DiscoverRequest(self._texts[number], TOP)), asker, number, world.now))
            world.run(world.now + every_s)
        waits_until = world.now + PATIENCE_S
        while world.now < waits_until and any(self._open(flow, asker) for flow, asker, _, _ in under_way):
            world.run(world.now + 0.5)
        found = [
            self._judged(phase, *each) for each in under_way if each[0] in self.mesh.ended
        ]  # of who died while it asked, nothing is expected
        self.asked += found
        return found

    def _asker(self, number: int) -> NodeId:
        asker = self._askers[number]
        while not self.mesh.world.nodes[asker].alive:
            asker = self._others.choice(self.mesh.ids)
        return asker

    def _open(self, flow: object, asker: NodeId) -> bool:
        return flow not in self.mesh.ended and self.mesh.world.nodes[asker].alive

    def _judged(self, phase: str, flow: object, asker: NodeId, number: int, begun_s: float) -> Asked:
        at, outcome = self.mesh.ended.pop(flow)
        if not isinstance(outcome, Ok):
            return Asked(phase, begun_s, at - begun_s, 0.0, False, 0, 0, 0, 0)
        answer = outcome.value
        assert isinstance(answer, DiscoverAnswer)
        outdated = back = 0
        for found in answer.agents:
            self._check_signed(found)
            agent, version = found.record.agent_id, found.record.version
            outdated += version < self._newest(agent)
            back += version < self._shown.get((asker, agent), 0)
            self._shown[asker, agent] = max(version, self._shown.get((asker, agent), 0))
        exact = self._exact[number]
        recall = len({found.sealed.digest for found in answer.agents} & exact) / len(exact)
        return Asked(phase, begun_s, at - begun_s, recall, answer.complete, answer.cells_missing, answer.cells_asked, outdated, back)

    def _check_signed(self, found: Found) -> None:
        agent = found.record.agent_id
        try:
            verify(found.sealed, VERIFIER, GENESIS, org_of)
        except MeshError as error:
            raise Violation("safety", f"{agent} is shown, which its owner has not signed: {error}") from error
        if found.record.version > self._newest(agent):
            raise Violation("safety", f"{agent} is shown in a version that its owner has not published")
