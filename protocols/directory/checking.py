"""Whether what another node sent may be believed: signatures at once, vectors by sample, all of them in time.

A vector costs 15 ms to compute, two hundred times its signature's check, so not all are computed again at once. Which are is
decided by a hash with a secret of this node: a publisher cannot know. The rest follow when nobody searches, and before a
record first ranks high.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from meshos.crypto.signing import Verifier
from meshos.errors import Failed, MeshError, Refused
from meshos.ids import OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.record import AgentRecord, OrgOf, Sealed, parse, verify
from meshos.protocols.directory.vector import similarity


@dataclass(frozen=True, slots=True)
class Checker:
    """What a node checks with. ``secret`` is random, of this node alone, and never leaves it."""

    verifier: Verifier
    genesis_hash: bytes
    org_of: OrgOf
    embedder: Embedder
    secret: bytes

    def admit(self, pages: Sequence[bytes], suspected: frozenset[OrgDid]) -> "Admitted":
        """Those of ``pages`` that may be merged. For worker threads: 0.3 ms an entry, and 15 ms a sampled vector."""
        good: list[Sealed] = []
        refused: list[MeshError] = []
        for data in pages:
            try:
                sealed = parse(data)
                verify(sealed, self.verifier, self.genesis_hash, self.org_of)
                self.check_model(sealed)
            except MeshError as error:
                refused.append(error)
            else:
                good.append(sealed)
        # A model that is not loaded yet is not waited for: the records are taken in unchecked, which the keeping Flow mends.
        chosen = self.sample(good, suspected) if self.embedder.loaded or suspected else []
        try:
            wrong = self.misfits(chosen)
        except Failed:
            return Admitted(tuple(good), frozenset(), (), tuple(refused))  # without a model nothing can be compared; the others will
        checked = frozenset(sealed.digest for sealed in chosen) - wrong
        cheats = tuple(sealed for sealed in good if sealed.digest in wrong)
        refused += (vector_mismatch(sealed) for sealed in cheats)
        return Admitted(tuple(sealed for sealed in good if sealed.digest not in wrong), checked, cheats, tuple(refused))

    def check_model(self, sealed: Sealed) -> None:
        """Return if a record's vector is of the mesh's model; raises Refused ``wrong-embedding-model``."""
        entry = sealed.entry
        if isinstance(entry, AgentRecord) and entry.embedding_model != self.embedder.name:
            raise Refused(
                "wrong-embedding-model", f"{entry.name[:60]!r} has a vector of {entry.embedding_model}, this mesh uses {self.embedder.name}"
            )

    def sample(self, entries: Sequence[Sealed], suspected: frozenset[OrgDid]) -> list[Sealed]:
        """The records whose vectors are computed again now."""
        records = [sealed for sealed in entries if isinstance(sealed.entry, AgentRecord)]
        must = [sealed for sealed in records if sealed.entry.mesh_id in suspected]
        others = [sealed for sealed in records if sealed.entry.mesh_id not in suspected]
        others.sort(key=lambda sealed: hashlib.blake2b(sealed.digest, key=self.secret[:64], digest_size=8).digest())
        return must + others[: limits.SAMPLED]

    def misfits(self, records: Sequence[Sealed]) -> frozenset[bytes]:
        """The digests of those records whose vectors are not of their text; raises Failed where there is no model."""
        entries = [sealed.entry for sealed in records if isinstance(sealed.entry, AgentRecord)]
        if not entries:
            return frozenset()
        vectors = self.embedder.embed([entry.profile.text() for entry in entries])
        fits = [similarity(entry.meaning(), vector) >= limits.ALIKE for entry, vector in zip(entries, vectors, strict=True)]
        return frozenset(sealed.digest for sealed, fit in zip(records, fits, strict=True) if not fit)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be merged, which vectors of it were checked, the records with wrong vectors, and all refusals."""

    entries: tuple[Sealed, ...]
    checked: frozenset[bytes]
    cheats: tuple[Sealed, ...]
    refused: tuple[MeshError, ...]


def vector_mismatch(sealed: Sealed) -> Refused:
    """The refusal of a record whose vector is not of its text."""
    return Refused("vector-mismatch", f"the vector of {sealed.entry.agent_id} of {sealed.entry.mesh_id} is not that of its text")
