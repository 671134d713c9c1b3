"""What the transports know of their paths: losses, what waits for an acknowledgement, and for how long."""

import socket

import trio

from meshos.node.runtime.links.transport import LOSS_WEIGHT, NOTHING, ROUND_TRIPS, Measuring, Transport, of_tcp
from tests.links.test_quic_paths import Joined


async def test_tcp_says_how_long_something_waits() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener, await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]) as stream:
        async with await listener.accept():
            await stream.send_all(b"x" * 1000)
            with trio.fail_after(5):
                while of_tcp(stream.socket).waits:
                    await trio.sleep(0.001)
            known = of_tcp(stream.socket)
            assert known.sent >= 1 and known.lost == 0 and known.recovery_s > 0 and not known.waits
        closed = stream.socket
    assert of_tcp(closed) is NOTHING, "of one that is closed nothing is known"


async def test_a_socket_that_is_no_tcp_is_not_known() -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert of_tcp(udp) is NOTHING


def test_quic_says_how_long_something_waits_and_what_was_lost() -> None:
    joined = Joined()
    joined.client.write(b"x")
    joined.exchange()
    before = joined.client.transport(joined.now)
    assert not before.waits and before.sent > 0 and before.recovery_s > 0 and before.rate > 0
    joined.client.write(b"y" * 100)
    joined.client.datagrams_to_send(joined.now)  # and nobody gets them
    joined.now += 0.01
    waiting = joined.client.transport(joined.now)
    assert waiting.waits and waiting.lost == before.lost
    for _ in range(3):
        timer = joined.client.get_timer()
        assert timer is not None
        joined.now = max(joined.now, timer)
        joined.client.handle_timer(joined.now)
        joined.client.datagrams_to_send(joined.now)
    late = joined.client.transport(joined.now)
    assert late.waits and late.lost > before.lost and late.acknowledged_s > waiting.acknowledged_s
    then = joined.now
    for _ in range(20):  # until the timeout, which has doubled three times, has come once more
        joined.exchange()
    again = joined.client.transport(joined.now)
    assert not again.waits and joined.now - again.acknowledged_s > then


def test_losses_are_remembered_for_a_while() -> None:
    measuring = Measuring()
    measuring.look(Transport(sent=100, lost=0))
    measuring.look(Transport(sent=200, lost=50))
    assert measuring.loss == LOSS_WEIGHT * 0.5
    measuring.look(Transport(sent=200, lost=50))
    assert measuring.loss == LOSS_WEIGHT * 0.5, "nothing was sent: nothing is learnt"
    measuring.look(Transport(sent=300, lost=50))
    assert 0 < measuring.loss < LOSS_WEIGHT * 0.5


def test_the_shortest_of_the_last_round_trips_counts() -> None:
    measuring = Measuring()
    assert measuring.rtt_s is None
    for rtt_s in (0.001, 0.2, *[0.1] * (ROUND_TRIPS - 2)):
        measuring.ponged(rtt_s)
    assert measuring.rtt_s == 0.001
    measuring.ponged(0.3)
    assert measuring.rtt_s == 0.1


def test_what_waits_has_waited_since_it_was_written_and_since_anything_was_acknowledged() -> None:
    measuring = Measuring()
    assert measuring.measured(Transport(waits=False, acknowledged_s=9.0), 5.0).unanswered_s == 0.0
    assert measuring.measured(Transport(waits=True, acknowledged_s=9.0), 0.2).unanswered_s == 0.2
    assert measuring.measured(Transport(waits=True, acknowledged_s=0.1), 0.2).unanswered_s == 0.1
