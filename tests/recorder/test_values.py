"""Any event as plain values and back: what comes back is what was written, and what no recorder wrote is refused."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.org.commands import Begun, Intent, RecordIntent, RecordOutcome
from meshos.effects import Completed, Err, Heard, Ok, Persist, Put, Signed, Tell, Tick
from meshos.errors import BadInput, MeshError, Refused
from meshos.flow import Ask, Propose
from meshos.flow_machine import Perform
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.node.runtime.recorder.limits import DEPTH, INLINE_BYTES
from meshos.node.runtime.recorder.values import Long, Lost, Reader, Writer, lost_in
from meshos.protocols.membership.statements import Kind
from meshos.protocols.rpc.events import MessageReceived, Reply, Request

PEER = Peer(NodeId("n001"), OrgDid("did:mesh:enterprise:acme"))
WORDS = st.text(max_size=12)
NUMBERS = st.integers(-(2**64), 2**64 - 1)
BLOBS = st.binary(max_size=40)
OPS = st.integers(0, 2**40)


def intents() -> st.SearchStrategy[RecordIntent]:
    ids = (st.builds(TaskId, WORDS), st.just(PEER), st.builds(AgentId, WORDS))
    return st.builds(RecordIntent, *ids, WORDS, WORDS, st.booleans(), BLOBS, BLOBS, OPS, WORDS)


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        NUMBERS,
        st.floats(allow_nan=False),
        WORDS,
        BLOBS,
        st.just(Tick()),
        st.sampled_from(Kind),
        st.builds(Signed, OPS, BLOBS),
        st.builds(Heard, st.just(PEER), WORDS, BLOBS),
        intents(),
        st.builds(Put, BLOBS, BLOBS),
        st.builds(MessageReceived, st.just(PEER), st.builds(Request, BLOBS, WORDS, BLOBS, OPS), st.sampled_from(["work", "control"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(WORDS, inner, max_size=4),
        st.frozensets(st.one_of(WORDS, OPS), max_size=4),
        st.sets(BLOBS, max_size=4),
        st.builds(Ok, inner),
        st.builds(Completed, OPS, st.builds(Ok, inner)),
        st.builds(Tell, WORDS, inner),
        st.builds(Perform, OPS, st.builds(Propose, inner), st.one_of(st.none(), st.floats(0, 1e9)), WORDS, WORDS),
    ),
    max_leaves=12,
)


def recorded(value: object) -> object:
    """``value``, written, encoded, decoded and read again."""
    writer, reader = Writer(), Reader()
    plain = cbor.decode(cbor.encode(writer.plain(value)), max_bytes=1 << 24, max_depth=DEPTH)
    for number, (name, fields) in writer.classes.items():
        reader.learn(number, name, fields)
    return reader.value(plain)


@settings(max_examples=60, deadline=None)
@given(ANYTHING)
def test_what_is_read_is_what_was_written(value: object) -> None:
    read = recorded(value)
    assert read == value and type(read) is type(value)


@settings(max_examples=60, deadline=None)
@given(ANYTHING)
def test_a_second_writer_with_the_same_numbers_writes_the_same(value: object) -> None:
    first, second = Writer(), Writer()
    plain = first.plain(value)
    for number, (name, fields) in reversed(first.classes.items()):
        second.number(Reader().learn(number, name, fields), number)
    assert second.plain(value) == plain


def test_an_error_comes_back_with_its_name_and_outcome() -> None:
    read = recorded(Completed(3, Err(Refused("busy", "it is full", hint="later", outcome="unknown"))))
    assert isinstance(read, Completed) and isinstance(read.outcome, Err)
    error = read.outcome.error
    assert (type(error), error.name, error.detail, error.hint, error.outcome) == (Refused, "busy", "it is full", "later", "unknown")


def test_a_long_byte_string_keeps_its_length_and_hash() -> None:
    value = Reply(b"id", Ok(bytes(range(256)) * INLINE_BYTES))
    writer = Writer()
    plain = writer.plain(value)
    assert lost_in(plain) and len(cbor.encode(plain)) < 100
    read = recorded(value)
    assert isinstance(read, Reply) and isinstance(read.outcome, Ok)
    assert isinstance(read.outcome.value, Long) and len(read.outcome.value) == 256 * INLINE_BYTES
    assert Writer().plain(read) == Writer().plain(value), "handed on, it is the same"
    changed = Reply(b"id", Ok(bytes(range(255)) * INLINE_BYTES + bytes(INLINE_BYTES)))
    assert Writer().plain(changed) != Writer().plain(value)


def test_what_cannot_be_kept_leaves_its_name() -> None:
    read = recorded(Ok(len))
    assert read == Ok(Lost("len")) and lost_in(Writer().plain(Ok(len))) and not lost_in(Writer().plain(Ok([5, (6,)])))


@dataclass(frozen=True)
class Foreign:
    """Of no package of ours."""

    value: int


@dataclass
class Mutable:
    """Not frozen."""

    value: int


@pytest.mark.parametrize("value", [Foreign(1), Mutable(1)])
def test_only_frozen_dataclasses_of_our_packages_are_taken_apart(value: object) -> None:
    assert isinstance(recorded(value), Lost)


@pytest.mark.parametrize(
    ("name", "fields", "refusal"),
    [
        ("os:system", (), "bad-recording"),
        ("meshos.node.process:run", (), "bad-recording"),
        ("meshos.effects:Completed.__class__", ("op", "outcome"), "bad-recording"),
        ("meshos.effects:Completed", ("op",), "other-recording"),
        ("meshos.effects:Completed", ("op", "outcome", "more"), "other-recording"),
        ("meshos.effects:Machine", (), "other-recording"),
        ("meshos.nothing.here:Thing", (), "bad-recording"),
        ("meshos.consensus.org.no_such_module:Thing", (), "other-recording"),
        ("meshos.simulations.run:Report", (), "bad-recording"),
    ],
)
def test_a_class_that_is_no_event_or_was_another_is_refused(name: str, fields: tuple[str, ...], refusal: str) -> None:
    with pytest.raises(BadInput) as caught:
        Reader().learn(16, name, fields)
    assert caught.value.name == refusal


@pytest.mark.parametrize(
    "plain",
    [
        [16, 1],  # a field is missing
        [16, "1", [17, None]],  # an op that is text
        [16, True, [17, None]],  # or a bool
        [16, 1, b"no outcome"],
        [16, 1, [99]],
        [99, 1],
        [],
        ["tuple"],
        [4, "key"],
        [4, [1, 2], 3],  # a list for a key
        [3, [1]],
        [5, 3, b"x" * 16],  # so short a byte string would have been kept
        [5, 2**40, b"x" * 16],
        [7, "SystemExit", "name", "detail", "", "done"],
        [7, "Refused", "name", "detail", "", "perhaps"],
        [18, 99],  # no such member
        {"a": 1},
    ],
)
def test_values_that_no_recorder_wrote_are_refused(plain: object) -> None:
    reader = Reader()
    reader.learn(16, "meshos.effects:Completed", ("op", "outcome"))
    reader.learn(17, "meshos.effects:Ok", ("value",))
    reader.learn(18, "meshos.protocols.membership.statements:Kind", tuple(kind.name for kind in Kind))
    with pytest.raises(BadInput) as caught:
        reader.value(plain)
    assert caught.value.name == "bad-recording"


@settings(max_examples=100, deadline=None)
@given(ANYTHING, st.data())
def test_a_changed_recording_is_read_as_something_or_refused(value: object, data: st.DataObject) -> None:
    writer, reader = Writer(), Reader()
    encoded = bytearray(cbor.encode(writer.plain(value)))
    for number, (name, fields) in writer.classes.items():
        reader.learn(number, name, fields)
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        reader.value(cbor.decode(bytes(encoded), max_bytes=1 << 24, max_depth=DEPTH))
    except MeshError as error:
        assert error.name in ("bad-recording", "bad-encoding")


def test_the_words_of_an_organisations_machine_are_all_written_whole() -> None:
    intent = Intent(TaskId("t-1"), PEER, AgentId("a-1"), "once", b"h" * 32, False, 5, 1000, 2000, "")
    outcome = RecordOutcome(TaskId("t-1"), "completed", b"done")
    for value in (Begun(intent, 1.5), outcome, Persist((Put(b"k", b"v"),)), Ask(PEER.node, "p", b"", 1.0)):
        assert recorded(value) == value
