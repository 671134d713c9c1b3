"""A recorded node, replayed: the same machines given the same do the same, from the beginning and from any later segment."""

from collections.abc import Iterator

import pytest

from meshos.consensus.ledger.nodes import KEPT
from meshos.consensus.org import replicated
from meshos.consensus.org.machine import OrgMachine
from meshos.consensus.org.state import apply
from meshos.ids import NodeId
from meshos.node.kernel.payments import STORED as PAYMENTS
from meshos.node.runtime.recorder import graph
from meshos.node.runtime.recorder.entries import Entry, Gap, Head, Read, State, Step
from meshos.node.runtime.recorder.limits import AGAIN_SEGMENTS, INLINE_BYTES
from meshos.protocols.membership.table import Table
from meshos.protocols.rpc.events import MessageReceived, Request
from meshos.simulations.flight import Flight, Replay, Seen
from meshos.simulations.mesh import CHECKPOINT_INTERVAL
from tests.recorder.recorded import Memory, Recorded

N1, N2 = NodeId("n001"), NodeId("n002")
MACHINES = {"rpc", "membership", "org", "pbft", "directory", "receipts", "kernel", "gossip", "relay", *PAYMENTS, "registrar"}
LOOKING = {"earning", "registrar"}
"""They look at the state of the machine org."""


@pytest.fixture(scope="module", autouse=True)
def _memory_spares_no_reads() -> Iterator[None]:
    """As in a node that records."""
    KEPT.spares_reads = False
    yield
    KEPT.spares_reads = True


@pytest.fixture(scope="module")
def recorded(_memory_spares_no_reads: None) -> Recorded:
    """Three nodes that call and pay each other; one is killed and comes again."""
    mesh = Recorded(3, segment_entries=1200)
    mesh.run(16)
    mesh.world.nodes[N2].crash()
    mesh.world.run(18)
    mesh.run(26)
    assert mesh.transferred > 30 and mesh.mesh.assemblies[N2].ledger.statistics()["height"] > 2 * CHECKPOINT_INTERVAL
    return mesh


def replay(recorded: Recorded, entries: Iterator[Entry]) -> Flight:
    KEPT.clear()  # as in another process
    return Replay(recorded.build).run(entries)


def steps_of(entries: Iterator[Entry]) -> int:
    return sum(isinstance(entry, Step) for entry in entries)


def test_every_step_of_every_life_is_as_it_was(recorded: Recorded) -> None:
    assert len(recorded.memories[N2]) == 2, "a life and another"
    for node, memories in recorded.memories.items():
        for memory in memories:
            flight = replay(recorded, memory.entries())
            assert (flight.differences, flight.blind, flight.crashes, flight.skipped) == ([], {}, [], {}), node
            assert sum(flight.same.values()) == steps_of(memory.entries()) > 150 and set(flight.same) <= MACHINES


def test_a_replay_may_begin_at_any_segment(recorded: Recorded) -> None:
    (memory,) = recorded.memories[N1]
    assert len(memory.segments) > 2
    for first in range(1, len(memory.segments)):
        flight = replay(recorded, memory.entries(first))
        assert (flight.differences, flight.blind, flight.skipped) == ([], {}, {}), first
        assert sum(flight.same.values()) == steps_of(memory.entries(first))


def test_two_lives_follow_each_other_in_one_recording(recorded: Recorded) -> None:
    first, second = recorded.memories[N2]
    flight = replay(recorded, iter([*first.entries(), *second.entries()]))
    assert flight.lives == 2 and not flight.differences and flight.segments == len(first.segments) + len(second.segments)
    assert 16 < flight.seconds < 26


def test_a_segment_that_is_missing_is_no_reason_for_a_difference(recorded: Recorded) -> None:
    (memory,) = recorded.memories[N1]
    kept = Memory(0)
    kept.segments = [memory.segments[0], *memory.segments[2:]]
    flight = replay(recorded, kept.entries())
    assert not flight.differences and not flight.blind and flight.lives == 1


def test_another_machine_is_named_with_the_step(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deliberately patched one: a second outcome overrides the first."""
    (memory,) = recorded.memories[N1]

    def late(view: object, command: object, at_ms: int) -> object:
        return apply(view, command, at_ms + 1)  # type: ignore[arg-type]

    monkeypatch.setattr(replicated, "apply", late)
    seen: list[Seen] = []
    flight = Replay(recorded.build, seen.append).run(memory.entries())
    found = flight.differences[0]
    assert {one.machine for one in flight.differences} == {"org"}, "each segment says how it stood, and it goes astray again"
    assert "effects are not" in found.why
    assert seen[found.step - 1].event is found.event and seen[found.step - 1].effects == found.effects
    assert {machine: flight.same[machine] for machine in flight.same if machine != "org"}, "the others are followed to the end"
    assert set(flight.blind) <= LOOKING and flight.skipped.keys() <= {"org", *LOOKING}


def test_a_machine_that_reads_something_else_is_named(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    (memory,) = recorded.memories[N1]
    step = OrgMachine.step

    def reads(self: OrgMachine, now: float, event: object) -> list[object]:
        self.replica._view.get(b"never read")
        return step(self, now, event)

    monkeypatch.setattr(OrgMachine, "step", reads)
    flight = replay(recorded, memory.entries())
    assert {found.machine for found in flight.differences} == {"org"}
    assert "Astray" in flight.differences[0].why and "never read" in flight.differences[0].why


def test_a_machine_that_draws_once_more_is_named(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    (memory,) = recorded.memories[N1]
    judge = Table.judge

    def draws(self: Table, said: object) -> object:
        self.ring._rng.random()
        return judge(self, said)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "judge", draws)
    flight = replay(recorded, memory.entries())
    assert {found.machine for found in flight.differences} == {"membership"}, "chance is set again at each step of the others"


def test_the_error_that_ended_a_node_comes_again() -> None:
    mesh = Recorded(4, nodes=2)
    mesh.run(6)
    node = mesh.world.nodes[N1]
    with pytest.raises(TypeError):
        node.deliver("org", ["no event"])
    (memory,) = mesh.memories[N1]
    flight = replay(mesh, memory.entries())
    (crash,) = flight.crashes
    assert crash.machine == "org" and crash.step == steps_of(memory.entries()) and "no event" in crash.why and not flight.differences


def test_a_long_body_is_followed_as_far_as_nobody_looks_into_it() -> None:
    mesh = Recorded(5, nodes=2)
    mesh.run(6)
    node, peer = mesh.world.nodes[N1], mesh.world.peer(N2)
    node.deliver("rpc", MessageReceived(peer, Request(b"i" * 16, "/meshos/nothing/1", b"x" * (INLINE_BYTES + 1), 1000)))
    mesh.run(9)
    flight = replay(mesh, mesh.memories[N1][0].entries())
    assert not flight.differences and not flight.blind, "rpc carries bodies and reads none"


def test_a_step_that_could_not_be_written_leaves_its_machine_blind_until_the_next_segment(recorded: Recorded) -> None:
    (memory,) = recorded.memories[N1]
    entries: list[Entry] = []
    for entry in memory.entries():
        lost = isinstance(entry, Step) and entry.machine == "org" and not any(isinstance(before, Gap) for before in entries)
        assert isinstance(entry, Step | Entry)
        entries.append(Gap(entry.now, "org", "Perform", "a test", entry.drawn) if lost and isinstance(entry, Step) else entry)
    flight = replay(recorded, iter(entries))
    assert not flight.differences and flight.skipped["org"] > 1 and flight.same["org"] > 10 and not flight.blind
    begun = sum(isinstance(entry, Head) for entry in entries)
    cut = next(place for place, entry in enumerate(entries) if isinstance(entry, Head) and entry.number == 1)
    assert begun > 1 and replay(recorded, iter(entries[:cut])).blind.keys() == {"org", *LOOKING}


def test_a_machine_that_is_too_large_to_be_written_is_followed_from_the_beginning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_OBJECTS", 200)
    mesh = Recorded(6, nodes=2, segment_entries=600)
    mesh.run(13)
    (memory,) = mesh.memories[N1]
    assert len(memory.segments) > 2
    whole, late = replay(mesh, memory.entries()), replay(mesh, memory.entries(1))
    assert not whole.differences and not whole.blind and not whole.skipped
    assert not late.differences and set(late.blind) == {"directory"} and late.skipped["directory"] and late.same["org"]


def test_a_machine_that_was_too_large_for_a_while_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_OBJECTS", 200)
    mesh = Recorded(6, nodes=2, segment_entries=100, every_s=0.5)
    mesh.run(6)
    (memory,) = mesh.memories[N1]
    large = len(memory.segments)
    monkeypatch.undo()
    mesh.run(8)

    def has_directory(segment: int) -> bool:
        return any(isinstance(entry, State) and entry.machine == "directory" for entry in memory.entries(segment, segment + 1))

    assert large > 2 and not has_directory(large - 1) and has_directory(large + AGAIN_SEGMENTS)
    flight = replay(mesh, memory.entries(large + AGAIN_SEGMENTS))
    assert not flight.differences and not flight.blind and flight.same["directory"]


def test_a_machine_whose_beginning_is_missing_is_blind_and_the_others_are_not(recorded: Recorded) -> None:
    (memory,) = recorded.memories[N1]
    head = next(iter(memory.entries()))
    assert isinstance(head, Head)
    entries: list[Entry] = []
    for entry in memory.entries():
        if isinstance(entry, Read):
            space = head.views.index("directory")
            entries.append(Gap(0.0, "directory", "its beginning", "it read too much", 0))
            entry = Read(tuple(note for note in entry.notes if note[1] != space))
        entries.append(entry)
    cut = next(place for place, entry in enumerate(entries) if isinstance(entry, Head) and entry.number == 1)
    flight = replay(recorded, iter(entries[:cut]))
    assert not flight.differences and set(flight.blind) == {"directory"} and flight.same["org"] and "directory" not in flight.same


def test_until_ends_it(recorded: Recorded) -> None:
    (memory,) = recorded.memories[N1]
    flight = Replay(recorded.build).run(memory.entries(), 10.0)
    assert 0 < flight.steps < steps_of(memory.entries()) and not flight.differences


def test_every_later_segment_says_how_each_machine_stands(recorded: Recorded) -> None:
    (memory,) = recorded.memories[N1]
    for first in range(1, len(memory.segments)):
        states = [entry.machine for entry in memory.entries(first) if isinstance(entry, State)]
        assert set(states) == MACHINES
