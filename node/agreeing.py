"""Agreements: how the holder of a key says, in one word of text, that it shall be a key of an organisation.

The ledger registers a key only with its own signature (``consensus/ledger/keys.py``), and the key never leaves its holder. So the holder
makes an agreement, hands it to whoever has the organisation's root key, and that one registers it with a transaction.

    mesh-agreement-1.<base64url of CBOR [org, name, key, signature]>              of a person
    mesh-agreement-1.<base64url of CBOR [org, node, validator, signature, signature]>   of a node

Nothing is secret in it. It counts for one mesh and one organisation.
"""

import base64
import binascii

from meshos import cbor
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import HUMAN, NODE, ROOT, VALIDATOR, possession
from meshos.consensus.ledger.orgs import AddHuman, AddNode, RotateRoot
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.signing import sign, verify_many
from meshos.errors import Refused
from meshos.node.folder import Identity

MARK = "mesh-agreement-1."
MAX_BYTES = 1_024


def of_person(key: SigningKey, genesis_hash: bytes, org: str, name: str) -> str:
    """The person ``name`` agrees that ``key`` speaks in ``org``."""
    public = multikey(key.public)
    return _text(AddHuman(org, name, public, _agrees(key, public, genesis_hash, org, HUMAN)))


def of_node(identity: Identity, genesis_hash: bytes, org: str) -> str:
    """A node and its validator key agree to belong to ``org``."""
    node, validator = identity.node_id, multikey(identity.validator.public)
    first = _agrees(identity.node, node, genesis_hash, org, NODE)
    return _text(AddNode(org, node, validator, first, _agrees(identity.validator, validator, genesis_hash, org, VALIDATOR)))


def of_root(key: SigningKey, genesis_hash: bytes, org: str, certificate: bytes) -> RotateRoot:
    """``key``, whose certificate (DER) this is, agrees to be the root key of ``org``: what its root until then signs."""
    public = multikey(key.public)
    return RotateRoot(org, public, certificate, _agrees(key, public, genesis_hash, org, ROOT))


def read(text: str, genesis_hash: bytes, org: str) -> AddHuman | AddNode:
    """What the root key of ``org`` signs to register the key; its signatures hold.

    Raises Refused ``agreement-malformed``, or ``wrong-agreement`` for one to another organisation or mesh.
    """
    body = _body(text)
    if body.org != org:
        raise Refused("wrong-agreement", f"this is an agreement with {body.org}, not with {org}")
    if not all(verify_many(body.claims(genesis_hash))):
        raise Refused("wrong-agreement", "this was not signed for this mesh", hint="make it anew, with the genesis of this mesh")
    return body


def _agrees(key: SigningKey, name: str, genesis_hash: bytes, org: str, role: str) -> bytes:
    claim = possession(genesis_hash, name, org, role, b"")
    return sign(key, claim.domain, claim.payload)


def _text(body: Body) -> str:
    return MARK + base64.urlsafe_b64encode(cbor.encode(body.fields())).decode().rstrip("=")


def _body(text: str) -> AddHuman | AddNode:
    text = text.strip()
    if not text.startswith(MARK) or len(text) > len(MARK) + MAX_BYTES * 4 // 3 + 4:
        raise _malformed(f"it does not begin with {MARK}, or is too long")
    coded = text[len(MARK) :]
    try:
        value = cbor.decode(base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True), max_bytes=MAX_BYTES)
        body = AddNode.read(value) if isinstance(value, list) and len(value) == 5 else AddHuman.read(value)
    except (binascii.Error, ValueError, Refused) as error:
        raise _malformed("it was cut off or changed") from error
    if _text(body) != text:
        raise _malformed("it was changed")  # base64 has several spellings
    return body


def _malformed(why: str) -> Refused:
    return Refused("agreement-malformed", f"this is no agreement: {why}", hint="`mesh key agree` and `mesh init --join` make them")
