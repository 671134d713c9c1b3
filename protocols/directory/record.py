"""Records and tombstones: what is signed, how it travels, and when it is believed.

An *entry* is a record or a tombstone of one agent. Its *body* is the canonical CBOR of the owner's fields, and nothing but these bytes is
ever signed, hashed or sent: a holder keeps and forwards them as they came. *Sealed*, it carries who signed (a node), the
signature, and the node's certificate, by which anybody who knows the organisation's root can tell that the node speaks for it.

Nothing that the mesh measures (trust, uptime, latency) is in a record: it is laid beside it when it is shown.
The agent's id follows from organisation and name, so that nobody can publish under another's.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from meshos import cbor
from meshos.cbor import Value
from meshos.crypto.keys import SIGNATURE_BYTES
from meshos.crypto.signing import Domain, Verifier
from meshos.errors import Refused
from meshos.ids import AgentId, OrgDid, agent_id, parse_org_did
from meshos.protocols.directory import limits
from meshos.protocols.directory.profile import PROFILE_FIELDS, Profile, bad_record, read_profile
from meshos.protocols.directory.vector import DENSE, Vector, whole, whole_bytes
from meshos.storage.index.limits import PIECES
from meshos.storage.index.pieces import PIECE_BYTES, Reading

PROTOCOL = "/meshos/directory/1"

OrgOf: TypeAlias = Callable[[str, bytes], OrgDid]
"""For which organisation the node ``signer`` speaks by its certificate ``proof``; raises Refused. Called in worker threads."""


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent that is there. ``updated_ms`` is when the owner last changed it (Unix time).

    ``dense`` is the model's half of the vector, ``pieces`` the signs of the text's telling pieces, both of ``profile.text()``. ``was`` has
    the vectors of the versions before, the latest first: where those lie, this one has to be known too.
    """

    mesh_id: OrgDid
    profile: Profile
    version: int
    updated_ms: int
    embedding_model: str
    dense: bytes
    pieces: bytes
    was: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """The agent's name in its organisation."""
        return self.profile.name

    @property
    def agent_id(self) -> AgentId:
        """The agent's id."""
        return agent_id(self.mesh_id, self.profile.name)

    def meaning(self) -> Vector:
        """The 384 numbers of the sentence model, of length 1."""
        vector = np.frombuffer(self.dense, "<f2").astype(np.float32)
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length) if length else vector

    def embeddings(self) -> Vector:
        """All 768 numbers."""
        return whole(self.meaning(), self.profile.text())


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An agent that is gone, since ``version``. ``was`` has the vectors of its records."""

    mesh_id: OrgDid
    name: str
    version: int
    updated_ms: int
    was: tuple[bytes, ...] = ()

    @property
    def agent_id(self) -> AgentId:
        """The agent's id."""
        return agent_id(self.mesh_id, self.name)


Entry: TypeAlias = AgentRecord | Tombstone


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry with its signed bytes. ``digest`` (16 bytes) names exactly this body."""

    entry: Entry
    body: bytes
    signer: str
    signature: bytes
    proof: bytes
    digest: bytes

    def to_bytes(self) -> bytes:
        """As it is stored and sent."""
        return cbor.encode([self.body, self.signer, self.signature, self.proof])


def described(
    org: OrgDid, profile: Profile, version: int, updated_ms: int, model: str, read: Reading, before: "Entry | None" = None
) -> AgentRecord:
    """The record of an agent whose ``profile.text()`` the sentence model ``model`` has read; ``before`` is what it replaces."""
    dense = read.vector.astype("<f2").tobytes()
    was = tuple(vector for vector in vectors_of(before) if vector != whole_bytes(dense))
    return AgentRecord(org, profile, version, updated_ms, model, dense, read.signs(), was[: limits.FORMER_VECTORS])


def buried(org: OrgDid, name: str, version: int, updated_ms: int, before: "Entry | None") -> Tombstone:
    """The tombstone in the place of ``before``."""
    return Tombstone(org, name, version, updated_ms, vectors_of(before)[: limits.FORMER_VECTORS])


def vectors_of(entry: "Entry | None") -> tuple[bytes, ...]:
    """The vectors by which an entry is placed, its own first: 384 whole numbers from -127 to 127 each (``vector.whole_bytes``)."""
    if isinstance(entry, AgentRecord):
        return (whole_bytes(entry.dense), *entry.was)
    return () if entry is None else entry.was


def body_of(entry: Entry) -> bytes:
    """The bytes that the owner signs; raises Refused ``record-too-large``."""
    fields: dict[str, Value] = {"meshId": entry.mesh_id, "version": entry.version, "updated": entry.updated_ms, "was": list(entry.was)}
    if isinstance(entry, AgentRecord):
        fields |= {"kind": "record", "model": entry.embedding_model, "dense": entry.dense, "pieces": entry.pieces, **entry.profile.fields()}
    else:
        fields |= {"kind": "tombstone", "name": entry.name}
    body = cbor.encode(fields)
    if len(body) > limits.RECORD_BYTES - limits.PROOF_BYTES - 512:
        raise Refused(
            "record-too-large",
            f"the record of {entry.name[:60]!r} has {len(body)} bytes, at most {limits.RECORD_BYTES >> 10} KiB fit",
            hint="shorten the input schemas of its tasks",
        )
    return body


def seal(entry: Entry, signer: str, signature: bytes, proof: bytes) -> Sealed:
    """``entry`` with the signature of ``body_of(entry)``."""
    body = body_of(entry)
    return Sealed(entry, body, signer, signature, proof, digest_of(body))


def digest_of(body: bytes) -> bytes:
    """16 bytes that name a body."""
    return hashlib.blake2b(body, digest_size=16, person=b"meshos/dir/1").digest()


def content_hash(body: bytes) -> bytes:
    """SHA-256 of what a body says, its version left out: what an organisation commits to on the ledger. A record that is renewed, under the
    next version, has the same.
    """
    fields = cbor.decode(body, max_bytes=limits.RECORD_BYTES)
    assert isinstance(fields, dict)
    rest = {name: value for name, value in fields.items() if name != "version"}
    return hashlib.sha256(b"meshos/record/1\0" + cbor.encode(rest)).digest()


def parse(data: bytes) -> Sealed:
    """The sealed entry in ``data``; nothing is verified yet. Raises Refused ``too-large``, ``bad-encoding`` or ``bad-record``."""
    parts = cbor.decode(data, max_bytes=limits.RECORD_BYTES)
    if not isinstance(parts, list) or len(parts) != 4:
        raise bad_record("its envelope has not four parts")
    body, signer, signature, proof = parts
    if not isinstance(body, bytes) or not isinstance(signer, str) or len(signer) > limits.SIGNER_CHARS:
        raise bad_record("its envelope holds something else than a body and a signer")
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise bad_record("its signature has a wrong length")
    if not isinstance(proof, bytes) or len(proof) > limits.PROOF_BYTES:
        raise bad_record("the certificate that it carries is too large")
    return Sealed(_read_body(body), body, signer, signature, proof, digest_of(body))


def domain(genesis_hash: bytes) -> Domain:
    """What an owner's signature is for."""
    return Domain(genesis_hash, PROTOCOL, phase="entry")


def verify(sealed: Sealed, verifier: Verifier, genesis_hash: bytes, org_of: OrgOf) -> None:
    """Return if a node of the entry's own organisation has signed it.

    Raises Refused: ``record-of-another-org``, ``bad-signature``, ``bad-key``, or what ``org_of`` raises.
    """
    org = org_of(sealed.signer, sealed.proof)
    if org != sealed.entry.mesh_id:
        raise Refused("record-of-another-org", f"a node of {org} has signed a record of {sealed.entry.mesh_id}")
    verifier.verify(sealed.signer, domain(genesis_hash), sealed.body, sealed.signature)


def _read_body(body: bytes) -> Entry:
    fields = cbor.decode(body, max_bytes=limits.RECORD_BYTES)
    if not isinstance(fields, dict):
        raise bad_record("its body is no map")
    kind = fields.get("kind")
    if kind == "tombstone" and fields.keys() == _COMMON | {"name"}:
        name = fields["name"]
        if not isinstance(name, str) or not 0 < len(name) <= limits.NAME_CHARS:
            raise bad_record("the name of a tombstone is no name")
        return Tombstone(_org(fields), name, _number(fields, "version"), _number(fields, "updated"), _was(fields["was"]))
    if kind != "record" or fields.keys() != _COMMON | _RECORD:
        raise bad_record("it has not the fields of a record or a tombstone")
    dense, pieces, model = fields["dense"], fields["pieces"], fields["model"]
    if not isinstance(model, str) or not 0 < len(model) <= limits.MODEL_CHARS:
        raise bad_record("it does not name its sentence model")
    if not isinstance(dense, bytes) or len(dense) != limits.DENSE_BYTES:
        raise bad_record(f"its vector has not {DENSE} numbers")
    if not isinstance(pieces, bytes) or len(pieces) > limits.PIECES_BYTES or len(pieces) % PIECE_BYTES:
        raise bad_record(f"its pieces have not {PIECE_BYTES} bytes each, or are more than {PIECES}")
    numbers = np.frombuffer(dense, "<f2").astype(np.float64)
    if not np.isfinite(numbers).all() or not 0.99 < float(np.linalg.norm(numbers)) < 1.01:
        raise bad_record("its vector has not length 1")
    version, updated_ms = _number(fields, "version"), _number(fields, "updated")
    return AgentRecord(_org(fields), read_profile(fields), version, updated_ms, model, dense, pieces, _was(fields["was"]))


_COMMON = frozenset({"kind", "meshId", "version", "updated", "was"})
_RECORD = frozenset({"model", "dense", "pieces"}) | PROFILE_FIELDS


def _number(fields: dict[str, Value], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limits.MAX_NUMBER:
        raise bad_record(f"{name} is no number from 0 to 2**53")
    return value


def _was(value: Value) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > limits.FORMER_VECTORS:
        raise bad_record("its former vectors are no list, or too many")
    found = tuple(vector for vector in value if isinstance(vector, bytes) and len(vector) == DENSE)
    if len(found) != len(value):
        raise bad_record(f"a former vector has not {DENSE} numbers")
    return found


def _org(fields: dict[str, Value]) -> OrgDid:
    value = fields["meshId"]
    try:
        parse_org_did(value if isinstance(value, str) else "")
    except ValueError as error:
        raise bad_record("its meshId is no organisation's DID") from error
    return OrgDid(str(value))
