"""How a machine stands, written down: its objects with what they hold, so that a machine that was just built can be made to stand so.

A node that runs for weeks has lost the beginning of its recording. A replay then begins at a segment, and a segment begins with this.

A machine is a tree of plain objects (ours), containers and values; parts of it meet (a timer hangs in the heap and at a member), so
each is written once, and referred to by number after that. Some of it is there from the moment when the machine is built, in a fixed
place: its ``Blueprint`` says what. These parts are not made anew but filled, since functions may hold on to them. What a machine was
wired with (functions, the generator, its View, other machines that it looks at) is not written at all: it must be what it was, and a
machine that is built again has it in the same place. But an object that a machine was given by one of its methods alone is a part of it.
A method of one of the machine's own objects (a timer's call) is written by object and name, a snapshot of a disk by its number.

Anything else (a lambda in a queue, an open file) makes a machine ``Unwritable`` at that moment, and the segment says so.
"""

import random
import types
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from inspect import getattr_static
from typing import Any, TypeAlias, TypeGuard

from meshos.errors import KINDS, MeshError
from meshos.node.runtime.recorder.limits import DEPTH, MAX_OBJECTS, STATE_BYTES
from meshos.node.runtime.recorder.values import bad, class_name, fields_of, found, is_ours
from meshos.node.runtime.recorder.watching import WatchedSnapshot

REF, TUPLE, LIST, SET, FROZENSET, DICT, OBJECT, VALUE, METHOD, ERROR, MEMBER, OUTSIDE, SNAPSHOT = range(13)

PACKAGES = (
    "meshos.effects",
    "meshos.flow",
    "meshos.buckets",
    "meshos.consensus",
    "meshos.protocols",
    "meshos.node.kernel",
    "meshos.storage.overlay",
)
"""Where the objects of machines live."""
_PLAIN = (type(None), bool, int, float, str, bytes)
_WIRING = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type, random.Random, partial)
_LISTS: dict[type, int] = {list: 0, deque: 1}
_DICTS: dict[type, int] = {dict: 0, OrderedDict: 1, Counter: 2}

BEHIND = "__self__"
"""In a path: the object whose method stands there."""

Graph: TypeAlias = object
"""Plain values and lists."""


class Unwritable(Exception):
    """A machine stands in a way that cannot be written down; ``too_large`` if it will hardly be smaller next time."""

    def __init__(self, why: str, *, too_large: bool = False) -> None:
        super().__init__(why)
        self.too_large = too_large


class Blueprint:
    """What of a machine that was just built stands in a fixed place: reached by attributes alone, from the machine on."""

    def __init__(self, name: str, machine: object, owners: Mapping[int, str]) -> None:
        """``owners`` says which machine has what already; it is looked at as it is at any time."""
        self.name = name
        self.parts: dict[str, object] = {}
        """Objects and containers, by path."""
        self.places: dict[int, str] = {}
        """The paths, by the id of what stands there (which ``parts`` keeps from being used again)."""
        self.wiring: dict[str, object] = {}
        """What is not the machine's own, by path."""
        self._copies: dict[str, dict[object, object]] = {}  # of tables of functions
        self._owners = owners
        waiting = [("", machine)]
        while waiting:
            path, part = waiting.pop(0)
            if id(part) in self.places:
                continue
            self.parts[path] = part
            self.places[id(part)] = path
            if _is_part(type(part)):
                for attribute in attributes(part):
                    value, below = getattr(part, attribute), f"{path}.{attribute}"
                    if _is_wiring(value) or self.foreign(value):
                        self.wiring[below] = value
                        if isinstance(value, dict):
                            self._copies[below] = dict(value)
                        elif self._has_own(value):
                            waiting.append((f"{below}.{BEHIND}", value.__self__))
                    elif _is_mutable(value):
                        waiting.append((below, value))

    def foreign(self, value: object) -> str:
        """The other machine that ``value`` is a part of, if it is."""
        owner = self._owners.get(id(value), self.name)
        return "" if owner == self.name else owner

    def _has_own(self, value: object) -> TypeGuard[types.MethodType]:
        """Whether ``value`` is a method of something that belongs to no other machine, and so may be this one's alone."""
        return type(value) is types.MethodType and _is_mutable(value.__self__) and not self.foreign(value.__self__)

    def behind(self, value: object) -> bool:
        """Whether ``value`` is a method of a part of the machine that is reached by nothing else."""
        return type(value) is types.MethodType and self.places.get(id(value.__self__), "").endswith("." + BEHIND)

    def wired(self, path: str, value: object) -> bool:
        """Whether ``value`` is what the machine got there when it was built."""
        return path in self.wiring and value is self.wiring[path] and self._copies.get(path, value) == value


def blueprints(machines: Mapping[str, object]) -> dict[str, Blueprint]:
    """Of machines that may look at each other: what two of them reach is a part of the first."""
    owners = {id(machine): name for name, machine in machines.items()}
    found: dict[str, Blueprint] = {}
    for name, machine in machines.items():
        found[name] = Blueprint(name, machine, owners)
        owners.update(dict.fromkeys(found[name].places, name))
    return found


def looks_at(blueprint: Blueprint) -> set[str]:
    """The other machines that this one was wired with: it sees them as they are, so a replay of it needs theirs."""
    return {owner for value in blueprint.wiring.values() for each in _reached(value) if (owner := blueprint.foreign(each))}


def _reached(value: object) -> Iterator[object]:
    """A wire, and what it leads to: the object of a method, what a function has closed over, the functions of a table."""
    yield value
    if isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # not set yet
                yield cell.cell_contents
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _reached(inner)
    elif is_ours(type(value)):
        for name in fields_of(type(value)):
            yield from _reached(getattr(value, name, None))


def written(machine: object, blueprint: Blueprint, room: int = STATE_BYTES) -> tuple[Graph, int]:
    """How ``machine`` stands, and how many of ``room`` bytes that takes; raises Unwritable."""
    writer = _Writer(blueprint, room)
    root = writer.write(machine, "")
    return [writer.classes, root], writer.bytes


class _Writer:
    def __init__(self, blueprint: Blueprint, room: int) -> None:
        self.classes: list[list[object]] = []  # name and fields
        self.bytes = 0
        self._room = room
        self._blueprint = blueprint
        self._places: dict[type, int] = {}
        self._numbers: dict[int, int] = {}
        self._kept: list[object] = []  # so that no id is used again
        self._depth = 0

    def write(self, value: object, path: str) -> Graph:
        """``value``; ``path`` says where it was found."""
        kind = type(value)
        if kind in _PLAIN:
            if kind is bytes or kind is str:
                self.bytes += len(value)  # type: ignore[arg-type]
                if self.bytes > self._room:
                    raise Unwritable(f"it takes more than {self._room} bytes")
            return value
        if isinstance(value, WatchedSnapshot):
            return [SNAPSHOT, value.number]
        if owner := self._blueprint.foreign(value):
            raise Unwritable(f"{path} holds a part of {owner}")
        number = self._numbers.get(id(value))
        if number is not None:
            return [REF, number]
        if len(self._numbers) >= MAX_OBJECTS:
            raise Unwritable(f"it has more than {MAX_OBJECTS} objects", too_large=True)
        self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)
        self._depth += 1
        if self._depth > DEPTH // 2 - 4:  # an attribute is two lists deep
            raise Unwritable(f"{path[:80]} is too deep")
        part = self._part(kind, value, path)
        self._depth -= 1
        return part

    def _part(self, kind: type[Any], value: Any, path: str) -> Graph:
        if kind is tuple:
            return [TUPLE, *(self.write(inner, path) for inner in value)]
        fixed = self._blueprint.places.get(id(value))
        if kind in _LISTS:
            return [LIST, _LISTS[kind], fixed, *(self.write(inner, path) for inner in value)]
        if kind is set:
            return [SET, fixed, *(self.write(inner, path) for inner in value)]
        if kind is frozenset:
            return [FROZENSET, *(self.write(inner, path) for inner in value)]
        if kind in _DICTS:
            return [DICT, _DICTS[kind], fixed, *(self.write(part, path) for pair in value.items() for part in pair)]
        if kind is types.MethodType and _is_part(type(value.__self__)):
            return [METHOD, self.write(value.__self__, path), value.__name__]
        if issubclass(kind, MeshError):
            named = next(name for name, known in KINDS.items() if isinstance(value, known))
            return [ERROR, named, value.name, value.detail, value.hint, value.outcome]
        if is_ours(kind):
            if issubclass(kind, Enum):
                return [MEMBER, self._class(kind), value.name]
            return [VALUE, self._class(kind), *(self.write(getattr(value, name), f"{path}.{name}") for name in fields_of(kind))]
        if _is_part(kind):
            return [OBJECT, self._class(kind), fixed, *(self._attribute(value, name, path, fixed) for name in attributes(value))]
        raise Unwritable(f"{path} holds a {kind.__name__}")

    def _attribute(self, owner: object, name: str, path: str, fixed: str | None) -> list[object]:
        value = getattr(owner, name)
        if isinstance(value, WatchedSnapshot) or not (_is_wiring(value) or self._blueprint.foreign(value)):
            return [name, self.write(value, f"{path}.{name}")]
        if fixed is not None and self._blueprint.wired(f"{fixed}.{name}", value) and not self._blueprint.behind(value):
            return [name, [OUTSIDE]]
        if type(value) is types.MethodType:
            return [name, self.write(value, f"{path}.{name}")]
        raise Unwritable(f"{path}.{name} was wired anew")

    def _class(self, kind: type[Any]) -> int:
        place = self._places.setdefault(kind, len(self.classes))
        if place == len(self.classes):
            self.classes.append([class_name(kind), list(fields_of(kind)) if is_ours(kind) else []])
        return place


def attributes(value: object) -> list[str]:
    """The names of what an object holds, whether in slots or not."""
    slots = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ()) if name != "__weakref__"]
    return sorted({name for name in slots if hasattr(value, name)} | set(getattr(value, "__dict__", ())))


def _is_wiring(value: object) -> bool:
    """What a machine gets when it is built: functions, chance, a View, the verifiers, values and tables with functions in them."""
    kind = type(value)
    if _is_wire(value):
        return True
    if kind is dict and value:
        return all(map(_is_wire, value.values()))  # type: ignore[attr-defined]
    return kind not in _PLAIN and kind.__module__.startswith("meshos.") and not is_ours(kind) and not _is_part(kind)


def _is_wire(value: object) -> bool:
    if isinstance(value, _WIRING):
        return True
    if not is_ours(type(value)) or isinstance(value, Enum):
        return False
    return any(isinstance(getattr(value, name), _WIRING) for name in fields_of(type(value)))


def _is_mutable(value: object) -> bool:
    """Whether it is an object of a machine, or a container: what may be changed where it stands."""
    kind = type(value)
    return kind in _LISTS or kind in _DICTS or kind is set or (_is_part(kind) and not is_ours(kind))


def _is_part(kind: type[Any]) -> bool:
    """Whether objects of this class make up machines. The Views that they read are no part of them."""
    return any(kind.__module__ == package or kind.__module__.startswith((package + ".", package + "_")) for package in PACKAGES)


# -- the other way ---------------------------------------------------------------------------------------------------


def restore(machine: object, graph: Graph, blueprint: Blueprint, snapshots: Callable[[int], object]) -> None:
    """Make ``machine``, just built as ``blueprint`` says, stand as it was written; ``snapshots`` gives those that it holds, by number.

    Raises BadInput ``bad-recording`` or ``other-recording``.
    """
    match graph:
        case [[*classes], root]:
            try:
                _Reader(classes, blueprint, snapshots).read(root)
            except (TypeError, ValueError, AttributeError, RecursionError) as error:  # a list among keys, an attribute that there is not
                raise bad("how a machine stands is put together as no recorder does") from error
        case _:
            raise bad("how a machine stands is written in another shape")


class _Reader:
    """Values are made in the order in which they were written, since they are referred to by their number in it."""

    def __init__(self, classes: list[object], blueprint: Blueprint, snapshots: Callable[[int], object]) -> None:
        self._blueprint, self._snapshots = blueprint, snapshots
        self._classes: list[type] = []
        for row in classes:
            match row:
                case [str(name), [*fields]]:
                    self._classes.append(found(name, fields, _is_part if not fields else is_ours))
                case _:
                    raise bad("a class is written in another shape")
        self._made: list[object] = []

    def read(self, graph: Graph) -> Any:
        """The value."""
        if type(graph) in _PLAIN:
            return graph
        match graph:
            case [0, int(number)] if 0 <= number < len(self._made):
                return self._made[number]
            case [1, *parts]:
                return self._late(lambda: tuple(map(self.read, parts)))
            case [2, 0 | 1 as kind, str() | None as fixed, *parts]:
                made = self._place((list, deque)[kind], fixed)
                made.clear()
                made.extend(map(self.read, parts))
                return made
            case [3, str() | None as fixed, *parts]:
                made = self._place(set, fixed)
                made.clear()
                made.update(map(self.read, parts))
                return made
            case [4, *parts]:
                return self._late(lambda: frozenset(map(self.read, parts)))
            case [5, 0 | 1 | 2 as kind, str() | None as fixed, *parts] if len(parts) % 2 == 0:
                made = self._place((dict, OrderedDict, Counter)[kind], fixed)
                made.clear()
                made.update((self.read(parts[at]), self.read(parts[at + 1])) for at in range(0, len(parts), 2))
                return made
            case [6, int(place), str() | None as fixed, *rows]:
                return self._object(self._class(place), fixed, rows)
            case [7, int(place), *fields]:
                return self._value(self._class(place), fields)
            case [8, owner, str(name)]:
                return self._late(lambda: _method(self.read(owner), name))
            case [9, str(kind), str(name), str(detail), str(hint), ("done" | "not_done" | "unknown") as outcome] if kind in KINDS:
                return self._keep(KINDS[kind](name, detail, hint=hint, outcome=outcome))
            case [10, int(place), str(name)] if issubclass(self._class(place), Enum):
                return self._keep(getattr(self._class(place), name, None))
            case [12, int(number)]:
                return self._snapshots(number)
        raise bad("a part of a machine is written in another shape")

    def _place(self, kind: type[Any], fixed: str | None) -> Any:
        """What stands in that place already, or a new one."""
        part = self._blueprint.parts.get(fixed) if fixed is not None else None
        return self._keep(part if type(part) is kind else object.__new__(kind) if _is_part(kind) else kind())

    def _keep(self, made: Any) -> Any:
        self._made.append(made)
        return made

    def _late(self, make: Callable[[], object]) -> object:
        """What can only be made of its parts has its number before them."""
        place = len(self._made)
        self._made.append(None)
        self._made[place] = made = make()
        return made

    def _class(self, place: int) -> type:
        if not 0 <= place < len(self._classes):
            raise bad("a part of a machine is of a class that is not named")
        return self._classes[place]

    def _object(self, kind: type[Any], fixed: str | None, rows: list[object]) -> object:
        made = self._place(kind, fixed)
        for row in rows:
            match row:
                case [str(), [11]]:
                    continue
                case [str(name), part] if _is_attribute(kind, name):
                    object.__setattr__(made, name, self.read(part))
                case _:
                    raise bad("an object is written in another shape")
        return made

    def _value(self, kind: type[Any], fields: list[object]) -> object:
        names = fields_of(kind)
        if len(fields) != len(names):
            raise bad(f"{kind.__name__} has {len(names)} fields")
        made = self._keep(object.__new__(kind))
        for name, part in zip(names, fields, strict=True):
            object.__setattr__(made, name, self.read(part))
        return made


def _method(owner: object, name: str) -> object:
    """A method of a part of the machine, as its class defines it, and nothing else that can be reached by a name."""
    if not _is_part(type(owner)) or name.startswith("__") or not isinstance(getattr_static(type(owner), name, None), types.FunctionType):
        raise bad("a method is none of the machine's own")
    return getattr(owner, name)


def _is_attribute(kind: type[Any], name: str) -> bool:
    """Whether objects of the class may hold something under this name; no method is hidden behind a value."""
    slot = getattr_static(kind, name, None)
    return name.isidentifier() and not name.startswith("__") and (slot is None or isinstance(slot, types.MemberDescriptorType))
