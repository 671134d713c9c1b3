"""Multiaddrs of the square, as text: no libp2p in it."""

from meshos.ids import NodeId


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
