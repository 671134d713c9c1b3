"""What must hold of an organisation of several nodes, beside what holds of its calls and of its history.

Safety: one leader a term; an end of a task that was told once is in every state. Liveness, once the faults are over: each organisation has
one leader, all of its living nodes have part in the group and the same state, as many vote as may, its agents run on the leader and
nowhere else, and every question was answered.
"""

from meshos.consensus.org.entries import read_task
from meshos.consensus.raft.events import Led
from meshos.effects import Tell
from meshos.ids import NodeId, OrgDid
from meshos.node.kernel.group import SIZES
from meshos.simulations.mesh import Mesh
from meshos.simulations.org.work import OrgWork
from meshos.simulations.work import CallChecker
from meshos.simulations.world import SimNode, Violation, World


class OrgChecker:
    """See the module's text. ``finish`` comes after the one of ``calls``, which lets time pass."""

    SETTLED_S = 15.0

    def __init__(self, mesh: Mesh, work: OrgWork, calls: CallChecker) -> None:
        self._mesh, self._work, self._calls = mesh, work, calls
        self._leaders: dict[tuple[OrgDid, int], NodeId] = {}
        self.figures: dict[str, float] = {}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != "org":
            return
        for effect in effects:
            if type(effect) is Tell and type(effect.event) is Led:
                term = effect.event.term
                first = self._leaders.setdefault((node.spec.org, term), node.name)
                if first != node.name:
                    raise Violation("safety", f"{first} and {node.name} both lead {node.spec.org} in term {term}")

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        never = self._work.never_ended()
        if never:
            raise Violation("stuck", f"{len(never)} questions were never answered, the first: {never[0]}")
        for org in self._mesh.holder:
            self._check_org(org, [node for node in self._mesh.nodes_of(org) if world.nodes[node].alive])
        self.figures["terms"] = len(self._leaders)

    def _check_org(self, org: OrgDid, living: list[NodeId]) -> None:
        machines = {node: self._mesh.assemblies[node].org for node in living}
        leaders = [node for node, machine in machines.items() if machine.lead is not None]
        if len(leaders) != 1:
            raise Violation("stuck", f"{org} is led by {leaders or 'nobody'} after healing")
        leader = leaders[0]
        members = machines[leader].replica.raft.members
        left_out = set(living) - members.members
        voting = max(size for size in SIZES if size <= len(self._mesh.nodes_of(org)))
        if left_out or members.joint or (len(members.voters) < voting and len(living) >= voting):
            raise Violation("stuck", f"{org} has {sorted(members.voters)} voting of {living}, and {sorted(left_out)} left out")
        first = list(machines[leader].replica.view().scan(b""))
        for node, machine in machines.items():
            if list(machine.replica.view().scan(b"")) != first:
                raise Violation("stuck", f"{node} has another state of {org} than its leader {leader}")
        self._check_ends(org, leader)
        self._check_agents(org, leader, living)

    def _check_ends(self, org: OrgDid, leader: NodeId) -> None:
        """What was told of a task's end is what the organisation still says."""
        view = self._mesh.assemblies[leader].org.replica.view()
        for (owner, id_), status in self._calls.told.items():
            if owner != org:
                continue
            task = read_task(view, id_)
            if task is None or task.ended is None or task.ended.status != status:
                now = "forgotten" if task is None else "open" if task.ended is None else task.ended.status
                raise Violation("safety", f"{id_} was told to be {status}, and is {now} for {org}")

    def _check_agents(self, org: OrgDid, leader: NodeId, living: list[NodeId]) -> None:
        """The recorded agents run on the leader, and nowhere else."""
        recorded = set(self._mesh.deployed(leader))
        for node in living:
            runs = self._mesh.agents.on(self._mesh.world.nodes[node])
            expected = recorded if node == leader else set()
            if runs != expected:
                raise Violation("stuck", f"{node}, of {org} led by {leader}, runs {sorted(runs)} and should run {sorted(expected)}")
