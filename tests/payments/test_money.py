"""Whatever is lost, late or killed: nobody pays twice, nobody is paid more than was signed, and what was done is paid or owed."""

import pytest

from meshos.consensus.ledger.conservation import faults
from meshos.consensus.ledger.tabs import TABS
from meshos.effects import Ok
from meshos.ids import NodeId
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.payments.commands import EARNING, PAYING, EndTab, ListEarnings
from meshos.simulations.disks import Trap
from tests.payments.chain import ALPHA, FUNDS
from tests.payments.mesh import CALLERS, ORG, PROVIDERS, Mesh

SEEDS = range(1, 7)


class Chaos:
    """A minute of calls while all goes wrong that can; then all is mended."""

    def __init__(self, mesh: Mesh, *, crashes: bool) -> None:
        self.mesh = mesh
        self.rng = mesh.world.generator("chaos")
        self.crashes = crashes
        mesh.lossy, mesh.deaf = 0.3, 0.3
        mesh.late_s = (0.0, 2.0)
        mesh.world.network.faults.loss = 0.02
        mesh.on_voucher = self._voucher

    def run(self, seconds: float) -> None:
        end = self.mesh.world.now + seconds
        while self.mesh.world.now < end:
            self._call()
            self.mesh.run(self.rng.expovariate(4.0))
            self._revive()
            if self.rng.random() < 0.12:
                self._hurt()
            if self.rng.random() < 0.02:
                self._close()
        self.mesh.run(self.rng.uniform(0.0, 1.0))
        for provider in PROVIDERS:  # nothing comes after this that would mend what they lose
            self._crash(provider)
        self.mend()

    def _call(self) -> None:
        mesh, rng = self.mesh, self.rng
        node, provider = rng.choice(CALLERS), rng.choice(PROVIDERS)
        if mesh.world.nodes[node].alive:
            number = mesh.call(node, provider, key=rng.choice(("", "", f"k{rng.randrange(3)}")), tool=rng.choice(("once", "look")))
            if rng.random() < 0.1:
                mesh.world.after(rng.uniform(0.0, 1.0), mesh.cancel, node, number)

    def _hurt(self) -> None:
        mesh, rng = self.mesh, self.rng
        node = mesh.world.nodes[rng.choice((*CALLERS, *PROVIDERS))]
        what = rng.choice(("crash", "trap", "trap", "cut", "down") if self.crashes else ("cut", "down"))
        if what == "crash" and node.alive:
            node.crash()
        elif what == "trap":
            machine = rng.choice(("org", PAYING, EARNING, TRANSACTIONS))
            trap = Trap(machine, rng.choice(("write", "sync")), rng.randint(1, 4), rng.choice(("before", "torn", "after")))
            node.disks.set_trap(trap)
        elif what == "cut":
            mesh.world.network.faults.partition([[CALLERS[0], PROVIDERS[1]], [CALLERS[1], PROVIDERS[0]]])
            mesh.world.after(rng.uniform(0.5, 8.0), mesh.world.network.faults.heal)
        else:
            mesh.chain.down = True
            mesh.world.after(rng.uniform(0.5, 12.0), self._up)

    def _up(self) -> None:
        self.mesh.chain.down = False

    def _revive(self) -> None:
        """Whoever is dead starts again before long."""
        for node in self.mesh.nodes():
            if not node.alive and self.rng.random() < 0.2:
                node.start()

    def _voucher(self, caller: NodeId) -> None:
        """The worst moments to die: a voucher was signed, is on its way, was just taken."""
        if self.crashes and self.rng.random() < 0.4:
            victim = self.rng.choice((caller, caller, *PROVIDERS))
            self.mesh.world.after(self.rng.choice((0.001, 0.01, 0.03, 0.1)), self._crash, victim)

    def _crash(self, name: NodeId) -> None:
        if self.crashes and self.mesh.world.nodes[name].alive:
            self.mesh.world.nodes[name].crash()

    def _close(self) -> None:
        """Nobody calls for a while, and one caller ends its tabs."""
        mesh, caller = self.mesh, self.rng.choice(CALLERS)
        mesh.run(self.rng.uniform(3.0, 9.0))
        for provider in PROVIDERS:
            if mesh.world.nodes[caller].alive:
                mesh.flow(caller, "propose-to", (EndTab(ORG[provider]), PAYING))

    def mend(self) -> None:
        mesh = self.mesh
        self.crashes = False
        mesh.lossy = mesh.deaf = 0.0
        mesh.late_s = (0.0, 0.3)
        mesh.chain.down = False
        mesh.world.network.faults.mend()
        for node in mesh.nodes():
            node.disks.mend()
            if not node.alive:
                node.start()


def check(mesh: Mesh) -> tuple[int, int]:
    """After all is mended and quiet; gives what was owed and what is unpaid."""
    assert faults(mesh.chain.head) == []
    owed_in_all = unpaid_in_all = 0
    earned = {provider: mesh.balance(ORG[provider]) - FUNDS for provider in PROVIDERS}
    for provider in PROVIDERS:
        owed = sum(ended.owed_micro for ended in mesh.completed(provider).values())
        tabs = {id_: tab for id_, tab in mesh.chain.seen.items() if tab.provider == ORG[provider]}
        signed = sum(mesh.signed.get(id_, 0) for id_ in tabs)
        assert earned[provider] <= signed <= owed, "nobody is paid more than was signed, and nobody signs for more than was done"
        for id_, tab in tabs.items():
            assert tab.redeemed == mesh.signed.get(id_, 0) <= tab.reserved, "all that is signed is redeemed in the end"
        for earning in mesh.propose(provider, ListEarnings(), EARNING):
            assert earning.caller == ALPHA and earning.owed == owed
            assert earning.unredeemed == 0
            assert earned[provider] + earning.unpaid == owed, "what was done is paid or counted as unpaid"
            assert mesh.earning(provider).lost == 0, "a caller closes no tab on which something is to be redeemed"
            unpaid_in_all += earning.unpaid
        owed_in_all += owed
    reserved = sum(tab.reserved - tab.redeemed for _, tab in ((k, TABS.decode(v)) for k, v in mesh.chain.head.scan(TABS.prefix)))
    assert mesh.balance(ALPHA) == FUNDS - sum(earned.values()) - reserved
    return owed_in_all, unpaid_in_all


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_the_network_and_the_ledger_lose_all_is_paid_in_the_end(seed: int) -> None:
    mesh = Mesh(seed)
    Chaos(mesh, crashes=False).run(40.0)
    mesh.run(150.0)
    owed, unpaid = check(mesh)
    assert owed and not unpaid
    assert any(isinstance(outcome, Ok) for outcome in mesh.ended.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_crashes_at_any_write_lose_no_money_and_make_none(seed: int) -> None:
    mesh = Mesh(100 + seed)
    Chaos(mesh, crashes=True).run(40.0)
    mesh.run(150.0)
    owed, unpaid = check(mesh)
    print(owed, unpaid)
    assert owed
