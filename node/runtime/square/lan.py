"""The square on a local network: told by multicast DNS, so that who is on it needs no address. No libp2p in it.

A node tells only addresses that are a local network's own (private, link-local): elsewhere nobody near could use them, and a node on a
public address has nothing to announce next door. Multicast is not everywhere; where it cannot be had, the square does without.
"""

import ipaddress
import logging
import secrets
import struct
from collections.abc import Callable, Sequence

import trio

from meshos.errors import Refused
from meshos.protocols.square import lan

logger = logging.getLogger("meshos.square")

GROUP, PORT = "224.0.0.251", 5353
ANSWER_S = 1.0
"""Between one answer and the next (RFC 6762, section 6: a record is multicast once a second at most)."""
ASK_S = 2.0
FOUND = 64


def is_local(host: str) -> bool:
    """Whether an address is a local network's own, and not this machine's alone. Multicast is spoken over IPv4 here."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == 4 and address.is_private and not (address.is_loopback or address.is_unspecified)


async def tell(host: str, addresses: Callable[[], Sequence[str]], *, port: int = PORT) -> None:
    """Answer who asks on the network of ``host``, until cancelled; at once over where there is no multicast."""
    name = secrets.token_hex(lan.NAME_CHARS // 2)
    try:
        mouth = await _socket(host, port)
    except OSError as error:
        logger.info("square-lan", extra={"err": f"no multicast on {host}: {error.strerror}"})
        return
    with mouth:
        last = -ANSWER_S
        while True:
            try:
                data, _ = await mouth.recvfrom(lan.MESSAGE_BYTES + 1)
                now = trio.current_time()
                if lan.is_query(data) and now - last >= ANSWER_S and addresses():
                    last = now
                    await mouth.sendto(lan.answer(name, addresses()), (GROUP, port))
            except OSError:  # the network went away for a while
                await trio.sleep(ANSWER_S)


async def ask(host: str, *, timeout_s: float = ASK_S, port: int = PORT) -> tuple[str, ...]:
    """The multiaddrs that nodes on the network of ``host`` tell within that time, unproven. Raises OSError without multicast."""
    found: dict[str, None] = {}
    with await _socket(host, port) as mouth:
        await mouth.sendto(lan.query(), (GROUP, port))
        with trio.move_on_after(timeout_s):
            while len(found) < FOUND:
                data, _ = await mouth.recvfrom(lan.MESSAGE_BYTES + 1)
                try:
                    found.update(dict.fromkeys(lan.read_answer(data)))
                except Refused:
                    continue  # a question, ours among them, or somebody's noise
    return tuple(found)


async def _socket(host: str, port: int) -> trio.socket.SocketType:
    made = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    try:
        made.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        made.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEPORT, 1)
        await made.bind((GROUP, port))
        interface = ipaddress.IPv4Address(host).packed
        made.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_IF, interface)
        made.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_TTL, 1)
        made.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_ADD_MEMBERSHIP, struct.pack("4s4s", trio.socket.inet_aton(GROUP), interface))
    except BaseException:
        made.close()
        raise
    return made
