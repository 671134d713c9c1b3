"""Which address of this machine others reach it at."""

import ipaddress
import socket

from meshos.errors import BadInput, Failed

OUTSIDE = "198.51.100.1"
"""Of a network that exists in documents only (RFC 5737): the way to it is the way out."""


def towards(host: str = OUTSIDE, port: int = 9) -> str:
    """The address from which this machine reaches ``host``; nothing is sent to find out. Raises Failed ``no-own-address``."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        hint = "give the address that others reach it at: --host"
        raise Failed("no-own-address", f"this machine has no way to {host}: {error.strerror}", hint=hint) from error


def is_own(host: str) -> bool:
    """Whether ``host`` is an address of this machine, on which it can listen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def check_own(host: str) -> None:
    """Raise BadInput ``not-own-address`` unless ``host`` is an address of this machine."""
    if not is_own(host):
        hint = "`ip address` lists those that it has; behind a router give the one inside"
        raise BadInput("not-own-address", f"{host} is no address of this machine, so nothing can listen there", hint=hint)


def read_ip(text: str) -> str:
    """An IP address as it is written best; raises BadInput ``usage``."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise BadInput("usage", f"{text[:80]!r} is no IP address", hint="for instance --host 192.0.2.7") from error
