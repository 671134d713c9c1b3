"""Whether a UDP port can be had, asked before anything depends on it."""

import socket


def why_taken(host: str, port: int) -> str:
    """Why nothing can listen there over UDP; empty where it can."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""
