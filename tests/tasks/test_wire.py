"""Messages of tasks: what is encoded is decoded, and anything else is refused by name before it costs anything."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.org.commands import STATUSES, Ended, Intent, Problem
from meshos.errors import KINDS, MeshError, Refused
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.protocols.payments.voucher import Voucher
from meshos.protocols.tasks import wire
from meshos.protocols.tasks.limits import HEAD_BYTES, MAX_ARGUMENTS_BYTES, MAX_DEPTH, OUTBOX_BATCH
from meshos.protocols.tasks.outbox import Received, decode_receipts, decode_received, encode_receipts, encode_received
from meshos.protocols.tasks.receipt import Receipt, decode_receipt
from meshos.protocols.tasks.wire import (
    TaskCallOff,
    TaskRequest,
    decode_call_off,
    decode_reply,
    decode_request,
    encode_call_off,
    encode_reply,
    encode_request,
)

NAMES = st.text(min_size=1, max_size=20)
NUMBERS = st.integers(0, 2**53)
PEERS = st.builds(Peer, NAMES.map(NodeId), NAMES.map(OrgDid))
REQUESTS = st.builds(
    TaskRequest,
    NAMES.map(lambda name: TaskId("t-" + name)),
    NAMES.map(AgentId),
    NAMES,
    st.binary(max_size=50),
    st.text(max_size=20),
    st.integers(1, 3_600_000),
    st.integers(0, 9),
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), PEERS),
    st.integers(0, MAX_DEPTH - 1),
)
REQUEST = TaskRequest(TaskId("t-1"), AgentId("a-1"), "tool", b"\xa0", "", 1000, 5, None)
INTENT = Intent(TaskId("t-1"), Peer(NodeId("n"), OrgDid("o")), AgentId("a-1"), "tool", b"", False, 0, 7, 1000, "")
ENDED = Ended(INTENT, "completed", 9, b"result", b"", 6, None, b"receipt", b"signature", b"", 0, "replica")
RECEIPT = Receipt(TaskId("t-1"), INTENT.caller, Peer(NodeId("p"), OrgDid("q")), AgentId("a-1"), b"r" * 32, "completed", b"h" * 32, 6, 1, 7)
PROBLEMS = st.builds(
    Problem,
    st.sampled_from(sorted(KINDS)),
    st.text(max_size=64),
    st.text(max_size=99),
    st.text(max_size=99),
    st.sampled_from(["done", "unknown"]),
)


@settings(max_examples=100, deadline=None)
@given(REQUESTS)
def test_requests(request: TaskRequest) -> None:
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize("depth", [-1, MAX_DEPTH, True, "7", None])
def test_a_depth_out_of_its_bounds(depth: object) -> None:
    with pytest.raises(Refused, match="bad-message"):
        decode_request(_with_depth({"depth": depth}))


def test_a_request_of_before_there_was_a_depth() -> None:
    assert decode_request(_with_depth({})).depth == MAX_DEPTH - 1


def _with_depth(fields: dict[str, object]) -> bytes:
    body = encode_request(REQUEST)
    (length,) = struct.unpack_from(">I", body)
    head = cbor.decode(body[4 : 4 + length], max_bytes=HEAD_BYTES)
    assert isinstance(head, dict)
    del head["depth"]
    changed = cbor.encode({**head, **fields})
    return struct.pack(">I", len(changed)) + changed + body[4 + length :]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(STATUSES), st.one_of(st.none(), st.binary(max_size=50)), st.one_of(st.none(), PROBLEMS), st.booleans())
def test_replies(status: str, result: bytes | None, problem: Problem | None, replayed: bool) -> None:
    ended = replace(ENDED, status=status, result=result, result_size=len(result or b""), problem=problem)  # type: ignore[arg-type]
    reply = decode_reply(encode_reply(ended, replayed=replayed))
    assert (reply.status, reply.result, reply.problem, reply.replayed, reply.gone) == (status, result, problem, replayed, False)
    assert (reply.task, reply.receipt, reply.signature, reply.started_ms, reply.ended_ms) == ("t-1", b"receipt", b"signature", 7, 9)


def test_a_result_that_is_gone_and_one_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_reply(encode_reply(replace(ENDED, result=None), replayed=True)).gone
    monkeypatch.setattr(wire, "MAX_RESULT_BYTES", 5)
    with pytest.raises(Refused, match="result-too-large"):
        encode_reply(ENDED, replayed=False)


VOUCHERS = st.builds(Voucher, st.binary(min_size=32, max_size=32), st.integers(1, 2**53 - 1), st.binary(min_size=64, max_size=64))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(NAMES.map(TaskId), st.binary(max_size=64)), max_size=OUTBOX_BATCH),
    st.one_of(st.none(), PEERS),
    st.one_of(st.none(), VOUCHERS),
)
def test_receipt_messages(signatures: list[tuple[TaskId, bytes]], behalf: Peer | None, voucher: Voucher | None) -> None:
    assert decode_receipts(encode_receipts(signatures, behalf=behalf, voucher=voucher)) == (behalf, signatures, voucher)


@settings(max_examples=50, deadline=None)
@given(st.builds(Received, st.integers(0, OUTBOX_BATCH), st.integers(0, 2**53 - 1), st.text(max_size=64)))
def test_answers_to_receipt_messages(received: Received) -> None:
    assert decode_received(encode_received(received)) == received


@pytest.mark.parametrize("change", [{"recorded": -1}, {"recorded": OUTBOX_BATCH + 1}, {"covered": None}, {"refused": 1}, {"more": 1}])
def test_answers_to_receipt_messages_that_are_none(change: dict[str, object]) -> None:
    with pytest.raises(Refused, match="bad-message"):
        decode_received(cbor.encode({"recorded": 1, "covered": 2, "refused": ""} | change))


def test_the_largest_receipt_message_fits() -> None:
    signatures = [(TaskId("t-" + "0" * 32), bytes(64))] * OUTBOX_BATCH
    body = encode_receipts(signatures, behalf=Peer(NodeId("n" * 52), OrgDid("o" * 83)), voucher=Voucher(bytes(32), 2**53 - 1, bytes(64)))
    assert len(body) <= HEAD_BYTES


def test_receipts() -> None:
    assert decode_receipt(RECEIPT.payload()) == RECEIPT


def _body(head: object, tail: bytes = b"\xa0") -> bytes:
    encoded = cbor.encode(head)
    return struct.pack(">I", len(encoded)) + encoded + tail


def _head(body: bytes) -> dict[str, object]:
    (length,) = struct.unpack_from(">I", body)
    head = cbor.decode(body[4 : 4 + length], max_bytes=HEAD_BYTES)
    assert isinstance(head, dict)
    return dict(head)


WRONG: dict[str, list[object]] = {
    "v": [2, "1", None, True],
    "task": ["", "x-1", "t" * 129, 1, None, b"t-1"],
    "agent": ["", "a" * 129, 1],
    "tool": ["", "t" * 129, []],
    "key": ["k" * 129, None, 5],
    "timeout": [0, -1, 3_600_001, 1.5, "1", True],
    "priority": [10, -1, None],
    "budget": [-1, 2**63, "1"],
    "behalf": [[], ["n"], ["n", 5], ["n", "o", "p"], "n", {"n": "o"}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_requests_with_a_wrong_field(name: str, value: object) -> None:
    head = _head(encode_request(REQUEST))
    assert decode_request(_body(head)) == REQUEST
    with pytest.raises(Refused, match="bad-message"):
        decode_request(_body(head | {name: value}))
    del head[name]
    with pytest.raises(Refused, match="bad-message"):
        decode_request(_body(head))


WRONG_REPLY: dict[str, list[object]] = {
    "v": [0, "1"],
    "status": ["done", 1, None],
    "has": [1, None, False],  # False: but there is a result
    "gone": ["no"],
    "problem": [["Failed", "n", "d", "h"], ["Nothing", "n", "d", "h", "done"], ["Failed", "n", "d", "h", "perhaps"], "x"],
    "receipt": [bytes(5000), "text"],
    "signature": [bytes(5000), None],
    "started": [-1, None],
    "ended": ["9"],
    "replayed": [0],
    "replica": ["r" * 257],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_REPLY.items() for value in values])
def test_replies_with_a_wrong_field(name: str, value: object) -> None:
    head = _head(encode_reply(ENDED, replayed=False))
    decode_reply(_body(head))
    with pytest.raises(Refused, match="bad-message"):
        decode_reply(_body(head | {name: value}))


@pytest.mark.parametrize("decode", [decode_request, decode_reply])
def test_bodies_that_are_none(decode: object) -> None:
    assert callable(decode)
    good = encode_request(REQUEST) if decode is decode_request else encode_reply(ENDED, replayed=False)
    head = _head(good)
    bodies = [good[:length] for length in range(len(good) - 6)]  # truncated inside the head
    bodies += [b"", b"\xff" * 100, struct.pack(">I", 2**32 - 1) + b"x" * 100, struct.pack(">I", HEAD_BYTES + 1) + bytes(HEAD_BYTES + 1)]
    bodies += [_body([]), _body("text"), _body(head | {"more": 1}), _body(None)]
    for body in bodies:
        with pytest.raises(Refused, match=r"bad-message|bad-encoding"):
            decode(body)


def test_arguments_beyond_the_bound() -> None:
    with pytest.raises(Refused, match="arguments-too-large"):
        encode_request(replace(REQUEST, arguments=bytes(MAX_ARGUMENTS_BYTES + 1)))
    with pytest.raises(Refused, match="arguments-too-large"):
        decode_request(_body(_head(encode_request(REQUEST)), bytes(MAX_ARGUMENTS_BYTES + 1)))


CALLED_OFF: dict[str, object] = {"v": 1, "task": "t-1", "agent": "a-1", "key": "k", "behalf": None}


@settings(max_examples=50, deadline=None)
@given(st.builds(TaskCallOff, NAMES.map(lambda name: TaskId("t-" + name)), NAMES.map(AgentId), NAMES | st.just(""), st.none() | PEERS))
def test_calling_off(asked: TaskCallOff) -> None:
    assert decode_call_off(encode_call_off(asked)) == asked


@pytest.mark.parametrize(
    "message",
    [
        CALLED_OFF | {"v": 2},
        CALLED_OFF | {"task": "x-1"},
        CALLED_OFF | {"task": 1},
        CALLED_OFF | {"task": "t" * 129},
        CALLED_OFF | {"agent": ""},
        CALLED_OFF | {"agent": "a" * 129},
        CALLED_OFF | {"key": None},
        CALLED_OFF | {"key": "k" * 129},
        CALLED_OFF | {"behalf": ["n"]},
        CALLED_OFF | {"more": 1},
        {"v": 1, "task": "t-1", "behalf": None},
        ["t-1"],
    ],
)
def test_calling_off_that_is_none(message: object) -> None:
    with pytest.raises(Refused, match="bad-message"):
        decode_call_off(cbor.encode(message))


def test_calling_off_truncated_and_oversized() -> None:
    good = encode_call_off(TaskCallOff(TaskId("t-1"), AgentId("a-1"), "k"))
    assert good == cbor.encode(CALLED_OFF)
    for length in range(len(good)):
        with pytest.raises(Refused):
            decode_call_off(good[:length])
    with pytest.raises(Refused, match="too-large"):
        decode_call_off(cbor.encode(CALLED_OFF | {"more": bytes(HEAD_BYTES)}))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for decode in (decode_request, decode_reply, decode_receipt, decode_receipts, decode_received, decode_call_off):
        with pytest.raises(MeshError):
            decode(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", 2),
        ("caller", ["n"]),
        ("status", "done"),
        ("request", b"short"),
        ("result", b"x" * 33),
        ("price", -1),
        ("at", None),
        ("more", 1),
    ],
)
def test_receipts_with_a_wrong_field(name: str, value: object) -> None:
    fields = cbor.decode(RECEIPT.payload(), max_bytes=5000)
    assert isinstance(fields, dict)
    with pytest.raises(Refused, match="bad-message"):
        decode_receipt(cbor.encode({**fields, name: value}))


@pytest.mark.parametrize(
    "message",
    [
        {"behalf": None, "receipts": [["t-1", b""]] * (OUTBOX_BATCH + 1)},
        {"behalf": None, "receipts": [["t-1"]]},
        {"behalf": None, "receipts": [[1, b""]]},
        {"behalf": None, "receipts": [["t-1", bytes(5000)]]},
        {"behalf": None, "receipts": {}},
        {"behalf": None},
        {"behalf": None, "receipts": [], "more": 1},
    ],
)
def test_receipt_messages_that_are_none(message: object) -> None:
    with pytest.raises(Refused, match="bad-message"):
        decode_receipts(cbor.encode(message))
