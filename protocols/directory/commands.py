"""What is asked of the directory machine (``await Propose(command, to="directory")``), what it gives back, and what it makes happen."""

from dataclasses import dataclass
from typing import TypeAlias

from meshos.errors import MeshError
from meshos.ids import AgentId, OrgDid
from meshos.protocols.directory.record import AgentRecord, Sealed

MACHINE = "directory"


@dataclass(frozen=True, slots=True)
class Item:
    """An entry by name: enough to tell whether one has it."""

    id: AgentId
    version: int
    digest: bytes


# -- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    """Take in records that this node has signed, and tell the others. Gives ``Merged``."""

    records: tuple[Sealed, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take in tombstones that this node has signed, and tell the others. Gives ``Merged``."""

    tombstones: tuple[Sealed, ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """Take in entries whose signatures hold. ``checked``: the digests of those whose vectors were computed again. Gives ``Merged``."""

    entries: tuple[Sealed, ...]
    checked: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class ReadDigest:
    """Gives ``Digest``."""


@dataclass(frozen=True, slots=True)
class ReadItems:
    """Gives ``Items``: the entries of ``buckets`` (rising numbers) after the id ``after``, in the order of their ids."""

    buckets: tuple[int, ...]
    after: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """Gives ``Wanted``: which of these entries of another node this one lacks, or has in an older version."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """Gives the sealed bytes of those ids that are held, at most ``max_bytes`` of them: ``tuple[bytes, ...]``."""

    ids: tuple[AgentId, ...]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Find:
    """Gives the held version of each id, None for what is not held: ``tuple[Held | None, ...]``. ``brief``: without the entries."""

    ids: tuple[AgentId, ...]
    brief: bool = False


@dataclass(frozen=True, slots=True)
class ReadUnchecked:
    """Gives up to ``count`` records whose vectors nobody here has computed again yet: ``tuple[Sealed, ...]``."""

    count: int


@dataclass(frozen=True, slots=True)
class Judge:
    """Vectors were computed again: those of ``good`` fit their text, those of ``bad`` do not and go.

    Gives frozenset[OrgDid]: the organisations whose records are refused now.
    """

    good: tuple[Item, ...]
    bad: tuple[Item, ...]
    refused: tuple[OrgDid, ...] = ()
    """The organisations of records that were refused for it before they were taken in, to be counted."""
    unwanted: tuple[bytes, ...] = ()
    """The digests of records that were refused for it or for their publisher: they are not wanted again for a while."""


@dataclass(frozen=True, slots=True)
class Disown:
    """Forget these: the certificates of those who signed them were revoked. What this node signed is renewed instead. Gives None."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class ReadDue:
    """Gives up to ``count`` records that this node signed and that are old enough to be renewed: ``tuple[Sealed, ...]``."""

    count: int


Command: TypeAlias = Publish | Withdraw | Merge | ReadDigest | ReadItems | Want | Read | Find | ReadUnchecked | Judge | Disown | ReadDue


# -- what they give back ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Merged:
    """``news``: how many were taken in. ``refused``: the place of each that was not (an old one is none), and why."""

    news: int
    refused: tuple[tuple[int, MeshError], ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """``root`` (16 bytes) is the same where all entries are; ``buckets`` are the 256 digests that it is made of."""

    root: bytes
    buckets: bytes


@dataclass(frozen=True, slots=True)
class Items:
    """``more``: there are others after the last of these."""

    items: tuple[Item, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """``suspected``: organisations that have cheated, of which no record is taken in now."""

    ids: tuple[AgentId, ...]
    suspected: frozenset[OrgDid]


@dataclass(frozen=True, slots=True)
class Held:
    """``sealed`` is None for a mark (that version has lapsed or was refused). ``checked``: its vector was computed again here."""

    version: int
    checked: bool
    sealed: Sealed | None


# -- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IndexChanged:
    """For the index port: these records are new or changed, those ids are gone."""

    put: tuple[Sealed, ...]
    drop: tuple[AgentId, ...]


@dataclass(frozen=True, slots=True)
class SignEntry:
    """For the key's port, awaited as ``Port(SignEntry(body))``: sign for ``record.domain(genesis)``; gives ``EntrySignature``."""

    body: bytes


@dataclass(frozen=True, slots=True)
class EntrySignature:
    """Who signed (this node's id), the signature, and the node's certificate (DER)."""

    signer: str
    signature: bytes
    proof: bytes


def item_of(sealed: Sealed) -> Item:
    """The name of an entry."""
    return Item(sealed.entry.agent_id, sealed.entry.version, sealed.digest)


def is_record(sealed: Sealed) -> bool:
    """Whether it is a record, not a tombstone."""
    return isinstance(sealed.entry, AgentRecord)
