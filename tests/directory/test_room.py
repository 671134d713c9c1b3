"""Room for an organisation's records: those stay whose ids come first, what is over it lapses, and whoever floods gets no more of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.ids import AgentId
from meshos.protocols.directory import keeping, limits
from meshos.protocols.directory.commands import Merge, Merged, Publish, ReadDue, Want, Withdraw, item_of
from meshos.protocols.directory.holdings import Caps
from meshos.protocols.directory.machine import Directory
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import Sealed, Tombstone
from tests.directory.test_layout import CODEBOOK, profiles
from tests.directory.test_machine import Alone
from tests.directory.world import NOW_MS, Mesh, org, sealed_record, signed

NAMES = sorted((f"agent {number}" for number in range(6)), key=lambda name: sealed_record(name).entry.agent_id)
"""In the order of their ids."""


def capped(rooms: list[int], node: str = "n7-a") -> Alone:
    """Organisation 0 has room for the last of ``rooms``, the others for any number."""
    alone = Alone(node)
    alone.machine = Directory(alone.node, alone.store, room_of(rooms))
    return alone


def room_of(rooms: list[int]) -> Caps:
    return lambda of: (limits.TOTAL_RECORDS, limits.ORG_RECORDS, rooms[-1] if of == org(0) else None)


def version(name: str, number: int = 1) -> Sealed:
    return sealed_record(name, version=number)


def refused(merged: Merged) -> list[str]:
    return [error.name for _, error in merged.refused]


def held(alone: Alone) -> list[str]:
    """Names of the records of organisation 0, as the index has them too."""
    there = [name for name in NAMES if alone.machine.record(version(name).entry.agent_id) is not None]
    assert alone.machine.records_of(org(0)) == len(there)
    return there


@settings(max_examples=60, deadline=None)
@given(st.permutations(NAMES), st.integers(0, 7))
def test_those_whose_ids_come_first_stay_in_whatever_order_they_came(order: list[str], room: int) -> None:
    alone = capped([room])
    for name in order:
        alone.do(Merge((version(name),)))
    assert held(alone) == NAMES[:room] and len(alone.indexed()) == min(room, 6)
    alone.machine = Directory(alone.node, alone.store, room_of([room]))
    alone.do(ReadDue(1))
    assert held(alone) == NAMES[:room], "after a restart too"


def test_whoever_publishes_without_room_hears_what_to_do_and_loses_nothing() -> None:
    alone = capped([3], "n0-a")
    assert alone.do(Publish(tuple(version(name) for name in NAMES[3:]))).news == 3
    merged: Merged = alone.do(Publish((version(NAMES[0]),)))
    ((_, error),) = merged.refused
    assert error.name == "org-full" and "mesh directory rent" in error.hint
    assert held(alone) == NAMES[3:]
    assert refused(alone.do(Publish((version(NAMES[4], 2),)))) == [], "what it has it may publish anew"
    alone.do(Withdraw((signed(Tombstone(org(0), NAMES[5], 2, NOW_MS), "n0-a"),)))
    assert refused(alone.do(Publish((version(NAMES[0]),)))) == [], "there is room for another once one is withdrawn"


def test_what_is_over_the_room_stays_until_it_lapses_and_is_not_renewed() -> None:
    rooms = [6]
    alone = capped(rooms, "n0-a")
    alone.do(Publish(tuple(version(name) for name in reversed(NAMES))))
    rooms.append(2)
    assert held(alone) == NAMES, "nothing is taken away at once"
    alone.now = limits.TTL_S / 2
    due = [sealed.entry.name for sealed in alone.do(ReadDue(2))]
    assert sorted(due) == sorted(NAMES[:2]), "what will be refused keeps nothing else from being renewed"
    merged: Merged = alone.do(Publish(tuple(version(name, 2) for name in NAMES)))
    assert [place for place, error in merged.refused if error.name == "org-full"] == [2, 3, 4, 5]
    alone.now = limits.TTL_S
    alone.do(ReadDue(2))
    assert held(alone) == NAMES[:2]


def test_room_that_was_rented_again_keeps_what_has_not_lapsed_yet() -> None:
    rooms = [6]
    alone = capped(rooms)
    alone.do(Merge(tuple(version(name) for name in NAMES)))
    rooms += [2, 5]
    assert refused(alone.do(Merge(tuple(version(name, 2) for name in NAMES)))) == ["org-full"]


def test_what_is_over_the_room_can_be_withdrawn_and_gives_its_place_to_what_comes_first() -> None:
    rooms = [5]
    alone = capped(rooms)
    alone.do(Merge(tuple(version(name) for name in NAMES[1:])))
    rooms.append(2)
    alone.do(Merge((signed(Tombstone(org(0), NAMES[4], 2, NOW_MS), "n0-a"),)))
    assert held(alone) == [*NAMES[1:4], NAMES[5]]
    alone.do(Merge((version(NAMES[0]),)))
    assert held(alone) == NAMES[:4], "nothing comes in beside it"


def test_what_did_not_fit_is_not_fetched_again_for_a_minute() -> None:
    alone = capped([1])
    alone.do(Merge((version(NAMES[0]), version(NAMES[1]))))
    wanted = Want((item_of(version(NAMES[1])),))
    assert alone.do(wanted).ids == ()
    alone.now = limits.FULL_S - 0.1
    assert alone.do(wanted).ids == ()
    alone.now = limits.FULL_S
    assert alone.do(wanted).ids == (version(NAMES[1]).entry.agent_id,)


def test_what_has_made_room_for_another_does_not_come_back_for_a_minute_though_that_goes_again() -> None:
    """Its owner could have it be there when a holder is asked what it lists, and gone when it is asked a question (``spotting``)."""
    alone = capped([1])
    alone.do(Merge((version(NAMES[1]),)))
    for number in (1, 3, 5):
        alone.do(Merge((version(NAMES[0], number),)))
        alone.do(Merge((signed(Tombstone(org(0), NAMES[0], number + 1, NOW_MS), "n0-a"),)))
        assert held(alone) == [] and alone.do(Want((item_of(version(NAMES[1])),))).ids == ()
    alone.now = limits.FULL_S
    assert alone.do(Want((item_of(version(NAMES[1])),))).ids == (version(NAMES[1]).entry.agent_id,)


def test_the_room_of_one_is_nothing_to_another() -> None:
    alone = capped([1])
    alone.do(Merge(tuple(sealed_record(name, by=1) for name in NAMES)))
    assert alone.machine.records_of(org(1)) == 6 and alone.machine.records_of(org(2)) == 0


# -- several nodes -----------------------------------------------------------------------------------------------------


def ids_of(mesh: Mesh, number: int, some: list[Profile]) -> list[AgentId]:
    """Which of ``some``, of organisation 0, a node holds."""
    agents = sorted(sealed_record(profile.name).entry.agent_id for profile in some)
    return [agent for agent in agents if mesh.machine(number).record(agent) is not None]


def test_after_a_rent_has_lapsed_all_nodes_come_to_hold_the_same_and_a_new_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TTL_S", 120.0)
    monkeypatch.setattr(keeping, "RENEW_EVERY", 3)
    monkeypatch.setattr(limits, "FULL_S", 10.0)
    rooms, mesh, some = [40], Mesh(3, nodes=4), profiles(40)
    mesh.caps = dict.fromkeys(mesh.ids, room_of(rooms))
    away = mesh.world.nodes[mesh.ids[3]]
    away.crash()
    assert not mesh.publish(0, *some, seconds=10).refused
    rooms.append(10)
    mesh.run(20)
    away.start()
    mesh.run(5)
    assert [len(ids_of(mesh, number, some)) for number in range(4)] == [40, 40, 40, 10]
    kept = ids_of(mesh, 3, some)
    assert kept == ids_of(mesh, 0, some)[:10], "who has just come has those that stay"
    mesh.run(400)
    assert [ids_of(mesh, number, some) for number in range(4)] == [kept] * 4
    rooms.append(12)
    (again, last) = mesh.publish(0, some[0], seconds=5), mesh.publish(0, *some, seconds=5)
    assert len(again.accepted) + len(last.accepted) >= 12 and [len(ids_of(mesh, number, some)) for number in range(4)] == [12] * 4


def test_whoever_floods_without_asking_its_own_node_gets_no_more_room_at_others() -> None:
    mesh, some = Mesh(4, nodes=4), profiles(60)
    mesh.caps = dict.fromkeys(mesh.ids[1:], room_of([10]))
    mesh.publish(0, *some, seconds=10)
    mesh.run(60)
    kept = ids_of(mesh, 0, some)[:10]
    assert len(ids_of(mesh, 0, some)) == 60 and [ids_of(mesh, number, some) for number in (1, 2, 3)] == [kept] * 3


def test_in_cells_an_honest_node_asks_for_no_more_than_its_room_and_no_holder_gives_a_flood_more() -> None:
    mesh, some = Mesh(5, nodes=8), profiles(60)
    mesh.codebook = CODEBOOK
    mesh.caps = dict.fromkeys(mesh.ids, room_of([10]))
    mesh.run(5)
    assert len(mesh.publish(0, *some, seconds=5).accepted) == 10
    mesh.run(30)
    spread = {agent for number in range(8) for agent in ids_of(mesh, number, some)}
    assert spread == set(ids_of(mesh, 0, some)) and len(spread) == 10
    del mesh.caps[mesh.ids[0]]  # from now on it lies to itself
    mesh.publish(0, *some, seconds=5)
    mesh.run(60)
    at_others = [len(ids_of(mesh, number, some)) for number in range(1, 8)]
    assert len(ids_of(mesh, 0, some)) == 60 and max(at_others) == 10, "each of the others takes as much as there is room for, at most"
