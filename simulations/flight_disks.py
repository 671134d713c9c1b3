"""The disks of a replayed node: they know what was noted down when it was recorded, and what its machines have written since."""

from collections.abc import Iterable, Iterator

from meshos.effects import Persist, Put, WriteBack
from meshos.node.runtime.recorder.watching import Note


class Astray(Exception):
    """A machine reads what it did not read when it was recorded."""


class Blind(Astray):
    """What it reads cannot be known."""


class Disk:
    """One space (watching.py): a View of a disk, or a snapshot of one."""

    def __init__(self, disks: "Disks", space: int) -> None:
        self._disks, self._space = disks, space
        self._values: dict[bytes, bytes | None] = {}
        self._scans: list[tuple[int, bytes]] = []  # of the present step, not begun yet
        self._pairs: dict[int, list[tuple[bytes, bytes | None]]] = {}
        self._ended: set[int] = set()
        self._taken: list[int] = []  # snapshots of the present step
        self.blank = False
        """While machines are built that are restored afterwards: there is nothing on it."""
        self.unknown = ""
        """Why what is on it is not known, if it is not."""

    # -- for machines ------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        if key not in self._values:
            self._may_read(f"it reads {key[:60]!r}")
        elif self.unknown:
            raise Blind(self.unknown)
        return self._values.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        number = next((number for number, begun in self._scans if begun == prefix), None)
        if number is None or self.unknown:
            self._may_read(f"it scans {prefix[:60]!r}")
            return iter(())
        self._scans.remove((number, prefix))
        return self._follow(number)

    def _follow(self, number: int) -> Iterator[tuple[bytes, bytes]]:
        pairs = self._pairs[number]
        while pairs:
            key, value = pairs.pop(0)
            if value is None:
                raise Astray(f"it scans {key[:60]!r}, which it has deleted")
            yield key, value
        if number not in self._ended:
            raise Astray("it scans further")

    def snapshot(self) -> "Disk":
        """See ``LiveView``."""
        if not self._taken or self.unknown:
            self._may_read("it takes a snapshot")
            return self._disks.snapshot(0)
        taken = self._disks.snapshot(self._taken.pop(0))
        taken._values.update(self._values)
        return taken

    def close(self) -> None:
        """See ``Snapshot.close``."""
        self._disks.spaces.pop(self._space, None)

    def _may_read(self, what: str) -> None:
        if self.unknown:
            raise Blind(self.unknown)
        if not self.blank:
            raise Astray(what)

    # -- for the replay ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A step comes."""
        self._scans.clear()
        self._taken.clear()

    def note(self, note: Note) -> None:
        """Something that is read in the step that comes."""
        match note:
            case [0, _, bytes(key), bytes() | None as value]:
                self._values[key] = value
            case [1, _, int(number), bytes(prefix)]:
                self._scans.append((number, prefix))
                self._pairs[number] = []
            case [2, _, int(number), bytes(key), *value]:
                if value and isinstance(value[0], bytes):
                    self._values[key] = value[0]
                self._pairs.setdefault(number, []).append((key, self._values.get(key)))
            case [3, _, int(number)]:
                self._ended.add(number)
            case [4, _, int(number)]:
                self._taken.append(number)

    def write(self, effects: Iterable[object]) -> None:
        """What the machine that owns it has written."""
        for effect in effects:
            if isinstance(effect, Persist | WriteBack):
                for write in effect.writes:
                    self._values[write.key] = write.value if isinstance(write, Put) else None


class Disks:
    """All spaces. ``views`` are those of disks, by the machine that owns it."""

    def __init__(self, owners: tuple[str, ...] = ()) -> None:
        self.spaces: dict[int, Disk] = {space: Disk(self, space) for space in range(len(owners))}
        self.views = {owner: self.spaces[space] for space, owner in enumerate(owners)}

    def snapshot(self, number: int) -> Disk:
        """The snapshot of that number, of which nothing is known if it is new."""
        return self.spaces.setdefault(-number, Disk(self, -number)) if number else Disk(self, 0)

    def note(self, notes: Iterable[Note]) -> None:
        """What is read in the step that comes."""
        for disk in self.spaces.values():
            disk.begin()
        for note in notes:
            match note:
                case [_, int(space), *_] if space in self.spaces or space < 0:
                    (self.spaces[space] if space in self.spaces else self.snapshot(-space)).note(note)
