"""What goes over a stream of the square: frames, each a length and canonical CBOR.

    frame    length as an unsigned varint (LEB128, the shortest form, at most 4 bytes), then so many bytes
    request  a CBOR map with text keys; each protocol names its own. No key is required unless the protocol says so, none unknown is
             passed over
    answer   [true, value], or [false, [kind, name, detail, hint]] where the request is refused

Requests follow one another on a stream, and so do their answers, in the same order. A refusal ends nothing but its request; the stream
ends where a frame cannot be read, since what follows is then anybody's guess.

The length comes before the bytes and is checked before any of them is read: nobody makes a node hold more than the protocol allows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from meshos import cbor
from meshos.cbor import Value
from meshos.errors import KINDS, MeshError, Refused
from meshos.protocols.rpc.messages import NAME
from meshos.protocols.square.limits import ANSWER_BYTES, LENGTH_BYTES, REFUSAL_CHARS, REQUEST_DEPTH

Fields: TypeAlias = Mapping[str, Value]
"""A request, decoded; a protocol reads its fields off it."""


@dataclass(frozen=True, slots=True)
class Length:
    """The length that a frame begins with: so many bytes follow; ``size`` bytes told so."""

    bytes: int
    size: int


def length_of(begun: bytes, most: int) -> Length | None:
    """What the first bytes of a frame say of its length; None while more of them are needed.

    Raises Refused ``square-bad-frame`` for what is no length in its shortest form, ``square-too-large`` for one above ``most``.
    """
    number = 0
    for place, byte in enumerate(begun[:LENGTH_BYTES]):
        number |= (byte & 0x7F) << (7 * place)
        if byte & 0x80:
            continue
        if place and not byte:
            raise Refused("square-bad-frame", "the length of a frame is not in its shortest form")
        if number > most:
            raise Refused("square-too-large", f"a frame of {number} bytes, at most {most} are read here")
        return Length(number, place + 1)
    if len(begun) >= LENGTH_BYTES:
        raise Refused("square-bad-frame", f"the length of a frame has more than {LENGTH_BYTES} bytes")
    return None


def frame(payload: bytes) -> bytes:
    """``payload`` with its length before it."""
    length, head = len(payload), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + payload


# -- requests ----------------------------------------------------------------------------------------------------------


def encode_request(fields: Mapping[str, object]) -> bytes:
    """A request's bytes, without the length."""
    return cbor.encode(dict(fields))


def decode_request(data: bytes, most: int) -> Fields:
    """The request in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``square-bad-request``."""
    fields = cbor.decode(data, max_bytes=most, max_depth=REQUEST_DEPTH)
    if not isinstance(fields, dict):
        raise bad_request("it is no map")
    return fields


def bad_request(why: str) -> Refused:
    """The refusal of a request that makes no sense."""
    return Refused("square-bad-request", f"this request cannot be answered: {why}", hint="docs/reference/wire.md says what each may hold")


def known_only(fields: Fields, *known: str) -> None:
    """Raise Refused ``square-bad-request`` for a key that the protocol does not know: it would silently be passed over."""
    for key in fields:
        if key not in known:
            raise bad_request(f"{key[:40]!r} is no key of it")


def number(fields: Fields, key: str, most: int, *, default: int = 0) -> int:
    """A whole number from 0 to ``most``; raises Refused ``square-bad-request``."""
    value = fields.get(key, default)
    if type(value) is not int or not 0 <= value <= most:
        raise bad_request(f"{key} is no whole number from 0 to {most}")
    return value


def text(fields: Fields, key: str, most: int) -> str:
    """A text of 1 to ``most`` characters; raises Refused ``square-bad-request``."""
    value = fields.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise bad_request(f"{key} is no text of 1 to {most} characters")
    return value


# -- answers -----------------------------------------------------------------------------------------------------------


def encode_answer(value: object) -> bytes:
    """An answer's bytes, without the length; raises Refused ``square-answer-too-large``."""
    data = cbor.encode([True, value])
    if len(data) > ANSWER_BYTES:
        raise answer_too_large(f"the answer would have {len(data)} bytes, at most {ANSWER_BYTES} are sent")
    return data


def answer_too_large(why: str) -> Refused:
    """The refusal of a question that is answered in pieces."""
    return Refused(
        "square-answer-too-large", why, hint="ask for the changes of the validators first, and then with the epoch that you know"
    )


def encode_refusal(error: MeshError) -> bytes:
    """``error`` as an answer."""
    name = error.name if NAME.fullmatch(error.name) else "refused"
    return cbor.encode([False, [type(error).__name__, name, error.detail[:REFUSAL_CHARS], error.hint[:REFUSAL_CHARS]]])


def decode_answer(data: bytes) -> Value:
    """The value of an answer; raises what the node refused with, or Refused ``too-large``, ``bad-encoding``, ``square-bad-answer``."""
    match cbor.decode(data, max_bytes=ANSWER_BYTES):
        case [True, value]:
            return value
        case [False, [str() as kind, str() as name, str() as detail, str() as hint]]:
            if NAME.fullmatch(name) and kind in KINDS and max(len(detail), len(hint)) <= REFUSAL_CHARS:
                raise KINDS[kind](name, f"the node says: {detail}", hint=hint)
    raise bad_answer("it is neither an answer nor a refusal")


def bad_answer(why: str) -> Refused:
    """The refusal, by who asked, of an answer that is none."""
    return Refused("square-bad-answer", f"the node has answered what is no answer: {why}", hint="ask another node of the mesh")
