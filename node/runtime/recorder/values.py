"""Any event as canonical CBOR and back: frozen dataclasses by name and fields, with what they are made of.

Plain values stand for themselves. Everything else is a list that begins with a number:

    0 tuple   1 list   2 frozenset   3 set   4 dict, keys and values in turn   5 bytes too long to keep: length, hash
    6 what cannot be kept (a function, an object of a library): its name   7 error: kind, name, detail, hint, outcome
    FIRST_CLASS and up: a dataclass of ours: its fields in their order; a member of an Enum of ours: its place

Classes are numbered as they are met; which number is which, with the names of the fields (or members), is kept beside the
values. So a version whose class has other fields refuses the values of another (``other-recording``), and nothing is guessed.

Reading is strict. A class is looked up only among the frozen dataclasses of our own packages, and each field is checked against its
type hint, so that what comes back could have been made by our own code.

Writing is on a node's hot path: for each class a function is compiled that knows which fields are plain.
"""

import dataclasses
import hashlib
import importlib
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, NewType, TypeAlias, Union, cast

from meshos import cbor
from meshos.errors import KINDS, BadInput, MeshError
from meshos.node.runtime.recorder.limits import EDGE_BYTES, INLINE_BYTES, LIGHT_BYTES, LONGEST_BYTES

TUPLE, LIST, FROZENSET, SET, DICT, LONG, LOST, ERROR = range(8)
FIRST_CLASS = 16
HASH_BYTES = 16

PACKAGES = (
    "meshos.effects",
    "meshos.flow",
    "meshos.ids",
    "meshos.presets",
    "meshos.buckets",
    "meshos.crypto",
    "meshos.storage",
    "meshos.consensus",
    "meshos.protocols",
    "meshos.node.kernel",
    "meshos.node.given",
)
"""Where the classes of events and effects live. Nothing else is looked up when a recording is read."""
_NAME = re.compile(r"(meshos(?:\.[a-z_0-9]+)+):([A-Za-z_][A-Za-z_0-9]*)")

_PLAIN = frozenset({type(None), bool, int, float, str})

Plain: TypeAlias = object
"""What CBOR writes as it is."""


class Long(bytes):
    """A byte string that was too long to keep: as many zeros, and the hash of what it was. Written again it is the same.

    Whoever only hands it on does with it as with the original. Whoever looks inside does not.
    """

    digest: bytes

    @classmethod
    def of(cls, length: int, digest: bytes) -> "Long":
        """So many bytes, which had this hash."""
        made = cls(length)
        made.digest = digest
        return made


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """Something that was not recorded stands here; it was a ``name``."""

    name: str


class Writer:
    """Makes plain values. ``classes`` grows with what is met, ``weight`` with the bytes of long byte strings."""

    def __init__(self) -> None:
        self.weight = 0
        self.classes: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._makers: dict[type, Callable[[Any], Plain]] = {
            **dict.fromkeys(_PLAIN, lambda value: value),
            bytes: self._bytes,
            bytearray: lambda value: self._bytes(bytes(value)),
            Long: self._bytes,
            tuple: lambda value: [TUPLE, *map(self.plain, value)],
            list: lambda value: [LIST, *map(self.plain, value)],
            frozenset: lambda value: [FROZENSET, *self._sorted(value)],
            set: lambda value: [SET, *self._sorted(value)],
            dict: lambda value: [DICT, *(self.plain(part) for pair in value.items() for part in pair)],
        }

    def number(self, kind: type[Any], number: int) -> None:
        """Write ``kind`` under ``number``, as another Writer did."""
        self.classes[number] = (class_name(kind), fields_of(kind))
        self._makers[kind] = self._compiled(kind, number)

    def plain(self, value: object) -> Plain:
        """``value`` as CBOR can write it."""
        maker = self._makers.get(type(value))
        return self._maker(type(value))(value) if maker is None else maker(value)

    def _bytes(self, value: bytes) -> Plain:
        if len(value) <= INLINE_BYTES:
            self.weight += len(value)
            return value
        return [LONG, len(value), value.digest if isinstance(value, Long) else hashed(value)]

    def _sorted(self, value: "set[object] | frozenset[object]") -> list[Plain]:
        return sorted(map(self.plain, value), key=cbor.encode)

    def _maker(self, kind: type[Any]) -> Callable[[Any], Plain]:
        maker: Callable[[Any], Plain]
        if issubclass(kind, MeshError):
            maker = _error
        elif is_ours(kind):
            number = max(self.classes, default=FIRST_CLASS - 1) + 1
            self.classes[number] = (class_name(kind), fields_of(kind))
            maker = self._compiled(kind, number)
        else:
            maker = _lost
        self._makers[kind] = maker
        return maker

    def _compiled(self, kind: type[Any], number: int) -> Callable[[Any], Plain]:
        """A function that writes ``kind``: ``lambda v: [17, v.op, plain(v.outcome)]``, with the call for a known class in place."""
        if issubclass(kind, Enum):
            places = {member: place for place, member in enumerate(kind)}
            return lambda member: [number, places[member]]
        hints = hints_of(kind)
        parts = [str(number)]
        for name in fields_of(kind):
            if _always(hints[name], _PLAIN):
                parts.append(f"v.{name}")
            elif _always(hints[name], _PLAIN | {bytes}):
                parts.append(f"(long(x) if isinstance(x := v.{name}, bytes) and len(x) > {LIGHT_BYTES} else x)")
            else:
                parts.append(f"(m(x) if (m := makers.get((x := v.{name}).__class__)) is not None else plain(x))")
        source = f"lambda v: [{', '.join(parts)}]"  # names of classes and fields of our own code, nothing from outside
        return cast("Callable[[Any], Plain]", eval(source, {"makers": self._makers, "plain": self.plain, "long": self._bytes}))


def hashed(value: bytes) -> bytes:
    """The hash of a long byte string: of its length, its beginning and its end."""
    view = memoryview(value)
    digest = hashlib.blake2b(len(value).to_bytes(8, "big"), digest_size=HASH_BYTES)
    digest.update(view[:EDGE_BYTES])
    digest.update(view[max(EDGE_BYTES, len(value) - EDGE_BYTES) :])
    return digest.digest()


def _error(error: MeshError) -> Plain:
    kind = next((name for name, known in KINDS.items() if isinstance(error, known)), "Broken")
    return [ERROR, kind, error.name, error.detail, error.hint, error.outcome]


def _lost(value: object) -> Plain:
    return [LOST, str(getattr(value, "__qualname__", type(value).__qualname__))]


# -- our classes -----------------------------------------------------------------------------------------------------


def is_ours(kind: type[Any]) -> bool:
    """Whether ``kind`` is a frozen dataclass or an Enum of our packages."""
    if issubclass(kind, Enum):
        return _in_packages(kind.__module__)
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or "__dataclass_fields__" not in vars(kind) or not (parameters.frozen or parameters.unsafe_hash):
        return False
    return _in_packages(kind.__module__) and _NAME.fullmatch(class_name(kind)) is not None


def _in_packages(module: str) -> bool:
    return any(module == package or module.startswith((package + ".", package + "_")) for package in PACKAGES)


def class_name(kind: type[Any]) -> str:
    """How a class is named: ``module:Class``."""
    return f"{kind.__module__}:{kind.__qualname__}"


_FIELDS: dict[type[Any], tuple[str, ...]] = {}
_HINTS: dict[type[Any], Mapping[str, object]] = {}
"""Of the classes that were met: as many as our packages have."""


def fields_of(kind: type[Any]) -> tuple[str, ...]:
    """The names of its fields or members, in order."""
    if kind not in _FIELDS:
        enum = issubclass(kind, Enum)
        _FIELDS[kind] = tuple(member.name for member in kind) if enum else tuple(field.name for field in dataclasses.fields(kind))
    return _FIELDS[kind]


def hints_of(kind: type[Any]) -> Mapping[str, object]:
    """The types of its fields."""
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]


def _always(hint: object, kinds: frozenset[type]) -> bool:
    """Whether a value of this type is always of one of ``kinds``."""
    if isinstance(hint, NewType):
        return _always(hint.__supertype__, kinds)
    origin = typing.get_origin(hint)
    if origin is Literal:
        return all(type(choice) in kinds for choice in typing.get_args(hint))
    if origin in (Union, types.UnionType):
        return all(_always(choice, kinds) for choice in typing.get_args(hint))
    return isinstance(hint, type) and hint in kinds


# -- reading ---------------------------------------------------------------------------------------------------------


class Reader:
    """Makes values of what a Writer made plain; raises BadInput ``bad-recording`` or ``other-recording``."""

    def __init__(self) -> None:
        self._classes: dict[int, type] = {}

    def learn(self, number: int, name: str, fields: Sequence[str]) -> type[Any]:
        """What class is behind a number."""
        self._classes[number] = kind = found(name, fields)
        return kind

    def value(self, plain: object) -> object:
        """The value, of types that fit its fields."""
        try:
            return self._value(plain)
        except (TypeError, RecursionError) as error:  # a set of lists, say
            raise bad("values are put together as no recorder does") from error

    def _value(self, plain: object) -> object:
        if type(plain) in _PLAIN or isinstance(plain, bytes):
            return plain
        if not isinstance(plain, list) or not plain or type(plain[0]) is not int:
            raise bad("a value begins with no number")
        number, rest = plain[0], plain[1:]
        if number in self._classes:
            return self._made(self._classes[number], rest)
        return self._container(number, rest)

    def _container(self, number: int, rest: list[object]) -> object:
        match number, rest:
            case (0, _):
                return tuple(map(self._value, rest))
            case (1, _):
                return list(map(self._value, rest))
            case (2, _):
                return frozenset(map(self._value, rest))
            case (3, _):
                return set(map(self._value, rest))
            case (4, _) if len(rest) % 2 == 0:
                parts = list(map(self._value, rest))
                return dict(zip(parts[::2], parts[1::2], strict=True))
            case (5, [int(length), bytes(digest)]) if INLINE_BYTES < length <= LONGEST_BYTES and len(digest) == HASH_BYTES:
                return Long.of(length, digest)
            case (6, [str(name)]):
                return Lost(name)
            case (7, [str(kind), str(name), str(detail), str(hint), ("done" | "not_done" | "unknown") as outcome]) if kind in KINDS:
                return KINDS[kind](name, detail, hint=hint, outcome=outcome)
            case _:
                raise bad(f"nothing is written under the number {number} like this")

    def _made(self, kind: type[Any], rest: list[object]) -> object:
        names = fields_of(kind)
        if issubclass(kind, Enum):
            if len(rest) == 1 and type(rest[0]) is int and 0 <= rest[0] < len(names):
                return kind[names[rest[0]]]
            raise bad(f"{kind.__name__} has {len(names)} members")
        if len(rest) != len(names):
            raise bad(f"{kind.__name__} has {len(names)} fields")
        hints = hints_of(kind)
        values = [self._value(inner) for inner in rest]
        for name, value in zip(names, values, strict=True):
            if not fits(value, hints[name]):
                raise bad(f"{kind.__name__}.{name} is no {type(value).__name__}")
        made = object.__new__(kind)  # what __init__ does beside this (checks, derived fields) was done when it was recorded
        for name, value in zip(names, values, strict=True):
            object.__setattr__(made, name, value)
        return made


def found(name: str, fields: Sequence[object], wanted: Callable[[type[Any]], bool] = is_ours) -> type[Any]:
    """The class of that name, which is ``wanted`` and has these fields; raises BadInput ``bad-recording`` or ``other-recording``."""
    match = _NAME.fullmatch(name)
    if match is None or not _in_packages(match[1]):
        raise bad(f"{name[:100]!r} is no class of events")
    try:
        kind = getattr(importlib.import_module(match[1]), match[2], None)
    except ImportError:
        kind = None
    if not isinstance(kind, type) or not wanted(kind) or (fields_of(kind) if is_ours(kind) else ()) != tuple(fields):
        raise BadInput(
            "other-recording",
            f"it was recorded by a version in which {match[2]} was another",
            hint="replay it with the version that the recording names",
        )
    return kind


def fits(value: object, hint: object) -> bool:
    """Whether ``value`` is what ``hint`` says. Something that was lost fits everywhere; types without a shape of their own, too."""
    if isinstance(value, Lost) or hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if isinstance(hint, NewType):
        return fits(value, hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and _fits_tuple(value, arguments)
    if isinstance(origin, type):
        return isinstance(value, origin)
    if hint is None:
        return value is None
    if hint is float:
        return isinstance(value, float | int)
    if isinstance(hint, type) and not getattr(hint, "_is_protocol", False):
        return isinstance(value, hint) and (hint is not int or type(value) is int)
    return True


def _fits_tuple(value: tuple[object, ...], arguments: tuple[object, ...]) -> bool:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return all(fits(inner, arguments[0]) for inner in value)
    return len(value) == len(arguments) and all(fits(inner, each) for inner, each in zip(value, arguments, strict=True))


def lost_in(plain: object) -> bool:
    """Whether something in ``plain`` was not kept whole."""
    if not isinstance(plain, list) or not plain:
        return False
    return plain[0] in (LONG, LOST) or any(lost_in(inner) for inner in plain)


def bad(why: str) -> BadInput:
    """The refusal of what no recorder wrote."""
    return BadInput("bad-recording", f"it is no recording of a node: {why}", hint="give the folder of a node that records")
