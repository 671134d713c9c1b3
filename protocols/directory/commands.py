"""What is asked of the directory machine (``await Propose(command, to="directory")``), what it gives back, and what it makes happen."""

from dataclasses import dataclass
from typing import TypeAlias

from meshos.errors import MeshError
from meshos.ids import AgentId, OrgDid
from meshos.protocols.directory.record import AgentRecord, Sealed

MACHINE = "directory"

Places: TypeAlias = tuple[int, ...]
"""Where an entry lies (``cells.layout``)."""


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
    """Take in entries whose signatures hold. ``checked``: the digests of those whose vectors were computed again; ``places``: where each
    lies in the ``layout`` of that name. Gives ``Merged``.
    """

    entries: tuple[Sealed, ...]
    checked: frozenset[bytes] = frozenset()
    layout: bytes = b""
    places: tuple[Places, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the entry of this digest lies."""

    id: AgentId
    digest: bytes
    places: Places


@dataclass(frozen=True, slots=True)
class Arrange:
    """From now on entries lie as the layout of this name has it: those in ``placed`` there, the others are yet to be placed. An empty name
    is the whole. Gives None.
    """

    layout: bytes
    placed: tuple[Placed, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Entries that were yet to be placed lie there. Gives whether the directory is arranged by the layout of this name."""

    layout: bytes
    placed: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class ReadUnplaced:
    """Gives up to ``count`` entries that are yet to be placed: ``tuple[Sealed, ...]``."""

    count: int


@dataclass(frozen=True, slots=True)
class ReadArranged:
    """Gives the name of the layout by which entries lie: ``bytes``."""


@dataclass(frozen=True, slots=True)
class ReadPlaces:
    """Gives the places in which something lies, rising: ``tuple[int, ...]``."""


@dataclass(frozen=True, slots=True)
class KeepCodebook:
    """Keep the encoded codebook of this hash; of more than CODEBOOKS the oldest goes that is not ``wanted``. Gives None."""

    name: bytes
    data: bytes
    wanted: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadCodebook:
    """Gives the encoded codebook of this hash, None if it is not here: ``bytes | None``."""

    name: bytes


@dataclass(frozen=True, slots=True)
class ReadPlacesOf:
    """Gives where the entries of these ids lie, nowhere for one that is not held or placed: ``tuple[Places, ...]``."""

    ids: tuple[AgentId, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of what lies in none of the places ``kept``, but for what this node has signed itself. Gives how many entries went."""

    layout: bytes
    kept: Places


@dataclass(frozen=True, slots=True)
class ReadDigest:
    """Gives ``Digest`` of these places (rising numbers)."""

    places: Places


@dataclass(frozen=True, slots=True)
class ReadItems:
    """Gives ``Items``: the entries in ``places`` (rising numbers) after the id ``after``, in the order of their ids."""

    places: Places
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


Command: TypeAlias = (
    Publish
    | Withdraw
    | Merge
    | Arrange
    | Place
    | Release
    | ReadArranged
    | ReadPlaces
    | ReadPlacesOf
    | KeepCodebook
    | ReadCodebook
    | ReadUnplaced
    | ReadDigest
    | ReadItems
    | Want
    | Read
    | Find
    | ReadUnchecked
    | Judge
    | Disown
    | ReadDue
)


# -- what they give back ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Merged:
    """``news``: how many were taken in. ``refused``: the place of each that was not (an old one is none), and why."""

    news: int
    refused: tuple[tuple[int, MeshError], ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """``root`` (16 bytes) is the same where all entries are; ``places`` are the digests that it is made of, 16 bytes for each place."""

    root: bytes
    places: bytes


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
    """For the index port: these records are new or changed, and lie in ``homes``; those ids are gone; those lie elsewhere now."""

    put: tuple[Sealed, ...]
    homes: tuple[int, ...]
    drop: tuple[AgentId, ...]
    moved: tuple[tuple[AgentId, int], ...] = ()


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
