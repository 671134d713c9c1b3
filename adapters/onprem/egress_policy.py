"""Which addresses a node connects to on somebody else's behalf: public ones, and those that its owner names.

The rule alone; egress.py holds connections to it.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from meshos.errors import BadInput

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEVER = tuple(map(ipaddress.ip_network, ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "64:ff9b:1::/48")))
"""Special-purpose networks (RFC 6890) of which some versions of ``ipaddress`` let parts pass as global."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK = ("127.0.0.0/8", "::1/128")
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))):([0-9]{1,5})")
_HINT = 'write a network as in "10.0.0.0/8", or a host with its port as in "agents.internal:8443"'


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """``networks`` and ``hosts`` are what is allowed beyond public addresses (`egress.allow`); a testnet allows ``LOOPBACK``.

    A host is allowed with one port, whatever address its name has: its owner vouches for the name.
    """

    networks: tuple[Network, ...] = ()
    hosts: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def of(cls, allow: Iterable[str]) -> "EgressPolicy":
        """From the texts of a config; raises BadInput ``bad-value`` for one that is neither a network nor a host with its port."""
        networks: list[Network] = []
        hosts: set[tuple[str, int]] = set()
        for text in allow:
            match = _HOST_AND_PORT.fullmatch(text)
            if match is None:
                networks.append(_network(text))
            else:
                hosts.add(_host(text, match[1] or match[2], int(match[3])))
        return cls(tuple(networks), frozenset(hosts))

    def permits(self, address: Address, host: str = "", port: int = 0) -> bool:
        """Whether a connection to ``port`` of ``address``, which ``host`` was resolved to, may be made."""
        plain = _unwrapped(address)
        if (host.lower().rstrip("."), port) in self.hosts or (str(plain), port) in self.hosts:
            return True
        if any(plain in network for network in self.networks if network.version == plain.version):
            return True
        if any(plain in network for network in _NEVER if network.version == plain.version):
            return False
        return plain.is_global and not plain.is_multicast and not plain.is_reserved


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        why = "a network with bits set beyond its length" if "host bits" in str(error) else "neither a network nor host:port"
        raise BadInput("bad-value", f"{text[:60]!r} is {why}", hint=_HINT) from error


def _host(text: str, host: str, port: int) -> tuple[str, int]:
    if not 1 <= port <= 65_535:
        raise BadInput("bad-value", f"{text[:60]!r} has no port between 1 and 65535", hint=_HINT)
    try:
        return str(_unwrapped(ipaddress.ip_address(host))), port
    except ValueError:
        if ":" in host or host.rpartition(".")[2].isdigit():
            raise BadInput("bad-value", f"{text[:60]!r} begins like an address and is none", hint=_HINT) from None
        return host.lower().rstrip("."), port


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address only wraps (mapped, NAT64, 6to4), since that is where a packet ends."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return inner
    return address
