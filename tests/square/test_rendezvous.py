"""A rendezvous: the mesh's nodes are told by what they have signed, page by page, and nothing of a stranger is kept."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.peer.envelope import consume_envelope
from multiaddr import Multiaddr

from meshos.crypto.keys import SigningKey, node_id
from meshos.errors import MeshError, Refused
from meshos.ids import NodeId
from meshos.node.runtime.square import rendezvous
from meshos.protocols.square import wire
from meshos.protocols.square.peer_record import RECORD_BYTES, Records, check, multiaddr, seal
from meshos.protocols.square.protobuf import Value, field, fields, varint
from tests.square.hosts import OTHERS, RECORDS, empty, ended, opened, still_serves, stranger
from tests.square.mesh import GENESIS

NAMESPACE = rendezvous.namespace_of(GENESIS.hash)
KEY = OTHERS[0]
NODE = node_id(KEY.public)
TCP, QUIC = "/ip4/192.0.2.1/tcp/8401", "/ip6/2001:db8::1/udp/8401/quic-v1"


def discover(namespace: str = NAMESPACE, limit: int = 0, cookie: bytes = b"") -> bytes:
    return field(1, 3) + field(5, field(1, namespace.encode()) + field(2, limit) + field(3, cookie))


def told(answer: bytes | None) -> tuple[list[bytes], bytes, Value]:
    """The records, the cookie and the status of an answer to DISCOVER."""
    assert answer is not None
    said = dict(fields(answer))
    assert said.keys() == {1, 6} and said[1] == 4
    rows = list(fields(_bytes(said[6])))
    records = [dict(fields(_bytes(row))) for tag, row in rows if tag == 1]
    assert all(record[1] == NAMESPACE.encode() and record[3] == rendezvous.TTL_S for record in records)
    return [_bytes(record[2]) for record in records], _bytes(dict(rows).get(2, b"")), dict(rows)[3]


def _bytes(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return value


def ask(request: bytes, known: Records = RECORDS) -> bytes | None:
    return rendezvous.answer(request, NAMESPACE, lambda: known)


# -- records -------------------------------------------------------------------------------------------------------------


def test_another_program_verifies_a_record_and_finds_the_node_in_it() -> None:
    sealed = seal(KEY.sign_bytes, NODE, [f"{TCP}/p2p/{NODE}", f"{QUIC}/p2p/{NODE}"], 1_764_000_000_000)
    _, record = consume_envelope(sealed, "libp2p-peer-record")
    assert str(record.peer_id) == NODE and record.seq == 1_764_000_000_000 and len(sealed) <= RECORD_BYTES
    assert [str(address) for address in record.addrs] == [TCP, QUIC]
    check(NODE, sealed)


@pytest.mark.parametrize(
    "text", [TCP, QUIC, "/dns/node.example/tcp/1", "/dns4/a.example/tcp/65535", "/dns6/b.example/udp/443/quic-v1", "/ip6/::1/tcp/80"]
)
def test_a_multiaddr_is_written_as_others_write_it(text: str) -> None:
    assert multiaddr(text) == Multiaddr(text).to_bytes()


def test_a_record_stays_small_and_names_no_place_that_there_cannot_be() -> None:
    long = f"/dns/{'x' * 120}.example/tcp/8401"
    assert 0 < len(seal(KEY.sign_bytes, NODE, [TCP, long, long], 1)) <= RECORD_BYTES
    for nowhere in ([], ["/ip4/192.0.2.1/tcp/99999"], ["/ip4/0.0.0.0/tcp/8401", "/ip6/::/udp/8401/quic-v1"]):
        assert seal(KEY.sign_bytes, NODE, nowhere, 1) == b""


SEALED = seal(KEY.sign_bytes, NODE, [TCP], 1)


@pytest.mark.parametrize("at", range(len(SEALED)))
def test_a_record_in_which_any_bit_is_changed_is_refused(at: int) -> None:
    with pytest.raises(Refused) as caught:
        check(NODE, bytes([*SEALED[:at], SEALED[at] ^ 1, *SEALED[at + 1 :]]))
    assert caught.value.name == "square-bad-record"


def test_a_record_of_another_node_is_refused() -> None:
    other = OTHERS[1]
    for record in (seal(other.sign_bytes, NODE, [TCP], 1), seal(other.sign_bytes, node_id(other.public), [TCP], 1)):
        with pytest.raises(Refused):
            check(NODE, record)
    with pytest.raises(Refused):
        check(NodeId("n1"), SEALED)


def test_a_node_whose_record_is_none_is_left_out_and_harms_nobody_else() -> None:
    known = Records()
    good = node_id(OTHERS[1].public)
    other = seal(OTHERS[1].sign_bytes, good, [TCP], 1)
    known.renew([(NODE, b"nonsense"), (good, other), (NodeId("0O"), b"more nonsense"), (NodeId("n1"), b"")])
    assert [record for _, record in known.page(0, 9)] == [other]
    known.renew([(NODE, SEALED)])
    assert [record for _, record in known.page(0, 9)] == [SEALED], "who is gone is told no more, and who is mended is"


def test_who_comes_again_with_its_cookie_gets_what_is_new_and_what_has_changed() -> None:
    first, second, third = ((node_id(key.public), seal(key.sign_bytes, node_id(key.public), [TCP], 1)) for key in OTHERS[:3])
    known = Records(start=1_764_000_000_000)
    known.renew([second, third])
    records, cookie, _ = told(ask(discover(), known))
    assert set(records) == {second[1], third[1]} and told(ask(discover(cookie=cookie), known)) == ([], cookie, 0)
    moved = (third[0], seal(OTHERS[2].sign_bytes, third[0], [QUIC], 2))
    known.renew([first, second, moved])
    assert set(told(ask(discover(cookie=cookie), known))[0]) == {first[1], moved[1]}
    again = Records(start=1_764_000_100_000)
    again.renew([first])
    assert told(ask(discover(cookie=cookie), again))[0] == [first[1]], "a node that has started again tells all"


def test_rust_libp2p_can_read_a_cookie() -> None:
    """``Cookie::from_wire_encoding``: eight bytes, and a namespace in UTF-8 behind them."""
    for request in (discover(), discover(limit=1), discover(namespace="/meshos/0000000000000000")):
        assert len(told(ask(request))[1]) == 8
    assert len(told(ask(discover(), Records()))[1]) == 8


# -- the point -----------------------------------------------------------------------------------------------------------


def test_all_nodes_are_told_once_page_by_page() -> None:
    found, cookie = list[bytes](), b""
    while True:
        records, cookie, status = told(ask(discover(limit=7, cookie=cookie)))
        assert status == 0 and len(records) <= 7
        if not records:
            break
        found += records
    assert len(found) == len(set(found)) == len(OTHERS)
    assert sorted(found) == sorted(told(ask(discover()))[0]) == sorted(told(ask(discover(namespace="")))[0])


def test_a_page_has_an_end_whatever_is_asked_for() -> None:
    many, keys = Records(), [SigningKey(number.to_bytes(32, "big")) for number in range(1, rendezvous.REGISTRATIONS + 5)]
    many.renew((node_id(key.public), seal(key.sign_bytes, node_id(key.public), [TCP], 1)) for key in keys)
    assert len(told(ask(discover(limit=10**6), many))[0]) == rendezvous.REGISTRATIONS


def test_another_namespace_has_nobody_in_it() -> None:
    assert told(ask(discover(namespace="/meshos/0000000000000000"))) == ([], bytes(8), 0)


def test_a_cookie_of_somebody_else_is_invalid() -> None:
    assert told(ask(discover(cookie=b"cookie")))[2] == 103


def test_who_would_be_registered_is_not_and_who_would_be_forgotten_is_not_answered() -> None:
    answer = ask(field(1, 0) + field(2, field(1, NAMESPACE.encode()) + field(2, SEALED)))
    assert answer is not None
    said = dict(fields(answer))
    assert said[1] == 1 and dict(fields(_bytes(said[3])))[1] == 200
    assert ask(field(1, 2) + field(4, field(1, NAMESPACE.encode()))) is None


NO_QUESTIONS = [b"", b"\xff", field(1, 4), field(1, 100), field(1, 3) + field(5, 7), field(1, 3) + field(5, field(2, b"x"))]


@pytest.mark.parametrize("request_", [*NO_QUESTIONS, b"\x09" + bytes(8), varint(10) + b"\x7f"])
def test_what_is_no_question_is_refused(request_: bytes) -> None:
    with pytest.raises(Refused) as caught:
        ask(request_)
    assert caught.value.name == "square-bad-rendezvous"


@given(st.binary(max_size=80))
def test_no_bytes_of_a_stranger_are_an_error(request_: bytes) -> None:
    for request in (request_, field(1, 3) + field(5, request_)):
        try:
            ask(request)
        except Refused as refused:
            assert refused.name == "square-bad-rendezvous"


@pytest.mark.parametrize("quic", [False, True])
async def test_a_stranger_meets_the_nodes_and_an_abuser_loses_the_stream(nursery: trio.Nursery, quic: bool) -> None:
    of = await opened(nursery)
    async with stranger(of, quic=quic) as asking:
        stream = await asking.open(rendezvous.PROTOCOL)
        await stream.write(wire.frame(discover()))
        records, _, _ = told(await stream.frame(64 << 10, idle_s=5, whole_s=5))
        assert {str(consume_envelope(record, "libp2p-peer-record")[1].peer_id) for record in records} == {node_id(k.public) for k in OTHERS}
        await stream.write(wire.frame(b"\xff"))
        with pytest.raises((MeshError, AssertionError)):
            assert await stream.frame(64 << 10, idle_s=5, whole_s=5) is not None
        await ended(of, "square-bad-rendezvous")
    await empty(of)
    await still_serves(of)
