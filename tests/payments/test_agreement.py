"""The same nodes with the agreement that they will have: PBFT's replicas run the ledger, and paying hears of it from them."""

from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.consensus.ledger.application import Ledger
from meshos.consensus.ledger.conservation import faults
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.ledger.tabs import TABS, Tab
from meshos.consensus.ledger.tree import State
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.replica import CAST, Replica
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier
from meshos.effects import Machine, Ok
from meshos.ids import NodeId, OrgDid
from meshos.node.kernel.payments import STORED
from meshos.protocols.ledger.port import LEDGER, LedgerView, ReplicaLedger
from meshos.protocols.payments.commands import PAYING, ListTabs
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.tasks.call import TaskResult
from meshos.simulations.world import WALL_BEGIN_MS, SimNode
from tests.payments.chain import BETA, FUNDS, GAMMA
from tests.payments.mesh import PRICE, PROVIDERS, STORES, Mesh, Watched


class Voting(Watched):
    """Votes are signed with the node's validator key, all else with its own."""

    def sign(self, domain: Domain, payload: bytes) -> bytes:
        if domain.protocol == "pbft":
            return SimulatedSigner(self.mesh.keys, f"{self.name}-votes").sign(domain, payload)
        return super().sign(domain, payload)


class Agreeing(Mesh):
    """Three validators, of which two are a quorum, and a node that follows."""

    stores = (LEDGER, *STORES)
    signer = Voting

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.chain.down = True

    def _ledger(self, node: SimNode) -> tuple[Machine, LedgerView]:
        self.listeners = {CAST: Listener(LEDGER, lambda _: True)}
        genesis, verifier = self.chain.genesis, SimulatedVerifier(self.keys)
        seats = SEATS.read(self.chain.blocks[0], b"")
        assert seats is not None
        config = Config(node.name, f"{node.name}-votes", genesis.hash, WALL_BEGIN_MS, seats.validators())
        view = node.views[LEDGER]
        replica = Replica(config, Ledger(genesis), view, verifier, now=node.now(), wall_ms=node.wall_ms(), listeners=STORED)
        return replica, ReplicaLedger(replica, view)

    def decided(self, tab: bytes) -> Tab:
        """As whoever has heard most has it."""
        found = [TABS.read(self.state(node.name), tab) for node in self.nodes() if node.alive]
        return max((tab for tab in found if tab is not None), key=lambda tab: tab.reserved)

    def state(self, node: NodeId) -> State:
        return State(self.world.nodes[node].views[LEDGER])

    def replica(self, node: NodeId) -> Replica:
        machine = self.world.nodes[node].core.machine(LEDGER)
        assert isinstance(machine, Replica)
        return machine

    def has(self, node: NodeId, org: OrgDid) -> int:
        account = ACCOUNTS.read(self.state(node), org)
        assert account is not None
        return account.balance


def test_calls_are_paid_through_a_view_change() -> None:
    mesh = Agreeing(1)
    mesh.agents.slow = 0.0
    provider, caller = PROVIDERS
    primary = NodeId("alpha-1")
    numbers = []
    for at in range(30):
        numbers.append(mesh.call(caller, provider))
        mesh.run(0.5)
        if at == 10:
            mesh.world.nodes[primary].crash()
    mesh.run(30.0)
    mesh.world.nodes[primary].start()
    mesh.run(30.0)
    done = [outcome.value for outcome in (mesh.ended[number] for number in numbers) if isinstance(outcome, Ok)]
    assert [value.status for value in done if isinstance(value, TaskResult)] == ["completed"] * 30
    (tab,) = mesh.propose(caller, ListTabs(), PAYING)
    assert (tab.owed, tab.signed, tab.acknowledged) == (30 * PRICE,) * 3
    for node in (primary, provider, caller):
        assert mesh.replica(node).core.view > 0
        assert faults(mesh.state(node)) == []
        assert (mesh.has(node, BETA), mesh.has(node, GAMMA)) == (FUNDS + 30 * PRICE, FUNDS - tab.reserved)
