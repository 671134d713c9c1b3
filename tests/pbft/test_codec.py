"""Messages between replicas: read as they were written; anything else is a named refusal that changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.pbft import codec
from meshos.consensus.pbft.block import Certified
from meshos.consensus.pbft.codec import decode, encode
from meshos.consensus.pbft.evidence import decode_evidence, encode_evidence
from meshos.consensus.pbft.limits import MAX_MESSAGE_BYTES, MAX_VALIDATORS
from meshos.consensus.pbft.messages import (
    PHASES,
    AskSeen,
    Blocks,
    Body,
    Checkpoint,
    Checkpoints,
    ChunkOf,
    EpochStep,
    Evidence,
    Fetch,
    FetchBody,
    FetchCheckpoint,
    FetchChunk,
    Message,
    NewView,
    Proposal,
    Relay,
    Seen,
    Status,
    ViewChange,
    Vote,
)
from meshos.errors import MeshError, Refused
from tests.pbft.making import HASH, NUMBER, blocks, certificates, headers, seats

SIGNATURE = st.binary(min_size=64, max_size=64)
INDEX = st.integers(0, MAX_VALIDATORS - 1)
signatures = st.dictionaries(INDEX, SIGNATURE, max_size=4).map(lambda rows: tuple(sorted(rows.items())))
votes = st.builds(Vote, st.sampled_from(PHASES), NUMBER, NUMBER, NUMBER, HASH, INDEX, SIGNATURE)
bare = st.builds(
    ViewChange, NUMBER, st.integers(1, 9), NUMBER, HASH, st.tuples(st.just(0), HASH) | st.none(), st.just(()), INDEX, SIGNATURE
)
changes = st.builds(ViewChange, NUMBER, st.integers(1, 9), NUMBER, HASH, st.tuples(st.just(0), HASH), signatures, INDEX, SIGNATURE) | bare
in_order = st.lists(bare, min_size=1, max_size=4, unique_by=lambda change: change.index).map(
    lambda found: tuple(sorted(found, key=lambda change: change.index))
)
certified = st.builds(Certified, blocks, certificates)
sets = st.integers(1, 5).map(seats)
messages: st.SearchStrategy[Message] = st.one_of(
    votes,
    st.builds(Proposal, NUMBER, blocks, INDEX, SIGNATURE),
    changes,
    st.builds(NewView, NUMBER, NUMBER, in_order, signatures, INDEX, SIGNATURE),
    st.builds(Status, NUMBER, NUMBER, NUMBER),
    st.builds(Fetch, NUMBER, st.booleans()),
    st.builds(Blocks, NUMBER, NUMBER, st.lists(certified, max_size=3).map(tuple)),
    st.builds(FetchBody, NUMBER, HASH),
    st.builds(Body, blocks),
    st.builds(Relay, st.lists(st.binary(max_size=40), min_size=1, max_size=4).map(tuple)),
    st.builds(Evidence, votes, votes),
    st.builds(AskSeen, NUMBER),
    st.builds(Seen, NUMBER, votes | st.none(), changes | st.none()),
    st.builds(FetchCheckpoint, NUMBER),
    st.builds(
        Checkpoints,
        st.lists(st.builds(EpochStep, headers, certificates, sets), max_size=2).map(tuple),
        st.builds(Checkpoint, headers, certificates, HASH, sets | st.none(), signatures) | st.none(),
    ),
    st.builds(FetchChunk, NUMBER, st.binary(max_size=20)),
    st.builds(ChunkOf, NUMBER, st.binary(max_size=20), st.binary(max_size=99)),
)


@given(messages)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode(encode(message)) == message


@given(messages, st.data())
def test_a_message_that_is_cut_or_changed_is_refused_by_name_or_another_one(message: Message, data: st.DataObject) -> None:
    body = encode(message)
    place = data.draw(st.integers(0, len(body) - 1))
    for other in (body[:place], body[:place] + bytes([data.draw(st.integers(0, 255))]) + body[place + 1 :], body + b"\0"):
        try:
            found = decode(other)
        except MeshError as error:
            assert isinstance(error, Refused)
        else:
            assert encode(found) == other


@given(st.binary(max_size=200))
def test_garbage_is_refused_by_name(body: bytes) -> None:
    try:
        decode(body)
    except MeshError as error:
        assert isinstance(error, Refused)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [0],
        [18, 1],
        [True, 1, 1, 1],
        [1, 3, 0, 0, 0, bytes(32), 0, bytes(64)],
        [1, 0, -1, 0, 0, bytes(32), 0, bytes(64)],
        [1, 0, 0, 0, 0, bytes(31), 0, bytes(64)],
        [1, 0, 0, 0, 0, bytes(32), 100, bytes(64)],
        [1, 0, 0, 0, 0, bytes(32), 0, bytes(63)],
        [3, 0, 1, 0, bytes(32), None, [[0, bytes(64)]], 0, bytes(64)],
        [3, 0, 1, 0, bytes(32), [1, bytes(32)], [], 0, bytes(64)],
        [4, 0, 1, [], [], 0, bytes(64)],
        [6, 1, 1],
        [10, []],
        [10, ["text"]],
        [16, 1, bytes(2000)],
    ],
)
def test_what_is_no_message_is_refused(value: object) -> None:
    with pytest.raises(Refused) as caught:
        decode(cbor.encode(value))
    assert caught.value.name == "pbft-message-malformed"


def test_an_oversized_message_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused) as caught:
        decode(bytes(MAX_MESSAGE_BYTES + 1))
    assert caught.value.name == "too-large"


def test_evidence_is_two_votes_of_one_domain_for_different_hashes() -> None:
    one = Vote("commit", 1, 2, 3, bytes(32), 4, bytes(64))
    other = Vote("commit", 1, 2, 3, b"\1" * 32, 4, bytes(64))
    assert decode_evidence(encode_evidence(Evidence(one, other))) == Evidence(one, other)
    later = Vote("commit", 1, 3, 3, b"\1" * 32, 4, bytes(64))
    for wrong in (Evidence(other, one), Evidence(one, one), Evidence(one, later)):
        with pytest.raises(Refused) as caught:
            decode_evidence(encode_evidence(wrong))
        assert caught.value.name == "no-evidence"


@pytest.mark.parametrize("vote", [{}, {"a": 1}, "text", b"bytes", 7, None, [], [[]], True])
def test_what_is_no_vote_in_a_new_view_is_malformed(vote: object) -> None:
    """Since Python 3.12 a slice can be a key, so that a map has no such key where it was no list before."""
    with pytest.raises(Refused, match="pbft-message-malformed"):
        codec.decode(cbor.encode([4, 0, 1, [vote], [], 0, b"s" * 64]))
