"""How a message looks on the wire: a u16 length, a head in canonical CBOR, and the body as it is.

The body stays outside of the CBOR, so that 64 MiB are neither copied nor checked for canonical form. Heads are lists:

    ["q", id, protocol, ttl_ms, trace, floor]       a request, its body follows
    ["r", id]                                       a reply, its body follows
    ["e", id, class, name, detail, outcome, final]  a reply that is an error; no body
    ["c", id]                                       a cancel; no body
    ["n", protocol]                                 a notice, its body follows

There is one of these for every message between two nodes, so the usual heads are not made by the general encoder: that of a notice
says nothing but its protocol, and is remembered; those of requests and of replies with a body are put together from their fields, and
compared with that when they are read.
"""

import re
import struct
from functools import lru_cache
from typing import cast

from meshos import cbor
from meshos.effects import Err, Ok
from meshos.errors import DONE, KINDS, Done, MeshError, Refused
from meshos.protocols.rpc.events import Cancel, Message, Notice, Reply, Request
from meshos.protocols.rpc.limits import (
    ERROR_DETAIL_CHARS,
    ERROR_NAME_CHARS,
    ID_BYTES,
    MESSAGE_HEAD_BYTES,
    PROTOCOL_CHARS,
    REMEMBERED_HEADS,
    TRACE_CHARS,
    TTL_MAX_S,
)

HEAD_LENGTH = struct.Struct("!H")
NAME = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{ERROR_NAME_CHARS - 1}}})")
_TTL_MAX_MS = int(TTL_MAX_S * 1000)
_NO_ID = bytes(ID_BYTES)
_REQUEST_FIELDS = 6
_REQUEST = cbor.encode(["q", _NO_ID, "", 0, "", 0])[:4]
_REPLY = cbor.encode(["r", _NO_ID])[:4]
_REPLY_BYTES = len(_REPLY) + ID_BYTES
_NOTICE = cbor.encode(["n", ""])[:-1]
_EMPTY = cbor.encode("")
_FLOORS = 1 << 64


def encode_message(message: Message) -> tuple[bytes, bytes]:
    """``(length and head, body)``; raises Refused ``bad-rpc-message`` for what the other side would not accept."""
    if isinstance(message, Request):
        return _with_length(_request_head(message)), message.body
    if isinstance(message, Notice):
        return _notice_head(message.protocol), message.body
    if isinstance(message, Cancel):
        return _with_length(cbor.encode(["c", message.id])), b""
    if isinstance(message.outcome, Ok):
        return _with_length(_REPLY + message.id), message.outcome.value
    return _with_length(cbor.encode(["e", message.id, *_error_fields(message.outcome.error), message.final])), b""


def _request_head(request: Request) -> bytes:
    """Raises Refused ``bad-rpc-message`` for what the other side would not accept."""
    ttl_ms, floor, trace = request.ttl_ms, request.floor, request.trace
    if len(request.id) != ID_BYTES:
        raise _bad("its id is not 16 bytes")
    if len(trace) > TRACE_CHARS:
        raise _bad("its trace is too long")
    if not 0 <= ttl_ms <= _TTL_MAX_MS:
        raise _bad(f"its time to live is not 0 to {_TTL_MAX_MS} ms")
    if not 0 <= floor < _FLOORS:
        raise _bad("its floor is no count")
    tail = cbor.encode(trace) if trace else _EMPTY
    return b"".join((_REQUEST, request.id, _protocol(request.protocol), cbor.encode(ttl_ms), tail, cbor.encode(floor)))


@lru_cache(REMEMBERED_HEADS)
def _protocol(protocol: str) -> bytes:
    """A protocol's name, in CBOR; raises Refused ``bad-rpc-message``."""
    if not protocol or len(protocol) > PROTOCOL_CHARS or not protocol.isascii():
        raise _bad("its protocol name is empty, too long or not ASCII")
    return cbor.encode(protocol)


@lru_cache(REMEMBERED_HEADS)
def _notice_head(protocol: str) -> bytes:
    return _with_length(_NOTICE + _protocol(protocol))


def _with_length(head: bytes) -> bytes:
    if len(head) > MESSAGE_HEAD_BYTES:
        raise _bad("its head is too long")
    return HEAD_LENGTH.pack(len(head)) + head


def decode_message(head: bytes, body: bytes) -> Message:
    """The message with this head, and ``body`` if it has one; raises Refused ``bad-rpc-message``, ``bad-encoding`` or ``too-large``."""
    begin = head[:4]
    if begin == _REQUEST:
        return _decode_request(head, body)
    if begin == _REPLY and len(head) == _REPLY_BYTES:
        return Reply(head[4:], Ok(body))
    if head.startswith(_NOTICE):
        return Notice(_noticed(head), body)
    message = _decode_head(head)
    if body and not may_have_body(message):
        raise _bad("it has a body, of which its kind has none")
    return with_body(message, body)


def _decode_request(head: bytes, body: bytes) -> Request:
    fields = cbor.loads(head, max_bytes=MESSAGE_HEAD_BYTES)
    if type(fields) is not list or len(fields) != _REQUEST_FIELDS:
        raise _bad("its head is no list")
    _, request_id, protocol, ttl_ms, trace, floor = fields
    if not (type(protocol) is str and type(ttl_ms) is int and type(trace) is str and type(floor) is int):
        raise _bad("a field of its head is of another type")
    request = Request(request_id, protocol, body, ttl_ms, trace, floor)
    if _request_head(request) != head:
        raise Refused("bad-encoding", "these bytes decode, but are not in canonical form")
    return request


@lru_cache(REMEMBERED_HEADS)
def _noticed(head: bytes) -> str:
    """The protocol of a notice."""
    match cbor.decode(head, max_bytes=MESSAGE_HEAD_BYTES):
        case ["n", str(protocol)]:
            _protocol(protocol)
            return protocol
    raise _bad("a notice has a protocol and nothing else")


def _decode_head(head: bytes) -> Message:
    """The message without its body, of one of the seldom kinds."""
    fields = cbor.decode(head, max_bytes=MESSAGE_HEAD_BYTES)
    if not isinstance(fields, list) or len(fields) < 2:
        raise _bad("its head is no list")
    kind, request_id, *rest = fields
    if not isinstance(request_id, bytes) or len(request_id) != ID_BYTES:
        raise _bad("its id is not 16 bytes")
    match kind, rest:
        case "e", [str(kind_name), str(name), str(detail), str(outcome), bool(final)]:
            return Reply(request_id, Err(_error(kind_name, name, detail, outcome)), final)
        case "c", []:
            return Cancel(request_id)
    raise _bad("its head is of no known kind")


def may_have_body(message: Message) -> bool:
    """Whether bytes may follow the head of ``message``."""
    return isinstance(message, Notice | Request) or (isinstance(message, Reply) and isinstance(message.outcome, Ok))


def with_body(message: Message, body: bytes) -> Message:
    """``message`` with the body that followed."""
    if isinstance(message, Notice):
        return Notice(message.protocol, body)
    if isinstance(message, Request):
        return Request(message.id, message.protocol, body, message.ttl_ms, message.trace, message.floor)
    if isinstance(message, Reply) and isinstance(message.outcome, Ok):
        return Reply(message.id, Ok(body), message.final)
    return message


def _error_fields(error: MeshError) -> tuple[str, str, str, str]:
    name = error.name if NAME.fullmatch(error.name) else "internal"
    detail = error.detail if len(error.detail) <= ERROR_DETAIL_CHARS else error.detail[: ERROR_DETAIL_CHARS - 1] + "…"
    return type(error).__name__, name, detail, error.outcome


def _error(kind_name: str, name: str, detail: str, outcome: str) -> MeshError:
    kind = KINDS.get(kind_name)
    if kind is None or outcome not in DONE or not NAME.fullmatch(name) or len(detail) > ERROR_DETAIL_CHARS:
        raise _bad("its error is none of the tree")
    return kind(name, detail, outcome=cast(Done, outcome))


def _bad(what: str) -> Refused:
    return Refused("bad-rpc-message", f"this is no rpc message: {what}")
