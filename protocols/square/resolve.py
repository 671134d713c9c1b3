"""``/meshos/resolve/1``: the DID document of an organisation, and what it is made of, proven.

    request  {"did": text, "epoch": e}
    answer   {"document": map, "org": bundle, "seats": bundle}

A document is made of two entries of the ledger: that of the organisation (its root key and the keys of its people) and the list of seats
(the key that it votes with). Both come as bundles, the second without the changes of the validator set, which the first has. Whoever has
genesis makes the document again from them (``prove``), so that the one that came is only there to be read.

An organisation that is not on the ledger, or has left, is refused as ``no-such-did``: that is no proof; ``/meshos/proof/1`` gives one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meshos.cbor import Value
from meshos.consensus.ledger import light_client, queries
from meshos.consensus.ledger.light_client import Bundle, Proven, Trusted, decode_bundle
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.seats import SEATS
from meshos.crypto import did as dids
from meshos.crypto.keys import public_key_of_multikey
from meshos.crypto.signing import Verifier
from meshos.errors import BadInput, Refused
from meshos.ids import OrgDid, parse_org_did
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Asker, Protocol
from meshos.protocols.square.headers import MAX_EPOCH
from meshos.protocols.square.knowledge import Known
from meshos.protocols.square.proof import bundle_after

NAME = "/meshos/resolve/1"
COST = 8
DID_CHARS = 128


@dataclass(frozen=True, slots=True)
class Resolved:
    """A document, and what it is said to be made of; unproven."""

    document: Mapping[str, object]
    org: Bundle
    seats: Bundle


def protocol(known: Known) -> Protocol:
    """The protocol, for a node that knows ``known``."""

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        wire.known_only(fields, "did", "epoch")
        org, epoch = read_did(wire.text(fields, "did", DID_CHARS)), wire.number(fields, "epoch", MAX_EPOCH)
        document = document_of(org, _keys_on(known.ledger, org))
        first = bundle_after(known, ORGS.key(org), epoch)
        return {"document": document, "org": first, "seats": bundle_after(known, SEATS.key(b""), MAX_EPOCH)}

    return Protocol(NAME, COST, answer)


def read_did(text: str) -> OrgDid:
    """The DID of an organisation; raises BadInput ``bad-did``."""
    try:
        parse_org_did(text)
    except ValueError as error:
        raise BadInput("bad-did", str(error), hint="`mesh square describe` shows the organisations of a mesh") from error
    return OrgDid(text)


def document_of(org: OrgDid, keys: dids.OrgKeys | None) -> Mapping[str, object]:
    """The document of who has these keys; raises Refused ``no-such-did`` for who has none."""
    if keys is None:
        raise Refused("no-such-did", f"{org} is no organisation of this mesh")
    return dids.document(org, keys)


def _keys_on(ledger: LedgerView, org: OrgDid) -> dids.OrgKeys | None:
    seats = queries.seats(ledger).entries if ledger.height else ()
    seat = next((entry.key for entry in seats if entry.org == org), None)
    return _keys(ledger.get(ORGS.key(org)), seat)


def _keys(entry: bytes | None, seat: str | None) -> dids.OrgKeys | None:
    found = None if entry is None else ORGS.decode(entry)
    if found is None or found.left_ms:
        return None
    humans = tuple(public_key_of_multikey(key) for key in found.humans)
    return dids.OrgKeys(public_key_of_multikey(found.root), None if seat is None else public_key_of_multikey(seat), humans)


# -- for who asks ------------------------------------------------------------------------------------------------------


def request(did: str, epoch: int = 0) -> bytes:
    """For this document, to who knows the validators of ``epoch``."""
    return wire.encode_request({"did": did, "epoch": epoch})


def read_resolved(value: Value, did: str) -> Resolved:
    """What an answer holds, unproven; raises Refused ``square-bad-answer``, or as ``decode_bundle``."""
    match value:
        case {"document": dict() as document, "org": bytes() as first, "seats": bytes() as second}:
            org, seats = decode_bundle(first), decode_bundle(second)
            if org.key == ORGS.key(did) and seats.key == SEATS.key(b""):
                return Resolved(document, org, seats)
            raise wire.bad_answer("its proofs are about something else than this organisation")
    raise wire.bad_answer("it holds no document with its proofs")


def prove(trusted: Trusted, did: str, resolved: Resolved, verifier: Verifier) -> tuple[Mapping[str, object], Proven]:
    """The document, made from what is proven to who has followed the validators so far, and as of when.

    Raises Refused as the light client does, ``no-such-did``, or ``square-bad-answer`` if the two proofs are not of one moment.
    """
    after = light_client.follow(trusted, resolved.org.steps, verifier)
    org = light_client.prove_to(after, resolved.org, verifier)
    seats = light_client.prove_to(after, resolved.seats, verifier)
    if org.header != seats.header:
        raise wire.bad_answer("its two proofs are of different moments")
    entries = () if seats.value is None else SEATS.decode(seats.value).entries
    seat = next((entry.key for entry in entries if entry.org == did), None)
    return document_of(OrgDid(did), _keys(org.value, seat)), org
