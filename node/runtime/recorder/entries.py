"""What a recording is made of: entries, lists that begin with their kind; a few of them at a time are one canonical CBOR list.

    [HEAD, format, software, node, life, number, now, wall_ms, key, machines, views]
                     a segment begins: the ``number``-th (from 0) of this ``life`` of the process; ``key`` is that of its draws,
                     ``machines`` are those that are recorded, ``views`` those whose disks are read, by the number of the space
    [GIVEN, value]                      what the machines were built with, beside their disks (plain, values.py)
    [READ, notes]                       what was read while the machines were built (in the first segment of a life)
    [STATE, machine, graph]             how a machine stood when a later segment began
    [CLASS, number, name, fields]       from here on ``number`` stands for a class (values.py)
    [STEP, now, machine, drawn, event, effects, hash, notes]
                     a machine was given ``event``; how many effects it had, their hash, what it read; ``drawn`` draws after it
    [GAP, now, machine, name, why, drawn]
                     an event that could not be written; what follows of this machine cannot be checked

``machine`` is a place in HEAD's list of names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from marshal import dumps
from zlib import crc32

from meshos import cbor
from meshos.effects import Persist, Put, WriteBack
from meshos.node.runtime.recorder.limits import DEPTH, ENTRIES_BYTES
from meshos.node.runtime.recorder.values import Writer, bad
from meshos.node.runtime.recorder.watching import Note

FORMAT = 1
HEAD, STATE, CLASS, STEP, GAP, GIVEN, READ = range(7)
LIFE_BYTES = 16
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Head:
    """A segment begins. ``now`` is the driver's clock, ``wall_ms`` what the wall clock showed at the beginning of this life."""

    software: str
    node: str
    life: bytes
    number: int
    now: float
    wall_ms: int
    key: bytes
    machines: tuple[str, ...]
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class State:
    """How a machine stood, where a life is gone into later."""

    machine: str
    graph: object


@dataclass(frozen=True, slots=True)
class Read:
    """What was read while the machines were built."""

    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Class:
    """A number for a class."""

    number: int
    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A machine was given an event; ``event`` is plain (values.py)."""

    now: float
    machine: str
    drawn: int
    event: object
    effects: int
    hash: int
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a machine was given could not be written down."""

    now: float
    machine: str
    name: str
    why: str
    drawn: int


@dataclass(frozen=True, slots=True)
class Built:
    """What the machines were built with, plain."""

    given: object


Entry = Head | State | Read | Class | Step | Gap | Built


def effects_hash(writer: Writer, effects: Sequence[object]) -> int:
    """By which a replay's effects are compared: a checksum, since nobody forges his own.

    Of their bytes in marshal's format 2, which has no references and has not changed since Python 2.5: CBOR's cost ten times as much.
    Writes are most of what a machine with a disk puts out, so they are laid flat.
    """
    plain = writer.plain
    return crc32(dumps([_flat(effect) if type(effect) in _WRITES else plain(effect) for effect in effects], 2))


_WRITES = frozenset({Persist, WriteBack})


def _flat(effect: object) -> list[object]:
    """The keys and values of a batch of writes, None for what is deleted, and which of the two kinds it is."""
    assert isinstance(effect, Persist | WriteBack)
    flat: list[object] = [type(effect) is Persist]
    for write in effect.writes:
        flat += (write.key, write.value if type(write) is Put else None)
    return flat


def decode(data: bytes) -> list[object]:
    """A few entries as they were put together; raises BadInput ``bad-recording``, Refused as ``cbor.decode``."""
    entries = cbor.decode(data, max_bytes=ENTRIES_BYTES, max_depth=DEPTH)
    if not isinstance(entries, list):
        raise bad("it is not made of lists")
    return list(entries)


def parse(entry: object, machines: tuple[str, ...]) -> Entry:
    """One entry of a segment whose head names ``machines``; raises BadInput ``bad-recording``."""
    match entry:
        case [0, format_, *_] if format_ != FORMAT:
            raise bad(f"its format is {format_!r}, and this version reads {FORMAT}")
        case [0, _, str(software), str(node), bytes(life), int(number), int() | float() as now, int(wall_ms), bytes(key), *lists]:
            match lists:
                case [[*names], [*views]] if all(isinstance(name, str) for name in (*names, *views)):
                    if len(life) == LIFE_BYTES and len(key) == KEY_BYTES:
                        return Head(software, node, life, number, now, wall_ms, key, tuple(map(str, names)), tuple(map(str, views)))
        case [1, int(machine), graph]:
            return State(_name(machines, machine), graph)
        case [2, int(number), str(name), [*fields]] if all(isinstance(field, str) for field in fields):
            return Class(number, name, tuple(map(str, fields)))
        case [3, int() | float() as now, int(machine), int(drawn), event, int(effects), int(checksum), [*notes]]:
            return Step(now, _name(machines, machine), drawn, event, effects, checksum, _notes(notes))
        case [4, int() | float() as now, int(machine), str(name), str(why), int(drawn)]:
            return Gap(now, _name(machines, machine), name, why, drawn)
        case [5, given]:
            return Built(given)
        case [6, [*notes]]:
            return Read(_notes(notes))
    raise bad("an entry has another shape")


def _name(machines: tuple[str, ...], place: int) -> str:
    if not 0 <= place < len(machines):
        raise bad("an entry is of a machine that its segment does not name")
    return machines[place]


def _notes(notes: Sequence[object]) -> tuple[Note, ...]:
    for note in notes:
        match note:
            case [0, int(), bytes(), bytes() | None] | [1, int(), int(), bytes()] | [2, int(), int(), bytes()]:
                continue
            case [2, int(), int(), bytes(), bytes()] | [3, int(), int()] | [4, int(), int()]:
                continue
        raise bad("a note of what was read has another shape")
    return tuple(note for note in notes if isinstance(note, list))
