"""How a message looks on the wire: a u16 length, a head in canonical CBOR, and the body as it is.

The body stays outside of the CBOR, so that 64 MiB are neither copied nor checked for canonical form. Heads are lists:

    ["q", id, protocol, ttl_ms, trace, floor]       a request, its body follows
    ["r", id]                                       a reply, its body follows
    ["e", id, class, name, detail, outcome, final]  a reply that is an error; no body
    ["c", id]                                       a cancel; no body
    ["n", protocol]                                 a notice, its body follows

A notice's head says nothing but its protocol, so the heads of the few that are in use are remembered and not made again.
"""

import re
import struct
from functools import lru_cache
from typing import cast, get_args

from meshos import cbor
from meshos.effects import Err, Ok
from meshos.errors import KINDS, Done, MeshError, Refused
from meshos.protocols.rpc.events import Cancel, Message, Notice, Reply, Request
from meshos.protocols.rpc.limits import (
    ERROR_DETAIL_CHARS,
    ERROR_NAME_CHARS,
    ID_BYTES,
    MESSAGE_HEAD_BYTES,
    NOTICE_HEADS,
    PROTOCOL_CHARS,
    TRACE_CHARS,
    TTL_MAX_S,
)

HEAD_LENGTH = struct.Struct("!H")
NAME = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{ERROR_NAME_CHARS - 1}}})")
_TTL_MAX_MS = int(TTL_MAX_S * 1000)
_NOTICE = cbor.encode(["n", ""])[:-1]
_DONE = frozenset(get_args(Done))


def encode_message(message: Message) -> tuple[bytes, bytes]:
    """``(length and head, body)``; raises Refused ``bad-rpc-message`` for what the other side would not accept."""
    if isinstance(message, Notice):
        return _notice_head(message.protocol), message.body
    body = b""
    head: list[object]
    if isinstance(message, Request):
        head, body = ["q", message.id, message.protocol, message.ttl_ms, message.trace, message.floor], message.body
        _check_request(message)
    elif isinstance(message, Cancel):
        head = ["c", message.id]
    elif isinstance(message.outcome, Ok):
        head, body = ["r", message.id], message.outcome.value
    else:
        head = ["e", message.id, *_error_fields(message.outcome.error), message.final]
    return _with_length(head), body


@lru_cache(NOTICE_HEADS)
def _notice_head(protocol: str) -> bytes:
    _check_protocol(protocol)
    return _with_length(["n", protocol])


def _with_length(head: list[object]) -> bytes:
    encoded = cbor.encode(head)
    if len(encoded) > MESSAGE_HEAD_BYTES:
        raise _bad("its head is too long")
    return HEAD_LENGTH.pack(len(encoded)) + encoded


def decode_head(head: bytes) -> Message:
    """The message without its body; raises Refused ``bad-rpc-message``, ``bad-encoding`` or ``too-large``."""
    return _decode_notice_head(head) if head.startswith(_NOTICE) else _decode_head(head)


@lru_cache(NOTICE_HEADS)
def _decode_notice_head(head: bytes) -> Message:
    return _decode_head(head)


def _decode_head(head: bytes) -> Message:
    fields = cbor.decode(head, max_bytes=MESSAGE_HEAD_BYTES)
    if not isinstance(fields, list) or len(fields) < 2:
        raise _bad("its head is no list")
    kind, request_id, *rest = fields
    if kind == "n" and isinstance(request_id, str) and not rest:
        _check_protocol(request_id)
        return Notice(request_id, b"")
    if not isinstance(request_id, bytes) or len(request_id) != ID_BYTES:
        raise _bad("its id is not 16 bytes")
    match kind, rest:
        case "q", [str(protocol), int(ttl_ms), str(trace), int(floor)]:
            request = Request(request_id, protocol, b"", ttl_ms, trace, floor)
            _check_request(request)
            return request
        case "r", []:
            return Reply(request_id, Ok(b""))
        case "e", [str(kind_name), str(name), str(detail), str(outcome), bool(final)]:
            return Reply(request_id, Err(_error(kind_name, name, detail, outcome)), final)
        case "c", []:
            return Cancel(request_id)
    raise _bad("its head is of no known kind")


def may_have_body(message: Message) -> bool:
    """Whether bytes may follow the head of ``message``."""
    return isinstance(message, Notice | Request) or (isinstance(message, Reply) and isinstance(message.outcome, Ok))


def with_body(message: Message, body: bytes) -> Message:
    """``message`` as ``decode_head`` gave it, with the body that followed."""
    if isinstance(message, Notice):
        return Notice(message.protocol, body)
    if isinstance(message, Request):
        return Request(message.id, message.protocol, body, message.ttl_ms, message.trace, message.floor)
    if isinstance(message, Reply) and isinstance(message.outcome, Ok):
        return Reply(message.id, Ok(body), message.final)
    return message


def _check_request(request: Request) -> None:
    protocol, ttl_ms, floor = request.protocol, request.ttl_ms, request.floor
    _check_protocol(protocol)
    if len(request.trace) > TRACE_CHARS:
        raise _bad("its trace is too long")
    if isinstance(ttl_ms, bool) or not 0 <= ttl_ms <= _TTL_MAX_MS:
        raise _bad(f"its time to live is not 0 to {_TTL_MAX_MS} ms")
    if isinstance(floor, bool) or not 0 <= floor < 1 << 64:
        raise _bad("its floor is no count")


def _check_protocol(protocol: str) -> None:
    if not protocol or len(protocol) > PROTOCOL_CHARS or not protocol.isascii():
        raise _bad("its protocol name is empty, too long or not ASCII")


def _error_fields(error: MeshError) -> tuple[str, str, str, str]:
    name = error.name if NAME.fullmatch(error.name) else "internal"
    detail = error.detail if len(error.detail) <= ERROR_DETAIL_CHARS else error.detail[: ERROR_DETAIL_CHARS - 1] + "…"
    return type(error).__name__, name, detail, error.outcome


def _error(kind_name: str, name: str, detail: str, outcome: str) -> MeshError:
    kind = KINDS.get(kind_name)
    if kind is None or outcome not in _DONE or not NAME.fullmatch(name) or len(detail) > ERROR_DETAIL_CHARS:
        raise _bad("its error is none of the tree")
    return kind(name, detail, outcome=cast(Done, outcome))


def _bad(what: str) -> Refused:
    return Refused("bad-rpc-message", f"this is no rpc message: {what}")
