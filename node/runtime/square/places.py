"""Where squares are, as text: multiaddrs, and ``host:port``. No libp2p in it."""

from dataclasses import dataclass

from meshos.crypto.keys import public_key_of
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId
from meshos.node.address import parse_address


def ip(host: str) -> str:
    """A host as the beginning of a multiaddr."""
    if ":" in host:
        return f"/ip6/{host}"
    return f"/ip4/{host}" if host.replace(".", "").isdigit() else f"/dns/{host}"


def tcp(host: str, port: int, node: NodeId) -> str:
    """Where ``node`` takes TCP."""
    return f"{ip(host)}/tcp/{port}/p2p/{node}"


def quic(host: str, port: int, node: NodeId) -> str:
    """Where ``node`` takes QUIC."""
    return f"{ip(host)}/udp/{port}/quic-v1/p2p/{node}"


@dataclass(frozen=True, slots=True)
class Where:
    """Whom to dial. ``peer`` is empty where any node will do."""

    host: str
    port: int
    peer: str = ""
    quic: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{' by QUIC' if self.quic else ''}"


def where(text: str) -> Where:
    """The place that a multiaddr over TCP or QUIC, or ``host:port`` names; raises BadInput ``bad-square-address``."""
    if not text.startswith("/"):
        try:
            address = parse_address(text)
        except ValueError as error:
            raise _bad_address(text) from error
        return Where(address.host, address.port)
    bare, _, peer = text.partition("/p2p/")
    match bare.strip("/").split("/"):
        case [("ip4" | "ip6" | "dns" | "dns4" | "dns6"), host, ("tcp" | "udp") as kind, port, *rest] if port.isascii() and port.isdigit():
            quic = kind == "udp"
            if int(port) < 65_536 and rest == (["quic-v1"] if quic else []) and (not peer or _is_node(peer)):
                return Where(host, int(port), peer, quic)
    raise _bad_address(text)


def _is_node(peer: str) -> bool:
    try:
        public_key_of(NodeId(peer))
    except Refused:
        return False
    return True


def _bad_address(text: str) -> BadInput:
    return BadInput(
        "bad-square-address",
        f"{text[:120]!r} is no address of a square",
        hint="write /ip4/HOST/tcp/PORT/p2p/NODE_ID, or HOST:PORT where any node will do",
    )
