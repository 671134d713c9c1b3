"""Which connections there are, and which may come: counted by address and by peer, and ended by this node's own clock."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from meshos.buckets import block_of
from meshos.errors import Refused, busy
from meshos.node.runtime.square import limits


@dataclass(eq=False, slots=True)
class Connection:
    """One that was let in. ``peer`` is empty until it has proven its key; ``scope`` ends it."""

    address: str
    transport: str
    opened: float
    active: float
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    peer: str = ""
    streams: int = 0
    refused: int = 0
    """Streams that it was refused."""
    ended_for: str = ""
    """The refusal's name, where this side has ended it."""
    block: str = field(init=False)
    """Whose count it is on."""

    def __post_init__(self) -> None:
        self.block = block_of(self.address)

    def end(self, why: str) -> None:
        """End it, and remember why."""
        self.ended_for = self.ended_for or why
        self.scope.cancel()


class Table:
    """See the module's text."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.ended: Counter[str] = Counter()
        """Connections that this side has refused or ended, by the refusal's name."""
        self.came = 0
        self._untaken: Counter[str] = Counter()  # bytes written and not taken yet, by whose count they are on

    def enter(self, address: str, transport: str, now: float) -> Connection:
        """Let one in that has not proven its key; raises Refused ``square-too-many`` or ``busy``."""
        block = block_of(address)
        if sum(one.block == block for one in self.connections) >= limits.CONNECTIONS_AN_ADDRESS:
            raise _too_many("address")
        begun = [one for one in self.connections if not one.peer]
        if sum(one.block == block for one in begun) >= limits.HANDSHAKES_AN_ADDRESS:
            raise _too_many("address", "handshakes under way")
        if len(begun) >= limits.HANDSHAKES:  # addresses that say nothing: who has had longest gives way to who may be honest
            self._give_way(min(begun, key=lambda one: one.opened), "square-slow-handshake")
        if len(self.connections) >= limits.CONNECTIONS and not self._make_room(now):
            raise busy("the square")
        connection = Connection(address, transport, now, now)
        self.connections.add(connection)
        self.came += 1
        return connection

    def proven(self, connection: Connection, peer: str) -> None:
        """It has proven to be ``peer``; raises Refused ``square-too-many``."""
        if sum(one.peer == peer for one in self.connections) >= limits.CONNECTIONS_A_PEER:
            raise _too_many("peer")
        connection.peer = peer

    def leave(self, connection: Connection) -> None:
        """It is over."""
        self.connections.discard(connection)
        if connection.ended_for:
            self.ended[connection.ended_for] += 1

    def open_stream(self, connection: Connection, now: float) -> None:
        """One more stream of it; raises Refused ``square-too-many`` or ``busy``. ``close_stream`` follows."""
        if connection.streams >= limits.STREAMS:
            raise _too_many("connection", "streams")
        if sum(one.streams for one in self.connections) >= limits.STREAMS_IN_ALL:
            raise busy("the square's list of streams")
        connection.streams += 1
        connection.active = now

    def close_stream(self, connection: Connection, now: float) -> None:
        """A stream of it is over."""
        connection.streams -= 1
        connection.active = now

    @contextmanager
    def writing(self, connection: Connection, count: int) -> Iterator[None]:
        """While so many bytes wait for the peer to take them; raises Refused ``busy`` where as many wait as may."""
        if self._untaken[connection.block] + count > limits.UNTAKEN_AN_ADDRESS_BYTES:
            raise busy("what waits for your address to take it")
        if self._untaken.total() + count > limits.UNTAKEN_BYTES:
            raise busy("what waits for strangers to take it")
        self._untaken[connection.block] += count
        try:
            yield
        finally:
            self._untaken[connection.block] -= count
            if not self._untaken[connection.block]:
                del self._untaken[connection.block]

    def reap(self, now: float) -> None:
        """End what was quiet for too long, or has lasted long enough."""
        for one in self.connections:
            if now - one.active > limits.IDLE_S and not one.streams:
                one.end("square-idle")
            elif now - one.opened > limits.LIFETIME_S:
                one.end("square-lifetime")

    def _make_room(self, now: float) -> bool:
        quiet = [one for one in self.connections if not one.streams and now - one.active > limits.EVICTABLE_S and not one.ended_for]
        if not quiet:
            return False
        self._give_way(min(quiet, key=lambda one: one.active), "square-idle")
        return True

    def _give_way(self, one: Connection, why: str) -> None:
        one.end(why)
        self.leave(one)
        one.ended_for = ""  # it is counted

    def statistics(self) -> dict[str, float]:
        """What there is now, and what there was."""
        return {
            "connections": len(self.connections),
            "connections_quic": sum(one.transport == "quic" for one in self.connections),
            "streams": sum(one.streams for one in self.connections),
            "untaken_bytes": self._untaken.total(),
            "came": self.came,
            "ended": self.ended.total(),
        }


def _too_many(of: str, what: str = "connections") -> Refused:
    return Refused("square-too-many", f"one {of} has as many {what} here as it may have", hint="use those that are open")
