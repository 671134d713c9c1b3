"""The bytes of membership: what is said comes back the same, and nothing else is taken."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership import codec, limits
from meshos.protocols.membership.events import Ack, Gossip, Message, Nack, Ping, PingRequest
from meshos.protocols.membership.statements import Kind, NodeFacts

ORG = OrgDid("did:mesh:enterprise:acme")
SIGNATURE = bytes(range(64))
FACTS = NodeFacts(ORG, "alpha-1", "127.0.0.1:7001", "127.0.0.1:7002", region="eu-west", version="0.1.0")
PEER_ID = NodeId("12D3KooW" + "x" * 44)

names = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=16)
numbers = st.integers(0, limits.NUMBER - 1)
known_facts = st.builds(
    NodeFacts,
    org=st.just(ORG),
    name=names,
    gossip=names,
    link=names,
    api=st.just("") | names,
    region=names,
    role=names,
    version=names,
    load_permille=st.integers(0, 1_000_000),
    health=names,
)
blobs = st.binary(min_size=1, max_size=300)
some_updates = st.lists(blobs, max_size=3).map(tuple)
sequences = st.integers(0, 2**32 - 1)
messages = st.one_of(
    st.builds(Ping, sequences, some_updates),
    st.builds(Ack, sequences, some_updates),
    st.builds(PingRequest, sequences, names.map(NodeId), some_updates),
    st.builds(Nack, sequences),
    st.builds(Gossip, some_updates),
)


@settings(max_examples=60, deadline=None)
@given(names, numbers, numbers, known_facts)
def test_an_alive_comes_back_as_it_was_said(subject: str, incarnation: int, revision: int, facts: NodeFacts) -> None:
    said = codec.statement(codec.alive_payload(NodeId(subject), incarnation, revision, facts), SIGNATURE)
    assert (said.kind, said.subject, said.signer, said.incarnation, said.revision, said.facts) == (
        Kind.ALIVE,
        subject,
        subject,
        incarnation,
        revision,
        facts,
    )
    assert codec.decode_statement(said.blob).digest == said.digest and said.signature == SIGNATURE


@settings(max_examples=60, deadline=None)
@given(messages)
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert codec.decode_datagram(codec.encode_datagram(message)) == message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused_by_name(data: bytes) -> None:
    for decode in (codec.decode_datagram, codec.decode_statement):
        try:
            decode(data)
        except Refused as refusal:
            assert refusal.name in ("too-large", "bad-encoding", "bad-gossip", "bad-statement")


@settings(max_examples=60, deadline=None)
@given(messages, st.data())
def test_a_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    whole = codec.encode_datagram(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Refused):
        codec.decode_datagram(whole[:cut])


WORD = codec.word_payload(Kind.SUSPECT, NodeId("x"), 3, NodeId("y"))
BAD_PAYLOADS = {
    "not a list": cbor.encode({"kind": 1}),
    "too short": cbor.encode([2, "x"]),
    "unknown kind": cbor.encode([9, "x", 1]),
    "a truth for a kind": cbor.encode([True, "x", 1, 0, *["a"] * 8, 0, "ok"]),
    "a text for a kind": cbor.encode(["2", "x", 1, "y"]),
    "left with too much": cbor.encode([4, "x", 1, 1]),
    "negative incarnation": cbor.encode([4, "x", -1]),
    "huge incarnation": cbor.encode([4, "x", limits.NUMBER]),
    "a truth for an incarnation": cbor.encode([4, "x", True]),
    "a fraction for an incarnation": cbor.encode([4, "x", 1.5]),
    "nobody": cbor.encode([4, "", 1]),
    "a subject with a line break": cbor.encode([4, "x\n", 1]),
    "a long subject": cbor.encode([4, "x" * (limits.NODE_CHARS + 1), 1]),
    "accuses itself": codec.word_payload(Kind.DEAD, NodeId("x"), 1, NodeId("x")),
    "a topic too long": cbor.encode([5, "x", 1, 1, "t" * (limits.TOPIC_CHARS + 1), b""]),
    "a note too long": cbor.encode([5, "x", 1, 1, "t", bytes(limits.NOTE_BYTES + 1)]),
    "facts of a wrong type": cbor.encode([1, "x", 1, 0, ORG, "n", "g", "l", "", 7, "", "", 0, "ok"]),
    "an org that is none": cbor.encode([1, "x", 1, 0, "acme", "n", "g", "l", "", "", "", "", 0, "ok"]),
    "no address": cbor.encode([1, "x", 1, 0, ORG, "n", "", "l", "", "", "", "", 0, "ok"]),
    "a load below nothing": cbor.encode([1, "x", 1, 0, ORG, "n", "g", "l", "", "", "", "", -1, "ok"]),
    "a truth for a load": cbor.encode([1, "x", 1, 0, ORG, "n", "g", "l", "", "", "", "", True, "ok"]),
    "a name with an escape": cbor.encode([1, "x", 1, 0, ORG, "n\x1b[31m", "g", "l", "", "", "", "", 0, "ok"]),
    "a name too long": cbor.encode([1, "x", 1, 0, ORG, "n" * (limits.NAME_CHARS + 1), "g", "l", "", "", "", "", 0, "ok"]),
}


@pytest.mark.parametrize("payload", BAD_PAYLOADS.values(), ids=BAD_PAYLOADS)
def test_a_statement_that_says_nothing_good_is_refused(payload: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        codec.decode_statement(cbor.encode([payload, SIGNATURE]))
    assert refusal.value.name == "bad-statement"


@pytest.mark.parametrize(
    "blob",
    [cbor.encode([WORD]), cbor.encode([WORD, SIGNATURE[:63]]), cbor.encode([WORD, "s" * 64]), cbor.encode(["w", SIGNATURE])],
    ids=["no signature", "short signature", "text signature", "text payload"],
)
def test_a_statement_without_payload_and_signature_is_refused(blob: bytes) -> None:
    with pytest.raises(Refused, match="bad-statement"):
        codec.decode_statement(blob)


def test_a_statement_in_another_encoding_is_refused() -> None:
    loose = b"\x82" + b"\x59" + len(WORD).to_bytes(2, "big") + WORD + b"\x58\x40" + SIGNATURE  # a two-byte length for a short string
    with pytest.raises(Refused, match="bad-encoding"):
        codec.decode_statement(loose)


def test_an_oversized_statement_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused, match="too-large"):
        codec.decode_statement(bytes(limits.STATEMENT_BYTES + 1))


BAD_DATAGRAMS = {
    "nothing": [],
    "unknown": [6, 1],
    "a truth for a type": [True, 1, []],
    "no updates": [1, 1],
    "a negative sequence": [1, -1, []],
    "a long sequence": [2, 2**32, []],
    "a truth for a sequence": [4, True],
    "text updates": [1, 1, ["x"]],
    "an empty update": [5, [b""]],
    "an update too long": [5, [bytes(limits.STATEMENT_BYTES + 1)]],
    "too many updates": [5, [b"x"] * (limits.UPDATES + 1)],
    "no target": [3, 1, "", []],
    "a target too long": [3, 1, "x" * (limits.NODE_CHARS + 1), []],
}


@pytest.mark.parametrize("fields", BAD_DATAGRAMS.values(), ids=BAD_DATAGRAMS)
def test_a_datagram_that_is_no_message_is_refused(fields: list[object]) -> None:
    with pytest.raises(Refused) as refusal:
        codec.decode_datagram(cbor.encode(fields))
    assert refusal.value.name == "bad-gossip"


def test_an_oversized_datagram_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused, match="too-large"):
        codec.decode_datagram(bytes(limits.DATAGRAM_BYTES + 1))


def test_ordinary_facts_fit_three_to_a_datagram_and_the_largest_one() -> None:
    ordinary = codec.statement(codec.alive_payload(PEER_ID, 7, 3, FACTS), SIGNATURE)
    assert 3 * (len(ordinary.blob) + 3) <= limits.DATAGRAM_BYTES - limits.HEAD_BYTES
    largest = NodeFacts(
        OrgDid("did:mesh:enterprise:" + "o" * 63),
        "n" * limits.NAME_CHARS,
        "g" * limits.ADDRESS_CHARS,
        "l" * limits.ADDRESS_CHARS,
        "a" * limits.API_CHARS,
        "r" * limits.REGION_CHARS,
        "r" * limits.ROLE_CHARS,
        "v" * limits.VERSION_CHARS,
        1_000_000,
        "h" * limits.HEALTH_CHARS,
    )
    said = codec.statement(codec.alive_payload(PEER_ID, limits.NUMBER - 1, limits.NUMBER - 1, largest), SIGNATURE)
    assert len(codec.encode_datagram(PingRequest(2**32 - 1, PEER_ID, (said.blob,)))) <= limits.DATAGRAM_BYTES
