"""Whether what another node sent may be believed: signatures at once, vectors by sample, all of them in time.

A vector costs 15 ms to compute, two hundred times its signature's check, so not all are computed again at once. Which are is
decided by a hash with a secret of this node: a publisher cannot know. The rest follow when nobody searches, and before a
record first ranks high. A publisher with more than a few vectors that did not fit is refused for a while, and nothing of it is computed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from meshos.crypto.certificates import NOT_VOUCHED
from meshos.crypto.signing import Verifier
from meshos.errors import Failed, MeshError, Refused
from meshos.ids import OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import Item, item_of
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.record import AgentRecord, OrgOf, Sealed, parse, verify
from meshos.protocols.directory.vector import similarity
from meshos.storage.index.pieces import Reading, alike


@dataclass(frozen=True, slots=True)
class Checker:
    """What a node checks with. ``secret`` is random, of this node alone, and never leaves it."""

    verifier: Verifier
    genesis_hash: bytes
    org_of: OrgOf
    embedder: Embedder
    secret: bytes

    def admit(self, pages: Sequence[bytes], suspected: frozenset[OrgDid]) -> "Admitted":
        """Those of ``pages`` that may be merged. For worker threads: 0.3 ms an entry, and 15 ms a sampled vector.

        Of ``suspected`` organisations only tombstones are.
        """
        good: list[Sealed] = []
        shunned: list[Sealed] = []
        refused: list[MeshError] = []
        for data in pages:
            try:
                sealed = parse(data)
                if isinstance(sealed.entry, AgentRecord) and sealed.entry.mesh_id in suspected:
                    shunned.append(sealed)
                    raise publisher_refused(sealed)
                verify(sealed, self.verifier, self.genesis_hash, self.org_of)
                self.check_model(sealed)
            except MeshError as error:
                refused.append(error)
            else:
                good.append(sealed)
        # A model that is not loaded yet is not waited for: the records are taken in unchecked, which the keeping Flow mends.
        chosen = self.sample(good) if self.embedder.loaded else []
        try:
            wrong = self.misfits(chosen)
        except Failed:
            chosen, wrong = [], frozenset()  # without a model nothing can be compared; the others will
        checked = frozenset(sealed.digest for sealed in chosen) - wrong
        cheats = tuple(sealed for sealed in good if sealed.digest in wrong)
        refused += (vector_mismatch(sealed) for sealed in cheats)
        entries = tuple(sealed for sealed in good if sealed.digest not in wrong)
        return Admitted(entries, checked, cheats, tuple(shunned), tuple(refused))

    def vouched(self, data: bytes) -> Sealed:
        """The entry in ``data``, if its owner has signed it; its vector is not computed again. For worker threads: 0.3 ms.

        Raises what ``parse``, ``verify`` and ``check_model`` do.
        """
        sealed = parse(data)
        verify(sealed, self.verifier, self.genesis_hash, self.org_of)
        self.check_model(sealed)
        return sealed

    def signed(self, pages: Sequence[bytes]) -> list[Sealed]:
        """Those of ``pages`` that their owners have signed. For worker threads: 0.3 ms an entry."""
        found = []
        for data in pages:
            try:
                found.append(self.vouched(data))
            except MeshError:
                continue  # nobody has signed it, or under a certificate that has run out or is revoked
        return found

    def revoked(self, pages: Sequence[bytes], orgs: frozenset[OrgDid]) -> tuple[Item, ...]:
        """Which of these entries of ``orgs`` were signed under a certificate that counts no longer. For worker threads: 0.5 ms each."""
        found = []
        for data in pages:
            sealed = parse(data)
            if sealed.entry.mesh_id in orgs:
                try:
                    self.org_of(sealed.signer, sealed.proof)
                except MeshError as error:
                    if error.name in NOT_VOUCHED:  # what has run out meanwhile lapses by itself, or is renewed
                        found.append(item_of(sealed))
        return tuple(found)

    def check_model(self, sealed: Sealed) -> None:
        """Return if a record's vector is of the mesh's model; raises Refused ``wrong-embedding-model``."""
        entry = sealed.entry
        if isinstance(entry, AgentRecord) and entry.embedding_model != self.embedder.name:
            raise Refused(
                "wrong-embedding-model", f"{entry.name[:60]!r} has a vector of {entry.embedding_model}, this mesh uses {self.embedder.name}"
            )

    def sample(self, entries: Sequence[Sealed]) -> list[Sealed]:
        """The records whose vectors are computed again now."""
        records = [sealed for sealed in entries if isinstance(sealed.entry, AgentRecord)]
        records.sort(key=lambda sealed: hashlib.blake2b(sealed.digest, key=self.secret[:64], digest_size=8).digest())
        return records[: limits.SAMPLED]

    def misfits(self, records: Sequence[Sealed]) -> frozenset[bytes]:
        """The digests of those records whose vectors or pieces are not of their text; raises Failed where there is no model."""
        entries = [sealed.entry for sealed in records if isinstance(sealed.entry, AgentRecord)]
        if not entries:
            return frozenset()
        read = self.embedder.read([entry.profile.text() for entry in entries])
        return frozenset(sealed.digest for sealed, entry, one in zip(records, entries, read, strict=True) if not _fits(entry, one))


def _fits(record: AgentRecord, read: Reading) -> bool:
    return similarity(record.meaning(), read.vector) >= limits.ALIKE and alike(record.pieces, read.signs()) >= limits.ALIKE


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be merged, which vectors of it were checked, the records with wrong vectors, those of refused publishers, and all
    refusals."""

    entries: tuple[Sealed, ...]
    checked: frozenset[bytes]
    cheats: tuple[Sealed, ...]
    shunned: tuple[Sealed, ...]
    refused: tuple[MeshError, ...]


def vector_mismatch(sealed: Sealed) -> Refused:
    """The refusal of a record whose vector is not of its text."""
    return Refused("vector-mismatch", f"the vector of {sealed.entry.agent_id} of {sealed.entry.mesh_id} is not that of its text")


def publisher_refused(sealed: Sealed) -> Refused:
    """The refusal of a record whose publisher has cheated."""
    org = sealed.entry.mesh_id
    return Refused("publisher-refused", f"{org} has published vectors that are not of their text", hint="try again in an hour")
