"""One UDP socket: batches out with segmentation offload (UDP GSO), trains in (UDP GRO), and whose port is closed.

A system call costs more than sealing a datagram, so that datagrams of one size to one address go out in one (Linux 4.18), and those
that came together come in in one (Linux 5.0). Where the kernel or a network card cannot, they go one by one.

ICMP's "port unreachable" is asked for (``IP_RECVERR``): it tells a dial at once that nobody is there, as a reset does over TCP. It is as
easily forged by whoever sees the traffic, and so counts for dials only.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence
from itertools import groupby
from typing import Final, TypeAlias

from meshos.node.runtime.links.limits import QUIC_BATCH, QUIC_RECEIVE_BUFFER_BYTES

Address: TypeAlias = tuple[str, int]

_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SO_RCVBUFFORCE: Final = 33
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
_MSG_ERRQUEUE: Final = 0x2000

TRAIN_BYTES: Final = 65_000
"""Of one send with segmentation: below what a UDP length field can say."""
TRAIN_DATAGRAMS: Final = 64
"""``UDP_MAX_SEGMENTS`` of kernels before 6.9."""
_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})


class UdpSocket:
    """Bound and not blocking. Addresses are ``(host, port)``, hosts of IPv4 as such also on a socket of both families."""

    def __init__(self, host: str, port: int) -> None:
        """Raises OSError if the port cannot be had."""
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.raw = socket.socket(self.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.dropped = 0
        """Datagrams that the kernel did not take: lost, as if on the way."""
        try:
            if self.family == socket.AF_INET6 and ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
                self.raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self._tune()
            self.raw.bind((host, port))
        except BaseException:
            self.raw.close()
            raise
        self.host, self.port = self.raw.getsockname()[:2]

    def _tune(self) -> None:
        """All of it is better, and none is needed."""
        v6 = self.family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
        self.gso = self._set(_SOL_UDP, _UDP_SEGMENT, 0)
        self.gro = self._set(_SOL_UDP, _UDP_GRO, 1)
        self._set(level, _IPV6_MTU_DISCOVER if v6 else _IP_MTU_DISCOVER, _PMTUDISC_PROBE)  # no fragments: sizes are found by probing
        self._set(level, _IPV6_RECVERR if v6 else _IP_RECVERR, 1)
        if not self._set(socket.SOL_SOCKET, _SO_RCVBUFFORCE, QUIC_RECEIVE_BUFFER_BYTES):
            self._set(socket.SOL_SOCKET, socket.SO_RCVBUF, QUIC_RECEIVE_BUFFER_BYTES)
        self._set(socket.SOL_SOCKET, socket.SO_SNDBUF, QUIC_RECEIVE_BUFFER_BYTES)

    def _set(self, level: int, option: int, value: int) -> bool:
        try:
            self.raw.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close it; closing twice is no error."""
        self.raw.close()

    # -- sending -----------------------------------------------------------------------------------------------------

    def send(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """Send or lose them."""
        if len(datagrams) == 1 or not self.gso:
            for data, address in datagrams:
                self._send_one(data, address)
            return
        for address, group in groupby(datagrams, key=_address_of):
            for train in trains([data for data, _ in group]):
                self._send_train(train, address)

    def _send_train(self, train: list[bytes], address: Address) -> None:
        if len(train) == 1:
            self._send_one(train[0], address)
            return
        size = [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", len(train[0])))]
        try:
            self.raw.sendmsg(train, size, 0, self._to(address))
        except OSError as error:
            uncut = error.errno in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP)
            if not uncut and error.errno not in _REFUSED:  # which is about an earlier one
                self.dropped += len(train)
                return
            sent = [self._send_one(data, address) for data in train]
            if uncut and sent[0]:  # the card cannot; else it is the address to which nothing can be sent
                self.gso = False

    def _send_one(self, data: bytes, address: Address) -> bool:
        for _ in range(2):
            try:
                self.raw.sendto(data, self._to(address))
                return True
            except OSError as error:  # full, too large, no route
                if error.errno not in _REFUSED:
                    break
        self.dropped += 1
        return False

    def _to(self, address: Address) -> Address:
        host, port = address
        return (f"::ffff:{host}", port) if self.family == socket.AF_INET6 and ":" not in host else address

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive(self) -> tuple[list[tuple[bytes, Address]], list[Address]]:
        """What has come, up to a batch of it, and which addresses have said that nobody is there."""
        received: list[tuple[bytes, Address]] = []
        refused: list[Address] = []
        for _ in range(QUIC_BATCH):
            try:
                data, ancillary, _, source = self.raw.recvmsg(65_535, 64)
            except BlockingIOError:
                break
            except OSError:
                refused += self._errors()
                continue
            address = _plain(source)
            if address[1] == 0:  # whoever has no port cannot be answered
                continue
            if ancillary and len(data) > (size := _segment(ancillary)) > 0:
                received += [(data[at : at + size], address) for at in range(0, len(data), size)]
            else:
                received.append((data, address))
        if not received:  # what ICMP says of some errors only waits in their queue, which keeps the socket readable until it is read
            refused += self._errors()
        return received, refused

    def _errors(self) -> list[Address]:
        refused = []
        for _ in range(QUIC_BATCH):
            try:
                _, ancillary, _, destination = self.raw.recvmsg(0, 512, _MSG_ERRQUEUE)
            except OSError:  # none left
                break
            for _, kind, value in ancillary:
                if kind in (_IP_RECVERR, _IPV6_RECVERR) and len(value) >= 4 and struct.unpack_from("=I", value)[0] in _REFUSED:
                    refused.append(_plain(destination))
        return refused


def trains(datagrams: list[bytes]) -> list[list[bytes]]:
    """``datagrams`` in as few sends as can be: of one all have the same size, and only the last may be smaller."""
    made: list[list[bytes]] = []
    left = 0
    for data in datagrams:
        if made and len(data) <= left and len(made[-1]) < TRAIN_DATAGRAMS and len(made[-1][-1]) == len(made[-1][0]) >= len(data):
            made[-1].append(data)
        else:
            made.append([data])
            left = TRAIN_BYTES
        left -= len(data)
    return made


def _address_of(datagram: tuple[bytes, Address]) -> Address:
    return datagram[1]


def _plain(source: tuple[object, ...]) -> Address:
    host, port = str(source[0]), source[1]
    assert isinstance(port, int)
    return (host[7:] if host.startswith("::ffff:") and "." in host else host), port


def _segment(ancillary: list[tuple[int, int, bytes]]) -> int:
    return next((struct.unpack_from("=i", value)[0] for level, kind, value in ancillary if level == _SOL_UDP and kind == _UDP_GRO), 0)
