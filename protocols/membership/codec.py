"""The bytes of membership: statements and datagrams. Canonical CBOR throughout, refused unless canonical.

A statement on the wire is ``[payload, signature]``: two byte strings, so that what was signed is kept as it was. Its payload is

    [1, subject, incarnation, revision, org, name, gossip, link, api, region, role, version, load, health]     alive
    [1, subject, …, health, [anchor, …]]                                                                       alive, of a leaf
    [2, subject, incarnation, accuser]                                                                         suspect
    [3, subject, incarnation, accuser]                                                                         dead
    [4, subject, incarnation]                                                                                  left
    [5, subject, incarnation, revision, topic, body]                                                           note

and a datagram, before it is boxed,

    [1, sequence, updates]          ping            [3, sequence, target, updates]     ping on behalf of the sender
    [2, sequence, updates]          ack             [4, sequence]                      nack
    [5, updates]                    gossip

A hand-made binary format was not worth its code: a statement decodes in 7 µs, and only news is decoded at all, while opening
a datagram's box takes 50 µs.

Everything that is refused raises Refused: ``too-large``, ``bad-encoding``, ``bad-statement`` or ``bad-gossip``.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from meshos import cbor
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid, parse_org_did
from meshos.protocols.membership import limits
from meshos.protocols.membership.events import Ack, Gossip, Message, Nack, Ping, PingRequest
from meshos.protocols.membership.statements import Kind, NodeFacts, Statement

SIGNATURE_BYTES = 64

_TEXT_LIMITS = (
    ("org", limits.ORG_CHARS),
    ("name", limits.NAME_CHARS),
    ("gossip", limits.ADDRESS_CHARS),
    ("link", limits.ADDRESS_CHARS),
    ("api", limits.API_CHARS),
    ("region", limits.REGION_CHARS),
    ("role", limits.ROLE_CHARS),
    ("version", limits.VERSION_CHARS),
    ("health", limits.HEALTH_CHARS),
)


# -- statements ------------------------------------------------------------------------------------------------------


def alive_payload(subject: NodeId, incarnation: int, revision: int, facts: NodeFacts) -> bytes:
    """What a node signs about itself; raises Refused ``bad-statement`` for facts that others would refuse."""
    check_facts(facts)
    fields = [Kind.ALIVE.value, subject, incarnation, revision, facts.org, facts.name, facts.gossip, facts.link, facts.api]
    fields += [facts.region, facts.role, facts.version, facts.load_permille, facts.health]
    return cbor.encode([*fields, list(facts.anchors)] if facts.anchors else fields)


def word_payload(kind: Kind, subject: NodeId, incarnation: int, accuser: NodeId) -> bytes:
    """What an accuser signs: ``suspect`` or ``dead``."""
    return cbor.encode([kind.value, subject, incarnation, accuser])


def left_payload(subject: NodeId, incarnation: int) -> bytes:
    """What a node signs that leaves."""
    return cbor.encode([Kind.LEFT.value, subject, incarnation])


def note_payload(subject: NodeId, incarnation: int, revision: int, topic: str, body: bytes) -> bytes:
    """What a node signs to announce something; raises Refused ``bad-statement`` where it is too long."""
    _check_note(topic, body)
    return cbor.encode([Kind.NOTE.value, subject, incarnation, revision, topic, body])


def statement(payload: bytes, signature: bytes) -> Statement:
    """The statement of a payload and its signature, from its own node: raises as ``decode_statement``."""
    return decode_statement(cbor.encode([payload, signature]))


@lru_cache(maxsize=limits.DECODED)
def decode_statement(blob: bytes) -> Statement:
    """Read a statement; the signature is not verified here. The same statement comes by many ways, hence the cache."""
    outer = cbor.decode(blob, max_bytes=limits.STATEMENT_BYTES)
    if not (isinstance(outer, list) and len(outer) == 2):
        raise _bad("it is not a payload and a signature")
    payload, signature = outer
    if not (isinstance(payload, bytes) and isinstance(signature, bytes) and len(signature) == SIGNATURE_BYTES):
        raise _bad("its payload or signature is not what it should be")
    fields = cbor.decode(payload, max_bytes=limits.STATEMENT_BYTES)
    if not (isinstance(fields, list) and len(fields) >= 3):
        raise _bad("its payload is not a list of a kind, a subject, an incarnation and more")
    kind = fields[0]
    subject = _node(fields[1])
    incarnation = _number(fields[2], "incarnation")
    signer, revision, facts, topic, body = subject, 0, None, "", b""
    if kind is True or not isinstance(kind, int):
        raise _bad("its kind is not a number")
    if kind == 1 and len(fields) in (14, 15):
        revision, facts = _number(fields[3], "revision"), _facts(fields[4:])
    elif kind in (2, 3) and len(fields) == 4:
        signer = _node(fields[3])
        if signer == subject:
            raise _bad("its accuser accuses itself")
    elif kind == 5 and len(fields) == 6:
        revision = _number(fields[3], "revision")
        topic, body = _note(fields[4], fields[5])
    elif not (kind == 4 and len(fields) == 3):
        raise _bad("its kind and its number of fields do not go together")
    digest = hashlib.blake2b(blob, digest_size=limits.DIGEST_BYTES).digest()
    return Statement(Kind(kind), subject, signer, incarnation, revision, facts, topic, body, payload, signature, blob, digest)


def check_facts(facts: NodeFacts) -> None:
    """Raises Refused ``bad-statement`` naming the fact that is too long, empty or out of range."""
    for name, limit in _TEXT_LIMITS:
        text = getattr(facts, name)
        if not isinstance(text, str) or len(text.encode()) > limit or not text.isprintable():
            raise _bad(f"its {name} is not a printable text of at most {limit} bytes")
    if not facts.name:
        raise _bad("its name is empty")
    for name in ("gossip", "link"):
        if not (getattr(facts, name) or facts.anchors):
            raise _bad(f"its {name} is empty")
        if getattr(facts, name) and facts.anchors:
            raise _bad(f"it is a leaf, and has a {name}")
    if len(facts.anchors) > limits.ANCHORS or len(set(facts.anchors)) < len(facts.anchors):
        raise _bad(f"it has more than {limits.ANCHORS} anchors, or one twice")
    try:
        parse_org_did(facts.org)
    except ValueError as error:
        raise _bad("its org is not the DID of an organisation") from error
    load = facts.load_permille
    if type(load) is not int or not 0 <= load <= 1_000_000:
        raise _bad("its load is not a number of thousandths")


def _facts(fields: Sequence[cbor.Value]) -> NodeFacts:
    org, name, gossip, link, api, region, role, version, load, health, *rest = fields
    for text in (org, name, gossip, link, api, region, role, version, health):
        if not isinstance(text, str):
            raise _bad("one of its facts is not a text")
    facts = NodeFacts(
        OrgDid(str(org)),
        str(name),
        str(gossip),
        str(link),
        str(api),
        str(region),
        str(role),
        str(version),
        load,  # type: ignore[arg-type]  # checked right below
        str(health),
        _anchors(rest),
    )
    check_facts(facts)
    return facts


def _anchors(rest: Sequence[cbor.Value]) -> tuple[NodeId, ...]:
    """Of a leaf: its statement has one field more."""
    if not rest:
        return ()
    (anchors,) = rest
    if not isinstance(anchors, list) or not 0 < len(anchors) <= limits.ANCHORS:
        raise _bad(f"its anchors are not a list of 1 to {limits.ANCHORS}")
    return tuple(map(_node, anchors))


def _check_note(topic: object, body: object) -> None:
    if not (isinstance(topic, str) and 0 < len(topic.encode()) <= limits.TOPIC_CHARS and topic.isprintable()):
        raise _bad(f"its topic is not a printable text of 1 to {limits.TOPIC_CHARS} bytes")
    if not (isinstance(body, bytes) and len(body) <= limits.NOTE_BYTES):
        raise _bad(f"its body is not at most {limits.NOTE_BYTES} bytes")


def _note(topic: cbor.Value, body: cbor.Value) -> tuple[str, bytes]:
    _check_note(topic, body)
    assert isinstance(topic, str) and isinstance(body, bytes)
    return topic, body


def _node(value: cbor.Value) -> NodeId:
    if not (isinstance(value, str) and 0 < len(value.encode()) <= limits.NODE_CHARS and value.isprintable()):
        raise _bad("it names a node by something that is no node id")
    return NodeId(value)


def _number(value: cbor.Value, what: str) -> int:
    if type(value) is not int or not 0 <= value < limits.NUMBER:
        raise _bad(f"its {what} is not a number in range")
    return value


def _bad(why: str) -> Refused:
    return Refused("bad-statement", f"a statement of membership is refused: {why}")


# -- datagrams -------------------------------------------------------------------------------------------------------


def encode_datagram(message: Message) -> bytes:
    """The bytes to box; at most ``limits.DATAGRAM_BYTES`` for what the machine sends."""
    if isinstance(message, Ping):
        return cbor.encode([1, message.sequence, message.updates])
    if isinstance(message, Ack):
        return cbor.encode([2, message.sequence, message.updates])
    if isinstance(message, PingRequest):
        return cbor.encode([3, message.sequence, message.target, message.updates])
    if isinstance(message, Nack):
        return cbor.encode([4, message.sequence])
    return cbor.encode([5, message.updates])


def decode_datagram(data: bytes) -> Message:
    """Read what came out of a box; its updates stay bytes."""
    fields = cbor.decode(data, max_bytes=limits.DATAGRAM_BYTES)
    if not isinstance(fields, list) or not fields:
        raise _bad_datagram("it is not a list")
    if fields[0] is True:
        raise _bad_datagram("its type is not a number")
    match fields:
        case [1, sequence, updates]:
            return Ping(_sequence(sequence), _updates(updates))
        case [2, sequence, updates]:
            return Ack(_sequence(sequence), _updates(updates))
        case [3, sequence, str() as target, updates] if 0 < len(target.encode()) <= limits.NODE_CHARS:
            return PingRequest(_sequence(sequence), NodeId(target), _updates(updates))
        case [4, sequence]:
            return Nack(_sequence(sequence))
        case [5, updates]:
            return Gossip(_updates(updates))
    raise _bad_datagram("it is none of the five messages")


def _sequence(value: cbor.Value) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise _bad_datagram("its sequence number is out of range")
    return value


def _updates(value: cbor.Value) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > limits.UPDATES:
        raise _bad_datagram("its updates are not a short list")
    blobs = []
    for blob in value:
        if not isinstance(blob, bytes) or not 0 < len(blob) <= limits.STATEMENT_BYTES:
            raise _bad_datagram("one of its updates is not a statement's bytes")
        blobs.append(blob)
    return tuple(blobs)


def _bad_datagram(why: str) -> Refused:
    return Refused("bad-gossip", f"a datagram of membership is refused: {why}")
