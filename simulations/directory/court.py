"""What the ledger makes of spot checks in a mesh of directories: each node speaks for its organisation, and enough have a liar discharged.

How a testimony comes to the ledger, and what it takes there, is for the ledger's own tests; here it is there at once.
"""

from meshos.consensus.pbft.quorum import weak_quorum
from meshos.ids import NodeId
from meshos.simulations.directory.mesh import DirectoryMesh


class Court:
    """``said`` has for each accused node who has testified, and why; ``framers`` say of each of ``framed`` that it lies."""

    def __init__(self, mesh: DirectoryMesh, framers: tuple[NodeId, ...] = (), framed: tuple[NodeId, ...] = ()) -> None:
        self.mesh = mesh
        self.said: dict[NodeId, dict[NodeId, str]] = {node: dict.fromkeys(framers, "omitted") for node in framed}

    def run(self, seconds: float, every_s: float = 5.0) -> None:
        """Let time pass, with an eye on who is convinced of whom."""
        ends = self.mesh.world.now + seconds
        while self.mesh.world.now < ends:
            self.mesh.world.run(min(ends, self.mesh.world.now + every_s))
            self.look()

    def look(self) -> None:
        """Hear who is convinced, and discharge those of whom f + 1 are."""
        for node, parts in self.mesh.parts.items():
            if self.mesh.world.nodes[node].alive:
                for liar, lie in parts.suspects.convinced.items():
                    self.said.setdefault(liar, {}).setdefault(node, lie.reason)
        gone = frozenset(liar for liar, said in self.said.items() if len(said) >= weak_quorum(len(self.mesh.ids)))
        if gone != self.mesh.discharged:
            self.mesh.discharged = gone
        self.mesh.accused = frozenset(self.said) - gone
