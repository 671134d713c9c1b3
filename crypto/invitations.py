"""Invitations: how a further node of an organisation gets its certificate, also when the root key is offline.

Three texts are handed over, by file, by paste or over any channel:

1. ``invite``: whoever has the root key makes an invitation. It names mesh, organisation, where to find its nodes, and when it ends.
   Who holds it can become one node of the organisation, once.
2. ``request``: the joining node has made its key; it sends the invitation back with its public key, signed by that key.
3. ``issue``: whoever has the root key answers with a certificate (``certificates.issue``) and remembers that the invitation is spent,
   and for which node. The same node may ask again, since an answer can be lost; another may not.

The joining node checks the answer like any peer's certificate: ``certificates.verify_chain``.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nacl import bindings

from meshos import cbor
from meshos.crypto import certificates
from meshos.crypto.keys import PublicKey, SigningKey, node_id
from meshos.crypto.limits import (
    ADDRESS_BYTES,
    BACKDATED_S,
    INVITATION_ADDRESSES,
    INVITATION_BYTES,
    INVITATION_LIFETIME_S,
    INVITATION_MAX_LIFETIME_S,
    NODE_LIFETIME_S,
    REQUEST_BYTES,
)
from meshos.crypto.signing import GENESIS_HASH_BYTES, Domain, sign, verify
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId, OrgDid, parse_org_did

PROTOCOL = "/meshos/invitation/1"
NONCE_BYTES = 16

_INVITATION_MARK = "mesh-invitation-1."
_REQUEST_MARK = "mesh-request-1."


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an invitation says. Times are seconds since 1970 UTC; ``nonce`` tells invitations apart."""

    genesis_hash: bytes
    org: OrgDid
    root: PublicKey
    nonce: bytes
    issued: int
    expires: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a joining node asks: the invitation that it holds, and the key that it made."""

    invitation: Invitation
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Issued:
    """The answer: a certificate in DER. Before it is handed out, ``nonce`` is remembered for ``node``, until ``forget_after``."""

    certificate: bytes
    node: NodeId
    nonce: bytes
    forget_after: int


def invite(
    root: SigningKey,
    *,
    genesis_hash: bytes,
    org: OrgDid,
    now: float,
    lifetime_s: int = INVITATION_LIFETIME_S,
    addresses: Sequence[str] = (),
) -> str:
    """An invitation as one word of text; raises BadInput ``bad-invitation-terms``."""
    if not 1 <= lifetime_s <= INVITATION_MAX_LIFETIME_S:
        raise BadInput("bad-invitation-terms", f"an invitation lasts 1 to {INVITATION_MAX_LIFETIME_S} seconds, not {lifetime_s}")
    if len(addresses) > INVITATION_ADDRESSES or any(not _fits(address) for address in addresses):
        told = f"an invitation names up to {INVITATION_ADDRESSES} addresses of up to {ADDRESS_BYTES} printable ASCII characters"
        raise BadInput("bad-invitation-terms", told)
    nonce = bindings.randombytes(NONCE_BYTES)
    content = cbor.encode([genesis_hash, org, root.public.raw, nonce, int(now), int(now) + lifetime_s, list(addresses)])
    signature = sign(root, Domain(genesis_hash, PROTOCOL, phase="invite"), content)
    return _text(_INVITATION_MARK, [content, signature])


def read_invitation(token: str, *, now: float) -> Invitation:
    """What a token says, signed by the root key that it names: whether that is the organisation's is known from the genesis.

    Raises Refused ``invitation-malformed``, ``bad-public-key``, ``bad-signature`` or ``invitation-expired``.
    """
    invitation = _signed(token)
    if now > invitation.expires:
        raise Refused(
            "invitation-expired", f"this invitation to {invitation.org} has ended", hint="ask for another: `mesh org invite --node`"
        )
    if now < invitation.issued - BACKDATED_S:
        raise Refused("invitation-expired", f"this invitation to {invitation.org} has not begun", hint="check the clock of this machine")
    return invitation


def request(token: str, node: SigningKey, *, now: float) -> str:
    """The joining node's request as one word of text; raises as ``read_invitation``."""
    invitation = read_invitation(token, now=now)
    content = cbor.encode([token, node.public.raw])
    signature = sign(node, Domain(invitation.genesis_hash, PROTOCOL, phase="request"), content)
    return _text(_REQUEST_MARK, [content, signature])


def read_request(text: str, *, now: float) -> JoinRequest:
    """What a request asks; raises as ``read_invitation``."""
    token, key, content, signature = _request(text)
    invitation = read_invitation(token, now=now)
    verify(key, Domain(invitation.genesis_hash, PROTOCOL, phase="request"), content, signature)
    return JoinRequest(invitation, key)


def invitation_in(text: str) -> Invitation:
    """The invitation that a request was made with, also one that has ended: whoever made the request knows by it whose root to expect.

    Raises Refused ``invitation-malformed``, ``bad-public-key`` or ``bad-signature``.
    """
    token, *_ = _request(text)
    return _signed(token)


def issue(
    root: SigningKey,
    text: str,
    *,
    genesis_hash: bytes,
    org: OrgDid,
    spent: Mapping[bytes, NodeId],
    now: float,
    lifetime_s: float = NODE_LIFETIME_S,
) -> Issued:
    """A certificate for the node that asks in ``text``. ``spent`` has the node of every invitation that was answered.

    Raises as ``read_request``, and Refused ``wrong-mesh``, ``invitation-wrong-org`` or ``invitation-used``.
    """
    asked = read_request(text, now=now)
    invitation, node = asked.invitation, node_id(asked.key)
    if invitation.genesis_hash != genesis_hash:
        raise Refused("wrong-mesh", f"this invitation to {invitation.org} is for another mesh")
    if invitation.org != org or invitation.root != root.public:
        raise Refused("invitation-wrong-org", f"this invitation to {invitation.org} was not signed by the root key of {org}")
    if spent.get(invitation.nonce, node) != node:
        raise Refused("invitation-used", f"another node has used this invitation to {org}", hint="make one invitation for each node")
    mesh_id = genesis_hash[:16].hex()
    certificate = certificates.issue(root, mesh_id=mesh_id, org=org, node=asked.key, now=now, lifetime_s=lifetime_s)
    return Issued(certificate, node, invitation.nonce, invitation.expires)


def _signed(token: str) -> Invitation:
    match _parts(token, _INVITATION_MARK, INVITATION_BYTES):
        case [bytes() as content, bytes() as signature]:
            invitation = _invitation(content)
        case _:
            raise _malformed("it does not hold what an invitation holds")
    verify(invitation.root, Domain(invitation.genesis_hash, PROTOCOL, phase="invite"), content, signature)
    return invitation


def _request(text: str) -> tuple[str, PublicKey, bytes, bytes]:
    match _parts(text, _REQUEST_MARK, REQUEST_BYTES):
        case [bytes() as content, bytes() as signature]:
            inner = _decoded(content, REQUEST_BYTES)
        case _:
            raise _malformed("it does not hold what a request holds")
    match inner:
        case [str() as token, bytes() as raw]:
            return token, PublicKey(raw), content, signature
    raise _malformed("it does not hold what a request holds")


def _invitation(content: bytes) -> Invitation:
    match _decoded(content, INVITATION_BYTES):
        case [bytes() as mesh, str() as org, bytes() as root, bytes() as nonce, int() as issued, int() as expires, list() as addresses]:
            pass
        case _:
            raise _malformed("it does not hold what an invitation holds")
    try:
        parse_org_did(org)
    except ValueError as error:
        raise _malformed(str(error)) from error
    if len(mesh) != GENESIS_HASH_BYTES or len(nonce) != NONCE_BYTES:
        raise _malformed("its mesh or its nonce has the wrong length")
    if not (0 <= issued < expires <= issued + INVITATION_MAX_LIFETIME_S):
        raise _malformed(f"it would last longer than {INVITATION_MAX_LIFETIME_S} seconds")
    texts = tuple(address for address in addresses if isinstance(address, str) and _fits(address))
    if len(texts) != len(addresses) or len(texts) > INVITATION_ADDRESSES:
        raise _malformed("its addresses are not such")
    return Invitation(mesh, OrgDid(org), PublicKey(root), nonce, issued, expires, texts)


def _fits(address: str) -> bool:
    return 0 < len(address) <= ADDRESS_BYTES and address.isascii() and address.isprintable()


def _text(mark: str, parts: list[bytes]) -> str:
    return mark + base64.urlsafe_b64encode(cbor.encode(parts)).decode().rstrip("=")


def _parts(text: str, mark: str, max_bytes: int) -> cbor.Value:
    """What stands behind ``mark``; blanks around the text come from pasting and do not count."""
    text = text.strip()
    if not text.startswith(mark) or len(text) > len(mark) + max_bytes * 4 // 3 + 4:
        raise _malformed(f"it does not begin with {mark}, or is too long")
    body = text[len(mark) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("it was cut off or changed") from error
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != body:
        raise _malformed("it was changed")  # the last character has bits to spare, which have to be zero
    return _decoded(data, max_bytes)


def _decoded(data: bytes, max_bytes: int) -> cbor.Value:
    try:
        return cbor.decode(data, max_bytes=max_bytes)
    except Refused as error:
        raise _malformed("it was cut off or changed") from error


def _malformed(why: str) -> Refused:
    return Refused("invitation-malformed", f"this is no invitation, or request for one, that can be used: {why}")
