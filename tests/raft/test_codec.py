"""Messages, entries and batches as bytes: the same value back, and a named refusal for everything else."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.raft import codec
from meshos.consensus.raft import messages as m
from meshos.consensus.raft.batch import Proposed, decode_batch, encode_batch, packed
from meshos.consensus.raft.entries import COMMANDS, CONFIGURATION, Entry, make_entry, read_entry
from meshos.consensus.raft.limits import MAX_CAST_BYTES, MAX_CHUNK_BYTES, MAX_COMMAND_BYTES, MAX_COMMANDS, MAX_ENTRIES, MAX_ENTRY_BYTES
from meshos.errors import Refused
from meshos.ids import NodeId

N = st.integers(0, 2**63 - 1)
B = st.booleans()
DATA = st.binary(max_size=64)
HASH = st.binary(min_size=32, max_size=32)


@st.composite
def appends(draw: st.DrawFn) -> m.Append:
    index, term = draw(st.integers(0, 2**40)), draw(st.integers(0, 100))
    entries, before = [], term
    for place in range(draw(st.integers(0, 5))):
        before = draw(st.integers(before, 200))
        entries.append(make_entry(index + 1 + place, before, draw(st.sampled_from([COMMANDS, CONFIGURATION])), draw(DATA)))
    return m.Append(draw(st.integers(before, 2**63 - 1)), index, term, draw(N), draw(N), tuple(entries))


PROPOSALS = st.lists(st.tuples(N, DATA), min_size=1, max_size=5).map(tuple)
MESSAGES: st.SearchStrategy[m.Message] = st.one_of(
    st.builds(m.PreVote, N, N, N),
    st.builds(m.PreVoteReply, N, B),
    st.builds(m.Vote, N, N, N, B),
    st.builds(m.VoteReply, N, B),
    st.builds(m.TimeoutNow, N),
    appends(),
    st.builds(m.AppendReply, N, N, B, N, N, N),
    st.builds(m.Heartbeat, N, N, N),
    st.builds(m.HeartbeatReply, N, N),
    st.builds(m.ReadIndex, N, N),
    st.builds(m.ReadIndexReply, N, N, N),
    st.builds(m.Chunk, N, N, N, N, B, HASH, DATA),
    st.builds(m.ChunkReply, N, N, N, B),
    st.builds(m.Forward, N, N, PROPOSALS),
)


@given(MESSAGES)
def test_a_message_comes_back_as_it_went(message: m.Message) -> None:
    assert codec.decode(codec.encode(message)) == message


@given(MESSAGES, st.data())
def test_a_cut_or_garbled_message_is_refused_or_another_message(message: m.Message, data: st.DataObject) -> None:
    """Never another exception, whatever the bytes."""
    body = bytearray(codec.encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    for bad in (bytes(body), bytes(body)[: data.draw(st.integers(0, len(body)))]):
        try:
            codec.decode(bad)
        except Refused as refused:
            assert refused.name in ("bad-encoding", "bad-raft-message", "too-large")


def refused(decode: Callable[[bytes], object], body: bytes) -> str:
    with pytest.raises(Refused) as caught:
        decode(body)
    return caught.value.name


@pytest.mark.parametrize(
    "value",
    [
        [],
        [99],
        [-1, 1],
        [True, 1],
        ["0", 1],
        {},
        [0, 1, 2],
        [0, 1, 2, 3, 4],
        [0, 1, 2, -3],
        [0, 1, 2, 2**63],
        [1, 1, 1],
        [2, 1, 2, 3, None],
        [5, 1, 1, 1, 1, 0, [b"x"]],
        [5, 1, 1, 1, 1, 0, "x"],
        [5, 1, 1, 1, 1, 0, [[2, 1, 0, b""]]],
        [11, 1, 1, 1, 1, True, bytes(31), b""],
        [13, 1, 0, []],
        [13, 1, 0, [[1]]],
        [13, 1, 0, [[1, "x"]]],
    ],
)
def test_wrong_shapes_are_refused(value: object) -> None:
    assert refused(codec.decode, cbor.encode(value)) in ("bad-raft-message", "bad-encoding")


def test_sizes_are_bounded() -> None:
    assert refused(codec.decode, bytes(MAX_CAST_BYTES + 1)) == "too-large"
    entry = make_entry(2, 1, COMMANDS, b"").raw
    assert refused(codec.decode, cbor.encode([5, 1, 1, 1, 1, 0, [entry] * (MAX_ENTRIES + 1)])) == "bad-raft-message"
    assert refused(codec.decode, cbor.encode([13, 1, 0, [[1, b""]] * (MAX_COMMANDS + 1)])) == "bad-raft-message"
    assert refused(codec.decode, cbor.encode([13, 1, 0, [[1, bytes(MAX_COMMAND_BYTES + 1)]]])) == "bad-raft-message"
    assert refused(codec.decode, cbor.encode([11, 1, 1, 1, 1, True, bytes(32), bytes(MAX_CHUNK_BYTES + 1)])) == "bad-raft-message"
    assert refused(read_entry, make_entry(1, 1, COMMANDS, bytes(MAX_ENTRY_BYTES)).raw) == "too-large"


def test_the_largest_command_fits_into_one_message() -> None:
    batch = encode_batch(2**62, [Proposed(NodeId("x" * 128), 2**62, 2**62, [(2**62, bytes(MAX_COMMAND_BYTES))])])
    entry = make_entry(2**62, 2**62, COMMANDS, batch)
    append = m.Append(2**62, 2**62 - 1, 1, 2**62, 2**62, (entry,))
    assert codec.decode(codec.encode(append)) == append
    largest = m.Forward(2**62, 2**62, ((2**62, bytes(MAX_COMMAND_BYTES)),))
    assert codec.decode(codec.encode(largest)) == largest
    chunk = m.Chunk(2**62, 2**62, 2**62, 2**62, True, bytes(32), bytes(MAX_CHUNK_BYTES))
    assert codec.decode(codec.encode(chunk)) == chunk


@pytest.mark.parametrize(
    "entries",
    [
        (make_entry(3, 1, COMMANDS, b""),),
        (make_entry(2, 1, COMMANDS, b""), make_entry(2, 1, COMMANDS, b"")),
        (make_entry(2, 5, COMMANDS, b""), make_entry(3, 4, COMMANDS, b"")),
        (make_entry(2, 0, COMMANDS, b""),),
        (make_entry(2, 10, COMMANDS, b""),),
    ],
)
def test_entries_that_do_not_follow_each_other_are_refused(entries: tuple[Entry, ...]) -> None:
    """Indices without gaps, terms that never fall and are none of the future: what the log relies on."""
    assert refused(codec.decode, codec.encode(m.Append(9, 1, 1, 1, 0, entries))) == "bad-raft-message"


COMMAND = st.tuples(N, st.binary(max_size=20))
PROPOSED = st.builds(Proposed, st.text("abc", min_size=1, max_size=3).map(NodeId), N, N, st.lists(COMMAND, max_size=5))


@given(N, st.lists(PROPOSED, max_size=4))
def test_a_batch_comes_back_as_it_went(at_ms: int, batch: list[Proposed]) -> None:
    assert decode_batch(encode_batch(at_ms, batch)) == (at_ms, batch)


@pytest.mark.parametrize(
    "value", [[], [1], [1, 2], [-1, []], [1, [[]]], [1, [["a", 1, 1]]], [1, [["", 1, 1, []]]], [1, [["a", 1, 1, [[1]]]]]]
)
def test_a_wrong_batch_is_refused(value: object) -> None:
    assert refused(decode_batch, cbor.encode(value)) == "bad-raft-message"


@given(st.lists(PROPOSED, max_size=4), st.integers(1, 4), st.integers(1, 40))
def test_packing_keeps_everything_in_order_and_within_bounds(batch: list[Proposed], commands: int, size: int) -> None:
    packs = packed(batch, commands=commands, size=size)

    def flat(proposals: list[Proposed]) -> list[tuple[NodeId, int, int, int, bytes]]:
        return [(each.node, each.session, each.floor, *command) for each in proposals for command in each.commands]

    assert [row for pack in packs for row in flat(pack)] == flat(batch)
    for pack in packs:
        rows = flat(pack)
        assert 0 < len(rows) <= commands and (len(rows) == 1 or sum(len(row[-1]) for row in rows) <= size)
