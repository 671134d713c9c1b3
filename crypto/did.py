"""DID documents of organisations: ``did:mesh:<kind>:<name>`` (W3C DID 1.0, with Multikeys of Controlled Identifiers 1.0).

What each key may do follows from its role. The root key alone may change the organisation (``capabilityInvocation``); the
validator's key and people's keys make statements in its name (``assertionMethod``); people prove who they are with theirs
(``authentication``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshos.crypto.keys import PublicKey, multikey, public_key_of_multikey
from meshos.genesis import Org
from meshos.ids import OrgDid, parse_org_did

CONTEXT = ("https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1")


@dataclass(frozen=True, slots=True)
class OrgKeys:
    """The public keys of an organisation: its root, its validator's, and those of its people."""

    root: PublicKey
    validator: PublicKey | None = None
    humans: tuple[PublicKey, ...] = ()


def keys_of(org: Org) -> OrgKeys:
    """The keys of a founding organisation; raises Refused ``bad-public-key``."""
    validator = None if org.validator is None else public_key_of_multikey(org.validator.key)
    return OrgKeys(public_key_of_multikey(org.root_key), validator, tuple(public_key_of_multikey(human.key) for human in org.human_keys))


def document(org: OrgDid, keys: OrgKeys, *, services: Sequence[tuple[str, str, str]] = ()) -> Mapping[str, object]:
    """The DID document of ``org``. ``services`` are (name, type, URL), for instance ``("api", "MeshNode", "https://…")``.

    Raises ValueError if ``org`` is no DID of an organisation. A key's id is its Multikey, so it names that key for ever.
    """
    parse_org_did(org)
    root = _reference(org, keys.root)
    speaking = [*([keys.validator] if keys.validator is not None else []), *keys.humans]
    methods = list(dict.fromkeys([keys.root, *speaking]))
    found: dict[str, object] = {
        "@context": list(CONTEXT),
        "id": org,
        "controller": org,
        "verificationMethod": [_method(org, key) for key in methods],
        "capabilityInvocation": [root],
        "assertionMethod": [_reference(org, key) for key in [keys.root, *speaking]],
        "authentication": [_reference(org, key) for key in (*keys.humans, keys.root)],
    }
    if services:
        found["service"] = [{"id": f"{org}#{name}", "type": kind, "serviceEndpoint": url} for name, kind, url in services]
    return found


def _reference(org: OrgDid, key: PublicKey) -> str:
    return f"{org}#{multikey(key)}"


def _method(org: OrgDid, key: PublicKey) -> Mapping[str, object]:
    return {"id": _reference(org, key), "type": "Multikey", "controller": org, "publicKeyMultibase": multikey(key)}
