"""What nodes of benchmarks serve: they echo (ECHO), give as many bytes as they are asked for (BIG), and ask from a Flow (ASKING)."""

from meshos.effects import Sign
from meshos.flow import Ask
from meshos.flow_machine import Service
from meshos.ids import Peer
from meshos.protocols.rpc.events import Inbound

ECHO, BIG, ASKING = "/bench/echo/1", "/bench/big/1", "/bench/asking/1"


async def echo(request: Inbound) -> bytes:
    """What was sent."""
    return request.body


async def big(request: Inbound) -> bytes:
    """As many bytes as the request says."""
    return bytes(int(request.body))


async def asking(ask: Ask) -> bytes:
    """The answer of another node."""
    return await ask


SERVICES: dict[str, Service] = {ECHO: echo, BIG: big, ASKING: asking}


def anybody(peer: Peer) -> bool:
    """Whoever is linked may ask."""
    return True


async def no_signature(sign: Sign) -> bytes:
    """These nodes sign nothing."""
    raise AssertionError(f"nothing is signed in this benchmark: {sign}")
