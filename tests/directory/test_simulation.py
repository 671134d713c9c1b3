"""Directories of several nodes in virtual time: news spread, faults heal, cheats and withdrawals reach everybody."""

import dataclasses
from collections.abc import Sequence

import pytest

from meshos.errors import BadInput, Broken, Failed, MeshError, Refused
from meshos.flow_machine import StartFlow
from meshos.ids import OrgDid, agent_id
from meshos.protocols.directory import keeping, limits, services
from meshos.protocols.directory.checking import Checker
from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.publishing import Publication
from meshos.protocols.directory.record import Sealed
from meshos.protocols.directory.search import DiscoverRequest
from meshos.protocols.directory.services import DISOWN, PUBLISH
from meshos.protocols.directory.wire import HINT
from meshos.protocols.rpc.events import Inbound
from meshos.simulations.network import NetworkFaults
from meshos.simulations.world import SimNode
from tests.directory.test_asking import AGENTS
from tests.directory.test_layout import CODEBOOK
from tests.directory.world import NOW_MS, Mesh, org, org_of, record, sealed_record, signed

CLOCK = Profile("clock", "Tells the time in any city of the world.", capabilities=("time",), region="eu-west-1", per_query=5)
CHESS = Profile("chess", "Plays chess against people and analyses games.", certifications=("FIDE",), region="us-east-1")


def test_a_new_record_is_with_all_eight_nodes_within_two_seconds() -> None:
    mesh = Mesh(1, nodes=8)
    mesh.run(1)
    published = mesh.publish(3, CLOCK)  # runs one second
    assert published.accepted == (agent_id(org(3), "clock"),) and not published.refused
    assert [mesh.held(number)["records"] for number in range(8)] == [1] * 8 and mesh.alike()


@pytest.mark.parametrize("seed", range(8))
def test_directories_become_alike_through_loss_doubling_and_a_crash(seed: int) -> None:
    mesh = Mesh(seed, nodes=4, faults=NetworkFaults(loss=0.15, duplication=0.1, spike=0.2))
    for number in range(4):
        profiles = tuple(Profile(f"agent-{number}-{serial}", f"Does thing {serial}.") for serial in range(5))
        mesh.start(number, PUBLISH, Publication(profiles, NOW_MS))
    mesh.run(0.2 + 0.1 * seed)
    victim = mesh.world.nodes[mesh.ids[seed % 4]]
    victim.crash()
    mesh.run(5)
    victim.start()
    mesh.run(60)
    assert mesh.alike()
    assert mesh.held(0)["records"] >= 15  # a crash may take what the victim had not published yet, and nothing else


def test_a_node_that_was_away_catches_up_in_pages() -> None:
    mesh = Mesh(5, nodes=3)
    mesh.run(0.5)
    away = mesh.world.nodes[mesh.ids[2]]
    away.crash()
    mesh.publish(0, *(Profile(f"agent {serial}", f"Does thing number {serial}. " * 40) for serial in range(200)), seconds=5)
    mesh.run(5)
    away.start()
    mesh.run(10)
    assert mesh.held(2)["records"] == 200 and mesh.alike()


def test_what_was_held_is_held_and_found_again_after_a_crash() -> None:
    mesh = Mesh(6, nodes=2)
    mesh.publish(0, CLOCK, CHESS)
    node, other = (mesh.world.nodes[id_] for id_ in mesh.ids)
    other.crash()
    node.crash()
    node.start()
    mesh.run(1)
    answer = mesh.discover(0, DiscoverRequest("a game of chess"))
    assert answer.agents[0].record.name == "chess"
    assert not answer.complete, "what the other took in meanwhile is not known"
    other.start()
    mesh.run(2 * limits.SYNC_TIMEOUT_S)
    assert mesh.discover(0, DiscoverRequest("a game of chess")).complete


def test_a_node_that_was_away_does_not_say_that_it_knows_all_before_it_has_asked_another() -> None:
    mesh = Mesh(9, nodes=3)
    mesh.publish(0, CLOCK, CHESS)
    mesh.run(5)
    away = mesh.world.nodes[mesh.ids[2]]
    away.crash()
    mesh.withdraw(0, "chess")
    mesh.world.network.faults.partition([mesh.ids[:2], mesh.ids[2:]])
    away.start()
    mesh.run(1)
    stale = mesh.discover(2, DiscoverRequest("a game of chess"))
    assert stale.agents[0].record.name == "chess" and not stale.complete
    mesh.world.network.faults.heal()
    mesh.run(2 * limits.SYNC_TIMEOUT_S)
    fresh = mesh.discover(2, DiscoverRequest("a game of chess"))
    assert [found.record.name for found in fresh.agents] == ["clock"] and fresh.complete


def test_two_that_were_away_do_not_make_each_other_sure() -> None:
    mesh = Mesh(11, nodes=3)
    mesh.publish(0, CLOCK, CHESS)
    mesh.run(5)
    away = mesh.ids[1:]
    for node in away:
        mesh.world.nodes[node].crash()
    mesh.withdraw(0, "chess")
    mesh.world.network.faults.partition([mesh.ids[:1], away])
    for node in away:
        mesh.world.nodes[node].start()
    mesh.run(12)
    assert not any(mesh.discover(number, DiscoverRequest("a game of chess")).complete for number in (1, 2))
    mesh.world.network.faults.heal()
    mesh.run(12)
    for number in (1, 2):
        fresh = mesh.discover(number, DiscoverRequest("a game of chess"))
        assert fresh.complete and [found.record.name for found in fresh.agents] == ["clock"]


def test_a_mesh_that_starts_again_as_a_whole_is_sure_of_itself_in_some_rounds() -> None:
    mesh = Mesh(12, nodes=4)
    mesh.publish(0, CLOCK)
    mesh.run(5)
    for node in mesh.ids:
        mesh.world.nodes[node].crash()
    for node in mesh.ids:
        mesh.world.nodes[node].start()
    mesh.run(4)
    assert all(mesh.discover(number, DiscoverRequest("the time")).complete for number in range(4))


def test_of_those_that_are_never_there_nobody_waits_longer_than_a_minute_or_two() -> None:
    mesh = Mesh(13, nodes=4)
    gone = mesh.ids[3]
    mesh.world.nodes[gone].crash()
    for node in mesh.ids[:3]:
        mesh.parts[node].peers = lambda node=node: [other for other in mesh.ids[:3] if other != node]
    mesh.run(20)
    assert not any(parts.holds_all() for parts in mesh.parts.values())
    mesh.run(2 * keeping.RENEW_EVERY * limits.SYNC_S + 30)
    assert all(mesh.parts[node].holds_all() for node in mesh.ids[:3])


def test_who_was_cut_off_while_the_directory_was_cut_into_cells_is_sure_of_none_of_them() -> None:
    mesh = Mesh(14, nodes=6)
    mesh.run(5)
    mesh.publish(0, *AGENTS[:40], seconds=2)
    mesh.run(10)
    last = mesh.ids[5]
    mesh.world.nodes[last].crash()
    mesh.publish(1, *AGENTS[40:], seconds=2)
    mesh.world.network.faults.partition([mesh.ids[:5], mesh.ids[5:]])
    mesh.world.nodes[last].start()
    mesh.run(0.01)
    parts = mesh.parts[last]
    parts.peers = lambda: []
    mesh.run(130)
    assert not parts.caught_up and not mesh.discover(5, DiscoverRequest("chess3")).complete
    mesh.codebook = CODEBOOK
    mesh.run(5)
    assert parts.layout.codebook is not None and not parts.sure_of(parts.layout.mine)


def test_who_is_alone_knows_all() -> None:
    mesh = Mesh(10, nodes=1)
    mesh.run(1)
    mesh.publish(0, CLOCK)
    assert mesh.discover(0, DiscoverRequest("the time")).complete


def test_deploying_again_raises_the_version_and_replaces_the_record_everywhere() -> None:
    mesh = Mesh(7)
    mesh.publish(0, CLOCK)
    mesh.publish(0, Profile("clock", "Counts sheep."))
    mesh.run(1)
    (found,) = mesh.discover(3, DiscoverRequest("sheep")).agents
    assert (found.record.version, found.record.profile.description) == (2, "Counts sheep.") and mesh.alike()


def test_a_withdrawn_record_is_gone_everywhere_and_comes_back_only_by_its_owner() -> None:
    mesh = Mesh(8)
    mesh.publish(0, CLOCK)
    away = mesh.world.nodes[mesh.ids[3]]
    away.crash()  # it still holds the record, and must not bring it back
    mesh.withdraw(0, "clock")
    mesh.run(5)
    away.start()
    mesh.run(20)
    assert [mesh.held(number)["records"] for number in range(4)] == [0] * 4 and mesh.alike()
    assert not mesh.discover(2, DiscoverRequest("what time is it")).agents
    mesh.publish(0, CLOCK)
    mesh.run(1)
    assert mesh.discover(2, DiscoverRequest("what time is it")).agents[0].record.version == 3


def test_withdrawing_what_is_not_there_is_refused() -> None:
    mesh = Mesh(9, nodes=2)
    mesh.publish(0, CLOCK)
    for number, name in ((0, "nobody"), (1, "clock")):  # the other org's agent is not ours to bury
        with pytest.raises(Refused, match="no-such-agent"):
            mesh.withdraw(number, name)


def test_a_publisher_of_vectors_that_are_not_of_their_text_is_refused() -> None:
    mesh = Mesh(10, nodes=3)
    mesh.run(1)
    for serial in range(4):
        cheat = sealed_record(f"cheat {serial}", by=0, forged=True)
        mesh.slip_in(0, cheat)
        mesh.run(3)
    honest = mesh.publish(1, CLOCK)
    mesh.run(3)
    assert honest.accepted
    for number in (1, 2):
        assert mesh.held(number)["records"] == 1 and mesh.held(number)["cheats"] == limits.CHEATS_TOLERATED + 1
        assert mesh.machine(number)._refusals.refused(mesh.world.now) == {org(0)}


def test_a_page_of_cheats_is_fetched_once_and_few_of_its_vectors_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0
    misfits = Checker.misfits

    def counting(self: Checker, records: Sequence[Sealed]) -> frozenset[bytes]:
        nonlocal computed
        computed += len(records)
        return misfits(self, records)

    monkeypatch.setattr(Checker, "misfits", counting)
    mesh = Mesh(18, nodes=2)
    mesh.world.nodes[mesh.ids[1]].crash()
    for serial in range(200):
        mesh.slip_in(0, sealed_record(f"cheat {serial}", by=0, forged=True))
    mesh.run(1)
    mesh.world.nodes[mesh.ids[1]].start()
    mesh.run(60)
    assert mesh.held(1)["records"] == 0 and computed <= limits.SAMPLED
    assert not mesh.machine(1)._want(mesh.world.now, mesh.machine(0)._held.items(tuple(range(256)), "", 1000)[0]).ids[10:]


def test_announcements_of_a_peer_are_followed_one_at_a_time_and_none_is_lost() -> None:
    mesh = Mesh(19, nodes=2)
    mesh.run(0.9)
    started: list[object] = []
    under_way: list[int] = []

    def observe(node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        if node.name == mesh.ids[1] and machine == "flows" and isinstance(event, StartFlow) and event.service == HINT:
            started.append(event.flow)
            under_way.append(len(mesh.parts[node.name].hinted_by))

    mesh.world.observer = observe
    mesh.world.nodes[mesh.ids[1]].crash()
    mesh.world.nodes[mesh.ids[1]].start()
    mesh.run(0.05)
    for serial in range(20):
        mesh.slip_in(0, sealed_record(f"agent {serial}"))
    mesh.run(0.5)  # before the next round
    assert len(started) == 20 and max(under_way) == 1
    assert mesh.held(1)["records"] == 20 and not mesh.parts[mesh.ids[1]].hinted_by


def test_a_cheat_that_escaped_the_sample_is_found_when_it_would_rank_high(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SAMPLED", 0)
    monkeypatch.setattr(limits, "IDLE_CHECKS", 0)
    mesh = Mesh(11, nodes=2)
    mesh.run(1)
    cheat = sealed_record("cheat", by=0, forged=True)
    mesh.slip_in(0, cheat)
    mesh.publish(0, CLOCK)
    mesh.run(3)
    assert mesh.held(1) == {"records": 2, "entries": 2, "unchecked": 2, "unplaced": 0, "cheats": 0}
    answer = mesh.discover(1, DiscoverRequest("quite another text about something else"))
    assert [found.record.name for found in answer.agents] == ["clock"]
    assert mesh.held(1) == {"records": 1, "entries": 2, "unchecked": 0, "unplaced": 0, "cheats": 1}
    mesh.run(20)
    assert mesh.held(1)["records"] == 1  # a mark keeps it from being fetched again


def test_vectors_that_were_not_sampled_are_checked_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SAMPLED", 0)
    mesh = Mesh(12, nodes=2)
    mesh.publish(0, *(Profile(f"agent {serial}", f"Does thing {serial}.") for serial in range(20)))
    mesh.run(1)
    assert mesh.held(0)["unchecked"] == 0 and mesh.held(1)["unchecked"] > 0
    mesh.run(10)
    assert mesh.held(1) == {"records": 20, "entries": 20, "unchecked": 0, "unplaced": 0, "cheats": 0}


def test_records_lapse_unless_their_owner_renews_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TTL_S", 60.0)
    monkeypatch.setattr(keeping, "RENEW_EVERY", 2)
    mesh = Mesh(13, nodes=3)
    mesh.publish(0, CLOCK)
    mesh.publish(1, CHESS)
    mesh.run(2)
    mesh.world.nodes[mesh.ids[1]].crash()
    mesh.run(limits.TTL_S + 60)
    assert mesh.held(2)["records"] == 1
    (found,) = mesh.discover(2, DiscoverRequest("chess or time")).agents
    assert found.record.name == "clock" and found.record.version > 1
    mesh.run(limits.TOMBSTONE_LIVES * limits.TTL_S)
    assert mesh.held(2)["entries"] == 1  # the mark has gone too


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (Filters(), {"clock", "chess"}),
        (Filters(region="EU-west-1"), {"clock"}),
        (Filters(capabilities=("Time",)), {"clock"}),
        (Filters(certifications=("fide",)), {"chess"}),
        (Filters(certifications=("fide", "HIPAA")), set()),
        (Filters(max_price_micro=4), {"chess"}),
        (Filters(trust_min=50, trust_max=50), {"clock", "chess"}),
        (Filters(trust_min=51), set()),
        (Filters(trust_max=49), set()),
        (Filters(max_latency_ms=1000), set()),  # nothing was measured yet, so nothing is promised
    ],
)
def test_filters_come_before_ranking(filters: Filters, names: set[str]) -> None:
    mesh = Mesh(14, nodes=1)
    mesh.publish(0, CLOCK, CHESS)
    answer = mesh.discover(0, DiscoverRequest("something", filters=filters))
    assert {found.record.name for found in answer.agents} == names


@pytest.mark.parametrize(("query", "limit"), [("", 10), (" \n", 10), ("x" * 2001, 10), ("x", 0), ("x", 101), ("x \ud800", 10)])
def test_a_question_that_makes_no_sense_is_refused(query: str, limit: int) -> None:
    mesh = Mesh(15, nodes=1)
    with pytest.raises(BadInput, match="bad-query"):
        mesh.discover(0, DiscoverRequest(query, limit))


def test_a_bad_profile_is_refused_by_its_place_and_the_others_are_taken() -> None:
    mesh = Mesh(16, nodes=1)
    published = mesh.publish(0, CLOCK, Profile("", "no name"), Profile("bell\a", "rings"), CHESS)
    assert len(published.accepted) == 2
    assert [(place, error.name) for place, error in published.refused] == [(1, "bad-record"), (2, "bad-record")]


def test_what_a_revoked_node_published_leaves_every_directory_and_may_be_published_anew() -> None:
    mesh = Mesh(5)
    thiefs = sealed_record("clock", by=1, version=limits.MAX_NUMBER)
    mesh.slip_in(1, thiefs)
    for number in range(40):
        mesh.slip_in(2, sealed_record(f"agent {number}", by=2))
    mesh.run(20.0)
    assert mesh.alike() and mesh.held(0)["records"] == 41
    mesh.world.nodes[mesh.ids[1]].crash()

    def revoked(signer: str, proof: bytes) -> OrgDid:
        if signer == "n1-a":
            raise Refused("certificate-revoked", "it is on the list")
        return org_of(signer, proof)

    for number in (0, 2, 3):
        parts = mesh.parts[mesh.ids[number]]
        parts.checker = dataclasses.replace(parts.checker, org_of=revoked)
    flows = [mesh.start(number, DISOWN, frozenset({org(1)})) for number in (0, 2)]
    mesh.run(20.0)
    assert [mesh.outcome(flow) for flow in flows] == [1, 1]
    assert [mesh.held(number)["records"] for number in (0, 2, 3)] == [40, 40, 41], "one that has not heard of it gives it back"
    mesh.start(3, DISOWN, frozenset({org(1)}))
    mesh.slip_in(0, signed(record("clock", by=1, version=1), "n1-b"))
    mesh.run(20.0)
    assert mesh.alike() and mesh.held(3)["records"] == 41


def test_all_that_a_node_in_quarantine_has_signed_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it is: who would show nothing instead would seem to hide the others."""
    monkeypatch.setattr(limits, "FOUND", 5)
    mesh = Mesh(14, nodes=2)
    mesh.publish(0, *(Profile(f"chess {number}", f"plays chess {number}") for number in range(6 * limits.BARRED_ROUNDS)), seconds=10.0)
    mesh.publish(1, Profile("go", "plays go, and knows of chess"), seconds=10.0)
    assert len(mesh.discover(1, DiscoverRequest("plays chess", 5)).agents) == 5
    mesh.quarantine = {mesh.ids[0]}
    assert [found.record.name for found in mesh.discover(1, DiscoverRequest("plays chess", 5)).agents] == ["go"]


def test_what_is_in_quarantine_is_not_found_and_others_take_its_place() -> None:
    mesh = Mesh(31, nodes=4)
    for number in range(3):
        mesh.publish(number, *(Profile(f"chess {number}-{serial}", f"Plays chess, variant {number} {serial}.") for serial in range(6)))

    def found() -> set[str]:
        return {one.record.profile.name for one in mesh.discover(3, DiscoverRequest("plays chess", 8)).agents}

    mesh.quarantine = {org(0), mesh.ids[1], agent_id(org(2), "chess 2-3")}
    assert found() == {f"chess 2-{serial}" for serial in (0, 1, 2, 4, 5)}, "of an organisation, of a node, of an agent"
    mesh.quarantine = {org(0), org(1), org(2)}
    assert found() == set()
    mesh.quarantine = set()
    assert len(found()) == 8, "nothing was forgotten"


@pytest.mark.parametrize("answer", [kind("whatever", "lied") for kind in (BadInput, Broken, Refused, Failed)])
def test_a_peer_that_answers_with_whatever_error_keeps_nobody_from_the_others(monkeypatch: pytest.MonkeyPatch, answer: MeshError) -> None:
    honest = services.serve

    async def serve(parts: Parts, inbound: Inbound) -> bytes:
        if parts.node == "n0-a":
            raise answer
        return await honest(parts, inbound)

    monkeypatch.setattr(services, "serve", serve)
    mesh = Mesh(31, nodes=12)
    mesh.run(1)
    for away in range(2, 12):
        mesh.world.nodes[mesh.ids[away]].crash()
    mesh.publish(1, *(Profile(f"agent {serial}", f"Does thing number {serial}.") for serial in range(80)), seconds=3)
    for away in range(2, 12):
        mesh.world.nodes[mesh.ids[away]].start()
    mesh.run(60)
    assert [mesh.held(number)["records"] for number in range(2, 12)] == [80] * 10
