"""A rendezvous point for the nodes of the mesh (libp2p specs, rendezvous): who asks gets their signed peer records, page by page.

A cookie is a number of eight bytes, the record's that was told last: with it comes what this point has learned since. (rust-libp2p reads
eight bytes and a namespace; for others a cookie is any bytes.)

Nobody is registered here who says so: nodes of the mesh are known by their membership, and their records come with it. So nothing of a
stranger is kept, and REGISTER is answered with E_NOT_AUTHORIZED. A record is its node's own word, which the asker verifies.
"""

from collections.abc import Callable
from functools import partial

import trio

from meshos.errors import Refused
from meshos.node.runtime.square import limits
from meshos.node.runtime.square.host import Handler
from meshos.node.runtime.square.streams import Stream
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Answering, Asker
from meshos.protocols.square.peer_record import Records
from meshos.protocols.square.protobuf import Value, field, fields

PROTOCOL = "/rendezvous/1.0.0"
COST = 5
MESSAGE_BYTES = 4 * limits.KIB
REGISTRATIONS = 100
"""In one answer, whatever the asker's limit: some 25 KiB."""
TTL_S = 7_200
"""What the specification takes where nothing is said. Who is gone earlier is told no more."""

_REGISTER, _REGISTER_RESPONSE, _UNREGISTER, _DISCOVER, _DISCOVER_RESPONSE = range(5)
_OK, _INVALID_COOKIE, _NOT_AUTHORIZED = 0, 103, 200
_COOKIE_BYTES = 8


def namespace_of(genesis_hash: bytes) -> str:
    """Under which name this mesh's nodes are told."""
    return f"/meshos/{genesis_hash[:8].hex()}"


def handler(answering: Answering, namespace: str, known: Callable[[], Records]) -> Handler:
    """One for the mesh's nodes."""
    return partial(_serve, answering, namespace, known)


async def _serve(answering: Answering, namespace: str, known: Callable[[], Records], stream: Stream, asker: Asker) -> None:
    while True:
        request = await stream.frame(MESSAGE_BYTES, idle_s=limits.STREAM_IDLE_S, whole_s=limits.REQUEST_S)
        if request is None:
            return
        answering.budget.take(trio.current_time(), COST, address=asker.address, peer=asker.peer)
        said = answer(request, namespace, known)
        if said is not None:
            await stream.write(wire.frame(said))


def answer(request: bytes, namespace: str, known: Callable[[], Records]) -> bytes | None:
    """The answer to a message; None to UNREGISTER, which has none. Raises Refused ``square-bad-rendezvous``."""
    try:
        asked = dict(fields(request))
        kind = asked.get(1, _REGISTER)
        if kind == _REGISTER and 2 in asked:
            told = field(1, _NOT_AUTHORIZED) + field(2, b"only nodes of the mesh are told of here, and these are known already")
            return field(1, _REGISTER_RESPONSE) + field(3, told)
        if kind == _UNREGISTER:
            return None
        if kind == _DISCOVER:
            return field(1, _DISCOVER_RESPONSE) + field(6, _discovered(dict(fields(_bytes(asked.get(5, b"")))), namespace, known))
    except ValueError as error:
        raise Refused("square-bad-rendezvous", "this is no message of libp2p's rendezvous") from error
    raise Refused("square-bad-rendezvous", "this is no message of libp2p's rendezvous that is asked of a point")


def _discovered(asked: dict[int, Value], namespace: str, known: Callable[[], Records]) -> bytes:
    wanted, limit, cookie = _bytes(asked.get(1, b"")), asked.get(2, 0), _bytes(asked.get(3, b""))
    if cookie and len(cookie) != _COOKIE_BYTES:
        return field(3, _INVALID_COOKIE) + field(4, b"this cookie was not given by a node of the mesh")
    if not isinstance(limit, int):
        raise ValueError("a limit is a number")
    most, after = min(limit or REGISTRATIONS, REGISTRATIONS), int.from_bytes(cookie, "big")
    told = known().page(after, most) if wanted in (b"", namespace.encode()) else []
    rows = (field(1, namespace.encode()) + field(2, record) + field(3, TTL_S) for _, record in told)
    last = told[-1][0] if told else after
    return b"".join(field(1, row) for row in rows) + field(2, last.to_bytes(_COOKIE_BYTES, "big")) + field(3, _OK)


def _bytes(value: Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value
