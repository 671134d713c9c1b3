"""What must hold in a mesh, checked apart from the faults: after each step, and once the world had time to settle.

What happened is known from the world (who lives, whose tool ran); what a node believes is read from its machines, since that is
what is checked.
"""

from meshos.effects import Signed, Tell
from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership.events import MemberChanged
from meshos.simulations.mesh import Mesh
from meshos.simulations.world import SimNode, Violation, World

LEAVES = ("a leaf took another anchor", "a leaf was held for dead", "a leaf that was held for dead came back")
"""Situations of nodes that nobody can dial."""


class MembershipChecker:
    """Safety: incarnations never go back; nobody is dead on the word of one organisation while others can be heard; nobody
    who is alive and never hurt is dead. Liveness: in the end every living node sees exactly the living ones, alive."""

    def __init__(self, mesh: Mesh, *, hurtless: bool = False) -> None:
        self._mesh = mesh
        self._hurtless = hurtless
        self._seen: dict[tuple[NodeId, int, NodeId], int] = {}
        self._own: dict[NodeId, tuple[int, int]] = {}
        self._anchors: dict[NodeId, tuple[NodeId, ...]] = {}
        self.figures: dict[str, float] = {"deaths declared": 0}

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != "membership":
            return
        for effect in effects:  # what it tells, at the moment of the step: later its state is another
            if type(effect) is Tell and type(effect.event) is MemberChanged:
                self._changed(node, effect.event)
        if type(event) is Signed:
            self._spoke(node)

    def _changed(self, node: SimNode, event: MemberChanged) -> None:
        key = (node.name, node.epoch, event.node)
        if event.incarnation < self._seen.get(key, 0):
            raise Violation("safety", f"{node.name} takes {event.node} back to incarnation {event.incarnation} from {self._seen[key]}")
        self._seen[key] = event.incarnation
        if event.facts.anchors:
            self._leaf_changed(node, event)
        if event.state == "dead" and event.before != "dead":
            self.figures["deaths declared"] += 1
            self._dead(node, event)

    def _leaf_changed(self, node: SimNode, event: MemberChanged) -> None:
        """Anchors are members that can be dialled, and not the leaf itself."""
        if event.facts.anchors != self._anchors.get(event.node, event.facts.anchors):
            node.world.visited(LEAVES[0])
        self._anchors[event.node] = event.facts.anchors
        if event.state != event.before and "dead" in (event.state, event.before):
            node.world.visited(LEAVES[1] if event.state == "dead" else LEAVES[2])
        if self._mesh.leaves & set(event.facts.anchors):
            raise Violation("safety", f"{event.node} has a leaf for its anchor")

    def _spoke(self, node: SimNode) -> None:
        """``node`` has signed something of its own: in each life its incarnation is above those of all lives before."""
        incarnation = self._mesh.membership(node.name).incarnation
        epoch, highest = self._own.get(node.name, (0, 0))
        if node.epoch != epoch and incarnation <= highest:
            raise Violation("safety", f"{node.name} uses incarnation {incarnation} again after a restart")
        self._own[node.name] = (node.epoch, max(incarnation, highest))

    def _dead(self, node: SimNode, event: MemberChanged) -> None:
        membership = self._mesh.membership(node.name)
        view = membership.member(event.node)
        assert view is not None
        orgs: set[OrgDid] = {accusation.org for accusation in view.accusations if accusation.dead}
        others = [other for other in membership.members() if other.org not in (view.org, node.spec.org)]
        reachable = {other.org for other in others if other.state == "alive" and other.routable}
        if len(orgs) < 2 and len(reachable - orgs) >= 2:
            raise Violation("safety", f"{event.node} is dead for {node.name} on the word of {len(orgs)} organisation")
        if self._hurtless and self._mesh.world.nodes[event.node].alive:
            raise Violation("safety", f"{event.node} lives, nothing hurts it, and {node.name} declares it dead")

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        living = self._mesh.living()
        for node in living:
            views = self._mesh.membership(node).members()
            seen = sorted(view.node_id for view in views if view.state == "alive" and view.routable)
            if seen != living:
                missing = [other for other in living if other not in seen]
                extra = [other for other in seen if other not in living]
                raise Violation("stuck", f"{node} does not see {missing[:5]} alive" if missing else f"{node} still sees {extra[:5]} alive")


class QuietChecker:
    """In the end nothing is under way that should have ended: no Flow but the node's own lasting ones and the syncs of the moment."""

    LASTING = 6  # receipts, settling, tidying, recovering, the group (kernel/assembly.py), the directory's keeping

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        for node in self._mesh.living():
            flows = self._mesh.assemblies[node].flows.statistics()["flows"]
            if flows > self.LASTING + 2 * len(self._mesh.ids):
                raise Violation("stuck", f"{node} still has {flows} flows")
