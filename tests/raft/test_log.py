"""The log in memory and on disk: like a list, and the same after a restart. What was applied; chunks; a Store that is not as it was."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.raft import receiving
from meshos.consensus.raft.applying import State, founding, read_meta
from meshos.consensus.raft.entries import COMMANDS, make_entry
from meshos.consensus.raft.keys import BASE, HARD, META, PARTIAL, PROPOSED, SESSION, generation_prefix, log_key
from meshos.consensus.raft.limits import MAX_CHUNK_BYTES
from meshos.consensus.raft.log import Log
from meshos.consensus.raft.messages import Chunk
from meshos.consensus.raft.proposals import read_session
from meshos.consensus.raft.raft import read_hard
from meshos.consensus.raft.receiving import Receiver
from meshos.consensus.raft.sending import CHAIN, link, pieces
from meshos.consensus.raft.sessions import Sessions
from meshos.effects import Delete, Put
from meshos.errors import Broken, MeshError, Refused
from meshos.ids import NodeId
from meshos.simulations.raft.registers import Registers
from meshos.storage.limits import MAX_KEY_BYTES
from tests.raft.cluster import Disk

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3), st.integers(0, 1)),
        st.tuples(st.just("truncate"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("cut"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("restart"), st.integers(1, 5), st.just(0)),
        st.tuples(st.just("open"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([1, 60, 1 << 20]))
def test_like_a_list(steps: list[tuple[str, int, int]], cached_bytes: int) -> None:
    """``expected`` holds (term, data) of the entries after ``base``; what is cached makes no difference."""
    disk = Disk()
    log = Log(disk, cached_bytes=cached_bytes)
    base, base_term, term, number = 0, 0, 1, 0
    expected: list[tuple[int, bytes]] = []
    for step, count, more in steps:
        if step == "append":
            term += more
            for _ in range(count):
                number += 1
                expected.append((term, b"%d" % number))
                log.append([make_entry(base + len(expected), term, COMMANDS, expected[-1][1])])
        elif step == "truncate":
            index = max(base + 1, log.last - count + 1)
            log.truncate(index)
            del expected[index - base - 1 :]
        elif step == "cut" and expected:
            disk.begin(log.take_writes())
            count = min(count, len(expected))
            if count:
                base_term = expected[count - 1][0]
                disk.begin(log.cut(base + count))
                base, expected = base + count, expected[count:]
        elif step == "restart":
            base, base_term, expected = log.last + count, term, []
            disk.begin(log.restart(base, base_term))
        disk.begin(log.take_writes())
        if step == "open":
            log = Log(disk, cached_bytes=cached_bytes)
        assert (log.base, log.base_term, log.last) == (base, base_term, base + len(expected))
        assert [(each.term, each.data) for each in log.entries(log.first, log.last, 1 << 30)] == expected
        assert [log.term(base + place) for place in range(1, len(expected) + 1)] == [each for each, _ in expected]
        assert log.term(base) == base_term and log.term(base - 1) is None and log.term(log.last + 1) is None
        assert log.bytes == sum(len(each.raw) for each in log.entries(log.first, log.last, 1 << 30))
    reopened = Log(disk, cached_bytes=1)
    assert [(each.term, each.data) for each in reopened.entries(reopened.first, reopened.last, 1 << 30)] == expected
    assert sum(1 for _ in disk.scan(b"raft/log/")) == len(expected), "nothing else is left on the disk"


def test_entries_are_given_up_to_a_size_but_at_least_one() -> None:
    log = Log(Disk(), cached_bytes=1 << 20)
    log.append([make_entry(index, 1, COMMANDS, bytes(100)) for index in range(1, 6)])
    assert [each.index for each in log.entries(2, 5, 250)] == [2, 3]
    assert [each.index for each in log.entries(2, 5, 1)] == [2]
    assert log.entries(6, 9, 1000) == []


def broken(read: Callable[[], object]) -> str:
    with pytest.raises(MeshError) as caught:
        read()
    return caught.value.name


def test_a_log_with_a_gap_or_with_terms_that_fall_is_not_used() -> None:
    for entries in ([(1, 1), (3, 1)], [(1, 2), (2, 1)], [(2, 1)]):
        disk = Disk()
        disk.begin([Put(log_key(index), make_entry(index, term, COMMANDS, b"").raw) for index, term in entries])
        assert broken(lambda disk=disk: Log(disk, cached_bytes=1)) == "raft-log-broken"  # type: ignore[misc]
    disk = Disk()
    log = Log(disk, cached_bytes=1)
    log.append([make_entry(index, 1, COMMANDS, b"") for index in range(1, 5)])
    disk.begin([*log.take_writes(), Delete(log_key(2))])
    assert broken(lambda: log.entry(2)) == "raft-log-broken"


@pytest.mark.parametrize("value", [b"", b"x", cbor.encode([]), cbor.encode([1]), cbor.encode([-1, 1]), cbor.encode(["1", 1])])
def test_what_cannot_be_read_is_not_guessed(value: bytes) -> None:
    prefix = generation_prefix(0)
    for key, read in (
        (BASE, lambda disk: Log(disk, cached_bytes=1)),
        (HARD, read_hard),
        (SESSION, read_session),
        (PARTIAL, Receiver),
        (prefix + META, lambda disk: State(disk, Registers())),
        (PROPOSED + b"n1", Sessions),
    ):
        disk = Disk()
        disk.begin([Put(key, value)])
        assert broken(lambda read=read, disk=disk: read(disk)) in ("raft-log-broken", "bad-encoding")  # type: ignore[misc]


def test_a_group_is_founded_at_the_same_place_everywhere() -> None:
    disk = Disk()
    disk.begin(founding([NodeId("n1"), NodeId("n2")]))
    state, log = State(disk, Registers()), Log(disk, cached_bytes=1)
    assert (state.index, state.term) == (log.base, log.base_term) == (1, 1)
    assert state.configuration.voters == {NodeId("n1"), NodeId("n2")}
    with pytest.raises(Broken):
        read_meta(cbor.encode([1, 2, 3, 4]))


# -- sessions ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(1, 12)), max_size=30), st.booleans())
def test_a_proposal_is_applied_once_and_none_of_an_earlier_life(steps: list[tuple[int, int, int]], reopen: bool) -> None:
    """By the definition: applied are the numbers that were, and those that the proposer has settled; and every earlier session."""
    disk, node = Disk(), NodeId("n1")
    sessions = Sessions(disk)
    newest, floor = 0, 0
    applied: set[int] = set()
    for index, (session, settled, number) in enumerate(steps):
        if session > newest:
            newest, floor, applied = session, 0, set()
        if session == newest:
            floor = max(floor, settled)
        sessions.begin(node, session, settled, index)
        known = session < newest or number <= floor or number in applied
        assert sessions.applied(node, session, number) == known
        if not known:
            sessions.apply(node, number)
            applied.add(number)
        disk.begin(sessions.take_writes())
        if reopen:
            sessions = Sessions(disk)


# -- chunks -----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.binary(min_size=1, max_size=8), st.integers(0, 5000), max_size=12), st.sampled_from([2048, 4096]))
def test_a_state_is_the_same_after_it_was_sent_in_chunks(state: dict[bytes, int], size: int) -> None:
    """Whatever its values' sizes: small ones share a chunk, large ones span several."""
    source, target = Disk(), Disk()
    source.begin([Put(generation_prefix(3) + key, bytes(length)) for key, length in state.items()])
    receiver = Receiver(target)
    chain = CHAIN
    for number, (data, last) in enumerate(pieces(source, generation_prefix(3), size)):  # type: ignore[arg-type]
        assert len(data) <= size
        chain = link(chain, data)
        sent = Chunk(1, 9, 1, number, last, chain, data)
        if not number:
            receiver.begin(sent, 5)
        target.begin(receiver.take(sent))
        assert receiver.take(sent) == [], "a chunk that comes twice"
        receiver = Receiver(target)
    assert receiver.partial is not None and receiver.partial.done
    assert {key[5:]: len(value) for key, value in target.scan(generation_prefix(5))} == state


def chunk(data: bytes, number: int = 0, chain: bytes = CHAIN) -> Chunk:
    """One of a state that is being sent, rightly chained to those before it."""
    return Chunk(1, 9, 1, number, False, link(chain, data), data)


GOOD = chunk(cbor.encode([[b"key", b"value", False], [b"more", b"begins", True]]))


@pytest.mark.parametrize(
    ("lie", "name"),
    [
        (replace(GOOD, data=GOOD.data[:-1] + b"\xf4"), "bad-raft-message"),
        (replace(GOOD, chain=bytes(32)), "bad-raft-message"),
        (chunk(GOOD.data[:-1]), "bad-encoding"),
        (chunk(bytes(MAX_CHUNK_BYTES + 1)), "too-large"),
        (chunk(cbor.encode({"key": b"value"})), "bad-raft-message"),
        (chunk(cbor.encode([b"key"])), "bad-raft-message"),
        (chunk(cbor.encode([[b"key", b"value"]])), "bad-raft-message"),
        (chunk(cbor.encode([["key", b"value", False]])), "bad-raft-message"),
        (chunk(cbor.encode([[b"k" * (MAX_KEY_BYTES + 1), b"value", False]])), "bad-raft-message"),
        (chunk(cbor.encode([[b"key", 7, False]])), "bad-raft-message"),
        (chunk(cbor.encode([[b"key", b"value", 0]])), "bad-raft-message"),
    ],
)
def test_a_chunk_that_lies_is_refused_by_name_and_nothing_of_it_is_kept(lie: Chunk, name: str) -> None:
    receiver = Receiver(Disk())
    receiver.begin(lie, 5)
    before = receiver.partial
    with pytest.raises(Refused) as caught:
        receiver.take(lie)
    assert caught.value.name == name and receiver.partial == before
    assert receiver.take(GOOD), "the right one is taken after it"


def test_a_chunk_goes_on_with_the_value_before_it_and_with_no_other_or_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver(Disk())
    receiver.begin(GOOD, 5)
    receiver.take(GOOD)
    other = chunk(cbor.encode([[b"other", b"!", False]]), 1, GOOD.chain)
    with pytest.raises(Refused, match="bad-raft-message"):
        receiver.take(other)
    monkeypatch.setattr(receiving, "MAX_STATE_VALUE_BYTES", 9)
    with pytest.raises(Refused, match="bad-raft-message"):
        receiver.take(chunk(cbor.encode([[b"more", b"!" * 4, False]]), 1, GOOD.chain))
    (written, _) = receiver.take(chunk(cbor.encode([[b"more", b"!" * 3, False]]), 1, GOOD.chain))
    assert written == Put(generation_prefix(5) + b"more", b"begins!!!")
