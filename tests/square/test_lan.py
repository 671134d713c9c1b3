"""A node on a local network is found by who asks for libp2p peers; noise of the network is passed over."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshos.errors import Refused
from meshos.node.runtime.square import lan as network
from meshos.protocols.square import lan
from tests.square.mesh import ME

ADDRESSES = (f"/ip4/192.168.7.9/tcp/8401/p2p/{ME.node}", f"/ip4/192.168.7.9/udp/8401/quic-v1/p2p/{ME.node}")


def test_a_query_is_known_and_an_answer_read() -> None:
    assert lan.is_query(lan.query()) and not lan.is_query(lan.answer("n" * 32, ADDRESSES))
    assert lan.read_answer(lan.answer("n" * 32, ADDRESSES)) == ADDRESSES


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: b"\x00\x00\x84" + d[3:], lambda d: d.replace(b"_p2p", b"_ipp"), lambda d: bytes(2000)]
)
def test_another_question_is_none_of_ours(change: object) -> None:
    assert not lan.is_query(change(lan.query()))  # type: ignore[operator]


@given(st.binary(max_size=300))
def test_no_bytes_of_the_network_are_an_error(data: bytes) -> None:
    lan.is_query(data)
    try:
        lan.read_answer(data)
    except Refused as refusal:
        assert refusal.name == "square-bad-mdns"


@given(st.integers(0, 200))
def test_an_answer_that_is_cut_off_is_passed_over(size: int) -> None:
    whole = lan.answer("n" * 32, ADDRESSES)
    with pytest.raises(Refused):
        lan.read_answer(whole[: min(size, len(whole) - 1)])


def test_only_what_is_an_address_is_taken_from_an_answer() -> None:
    assert lan.read_answer(lan.answer("n" * 32, ["http://x", "/ip4/1.2.3.4/tcp/1", ADDRESSES[0], "x" * 300])) == ADDRESSES[:1]


@pytest.mark.parametrize(
    ("host", "local"),
    [("192.168.1.2", True), ("10.0.0.1", True), ("127.0.0.1", False), ("0.0.0.0", False), ("8.8.8.8", False), ("example.org", False)],
)
def test_only_a_local_network_is_told(host: str, local: bool) -> None:
    assert network.is_local(host) is local


async def test_who_asks_the_network_finds_the_node(nursery: trio.Nursery) -> None:
    nursery.start_soon(lambda: network.tell("127.0.0.1", lambda: ADDRESSES, port=15353))
    await trio.sleep(0.05)
    try:
        found = await network.ask("127.0.0.1", timeout_s=0.5, port=15353)
    except OSError:
        pytest.skip("this machine has no multicast on its loopback")
    assert found == ADDRESSES
    nursery.cancel_scope.cancel()
