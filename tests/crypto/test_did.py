"""DID documents: which key may do what."""

import pytest

from meshos.crypto.did import OrgKeys, document
from meshos.crypto.keys import SigningKey, multikey
from meshos.ids import OrgDid

ROOT, VALIDATOR, HUMAN = (SigningKey(letter * 32).public for letter in (b"r", b"v", b"h"))
DID = OrgDid("did:mesh:hospital:st-mary")


def test_a_document_lists_each_key_once_and_its_roles() -> None:
    found = document(DID, OrgKeys(ROOT, VALIDATOR, (HUMAN,)), services=[("api", "MeshNode", "https://st-mary.example")])
    root, validator, human = (f"{DID}#{multikey(key)}" for key in (ROOT, VALIDATOR, HUMAN))
    assert found["id"] == found["controller"] == DID
    assert found["verificationMethod"] == [
        {"id": name, "type": "Multikey", "controller": DID, "publicKeyMultibase": name.split("#")[1]} for name in (root, validator, human)
    ]
    assert found["capabilityInvocation"] == [root]
    assert found["assertionMethod"] == [root, validator, human]
    assert found["authentication"] == [human, root]
    assert found["service"] == [{"id": f"{DID}#api", "type": "MeshNode", "serviceEndpoint": "https://st-mary.example"}]


def test_an_organisation_needs_a_root_key_only() -> None:
    found = document(DID, OrgKeys(ROOT))
    assert len(found["verificationMethod"]) == 1  # type: ignore[arg-type]
    assert "service" not in found


def test_another_did_is_refused() -> None:
    with pytest.raises(ValueError, match="did:mesh"):
        document(OrgDid("did:web:example"), OrgKeys(ROOT))
