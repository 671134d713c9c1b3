"""What is done to a world, and when: a list of (seconds, fault), as data.

A schedule is data, so that a run can be written down, replayed and made smaller. A fault is a frozen dataclass whose ``do`` changes the
world; ``@fault("crash {node}")`` gives it a sentence, and its fields say how they are read and written (``fields.py``). In a run
file a fault is ``{"at": seconds, "fault": name, …its fields}``; in a scenario file and on a screen it is its sentence.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeAlias, TypeVar, get_type_hints

from meshos.errors import BadInput
from meshos.ids import NodeId
from meshos.simulations.faults.fields import MAX_S, OF_NODES, Field
from meshos.simulations.world import World

MAX_FAULTS = 100_000


class Fault(Protocol):
    """One thing done to the world at one time."""

    def do(self, world: World) -> None:
        """Do it."""
        ...


Schedule: TypeAlias = list[tuple[float, Fault]]
F = TypeVar("F", bound=type)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its name in files, its sentence, and its fields."""

    name: str
    sentence: str
    make: Callable[..., Fault]
    fields: Mapping[str, Field]

    def match(self, text: str) -> "re.Match[str] | None":
        """The sentence in ``text``, field by field."""
        return _pattern(self.name).fullmatch(text)


KINDS: dict[str, Kind] = {}
"""Every kind of fault by its name. A scenario with faults of its own adds them by importing the module that defines them."""


def fault(sentence: str) -> Callable[[F], F]:
    """For a frozen dataclass: a kind of fault, in one sentence with its fields in braces. Its name is the class's in lower case."""

    def known(kind: F) -> F:
        hints = get_type_hints(kind, include_extras=True)
        found = {each.name: _field(kind, hints[each.name]) for each in fields(kind)}
        assert sorted(re.findall(r"{(\w+)}", sentence)) == sorted(found), f"the sentence of {kind.__name__} has other fields than it"
        KINDS[kind.__name__.lower()] = Kind(kind.__name__.lower(), sentence, kind, found)
        return kind

    return known


def _field(kind: type, hint: Any) -> Field:
    found: Field = next(each for each in hint.__metadata__ if isinstance(each, Field))
    return found


def kind_of(fault: Fault) -> Kind:
    """The kind of ``fault``."""
    return KINDS[type(fault).__name__.lower()]


def to_json(schedule: Schedule) -> list[dict[str, object]]:
    """The schedule as it stands in a run file."""
    return [{"at": at, "fault": kind_of(each).name, **_values(each)} for at, each in schedule]


def _values(each: Fault) -> dict[str, object]:
    return {name: getattr(each, name) for name in kind_of(each).fields}


def from_json(rows: object) -> Schedule:
    """A schedule from a file; raises BadInput ``bad-schedule`` naming the row."""
    if not isinstance(rows, list) or len(rows) > MAX_FAULTS:
        raise BadInput("bad-schedule", f"the schedule is not a list of at most {MAX_FAULTS} faults")
    return [_from_row(number, row) for number, row in enumerate(rows, 1)]


def _from_row(number: int, row: object) -> tuple[float, Fault]:
    if not isinstance(row, Mapping):
        raise BadInput("bad-schedule", f"fault {number} is not an object")
    kind, at = KINDS.get(str(row.get("fault"))), row.get("at")
    if kind is None or isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at <= MAX_S:
        raise BadInput("bad-schedule", f"fault {number} needs a time `at` and a `fault`, one of {', '.join(KINDS)}")
    given = {key: value for key, value in row.items() if key not in ("at", "fault")}
    if set(given) != set(kind.fields):
        raise BadInput("bad-schedule", f"fault {number} ({kind.name}) has the fields {', '.join(sorted(kind.fields)) or 'none'}")
    try:
        return float(at), kind.make(**{name: kind.fields[name].check(value) for name, value in given.items()})
    except ValueError as error:
        raise BadInput("bad-schedule", f"fault {number} ({kind.name}): {error}") from None


def in_words(each: Fault) -> str:
    """The sentence of a fault, as ``from_words`` reads it."""
    kind = kind_of(each)
    return kind.sentence.format(**{name: kind.fields[name].write(value) for name, value in _values(each).items()})


def from_words(text: str) -> Fault:
    """The fault that a sentence says; raises ValueError, with what may have been meant."""
    text = " ".join(text.split())
    for kind in KINDS.values():
        found = kind.match(text)
        if found is not None:
            return kind.make(**{name: kind.fields[name].check(kind.fields[name].read(found[name])) for name in kind.fields})
    first = text.split(" ")[0]
    known = sorted((kind.sentence for kind in KINDS.values()), key=len)
    near = [sentence for sentence in known if sentence.split(" ")[0] == first] or difflib.get_close_matches(text, known, 1, 0.3)
    raise ValueError(f"{text[:80]!r} is no fault" + (f"; did you mean: {' or: '.join(near)}" if near else ""))


@functools.cache
def _pattern(name: str) -> "re.Pattern[str]":
    kind = KINDS[name]
    parts = re.split(r"{(\w+)}", kind.sentence)
    return re.compile("".join(f"(?P<{part}>{kind.fields[part].words})" if at % 2 else re.escape(part) for at, part in enumerate(parts)))


def nodes_named(each: Fault) -> Iterator[str]:
    """The nodes that a fault speaks of."""
    for name, field in kind_of(each).fields.items():
        if field.what in OF_NODES:
            yield from _flat(getattr(each, name))


def _flat(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for inner in value:
            yield from _flat(inner)


def check_nodes(schedule: Schedule, there: Iterable[NodeId]) -> None:
    """Raises BadInput ``bad-schedule`` where a fault names a node that is not there."""
    known = {str(node) for node in there}
    for at, each in schedule:
        for node in nodes_named(each) if type(each).__name__.lower() in KINDS else ():
            if node not in known:
                some = f"{min(known)} to {max(known)}" if known else "none"
                raise BadInput("bad-schedule", f"at {at:g} s: {in_words(each)}: there is no node {node!r}", hint=f"there are {some}")


def simpler(each: Fault) -> Iterator[Fault]:
    """The same fault with one field simpler."""
    for name, field in kind_of(each).fields.items():
        for value in field.simpler(getattr(each, name)):
            try:
                yield replace(each, **{name: field.check(value)})  # type: ignore[type-var]
            except ValueError:
                continue
