"""What a node gives its square to be told to strangers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshos.protocols.square.answering import Answering
from meshos.protocols.square.peer_record import Records
from meshos.protocols.square.routes import Routes


def _nobody(addresses: tuple[str, ...]) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Offer:
    """``agent`` is what identify says of the program. ``opened`` is called with the square's multiaddrs each time that it opens."""

    answering: Answering
    genesis_hash: bytes
    agent: str
    addresses: Callable[[], tuple[str, ...]] = tuple
    routes: Callable[[], Routes] = Routes
    records: Callable[[], Records] = Records
    news: Callable[[], Mapping[str, bytes]] = dict
    """What is to be announced now, by topic."""
    opened: Callable[[tuple[str, ...]], None] = _nobody
