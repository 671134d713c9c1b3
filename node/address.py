"""Where to listen or dial: ``host:port``."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or dial. ``host`` is a name or an IP address without brackets; port 0, for listening, takes any."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``host:port`` or ``[v6]:port``; raises ValueError with what is wrong."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not host or (":" in host and not bracketed) or not re.fullmatch(r"[A-Za-z0-9.:_%-]{1,255}", host):
        raise ValueError(f"{text[:80]!r} is not host:port")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{text[:80]!r} has no port between 0 and 65535")
    return Address(host, int(port))
