"""What of a directory lies in the node's Store: its entries, the places of each, the layout that these are numbered by, and codebooks.

    e/<agent's id>   [kind, organisation, version, digest, checked, sealed bytes (none for a mark)]
    p/<agent's id>   [place, …], where the directory is in cells
    layout           the layout's name
    c/<hash>         an encoded codebook; ``codebooks`` has the hashes, the newest last

A step of the machine gathers its writes here, and sees them before they are written.
"""

from collections.abc import Iterator

from meshos import cbor
from meshos.effects import Delete, Put, Write
from meshos.ids import AgentId, OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import Places
from meshos.protocols.directory.holdings import Holding, Kind, bucket_of
from meshos.protocols.directory.record import Sealed, parse
from meshos.storage.store import View

_ENTRY = b"e/"
_PLACES = b"p/"
_LAYOUT = b"layout"
_CODEBOOK = b"c/"
_CODEBOOKS = b"codebooks"
_BYTES = limits.RECORD_BYTES + 1024


class Stored:
    """``view`` is the Store as it was before this step; ``writes`` are what this step adds."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._layout = b""
        self.writes: list[Write] = []

    def layout(self) -> bytes:
        """By which entries lay when the node ended."""
        self._layout = self._view.get(_LAYOUT) or b""
        return self._layout

    def entries(self, node: str, now: float) -> Iterator[tuple[Holding, Sealed | None]]:
        """Everything that was held, held since ``now``, with what its owner has sealed (None: a mark)."""
        for key, value in self._view.scan(_ENTRY):
            kind, org, version, digest, checked, data = _fields(value)
            assert isinstance(version, int) and isinstance(digest, bytes) and isinstance(data, bytes)
            sealed = parse(data) if data else None
            agent = AgentId(key[len(_ENTRY) :].decode())
            own = sealed is not None and sealed.signer == node
            name: Kind = "record" if kind == "record" else "tombstone" if kind == "tombstone" else "mark"
            yield Holding(agent, OrgDid(str(org)), name, version, digest, now, 0.0, bool(checked), own, self._places(agent)), sealed

    def _places(self, agent: AgentId) -> Places:
        if not self._layout:
            return (bucket_of(agent),)
        stored = cbor.decode(self._view.get(_PLACES + agent.encode()) or cbor.encode([]), max_bytes=_BYTES)
        return tuple(place for place in stored if isinstance(place, int)) if isinstance(stored, list) else ()

    def arrange(self, layout: bytes) -> None:
        """Entries lie by the layout of this name from now on; whoever calls tells where each does."""
        self._layout = layout
        self.writes.append(Put(_LAYOUT, layout))

    def put(self, held: Holding, data: bytes) -> None:
        """Keep an entry and where it lies."""
        value = cbor.encode([held.kind, held.org, held.version, held.digest, held.checked, data])
        self.writes.append(Put(_ENTRY + held.id.encode(), value))
        if self._layout:
            self.put_places(held)

    def put_places(self, held: Holding) -> None:
        """Keep where an entry lies. That it is yet to be placed, and the bucket that its id tells, are not written down."""
        key = _PLACES + held.id.encode()
        known = bool(held.places and self._layout)
        self.writes.append(Put(key, cbor.encode(list(held.places))) if known else Delete(key))

    def forget(self, agent: AgentId) -> None:
        """Keep nothing of an agent."""
        self.writes.append(Delete(_ENTRY + agent.encode()))
        if self._layout:
            self.writes.append(Delete(_PLACES + agent.encode()))

    def sealed_bytes(self, held: Holding) -> bytes:
        """What the owner has sealed; of a mark nothing."""
        key = _ENTRY + held.id.encode()
        for write in reversed(self.writes):
            if isinstance(write, Put) and write.key == key:
                value: bytes | None = write.value
                break
        else:
            value = self._view.get(key)
        assert value is not None, f"{held.id} is held but not stored"
        data = _fields(value)[5]
        assert isinstance(data, bytes)
        return data

    def codebook(self, name: bytes) -> bytes | None:
        """The encoded codebook of this hash."""
        return self._view.get(_CODEBOOK + name)

    def keep_codebook(self, name: bytes, data: bytes, wanted: frozenset[bytes]) -> None:
        """Of more than CODEBOOKS the oldest goes that is not ``wanted``."""
        kept = cbor.decode(self._view.get(_CODEBOOKS) or cbor.encode([]), max_bytes=_BYTES)
        assert isinstance(kept, list)
        names = [*(one for one in kept if isinstance(one, bytes) and one != name), name]
        spare = [one for one in names[:-1] if one not in wanted]
        gone = spare[: max(0, len(names) - limits.CODEBOOKS)]
        self.writes += [Put(_CODEBOOK + name, data), *(Delete(_CODEBOOK + one) for one in gone)]
        self.writes.append(Put(_CODEBOOKS, cbor.encode([one for one in names if one not in gone])))


def _fields(value: bytes) -> list[cbor.Value]:
    stored = cbor.decode(value, max_bytes=_BYTES)
    assert isinstance(stored, list)
    return stored
