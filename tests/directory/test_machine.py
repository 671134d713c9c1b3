"""The directory machine alone: merging in any order ends alike, bounds hold, and nothing is answered before it is written."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.effects import Completed, Err, Ok, Persist, Tell, Tick
from meshos.flow import Propose
from meshos.flow_machine import Perform
from meshos.ids import AgentId
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import (
    Arrange,
    Digest,
    Disown,
    Find,
    Held,
    IndexChanged,
    Items,
    Judge,
    Merge,
    Merged,
    Place,
    Placed,
    Publish,
    Read,
    ReadDigest,
    ReadDue,
    ReadItems,
    ReadPlaces,
    ReadUnplaced,
    Want,
    Wanted,
    item_of,
)
from meshos.protocols.directory.machine import Directory
from meshos.protocols.directory.record import Sealed, Tombstone
from meshos.storage.memory import MemoryStore
from tests.directory.world import NOW_MS, org, record, sealed_record, signed


class Alone:
    """One machine on a disk in memory."""

    def __init__(self, node: str = "n7-a") -> None:
        self.store = MemoryStore(random.Random(1))
        self.node = node
        self.machine = Directory(node, self.store)
        self.now = 0.0
        self.changes: list[IndexChanged] = []
        self.last: list[object] = []

    def do(self, command: object) -> Any:
        self.last = self.machine.step(self.now, Perform(1, Propose(command, "directory"), None, "test"))
        answer = None
        for effect in self.last:
            if isinstance(effect, Persist):
                self.store.write(effect.writes)
            elif isinstance(effect, IndexChanged):
                self.changes.append(effect)
            elif isinstance(effect, Tell) and isinstance(effect.event, Completed):
                answer = effect.event.outcome
        if isinstance(answer, Err):
            raise answer.error
        assert isinstance(answer, Ok)
        return answer.value

    def indexed(self) -> set[str]:
        held: dict[str, Sealed] = {}
        for change in self.changes:
            for agent in change.drop:
                held.pop(agent, None)
            held |= {sealed.entry.agent_id: sealed for sealed in change.put}
        return {sealed.digest.hex() for sealed in held.values()}


def entry(agent: int, version: int, dead: bool, by: int) -> Sealed:
    if dead:
        return signed(Tombstone(org(by), f"agent {agent}", version, NOW_MS), f"n{by}-a")
    return sealed_record(f"agent {agent}", by=by, version=version, text=f"text {version % 2}")


entries = st.lists(st.builds(entry, st.integers(0, 3), st.integers(1, 3), st.booleans(), st.integers(0, 1)), max_size=12)


@given(entries, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_and_repetition_of_merges_make_no_difference(found: list[Sealed], shuffle: random.Random) -> None:
    one, other = Alone(), Alone()
    one.do(Merge(tuple(found)))
    mixed = found + found[: len(found) // 2]
    shuffle.shuffle(mixed)
    for sealed in mixed:
        other.do(Merge((sealed,)))
    assert one.do(ReadDigest(tuple(range(256)))) == other.do(ReadDigest(tuple(range(256))))
    assert one.indexed() == other.indexed()
    again = Alone()
    again.store = one.store
    again.machine = Directory(again.node, one.store)  # a restart
    assert again.do(ReadDigest(tuple(range(256)))) == one.do(ReadDigest(tuple(range(256)))) and again.indexed() == one.indexed()


def test_it_is_written_before_it_is_answered_or_indexed() -> None:
    alone = Alone()
    alone.do(Merge((sealed_record(),)))
    assert [type(effect).__name__ for effect in alone.last[:2]] == ["Persist", "IndexChanged"]


def test_a_replayed_older_version_changes_nothing() -> None:
    alone = Alone()
    alone.do(Merge((sealed_record(version=2),)))
    before: Digest = alone.do(ReadDigest(tuple(range(256))))
    assert alone.do(Merge((sealed_record(version=1),))) == Merged(0)
    assert alone.do(ReadDigest(tuple(range(256)))) == before and not any(isinstance(effect, Persist) for effect in alone.last)


def test_publishing_an_old_version_of_ones_own_is_told() -> None:
    alone = Alone("n0-a")
    alone.do(Publish((sealed_record(version=2),)))
    merged: Merged = alone.do(Publish((sealed_record(version=1),)))
    assert [(place, error.name) for place, error in merged.refused] == [(0, "old-version")]


def test_only_what_is_missing_or_newer_is_wanted() -> None:
    alone = Alone()
    held, newer, strange = sealed_record("a"), sealed_record("b", version=2), sealed_record("c")
    alone.do(Merge((held, sealed_record("b"))))
    wanted: Wanted = alone.do(Want(tuple(map(item_of, (held, newer, strange)))))
    assert wanted.ids == (newer.entry.agent_id, strange.entry.agent_id)


def test_pages_are_bounded_and_lead_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ITEMS_A_PAGE", 7)
    alone = Alone()
    all_ = {sealed.entry.agent_id: sealed for sealed in (sealed_record(f"agent {number}") for number in range(30))}
    alone.do(Merge(tuple(all_.values())))
    after, seen = "", []
    more = True
    while more:
        page: Items = alone.do(ReadItems(tuple(range(256)), after))
        assert len(page.items) <= 7
        seen += [item.id for item in page.items]
        more, after = page.more, seen[-1]
    assert seen == sorted(all_)
    some: tuple[bytes, ...] = alone.do(Read(tuple(seen), 3000))
    assert 1 <= len(some) < 30 and sum(map(len, some)) <= 3000
    assert len(alone.do(Read(tuple(seen), 1))) == 1  # one always fits, or a large record could never travel


def test_an_organisation_cannot_fill_the_directory_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ORG_RECORDS", 5), ("TOTAL_RECORDS", 8), ("ORG_SURE", 2), ("ORG_ENTRIES", 7)):
        monkeypatch.setattr(limits, name, value)
    alone = Alone()

    def publish(by: int, count: int) -> list[str]:
        merged: Merged = alone.do(Merge(tuple(sealed_record(f"agent {number}", by=by) for number in range(count))))
        return [error.name for _, error in merged.refused]

    assert publish(0, 7) == ["org-full"] * 2
    assert publish(1, 5) == ["directory-full"] * 2
    assert publish(2, 3) == ["directory-full"]  # two are sure
    assert alone.machine.statistics()["records"] == 10
    update: Merged = alone.do(Merge((sealed_record("agent 0", by=0, version=2),)))
    assert update == Merged(1)  # who has a record may renew it
    for number in range(2):
        alone.do(Merge((signed(Tombstone(org(0), f"agent {number}", 3, NOW_MS), "n0-a"),)))
    strangers = tuple(signed(Tombstone(org(0), f"never {number}", 3, NOW_MS), "n0-a") for number in range(5))
    merged = alone.do(Merge(strangers))
    assert [error.name for _, error in merged.refused] == ["org-full"] * 3  # five entries of seven were there already


def test_the_mesh_decides_how_many_records_are_held_within_a_nodes_own_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ORG_RECORDS", 5), ("TOTAL_RECORDS", 8), ("ORG_SURE", 2)):
        monkeypatch.setattr(limits, name, value)
    alone, caps = Alone(), [(8, 3)]
    alone.machine = Directory(alone.node, alone.store, lambda _: (*caps[-1], None))

    def publish(by: int, count: int) -> list[str]:
        merged: Merged = alone.do(Merge(tuple(sealed_record(f"agent {number}", by=by) for number in range(count))))
        return [error.name for _, error in merged.refused]

    assert publish(0, 4) == ["org-full"]
    caps.append((1_000_000, 1_000_000))
    assert publish(0, 7) == ["org-full"] * 2, "what a node has room for stays its own"
    caps.append((5, 4))
    assert publish(1, 4) == ["directory-full"] * 2 and alone.machine.statistics()["records"] == 7, "what is held stays"


def test_the_mesh_decides_how_long_records_live_and_a_shorter_life_is_for_what_comes_then() -> None:
    alone, lifetimes = Alone(), [60.0]
    alone.machine = Directory(alone.node, alone.store, lifetime=lambda: lifetimes[-1])

    def held_at(now: float) -> int:
        alone.now = now
        alone.do(ReadDigest(tuple(range(256))))
        return alone.machine.statistics()["records"]

    alone.do(Merge((sealed_record("first"),)))
    assert (held_at(59.0), alone.machine.deadline()) == (1, 60.0)
    lifetimes.append(100.0)
    assert (held_at(60.0), alone.machine.deadline()) == (1, 100.0), "it lives longer, though it was received before"
    lifetimes.append(30.0)
    alone.do(Merge((sealed_record("second"),)))
    assert held_at(89.0) == 2 and held_at(90.0) == 1, "what is received now lives shorter"
    assert held_at(99.0) == 1 and held_at(100.0) == 0
    assert alone.machine.statistics()["entries"] == 2, "their marks"
    assert held_at(190.0) == 0 and alone.machine.statistics()["entries"] == 0, "three lifetimes"


def test_an_owner_renews_at_a_third_of_the_lifetime_that_the_mesh_wants() -> None:
    alone, lifetimes = Alone("n0-a"), [limits.TTL_S]
    alone.machine = Directory(alone.node, alone.store, lifetime=lambda: lifetimes[-1])
    alone.do(Publish((sealed_record("agent", by=0),)))
    alone.now = 1_000.0
    assert alone.do(ReadDue(9)) == ()
    lifetimes.append(3_000.0)
    assert len(alone.do(ReadDue(9))) == 1


def test_a_condemned_version_is_not_taken_again_but_a_later_one_is() -> None:
    alone = Alone()
    cheat = sealed_record(forged=True)
    alone.do(Merge((cheat,)))
    alone.do(Judge((), (item_of(cheat),)))
    assert alone.do(Want((item_of(cheat),))) == Wanted((), frozenset())
    assert alone.do(Merge((cheat,))) == Merged(0) and not alone.indexed()
    found: tuple[Held | None, ...] = alone.do(Find((cheat.entry.agent_id,)))
    assert found == (Held(1, True, None),)
    assert alone.do(Merge((sealed_record(version=2),))) == Merged(1)


def test_who_cheats_too_often_is_refused_for_an_hour_and_keeps_what_was_taken_in_before() -> None:
    alone = Alone()
    before, later, other = sealed_record("before"), sealed_record("later"), sealed_record("other", by=1)
    alone.do(Merge((before,), frozenset({before.digest})))
    cheats = [sealed_record(f"cheat {number}", forged=True) for number in range(limits.CHEATS_TOLERATED + 1)]
    for cheat in cheats[:-1]:
        assert alone.do(Judge((), (), (org(0),), (cheat.digest,))) == frozenset()
    assert alone.do(Judge((), (), (org(0),), (cheats[-1].digest,))) == {org(0)}
    merged: Merged = alone.do(Merge((later, other)))
    assert [(place, error.name) for place, error in merged.refused] == [(0, "publisher-refused")] and merged.news == 1
    assert alone.machine.statistics()["records"] == 2
    assert alone.do(Merge((signed(Tombstone(org(0), "before", 2, NOW_MS), "n0-a"),))) == Merged(1)
    asked = tuple(map(item_of, (cheats[0], later)))
    assert alone.do(Want(asked)) == Wanted((later.entry.agent_id,), frozenset({org(0)}))
    alone.now += limits.REFUSED_S
    assert alone.do(Want(asked)) == Wanted(tuple(item.id for item in asked), frozenset())
    assert alone.do(Merge((later,))) == Merged(1)
    assert alone.do(Judge((), (), (org(0),))) == {org(0)}, "one more, and it is refused again"


def test_refused_records_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED_REFUSALS", 2)
    alone = Alone()
    found = [sealed_record(f"agent {number}") for number in range(3)]
    alone.do(Judge((), (), (), tuple(sealed.digest for sealed in found)))
    wanted: Wanted = alone.do(Want(tuple(map(item_of, found))))
    assert wanted.ids == (found[0].entry.agent_id,)


def test_a_judgement_of_a_version_that_was_replaced_does_not_touch_the_new_one() -> None:
    alone = Alone()
    old, new = sealed_record(version=1), sealed_record(version=2)
    alone.do(Merge((new,)))
    alone.do(Judge((), (item_of(old),)))
    assert alone.machine.statistics()["records"] == 1


def test_what_it_does_not_know_is_a_bug_and_not_an_answer() -> None:
    with pytest.raises(TypeError):
        Alone().do("a string")
    with pytest.raises(TypeError):
        Alone().machine.step(0.0, "a string")


def test_an_unknown_agent_is_none() -> None:
    assert Alone().do(Find((AgentId("a-0000000000000000"),))) == (None,)


def test_what_a_revoked_node_signed_is_forgotten_and_its_organisation_may_begin_again_below() -> None:
    alone = Alone()
    thiefs, other = sealed_record("clock", version=limits.MAX_NUMBER), sealed_record("bell", version=1)
    buried = signed(Tombstone(org(0), "horn", limits.MAX_NUMBER, NOW_MS), "n0-a")
    alone.do(Merge((thiefs, other, buried)))
    stale = item_of(sealed_record("bell", version=2))
    alone.do(Disown((item_of(thiefs), item_of(buried), stale)))
    assert alone.indexed() == {other.digest.hex()} and len(list(alone.store.scan(b"e/"))) == 1, "it is still found, or stored"
    assert alone.do(Want((item_of(thiefs),))).ids == (thiefs.entry.agent_id,), "no mark of it stays"
    again = signed(record("clock", version=1), "n0-b")
    assert alone.do(Merge((again, signed(record("horn", version=1), "n0-b")))).news == 2
    assert again.digest.hex() in alone.indexed()
    after = Directory(alone.node, alone.store)
    after.step(0.0, Tick())
    assert after.statistics()["records"] == 3


def test_what_this_node_signed_before_its_certificate_was_replaced_is_renewed() -> None:
    alone = Alone("n0-a")
    mine = sealed_record("clock")
    alone.do(Publish((mine,)))
    assert alone.do(ReadDue(9)) == ()
    alone.do(Disown((item_of(mine),)))
    assert alone.do(ReadDue(9)) == (mine,) and alone.indexed() == {mine.digest.hex()}


def test_what_is_yet_to_be_placed_is_so_after_a_crash_too_and_a_whole_directory_forgets_places() -> None:
    alone = Alone()
    sealed = sealed_record("clock")
    alone.do(Merge((sealed,)))
    alone.do(Arrange(b"l" * 16, (Placed(sealed.entry.agent_id, sealed.digest, (3, 900)),)))
    assert alone.do(ReadPlaces()) == (3, 900)
    alone.do(Arrange(b"m" * 16))
    alone.machine = Directory(alone.node, alone.store)  # a restart
    assert alone.do(ReadPlaces()) == () and [one.digest for one in alone.do(ReadUnplaced(5))] == [sealed.digest]
    assert alone.do(Place(b"m" * 16, (Placed(sealed.entry.agent_id, sealed.digest, (7, 901)),)))
    alone.machine = Directory(alone.node, alone.store)
    assert alone.do(ReadPlaces()) == (7, 901) and not alone.do(ReadUnplaced(5))
    alone.do(Arrange(b""))
    alone.machine = Directory(alone.node, alone.store)
    assert len(alone.do(ReadPlaces())) == 1 and alone.do(ReadPlaces())[0] < 256
