"""A square's host with all that it speaks: what ``square.py`` loads when the first stranger knocks."""

import logging
from collections.abc import Callable, Sequence

from meshos.node.runtime.square import serving
from meshos.node.runtime.square.host import SquareHost
from meshos.protocols.square.answering import Answering

for _noisy in ("libp2p", "quic", "aioquic"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)  # they warn of what strangers send, who could fill the log so


def open_host(seed: bytes, answering: Answering, agent: str, addresses: Callable[[], Sequence[str]]) -> SquareHost:
    """The host of the node whose key has this seed."""
    host = SquareHost(seed, answering.budget, serving.handlers(answering))
    host.handlers[serving.IDENTIFY] = serving.identify(host, answering, agent, addresses)
    return host
