"""Guests: an organisation of a mesh invites another one into it, where the mesh admits by invitation.

The root key of the organisation that invites signs whom, by its name and its root key, into which mesh, and until when. It can stay
offline, and nothing has to be remembered of it: an invitation names the one organisation that it is for, which is admitted once (who has
left comes back by people's votes only). It is no secret either: whoever sees it cannot sign as the root key in it. What admits the guest
in the end is a motion that the host's node moves and the others' nodes vote for (``protocols/ledger/registrar.py``).
"""

from dataclasses import dataclass

from meshos import cbor
from meshos.crypto.keys import PublicKey, SigningKey
from meshos.crypto.limits import GUEST_BYTES, INVITATION_LIFETIME_S, INVITATION_MAX_LIFETIME_S
from meshos.crypto.signing import Domain, sign, verify
from meshos.crypto.words import read_word, word_of
from meshos.errors import BadInput, Refused
from meshos.ids import OrgDid, parse_org_did

PROTOCOL = "/meshos/guest/1"
MARK = "mesh-guest-1."


@dataclass(frozen=True, slots=True)
class Guest:
    """``host`` invites ``guest``, whose root key is ``key``, until ``expires`` (seconds since 1970 UTC). ``root`` has signed it: whether
    that is the host's root key the ledger knows."""

    host: OrgDid
    guest: OrgDid
    key: PublicKey
    root: PublicKey
    expires: int


def invite_guest(
    root: SigningKey,
    *,
    genesis_hash: bytes,
    host: OrgDid,
    guest: OrgDid,
    key: PublicKey,
    now: float,
    lifetime_s: int = INVITATION_LIFETIME_S,
) -> str:
    """An invitation of ``guest`` with the root key ``key`` as one word of text; raises BadInput ``bad-invitation-terms``."""
    if not 1 <= lifetime_s <= INVITATION_MAX_LIFETIME_S:
        raise BadInput("bad-invitation-terms", f"an invitation lasts 1 to {INVITATION_MAX_LIFETIME_S} seconds, not {lifetime_s}")
    content = cbor.encode([host, guest, key.raw, root.public.raw, int(now) + lifetime_s])
    return word_of(MARK, [content, sign(root, Domain(genesis_hash, PROTOCOL), content)])


def read_guest(text: str, *, genesis_hash: bytes, now: float) -> Guest:
    """What an invitation says, signed by the root key that it names, for this mesh.

    Raises Refused ``invitation-malformed``, ``bad-signature`` or ``invitation-expired``.
    """
    try:
        match read_word(text, MARK, GUEST_BYTES):
            case [bytes() as content, bytes() as signature]:
                invited = _guest(cbor.decode(content, max_bytes=GUEST_BYTES))
            case _:
                raise ValueError("it does not hold what an invitation holds")
    except (ValueError, Refused) as error:
        raise Refused("invitation-malformed", f"this is no invitation into a mesh: {error}") from error
    verify(invited.root, Domain(genesis_hash, PROTOCOL), content, signature)
    if now > invited.expires:
        hint = f"ask {invited.host} for another: `mesh org invite --guest APPLICATION`"
        raise Refused("invitation-expired", f"this invitation of {invited.guest} has ended", hint=hint)
    return invited


def _guest(value: cbor.Value) -> Guest:
    match value:
        case [str() as host, str() as guest, bytes() as key, bytes() as root, int() as expires] if expires >= 0:
            parse_org_did(host), parse_org_did(guest)
            return Guest(OrgDid(host), OrgDid(guest), PublicKey(key), PublicKey(root), expires)
    raise ValueError("it does not hold what an invitation holds")
