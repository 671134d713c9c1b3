"""Where a member says that it is: whatever it says, sending there loses a datagram at most."""

import pytest

from meshos.crypto.boxes import Boxes
from meshos.crypto.keys import SigningKey, node_id
from meshos.node.runtime.gossip import Gossip
from meshos.protocols.membership.events import Ping, SendDatagram
from tests.gossip.test_budget import HASH

NONE = (
    "[fe80::1%\u00e9..x]:7001",  # a zone is any text, and the socket makes a host name of it
    "[fe80::1%" + "\u00e9" * 32 + "]:7001",
    "[fe80::1%\u3002\u3002]:7001",
    "[fe80::1%lo]:7001",
    "localhost:7001",
    "a..b:7001",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:\u00b2",
    "127.0.0.1",
    "[::1",
    ":",
    "",
)


@pytest.mark.parametrize("address", NONE)
def test_nothing_is_sent_to_what_is_no_address_and_nothing_breaks(address: str) -> None:
    gossip = Gossip(Boxes(SigningKey(b"1" * 32), HASH), None, None, lambda event: None, lambda node: False)  # type: ignore[arg-type]
    gossip.open("127.0.0.1", 0)
    assert gossip._socket is not None
    try:
        gossip.send(SendDatagram(node_id(SigningKey(b"2" * 32).public), address, Ping(1)))
        assert gossip.statistics()["not_sent"] == 1
    finally:
        gossip._socket.close()
