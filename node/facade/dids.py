"""The DID documents of organisations: by the keys that the ledger has for them, or those of the genesis where there is no ledger yet."""

from meshos.consensus.ledger import queries
from meshos.crypto import did
from meshos.crypto.keys import public_key_of_multikey
from meshos.errors import BadInput, Refused
from meshos.genesis import Genesis
from meshos.ids import OrgDid, parse_org_did
from meshos.node.api import shapes
from meshos.protocols.ledger.port import LedgerView


def document(text: str, genesis: Genesis, ledger: LedgerView) -> shapes.Json:
    """The document of this DID; raises BadInput ``bad-did``, Refused ``no-such-did`` for who is no member (or has left)."""
    try:
        parse_org_did(text)
    except ValueError as error:
        raise BadInput("bad-did", str(error), hint="`mesh members --json` has the DIDs of this mesh") from error
    org = OrgDid(text)
    keys = _on_ledger(org, ledger) if ledger.height else _in_genesis(org, genesis)
    if keys is None:
        raise Refused("no-such-did", f"{text[:80]!r} is no organisation of this mesh")
    return did.document(org, keys)


def _in_genesis(org: OrgDid, genesis: Genesis) -> did.OrgKeys | None:
    entry = genesis.org(org)
    return None if entry is None else did.keys_of(entry)


def _on_ledger(org: OrgDid, ledger: LedgerView) -> did.OrgKeys | None:
    """The validator key is that of the node that holds its seat."""
    found = queries.org(ledger, org)
    if found is None or found.left_ms:
        return None
    seat = next((entry for entry in queries.seats(ledger).entries if entry.org == org), None)
    humans = tuple(public_key_of_multikey(key) for key in found.humans)
    return did.OrgKeys(public_key_of_multikey(found.root), None if seat is None else public_key_of_multikey(seat.key), humans)
