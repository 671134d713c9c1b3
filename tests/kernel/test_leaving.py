"""Organisations that leave take no vote along that the others count on: the mesh decides until the checkpoint, passes it, and goes on.

Each node parts from whomever it does not believe any more by the ledger that it has, as a process does (``node/trusting.py``): it expels
the other's node from its membership, and nothing passes between the two.
"""

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.kinds import envelope_of
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.orgs import Leave
from meshos.consensus.pbft.events import Submit
from meshos.ids import NodeId, Peer
from meshos.node.kernel.asking import ASK_LEDGER
from meshos.node.kernel.roots import Believed, Roots
from meshos.presets import FAST
from meshos.protocols.directory.record import PROTOCOL as DIRECTORY
from meshos.protocols.directory.wire import HINT
from meshos.protocols.membership.events import Expelled
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.membership.revocations import PROTOCOL as REVOCATIONS
from meshos.protocols.membership.sync import PROTOCOL as MEMBERSHIP
from meshos.protocols.tasks.receipt import PROTOCOL as RECEIPT
from meshos.protocols.tasks.wire import CALL_OFF, TASK
from meshos.simulations.genesis import root_key
from meshos.simulations.mesh import CHECKPOINT_INTERVAL, Mesh
from meshos.simulations.work import Asking
from meshos.simulations.world import WALL_BEGIN_MS, World

LOOK_S = 0.2
ASKED = (MEMBERSHIP, PROBE_PROTOCOL, REVOCATIONS, DIRECTORY, HINT, TASK, CALL_OFF, RECEIPT)


class Parting:
    """``count`` organisations of one node each, that part from whom they do not believe."""

    def __init__(self, count: int) -> None:
        self.world = World(3)
        self.mesh = Mesh(self.world, count, timing=FAST, whole=True)
        self.ids = self.mesh.ids
        self.asking = Asking(self.world)
        for node in self.world.nodes.values():
            node.start()
        self.run(15.0)
        self.roots = {node: self._roots(node) for node in self.ids}
        self.believed: dict[NodeId, Believed] = {}
        self.world.at(self.world.now, self._look)

    def _roots(self, node: NodeId) -> Roots:
        assembly = self.mesh.assemblies[node]
        return Roots(assembly.window, lambda: assembly.ledger.core.chain.validators)

    def _look(self) -> None:
        self.world.after(LOOK_S, self._look)
        for node in self.mesh.living():
            found = self.roots[node].read() if self.roots[node].moved() else None
            if found is not None:
                self.believed[node] = found
                for other in self.ids:
                    if not self.believes(node, other):
                        self._part(node, other)

    def believes(self, node: NodeId, other: NodeId) -> bool:
        found, org = self.believed[node], self.mesh.org_of[other]
        return node == other or (org in found.roots and found.leaving.get(org, other) == other)

    def _part(self, node: NodeId, other: NodeId) -> None:
        self.world.network.faults.cut |= {(node, other), (other, node)}
        self.world.links.reset(node, other)
        self.world.nodes[node].deliver("membership", Expelled(other))

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def by_root(self, of: NodeId, body: Body, nonce: int = 0) -> str:
        """By which name a transaction of a root key is refused that the last node passes on; empty: it is not, "undecided": it waits."""
        org, hash_ = self.mesh.org_of[of], self.mesh.genesis.hash
        envelope = envelope_of(body, root_key(org), nonce, WALL_BEGIN_MS + 600_000)
        signature = self.mesh.authority.signer(root_key(org)).sign(transaction.domain(hash_), envelope)
        request = transaction.request(envelope, signature)
        self.asking.ask(self.world.nodes[self.ids[-1]], ASK_LEDGER, Submit(request), 10.0)
        self.run(11.0)
        result = self.mesh.assemblies[self.ids[-1]].window.result(request)
        return "undecided" if result is None else result.name

    def serves(self, node: NodeId, protocol: str, asker: NodeId) -> bool:
        """Whether ``node`` takes requests of ``asker``."""
        return self.mesh.assemblies[node].rpc._serving._allowed[protocol](Peer(asker, self.mesh.org_of[asker]))

    def has_left(self, node: NodeId) -> bool:
        org = ORGS.read(self.mesh.assemblies[self.ids[-1]].window, self.mesh.org_of[node])
        return org is not None and org.left_ms > 0

    def deciding(self) -> list[NodeId]:
        return [entry.node for entry in self.mesh.assemblies[self.ids[-1]].ledger.core.chain.validators.entries]

    def height(self) -> int:
        return self.mesh.assemblies[self.ids[-1]].window.height


def test_two_of_seven_leave_before_one_checkpoint_while_another_is_down() -> None:
    """q = 5 of 7: four that stay and run decide only with those that leave, until the checkpoint; and alone after it, 4 of 5."""
    mesh = Parting(7)
    one, other, down, *stay = mesh.ids
    mesh.run(1.0)
    mesh.world.nodes[down].crash()
    for leaver in (one, other):
        assert mesh.by_root(leaver, Leave(None)) == "" and mesh.has_left(leaver)
    assert mesh.by_root(stay[0], Leave(None)) == "seat-needed"
    assert all(mesh.serves(stay[0], protocol, stay[1]) for protocol in ASKED)
    assert mesh.height() < CHECKPOINT_INTERVAL and len(mesh.deciding()) == 7
    assert mesh.by_root(stay[0], Transfer(mesh.mesh.org_of[stay[1]], 1), nonce=1) == ""
    assert all(mesh.believes(node, leaver) for node in stay for leaver in (one, other))
    assert {protocol for protocol in ASKED if mesh.serves(stay[0], protocol, one)} == {MEMBERSHIP, PROBE_PROTOCOL}, "it only has its vote"
    mesh.run(6.0 * CHECKPOINT_INTERVAL)
    assert mesh.height() >= CHECKPOINT_INTERVAL and mesh.deciding() == [down, *stay]
    assert not any(mesh.believes(node, leaver) for node in stay for leaver in (one, other)), "their votes have ended"
    before = mesh.height()
    assert mesh.by_root(stay[0], Transfer(mesh.mesh.org_of[stay[1]], 1), nonce=2) == "" and mesh.height() > before
