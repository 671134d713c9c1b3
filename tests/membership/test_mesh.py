"""Membership in virtual time: real machines, real Flows, a network that does what networks do."""

import random
from collections import Counter

import pytest

from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner
from meshos.errors import Refused
from meshos.flow_machine import StartFlow
from meshos.ids import NodeId
from meshos.presets import FAST, LAN, LOCAL, Timing
from meshos.protocols.membership import codec
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.statements import Kind
from meshos.protocols.membership.sync import verified
from meshos.simulations.faults import Drift, swarm
from meshos.simulations.network import NetworkFaults
from meshos.simulations.world import SimNode
from tests.membership.mesh import DOMAIN, Mesh


def test_one_node_alone_is_its_own_mesh() -> None:
    mesh = Mesh(1)
    mesh.run(5)
    assert mesh.states(mesh.ids[0]) == {mesh.ids[0]: "alive"} and mesh.machine(mesh.ids[0]).joined


@pytest.mark.parametrize("seed", range(5))
def test_nodes_started_together_find_each_other_through_loss(seed: int) -> None:
    mesh = Mesh(20, seed=seed, faults=NetworkFaults(loss=0.1, duplication=0.05, spike=0.1))
    mesh.run_until(mesh.converged, within=30)


def test_a_large_mesh_converges_in_a_logarithm_of_rounds() -> None:
    mesh = Mesh(150, orgs=12, keep=False)
    mesh.run_until(mesh.converged, within=30, step=1)


@pytest.mark.parametrize(("timing", "within"), [(LAN, 8.0), (LOCAL, 8.0), (FAST, 2.0)], ids=["lan", "local", "fast"])
@pytest.mark.parametrize("seed", range(6))
def test_a_killed_node_is_dead_for_all_in_time(timing: Timing, within: float, seed: int) -> None:
    mesh = Mesh(8, seed=seed, timing=timing)
    mesh.run(12 + seed / 7)
    victim = mesh.ids[seed]
    mesh.crash(victim)
    mesh.run_until(lambda: mesh.all_see(victim, "dead"), within, step=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_stops_for_two_and_a_half_seconds_again_and_again_is_never_dead_nor_unroutable(seed: int) -> None:
    mesh = Mesh(8, seed=seed, faults=NetworkFaults(loss=0.01, spike=0.05, spike_s=0.3))
    mesh.run(10)
    sleeper = mesh.world.nodes[mesh.ids[3]]
    for turn in range(30):
        mesh.world.after(turn * 10, sleeper.pause)
        mesh.world.after(turn * 10 + 2.5, sleeper.resume)
    mesh.run(310)
    wrong = [change for node in mesh.ids for change in mesh.changes(node) if change.state == "dead" or not change.routable]
    assert not wrong and mesh.converged()
    assert mesh.machine(mesh.ids[3]).incarnation > 1, "it had to refute, or the test shows nothing"


@pytest.mark.parametrize("seed", range(4))
def test_both_sides_of_a_partition_see_their_side_and_merge_after(seed: int) -> None:
    mesh = Mesh(12, seed=seed, keep=False)
    mesh.run_until(mesh.converged, within=30)
    cut = random.Random(seed).randint(1, 11)
    one, other = mesh.ids[:cut], mesh.ids[cut:]
    mesh.partition(one, other)
    mesh.run_until(
        lambda: all(mesh.all_see(node, "dead", other) for node in one) and all(mesh.all_see(node, "dead", one) for node in other),
        within=120,
        step=1,
    )
    assert all(mesh.all_see(node, "alive", side) for side in (one, other) for node in side)
    mesh.run(60)  # nothing of before is under way any more
    mesh.heal()
    mesh.run_until(mesh.converged, within=60, step=0.5)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happened_once_it_is_over_all_see_all(seed: int) -> None:
    mesh = Mesh(14, seed=seed, keep=False)
    mesh.run(15)
    begin = mesh.world.now
    for at, fault in swarm(mesh.world.generator("schedule"), [str(node) for node in mesh.ids], begin=begin, end=begin + 40):
        if not isinstance(fault, Drift):
            mesh.world.at(max(at, begin), fault.do, mesh.world)
    mesh.run(40)
    mesh.run_until(mesh.converged, within=60, step=0.5)


def test_a_restarted_node_is_back_at_once_under_a_higher_incarnation() -> None:
    mesh = Mesh(6, seed=3)
    mesh.run(10)
    victim = mesh.ids[4]
    mesh.crash(victim)
    mesh.run_until(lambda: mesh.all_see(victim, "dead"), within=8)
    mesh.start(victim)
    mesh.run_until(mesh.converged, within=5)
    assert mesh.machine(victim).incarnation == 2


@pytest.mark.parametrize("seed", range(20))
def test_no_incarnation_is_announced_twice_whenever_the_node_is_killed(seed: int) -> None:
    """Kills a node that is being accused at random moments, also between writing, syncing and signing."""
    mesh = Mesh(4, seed=seed, timing=FAST, keep=False)
    victim = mesh.ids[2]
    life = 0
    signed: dict[int, set[int]] = {}  # incarnation -> the lives in which it was signed

    class Notary(SimulatedSigner):
        def sign(self, domain: Domain, payload: bytes) -> bytes:
            said = codec.statement(payload, bytes(64))
            if said.kind is Kind.ALIVE:
                signed.setdefault(said.incarnation, set()).add(life)
            return super().sign(domain, payload)

    mesh.world.nodes[victim].spec.signer = Notary(mesh.authority.secret, victim)
    mesh.world.disk_range_s = (0.001, 0.05)
    mesh.world.sign_range_s = (0.02, 0.02)
    rng = random.Random(seed)
    mesh.run(2)
    mesh.crash(victim)
    while life < 12:
        life += 1
        mesh.start(victim)
        accuser = mesh.ids[rng.choice((0, 1, 3))]
        for _ in range(rng.randint(0, 4)):
            mesh.run(rng.uniform(0, 0.1))
            accuse(mesh, accuser, victim, mesh.machine(accuser).member(victim))
        mesh.run(rng.uniform(0, 0.15))
        mesh.crash(victim)
        mesh.run(0.3)
    assert len(signed) >= 8 and all(len(lives) == 1 for lives in signed.values()), signed


def accuse(mesh: Mesh, accuser: NodeId, subject: NodeId, view: ev.MemberView | None) -> None:
    """A lie, properly signed, told to everybody."""
    if view is None or not mesh.world.nodes[accuser].alive:
        return
    payload = codec.word_payload(Kind.DEAD, subject, view.incarnation, accuser)
    said = codec.statement(payload, SimulatedSigner(mesh.authority.secret, accuser).sign(DOMAIN, payload))
    for node in mesh.living():
        mesh.world.nodes[node].deliver("membership", ev.DatagramReceived(accuser, "liar:1", ev.Gossip((said.blob,)), (said,)))


@pytest.mark.parametrize("seed", range(8))
def test_a_lone_lying_organisation_never_kills(seed: int) -> None:
    """Two nodes of one organisation accuse everybody of every incarnation, all the time, for a minute."""
    mesh = Mesh(8, seed=seed, faults=NetworkFaults(loss=0.02))
    mesh.run_until(mesh.converged, within=30)
    liars = [node for node in mesh.ids if mesh.org[node] == mesh.org[mesh.ids[1]]]
    assert len(liars) == 2
    honest = [node for node in mesh.ids if node not in liars]
    rng = random.Random(seed)
    for _ in range(300):
        subject, liar = rng.choice(honest), rng.choice(liars)
        accuse(mesh, liar, subject, mesh.machine(liar).member(subject))
        mesh.run(0.2)
    changes = [change for node in honest for change in mesh.changes(node) if change.node in honest]
    assert not [change for change in changes if change.state == "dead" or not change.routable]
    assert Counter(change.state for change in changes)["suspect"], "nobody believed the liars at all: the test shows nothing"
    mesh.run_until(mesh.converged, within=60)


def test_a_liar_cannot_make_others_work_without_end() -> None:
    mesh = Mesh(8, seed=5)
    mesh.run_until(mesh.converged, within=30)
    liar, subject = mesh.ids[1], mesh.ids[2]
    for _ in range(600):
        accuse(mesh, liar, subject, mesh.machine(liar).member(subject))
        mesh.run(0.05)
    assert mesh.machine(subject).incarnation < 1 + 4 + 30 / LAN.suspicion_mult + 2


def test_a_node_that_leaves_is_left_for_all_and_no_longer_missed() -> None:
    mesh = Mesh(8, seed=2)
    mesh.run(10)
    leaver = mesh.ids[5]
    mesh.world.nodes[leaver].deliver("membership", ev.Leave())
    mesh.run_until(lambda: mesh.all_see(leaver, "left"), within=2)
    mesh.run(LAN.leave_s)
    assert any(isinstance(event, ev.LeaveCompleted) for _, event in mesh.told[leaver])  # type: ignore[misc]
    mesh.crash(leaver)
    mesh.run(30)
    assert mesh.all_see(leaver, "left")
    mesh.start(leaver)
    mesh.run_until(mesh.converged, within=10)


def test_a_note_and_changed_facts_reach_everybody() -> None:
    mesh = Mesh(8, seed=2)
    mesh.run(10)
    node = mesh.ids[3]
    mesh.world.nodes[node].deliver("membership", ev.Announce("colour", b"green"))
    mesh.run(3)
    assert all(mesh.machine(other).member(node).notes == (("colour", b"green"),) for other in mesh.ids)  # type: ignore[union-attr]


def test_a_joiner_finds_the_mesh_without_seeds_once_it_was_there() -> None:
    mesh = Mesh(6, seed=4)
    mesh.run(20)
    newcomer = mesh.ids[5]
    mesh.crash(newcomer)
    mesh.run(2)
    mesh.seeds = []
    mesh.start(newcomer)
    mesh.run_until(mesh.converged, within=15)


def test_every_datagram_fits_its_box() -> None:
    mesh = Mesh(30, seed=1, keep=False, start=False)
    largest = 0

    def measure(node: object, machine: str, event: object, effects: list[object]) -> None:
        nonlocal largest
        for effect in effects:
            if isinstance(effect, ev.SendDatagram):
                data = codec.encode_datagram(effect.message)
                assert codec.decode_datagram(data) == effect.message
                largest = max(largest, len(data))

    mesh.world.observer = measure
    for node in mesh.ids:
        mesh.start(node)
    mesh.run(3)
    for node in mesh.ids[20:]:
        mesh.crash(node)
    mesh.run(10)
    assert 600 < largest <= 1120


def test_a_quiet_mesh_sends_two_datagrams_a_node_and_second() -> None:
    mesh = Mesh(30, seed=1, keep=False)
    mesh.run(60)
    before = mesh.world.network.sent
    mesh.run(60)
    assert (mesh.world.network.sent - before) / (30 * 60) == pytest.approx(2.0, abs=0.1)
    assert all(mesh.machine(node).statistics()["queued"] == 0 for node in mesh.ids)


def test_a_page_with_a_signature_that_does_not_hold_is_refused_as_a_whole() -> None:
    mesh = Mesh(3, start=False)
    payload = codec.left_payload(mesh.ids[0], 1)
    good = codec.statement(payload, SimulatedSigner(mesh.authority.secret, mesh.ids[0]).sign(DOMAIN, payload))
    bad = codec.statement(payload, bytes(64))
    assert len(verified(mesh.authority.verifier, DOMAIN, [good.blob])) == 1
    with pytest.raises(Refused, match="bad-signature"):
        verified(mesh.authority.verifier, DOMAIN, [good.blob, bad.blob])


def test_the_same_seed_gives_the_same_run() -> None:
    def story() -> list[str]:
        mesh = Mesh(9, seed=11, faults=NetworkFaults(loss=0.05, duplication=0.02))
        mesh.run(8)
        mesh.crash(mesh.ids[1])
        mesh.run(8)
        return [repr(line) for node in mesh.ids for line in mesh.told[node]]

    assert story() == story()


def test_a_seed_that_is_gone_does_not_keep_a_node_from_its_syncs() -> None:
    mesh = Mesh(6, timing=LAN, start=False)
    begun: list[NodeId] = []

    def look(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        if node.name == mesh.ids[3] and isinstance(event, StartFlow):
            begun.append(event.argument.peer)

    mesh.world.observer = look
    for node in mesh.ids[1:]:  # the first, a seed, never comes
        mesh.start(node)
    mesh.run(60)
    begun.clear()
    mesh.run(20 * LAN.sync_interval_s)
    assert mesh.ids[0] in begun, "it goes on asking the seed"
    assert len([peer for peer in begun if peer != mesh.ids[0]]) >= 10
