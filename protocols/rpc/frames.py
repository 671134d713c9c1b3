"""The kinds of frames of a link, and the frames that carry no message: hello, ping, pong, goodbye, refusal, rerouted.

Kinds: 0 hello, 1 first, 2 more, 3 ping, 4 pong (both with a u64), 5 goodbye (empty), 6 refusal, 7 rerouted (empty), 8 joined (empty).
Lanes: 0 control (and of every frame that carries no message), 1 work, 2 bulk.

A hello with a relay token and no lanes opens no link: whoever accepts it is to join the connection with another's, and says so by
``joined``, after which the bytes are the other's (protocols/relay).
"""

import struct
from dataclasses import dataclass
from typing import Final

from meshos import cbor
from meshos.errors import KINDS, MeshError, Refused
from meshos.flow import Lane
from meshos.protocols.rpc.limits import CONTROL_FRAME_BYTES, ERROR_DETAIL_CHARS, FRAME_HEADER_BYTES, PATH_CHARS, PATHS_NAMED
from meshos.protocols.rpc.messages import NAME

HEADER = struct.Struct("!IBBI")
HELLO, FIRST, MORE, PING, PONG, GOODBYE, REFUSAL, REROUTED, JOINED = range(9)
LANES: Final[tuple[Lane, ...]] = ("control", "work", "bulk")
"""In the order in which they are served."""

LANE_OF: Final[dict[int, Lane]] = dict(enumerate(LANES))
NUMBER_OF: Final[dict[Lane, int]] = {lane: number for number, lane in LANE_OF.items()}
VERSION = 1
RELAY_TOKEN_BYTES = 16

assert HEADER.size == FRAME_HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Hello:
    """What each side says first. ``mesh`` is the genesis hash, ``boot`` 16 bytes that are new with every start of the process.
    ``paths`` are those on which the node can be linked; who names none takes one connection at a time."""

    mesh: bytes
    node: str
    boot: bytes
    lanes: tuple[Lane, ...] = LANES
    versions: tuple[int, ...] = (VERSION,)
    paths: tuple[str, ...] = ()
    relay: bytes = b""


def header(length: int, kind: int, lane: Lane, stream: int) -> bytes:
    """The header of a frame that carries a piece of a message."""
    return HEADER.pack(length, kind, NUMBER_OF[lane], stream)


def frame(kind: int, payload: bytes) -> bytes:
    """A whole frame that carries no message."""
    return HEADER.pack(len(payload), kind, 0, 0) + payload


def hello_frame(hello: Hello) -> bytes:
    """``hello`` as a frame."""
    fields = {
        "boot": hello.boot,
        "lanes": list(hello.lanes),
        "mesh": hello.mesh,
        "node": hello.node,
        "paths": list(hello.paths),
        "versions": list(hello.versions),
        **({"relay": hello.relay} if hello.relay else {}),
    }
    return frame(HELLO, cbor.encode(fields))


def read_hello(payload: bytes) -> Hello:
    """The hello in ``payload``; raises Refused ``bad-hello``. Unknown keys are left alone, for the versions to come."""
    fields = cbor.decode(payload, max_bytes=CONTROL_FRAME_BYTES)
    if not isinstance(fields, dict):
        raise _bad_hello()
    mesh, node, boot = fields.get("mesh"), fields.get("node"), fields.get("boot")
    lanes, versions = fields.get("lanes"), fields.get("versions")
    if not (isinstance(mesh, bytes) and isinstance(node, str) and isinstance(boot, bytes) and len(boot) == 16):
        raise _bad_hello()
    if not isinstance(lanes, list) or not isinstance(versions, list) or len(lanes) > 8 or len(versions) > 8:
        raise _bad_hello()
    paths = fields.get("paths", [])
    if not isinstance(paths, list) or len(paths) > PATHS_NAMED:
        raise _bad_hello()
    known = tuple(lane for lane in LANES if lane in lanes)
    named = tuple(each for each in paths if type(each) is str and 0 < len(each) <= PATH_CHARS)
    relay = fields.get("relay", b"")
    if not isinstance(relay, bytes) or len(relay) > RELAY_TOKEN_BYTES or (relay and known):
        raise _bad_hello()
    return Hello(mesh, node, boot, known, tuple(each for each in versions if type(each) is int), named, relay)


def agree(own: Hello, other: Hello, expect: str) -> frozenset[Lane]:
    """The lanes that both have; raises Refused ``wrong-genesis``, ``node-mismatch`` or ``no-common-version``."""
    if other.mesh != own.mesh:
        raise Refused(
            "wrong-genesis",
            f"the other node is of the mesh {other.mesh.hex()[:16]}, this one of {own.mesh.hex()[:16]}",
            hint="both need the same genesis.json",
        )
    if other.node != expect:
        raise Refused("node-mismatch", f"it says that it is {other.node[:80]!r}, and its certificate that it is {expect}")
    if VERSION not in other.versions:
        raise Refused("no-common-version", f"it speaks link versions {list(other.versions)}, this node {list(own.versions)}")
    lanes = frozenset(own.lanes) & frozenset(other.lanes)
    if not lanes and not own.relay and not other.relay:
        raise _bad_hello()
    return lanes


def refusal_frame(error: MeshError) -> bytes:
    """``error`` as the last frame of a connection."""
    detail = error.detail[: ERROR_DETAIL_CHARS // 4]
    name = error.name if NAME.fullmatch(error.name) else "refused"
    return frame(REFUSAL, cbor.encode([type(error).__name__, name, detail]))


def read_refusal(payload: bytes) -> MeshError:
    """Why the other side closes the connection, in its own words."""
    match cbor.decode(payload, max_bytes=CONTROL_FRAME_BYTES):
        case [str(kind), str(name), str(detail)] if NAME.fullmatch(name) and len(detail) <= ERROR_DETAIL_CHARS and kind in KINDS:
            return KINDS[kind](name, f"the other side says: {detail}")
    return Refused("bad-frame", "a refusal that is none")


def _bad_hello() -> Refused:
    return Refused("bad-hello", "the first frame of the connection is no hello of a link")
