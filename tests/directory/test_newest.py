"""Two nodes of an organisation change its agents in a directory in cells, of which each holds a part only."""

from collections.abc import Callable, Coroutine

import pytest

from meshos.errors import Refused
from meshos.flow import Sleep
from meshos.flow_machine import Flows
from meshos.ids import NodeId, agent_id
from meshos.protocols.directory import limits, sync, wire
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import PROTOCOL, AgentRecord
from meshos.protocols.directory.search import DiscoverRequest
from meshos.protocols.directory.wire import AskEntries, AskVersions, decode_request
from meshos.protocols.rpc.events import Inbound
from tests.directory.test_asking import names
from tests.directory.test_layout import CODEBOOK
from tests.directory.world import Mesh, org

FIRST, SECOND = 0, 8
NAMES = [f"clock {number}" for number in range(12)]


def twins(seed: int = 1, lifetime_s: float | None = None) -> Mesh:
    """Eight organisations in cells, the first of which has a second node."""
    mesh = Mesh(seed, nodes=8, twins=1, lifetime_s=lifetime_s)
    mesh.codebook = CODEBOOK
    mesh.run(5)
    return mesh


def version_of(mesh: Mesh, name: str) -> dict[int, int]:
    """The version that each node holds, where it holds one."""
    agent, found = agent_id(org(0), name), dict[int, int]()
    for number in range(len(mesh.ids)):
        held = mesh.machine(number).record(agent)
        if held is not None:
            found[number] = held.entry.version
    return found


def strange(mesh: Mesh, number: int, names: list[str]) -> list[str]:
    """Those of ``names`` of which this node holds neither record nor the place of the id."""
    layout = mesh.parts[mesh.ids[number]].layout
    found = []
    for name in names:
        agent = agent_id(org(0), name)
        if mesh.machine(number).record(agent) is None and layout.place_of_id(agent) not in layout.mine:
            found.append(name)
    return found


Reply = Callable[[wire.Request], Coroutine[object, object, bytes | None]]


def answers_by(mesh: Mesh, node: NodeId, reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``node`` answer so; None: as it is."""
    flows = mesh.world.nodes[node].core.machine("flows")
    assert isinstance(flows, Flows)

    async def serve(inbound: Inbound) -> bytes:
        answer = await reply(decode_request(inbound.body))
        return await sync.serve(mesh.parts[node], inbound) if answer is None else answer

    monkeypatch.setitem(flows._services, PROTOCOL, serve)


def text(name: str, topic: str) -> Profile:
    return Profile(name, f"{topic}1 {topic}2 {topic}3 about {name.replace(' ', '')}")


def test_a_second_node_goes_on_from_the_version_that_the_first_has_published() -> None:
    mesh = twins()
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    assert strange(mesh, SECOND, NAMES), "the second node holds everything, and tells nothing"
    for _ in range(2):
        mesh.publish(FIRST, *(text(name, "music") for name in NAMES), seconds=3)
    done = mesh.publish(SECOND, *(text(name, "weather") for name in NAMES), seconds=3)
    assert not done.refused and len(done.accepted) == len(NAMES)
    mesh.run(150)  # the first node looks after its own each minute, and must not bring the old version back
    for name in NAMES:
        assert set(version_of(mesh, name).values()) == {4}, name
    found = mesh.discover(3, DiscoverRequest("weather1 weather2 weather3", limit=20))
    assert sorted(names(found)) == sorted(NAMES) and found.complete
    assert all(one.record.version == 4 and one.sealed.signer == mesh.ids[SECOND] for one in found.agents)


def test_a_second_node_withdraws_what_the_first_has_published_and_it_stays_gone() -> None:
    mesh = twins(2)
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    lacking = strange(mesh, SECOND, NAMES)
    assert lacking
    mesh.withdraw(SECOND, *NAMES)
    mesh.run(150)
    for name in NAMES:
        assert version_of(mesh, name) == {}, name
    assert names(mesh.discover(4, DiscoverRequest("chess1 chess2"))) == []
    with pytest.raises(Refused, match="no-such-agent"):
        mesh.withdraw(FIRST, lacking[0])
    mesh.publish(FIRST, text(lacking[0], "chess"), seconds=3)
    assert set(version_of(mesh, lacking[0]).values()) == {3}


def test_where_nobody_who_would_know_can_be_asked_nothing_is_published_or_withdrawn() -> None:
    mesh = twins(3)
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    layout = mesh.parts[mesh.ids[SECOND]].layout
    name = strange(mesh, SECOND, NAMES)[0]
    place = layout.place_of_id(agent_id(org(0), name))
    assert place is not None
    others = [one for one in NAMES if layout.place_of_id(agent_id(org(0), one)) != place]
    mesh.parts[mesh.ids[SECOND]].peers = lambda: [node for node in mesh.ids[:8] if node not in layout.holders[place]]
    done = mesh.publish(SECOND, text(name, "music"), *(text(one, "music") for one in others), seconds=3)
    refused = {error.name for _, error in done.refused}
    assert min(at for at, _ in done.refused) == 0 and refused == {"holders-away"}
    assert agent_id(org(0), name) not in done.accepted and done.accepted
    with pytest.raises(Refused, match="holders-away"):
        mesh.withdraw(SECOND, name)
    assert set(version_of(mesh, name).values()) == {1}


def test_one_that_lapsed_is_published_above_its_last_version() -> None:
    mesh = twins(4, lifetime_s=300)
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    mesh.world.nodes[mesh.ids[FIRST]].crash()
    mesh.run(330)
    lacking = strange(mesh, SECOND, NAMES)
    assert lacking and names(mesh.discover(4, DiscoverRequest("chess1 chess2"))) == []
    mesh.publish(SECOND, *(text(name, "chess") for name in NAMES), seconds=3)
    assert sorted(names(mesh.discover(4, DiscoverRequest("chess1 chess2", limit=20)))) == sorted(NAMES)


def test_what_the_second_node_changed_is_not_renewed_by_the_first() -> None:
    mesh = twins(5, lifetime_s=450)
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    mesh.publish(SECOND, *(text(name, "weather") for name in NAMES[:6]), seconds=3)
    mesh.withdraw(SECOND, *NAMES[6:])
    mesh.run(450 / limits.RENEWALS + 90)
    found = mesh.discover(4, DiscoverRequest("chess1 weather1", limit=20))
    assert sorted(names(found)) == sorted(NAMES[:6])
    assert {one.record.profile.description.split()[0] for one in found.agents} == {"weather1"}


@pytest.mark.parametrize(("claimed", "next_"), [(2**53, 2), (900, 901)])
def test_a_holder_that_makes_up_a_version_neither_uses_up_all_numbers_nor_hides_what_is_signed(
    claimed: int, next_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = twins(6)
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    name = strange(mesh, SECOND, NAMES)[0]
    agent = agent_id(org(0), name)
    layout = mesh.parts[mesh.ids[SECOND]].layout
    place = layout.place_of_id(agent)
    assert place is not None
    liar = layout.holders[place][0]

    async def lie(asked: wire.Request) -> bytes | None:
        if isinstance(asked, AskVersions):
            return wire.encode_versions([claimed] * len(asked.ids), [True] * len(asked.ids))
        if isinstance(asked, AskEntries) and agent in asked.ids:
            return wire.encode_entries([])
        return None

    answers_by(mesh, liar, lie, monkeypatch)
    mesh.publish(SECOND, text(name, "music"), seconds=3)
    mesh.run(10)
    (held,) = {sealed.digest: sealed for number in range(9) if (sealed := mesh.machine(number).record(agent))}.values()
    assert isinstance(held.entry, AgentRecord) and held.entry.version == next_
    assert len(held.entry.was) == 1  # where the first version lay is not forgotten


def test_a_holder_that_is_not_sure_of_the_place_is_not_enough_unless_all_who_may_know_have_answered() -> None:
    mesh = twins(7)
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    name = strange(mesh, SECOND, NAMES)[0]
    layout = mesh.parts[mesh.ids[SECOND]].layout
    place = layout.place_of_id(agent_id(org(0), name))
    assert place is not None
    lacking, *knowing = layout.holders[place]
    mesh.parts[lacking].unsure[place] = frozenset()
    mesh.machine(mesh.ids.index(lacking))._held.drop(agent_id(org(0), name))
    for node in knowing:
        mesh.world.nodes[node].crash()
    mesh.parts[mesh.ids[SECOND]].seen = None  # it has not noticed
    with pytest.raises(Refused, match="holders-away"):
        mesh.withdraw(SECOND, name)
    mesh.parts[mesh.ids[SECOND]].peers = lambda: [node for node in mesh.ids[:8] if node not in knowing]
    with pytest.raises(Refused, match="no-such-agent"):
        mesh.withdraw(SECOND, name)


def test_a_holder_that_hands_over_old_versions_one_at_a_time_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = twins(8)
    mesh.run(150)  # everybody is sure by then
    mesh.publish(FIRST, *(text(name, "chess") for name in NAMES), seconds=3)
    missing = strange(mesh, SECOND, NAMES)
    layout = mesh.parts[mesh.ids[SECOND]].layout
    place = layout.place_of_id(agent_id(org(0), missing[0]))
    assert place is not None
    slow = layout.holders[place][0]

    async def dribble(asked: wire.Request) -> bytes | None:
        if isinstance(asked, AskEntries):
            await Sleep(1.4)
            return wire.encode_entries([])
        if isinstance(asked, AskVersions):
            await Sleep(1.4)
            return wire.encode_versions([900] * len(asked.ids), [True] * len(asked.ids))
        return None

    answers_by(mesh, slow, dribble, monkeypatch)
    monkeypatch.setattr(limits, "IDS_A_PAGE", 1)
    done = mesh.publish(SECOND, *(text(name, "music") for name in NAMES), seconds=limits.NEWEST_S + 2)
    assert len(done.accepted) == len(NAMES)
