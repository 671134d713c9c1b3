"""The link codec: what comes out is what went in, and whatever breaks a rule is refused by name."""

import random
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.effects import Err, Ok
from meshos.errors import Broken, Failed, MeshError, Refused, Unreachable
from meshos.ids import OrgDid
from meshos.protocols.rpc import frames, limits
from meshos.protocols.rpc.codec import LinkCodec
from meshos.protocols.rpc.events import Cancel, Message, Notice, Reply, Request
from meshos.protocols.rpc.frames import FIRST, GOODBYE, HELLO, MORE, PING, Hello
from meshos.protocols.rpc.messages import encode_message
from meshos.protocols.rpc.partials import Partials

MESH = b"m" * 32
ID = bytes(range(16))
ORG = OrgDid("did:mesh:enterprise:org-a")


def hello(node: str, **changes: Any) -> Hello:
    return replace(Hello(MESH, node, b"b" * 16), **changes)


def pair(partials: Partials | None = None) -> tuple[LinkCodec, LinkCodec]:
    """Two ends that have greeted each other."""
    partials = partials or Partials(limits.ALL_LINKS_PARTIAL_BYTES)
    a = LinkCodec(hello("a"), dialled=True, org=ORG, expect="b", partials=partials)
    b = LinkCodec(hello("b"), dialled=False, org=ORG, expect="a", partials=partials)
    assert b.data_to_send(1 << 20) == b"", "who accepted waits for the other's hello"
    b.receive(a.data_to_send(1 << 20))
    a.receive(b.data_to_send(1 << 20))
    assert a.peer_hello == hello("b") and b.peer_hello == hello("a")
    return a, b


def pump(codec: LinkCodec, max_bytes: int = 1 << 20) -> bytes:
    parts = []
    while data := codec.data_to_send(max_bytes):
        assert len(data) <= max_bytes
        parts.append(data)
    return b"".join(parts)


def key(message: Message) -> tuple[object, ...]:
    if isinstance(message, Reply) and isinstance(message.outcome, Err):
        error = message.outcome.error
        return ("error", message.id, type(error), error.name, error.detail, error.outcome, message.final)
    return (message,)


names = st.from_regex(r"[a-z][a-z-]{0,30}[a-z]", fullmatch=True)
ids = st.binary(min_size=16, max_size=16)
bodies = st.one_of(st.binary(max_size=300), st.integers(0, 200_000).map(lambda n: random.Random(n).randbytes(n)))
kinds = st.sampled_from([Failed, Refused, Unreachable, Broken])
errors = st.builds(
    lambda kind, name, detail, outcome: kind(name, detail, outcome=outcome),
    kinds,
    names,
    st.text(max_size=100),
    st.sampled_from(["done", "not_done", "unknown"]),
)
messages = st.one_of(
    st.builds(
        Request, ids, st.from_regex(r"/meshos/[a-z]{1,20}/1", fullmatch=True), bodies, st.integers(0, 3_600_000), st.text(max_size=60)
    ),
    st.builds(Reply, ids, st.builds(Ok, bodies)),
    st.builds(Reply, ids, st.builds(Err, errors), st.booleans()),
    st.builds(Cancel, ids),
)
notices = st.builds(Notice, st.from_regex(r"/meshos/[a-z]{1,20}/1", fullmatch=True), bodies)
sent = st.lists(
    st.one_of(st.tuples(st.sampled_from(["work", "bulk"]), messages), st.tuples(st.just("work"), notices)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(sent, st.integers(0, 2**32), st.integers(limits.FRAME_BYTES, 300_000))
def test_every_message_arrives_once_and_whole_however_the_bytes_are_cut(sent: list, seed: int, max_bytes: int) -> None:
    a, b = pair()
    rng = random.Random(seed)
    for lane, message in sent:
        a.send(lane, message)
    data = pump(a, max_bytes)
    assert a.waiting == 0
    received = []
    while data:
        cut = rng.choice([1, 7, 100, 5_000, 70_000, 1_000_000])
        received += b.receive_lanes(data[:cut])
        data = data[cut:]
    assert sorted(map(repr, [(lane, key(m)) for lane, m in received])) == sorted(map(repr, [(lane, key(m)) for lane, m in sent]))
    assert b.partial() == 0 and b._partials.used == 0


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_garbage_is_refused_by_name_or_waits_for_more_and_never_crashes(garbage: bytes, seed: int) -> None:
    a, _ = pair()
    a.send("work", Request(ID, "/meshos/x/1", b"body" * 20, 1000))
    data = bytearray(pump(a))
    for _ in range(random.Random(seed).randrange(1, 4)):  # honest bytes with a few of them changed
        data[random.Random(seed).randrange(len(data))] ^= 1 << (seed % 8)
    for stream in (garbage, bytes(data)):
        _, fresh = pair()
        try:
            fresh.receive(stream)
        except MeshError as error:
            assert error.name
            with pytest.raises(MeshError):
                fresh.receive(b"")


def refused(name: str, data: bytes, codec: LinkCodec | None = None) -> None:
    codec = codec or pair()[1]
    with pytest.raises(MeshError) as caught:
        codec.receive(data)
    assert caught.value.name == name
    with pytest.raises(MeshError) as again:
        codec.receive(b"")
    assert again.value.name == name, "a codec that refused once stays refused"


def first(body: bytes, *, total: int | None = None, stream: int = 0, lane: str = "work", keep: int | None = None) -> bytes:
    head, _ = encode_message(Request(ID, "/meshos/x/1", b"", 1000))
    content = (head + body)[:keep]
    total = len(head) + len(body) if total is None else total
    return frames.header(4 + len(content), FIRST, lane, stream) + total.to_bytes(4, "big") + content  # type: ignore[arg-type]


def test_a_connection_begins_with_a_hello() -> None:
    _, b = pair()
    fresh = LinkCodec(hello("b"), dialled=False, org=ORG, expect="a", partials=Partials(1000))
    refused("bad-frame", first(b"x"), fresh)
    fresh = LinkCodec(hello("b"), dialled=False, org=ORG, expect="a", partials=Partials(1000))
    refused("bad-frame", frames.header(60_000, HELLO, "control", 0), fresh)
    fresh = LinkCodec(hello("b"), dialled=False, org=ORG, expect="a", partials=Partials(1000))
    refused("frame-too-large", b"GET / HTTP/1.1\r\n\r\n", fresh)
    refused("bad-frame", frames.hello_frame(hello("a")), b)  # a second hello


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"mesh": b"o" * 32}, "wrong-genesis"),
        ({"node": "c"}, "node-mismatch"),
        ({"versions": (2, 3)}, "no-common-version"),
        ({"lanes": ()}, "bad-hello"),
        ({"boot": b"short"}, "bad-hello"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_and_the_other_side_hears_why(changes: dict, name: str) -> None:
    b = LinkCodec(hello("b"), dialled=False, org=ORG, expect="a", partials=Partials(1000))
    with pytest.raises(Refused) as caught:
        b.receive(frames.hello_frame(replace(hello("a"), **changes)))
    assert caught.value.name == name
    a = LinkCodec(hello("a"), dialled=True, org=ORG, expect="b", partials=Partials(1000))
    b.refuse(caught.value)
    with pytest.raises(Refused) as heard:
        a.receive(b.data_to_send(1 << 20))
    assert heard.value.name == name and heard.value.detail.startswith("the other side says")


def test_a_hello_of_other_types_is_refused() -> None:
    for fields in ([], {"mesh": "text"}, {"mesh": MESH, "node": 5, "boot": b"b" * 16, "lanes": [], "versions": []}):
        fresh = LinkCodec(hello("b"), dialled=False, org=ORG, expect="a", partials=Partials(1000))
        refused("bad-hello", frames.frame(HELLO, cbor.encode(fields)), fresh)


def test_sizes_are_checked_before_the_bytes_have_come() -> None:
    refused("frame-too-large", frames.header(limits.FRAME_PAYLOAD_BYTES + 1, FIRST, "work", 0))
    refused("message-too-large", first(b"x" * 100, total=2 * limits.BODY_BYTES["work"]))
    refused("message-too-large", first(b"x" * 100, total=2**32 - 1, lane="bulk"))
    refused("message-too-large", first(b"x" * 100, total=limits.BODY_BYTES["control"] * 2, lane="control"))


def test_truncated_messages_are_refused() -> None:
    refused("bad-frame", first(b"", keep=5))
    refused("bad-frame", frames.header(3, FIRST, "work", 0) + b"abc")
    refused("bad-frame", first(b"x" * 50, total=20))
    refused("bad-rpc-message", frames.header(7, FIRST, "work", 0) + (3).to_bytes(4, "big") + b"\0\1\x80")


def test_replayed_skipped_and_unordered_frames_are_refused() -> None:
    frame = first(b"whole")
    refused("frame-out-of-order", frame + frame)
    refused("frame-out-of-order", first(b"whole", stream=1))
    refused("frame-out-of-order", frames.header(3, MORE, "work", 0) + b"abc")
    begun = first(b"x" * 50_000, keep=10_000)
    refused("bad-frame", begun + frames.header(45_000, MORE, "work", 0) + b"x" * 45_000)
    refused("bad-frame", begun + frames.header(0, MORE, "work", 0))
    rest = frames.header(100, MORE, "work", 0) + b"x" * 100
    whole = first(b"x" * 200, keep=None, total=None)
    refused("frame-out-of-order", whole + rest)


def test_messages_that_never_end_are_bounded_in_number_and_in_bytes() -> None:
    begun = b"".join(first(b"x" * 50_000, keep=1_000, stream=n) for n in range(limits.ACTIVE_MESSAGES["work"] + 1))
    refused("too-many-partial", begun)
    partials = Partials(10_000)
    _, b = pair(partials)
    refused("busy", b"".join(first(b"x" * 50_000, keep=3_000, stream=n) for n in range(5)), b)
    assert partials.used == 0, "what a refused link had counted is given back"


def test_nothing_follows_a_goodbye_and_odd_control_frames_are_refused() -> None:
    refused("bad-frame", frames.frame(GOODBYE, b"") + first(b"x"))
    refused("bad-frame", frames.frame(GOODBYE, b"") * 2)
    refused("bad-frame", frames.frame(PING, b"short"))
    refused("bad-frame", frames.frame(99, b""))
    refused("bad-frame", frames.frame(frames.REFUSAL, b"\x80"))
    refused("bad-frame", frames.header(0, GOODBYE, "work", 0))


def test_bodies_only_where_there_can_be_one() -> None:
    head, _ = encode_message(Cancel(ID))
    data = frames.header(4 + len(head) + 1, FIRST, "control", 0) + (len(head) + 1).to_bytes(4, "big") + head + b"x"
    refused("bad-rpc-message", data)


def test_a_flood_of_pings_costs_one_pong() -> None:
    _, b = pair()
    b.receive(b"".join(frames.frame(PING, n.to_bytes(8, "big")) for n in range(1000)))
    assert len(b.data_to_send(1 << 20)) == limits.FRAME_HEADER_BYTES + 8


def test_ping_and_pong() -> None:
    a, b = pair()
    a.ping(77)
    b.receive(pump(a))
    a.receive(pump(b))
    assert a.pong == 77


def test_control_passes_work_and_small_messages_pass_large_ones() -> None:
    a, b = pair()
    for n in range(3):
        a.send("work", Request(bytes([n]) * 16, "/meshos/large/1", b"L" * 1_000_000, 1000))
    a.send("work", Request(b"s" * 16, "/meshos/small/1", b"s", 1000))
    a.send("control", Cancel(ID))
    data = a.data_to_send(limits.FRAME_BYTES)
    assert [type(m).__name__ for m in b.receive(data)] == ["Cancel", "Request"], "both within the first 64 KiB"
    order = []
    while data := a.data_to_send(limits.FRAME_BYTES):
        order += [m.id[0] for m in b.receive(data)]
        assert b.partial() <= 3
    assert order == [0, 1, 2], "equal messages end in the order in which they began"


def test_small_messages_without_end_do_not_keep_a_large_one_from_passing() -> None:
    a, b = pair()
    a.send("work", Request(b"l" * 16, "/meshos/large/1", b"L" * 300_000, 1000))
    received: list[Message] = []
    for _ in range(60):
        for number in range(10):
            a.send("work", Request(number.to_bytes(16, "big"), "/meshos/small/1", b"s" * 10_000, 1000))
        received += b.receive(a.data_to_send(limits.FRAME_BYTES))
    assert any(message.id == b"l" * 16 for message in received) and a.waiting


def test_equal_large_messages_share_a_lane_evenly() -> None:
    a, b = pair()
    for n in range(4):
        a.send("work", Request(bytes([n]) * 16, "/meshos/large/1", b"L" * 1_000_000, 1000))
    for _ in range(30):
        b.receive(a.data_to_send(limits.FRAME_BYTES))
    missing = [partial.missing for partial in b._in.values()]
    assert len(missing) == 4 and max(missing) - min(missing) <= limits.FRAGMENT_BYTES["work"]


def test_a_full_lane_says_busy_and_becomes_writable_again() -> None:
    a, b = pair()
    body = b"x" * limits.BODY_BYTES["work"]
    count = 0
    with pytest.raises(Refused) as caught:
        while True:
            a.send("work", Request(count.to_bytes(16, "big"), "/meshos/x/1", body, 1000))
            count += 1
    assert caught.value.name == "busy" and count == limits.OUTBOUND_BYTES["work"] // len(body) - 1
    assert not a.writable("work") and a.writable("control")
    a.send("control", Cancel(ID))
    b.receive(pump(a))
    assert a.writable("work") and a.waiting == 0


def test_what_is_too_large_for_its_lane_or_for_the_wire_is_not_sent() -> None:
    a, _ = pair()
    for lane in ("control", "work", "bulk"):
        with pytest.raises(Refused, match="message-too-large"):
            a.send(lane, Reply(ID, Ok(bytes(limits.BODY_BYTES[lane] + 1))))  # type: ignore[arg-type]
    with pytest.raises(Refused, match="bad-rpc-message"):
        a.send("work", Request(ID, "p" * 200, b"", 1000))
    with pytest.raises(Refused, match="bad-rpc-message"):
        a.send("work", Request(ID, "/p/1", b"", -1))
    assert a.waiting == 0


def test_goodbye_comes_after_what_waits_and_nothing_is_taken_after_it() -> None:
    a, b = pair()
    a.send("work", Request(ID, "/meshos/x/1", b"x" * 100_000, 1000))
    a.part()
    with pytest.raises(Refused, match="link-closing"):
        a.send("work", Cancel(ID))
    assert len(b.receive(pump(a))) == 1 and b.goodbye


def test_unsent_names_exactly_what_cannot_have_arrived() -> None:
    a, b = pair()
    large = Request(b"l" * 16, "/meshos/x/1", b"x" * 900_000, 1000)
    small = Request(b"s" * 16, "/meshos/x/1", b"x", 1000)
    a.send("work", large)
    a.send("work", small)
    assert b.receive(a.data_to_send(limits.FRAME_BYTES)) == [small]
    assert a.unsent() == [("work", large)]


def test_64_mib_pass_in_little_memory_beyond_the_message() -> None:
    a, b = pair()
    body = bytes(64 * limits.MIB)
    tracemalloc.start()
    a.send("bulk", Reply(ID, Ok(body)))
    received: list[Message] = []
    while data := a.data_to_send(limits.FRAME_BYTES):
        received += b.receive(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(received[0], Reply) and received[0].outcome == Ok(body)
    assert peak < len(body) * 1.25 + 2 * limits.MIB, f"{peak} bytes at the peak for one copy of {len(body)}"


def test_a_refusal_drops_what_waits() -> None:
    a, b = pair()
    a.send("work", Request(ID, "/meshos/x/1", b"x", 1000))
    a.refuse(Refused("certificate-revoked", "it was revoked"))
    with pytest.raises(Refused) as caught:
        b.receive(pump(a))
    assert caught.value.name == "certificate-revoked"


@pytest.mark.parametrize("protocol", ["", "x" * (limits.PROTOCOL_CHARS + 1), "/t/\u00e9/1"])
def test_a_notice_has_a_protocol_that_a_request_could_have(protocol: str) -> None:
    a, _ = pair()
    with pytest.raises(Refused, match="protocol name"):
        a.send("work", Notice(protocol, b""))
    refused("bad-rpc-message", whole(cbor.encode(["n", protocol])))


@pytest.mark.parametrize("head", [["n"], ["n", 1], ["n", b"/t/1"], ["n", "/t/1", 0], ["N", "/t/1"]])
def test_a_notice_that_is_none_is_refused(head: list[object]) -> None:
    refused("bad-rpc-message", whole(cbor.encode(head)))


def test_a_notice_in_another_than_the_canonical_form_is_refused() -> None:
    refused("bad-encoding", whole(b"\x82\x61n\x78\x04/t/1"))


def test_no_notice_comes_on_the_bulk_lane() -> None:
    refused("bad-rpc-message", whole(cbor.encode(["n", "/t/1"]), "bulk"))


def whole(head: bytes, lane: str = "work") -> bytes:
    """A message of one frame and an empty body, with any head."""
    content = len(head).to_bytes(2, "big") + head
    return frames.header(4 + len(content), FIRST, lane, 0) + len(content).to_bytes(4, "big") + content  # type: ignore[arg-type]
