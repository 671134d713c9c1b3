"""The fields that a fault is made of: how each is written in a file and in words, what it may be, and what is simpler than it.

A fault's annotations carry these, so that reading, printing and shrinking a schedule need nothing of each kind of fault.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_NAMES = 5000


@dataclass(frozen=True, slots=True)
class Field:
    """``read`` takes words, ``check`` what JSON held; both raise ValueError saying what is wanted. ``simpler`` gives candidates."""

    what: str
    words: str
    read: Callable[[str], object]
    write: Callable[[object], str]
    check: Callable[[object], object]
    simpler: Callable[[object], Iterator[object]]


def _nothing(value: object) -> Iterator[object]:
    return iter(())


def _name(value: object) -> str:
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise ValueError(f"{str(value)[:60]!r} is no name")
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_NAMES:
        raise ValueError("a list of names is wanted")
    return tuple(_name(each) for each in value)


def _sides(value: object) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list | tuple) or not 1 < len(value) <= MAX_NAMES:
        raise ValueError("at least two sides are wanted, as in a b | c d")
    sides = tuple(_names(side) for side in value)
    if len({name for side in sides for name in side}) < sum(map(len, sides)):
        raise ValueError("a node is on two sides")
    return sides


def _split(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _shorter(value: object) -> Iterator[object]:
    """Fewer names: each half, then one less."""
    assert isinstance(value, tuple)
    size = len(value)
    if size > 3:
        yield value[: size // 2]
        yield value[size // 2 :]
    if size > 1:
        yield from (value[:at] + value[at + 1 :] for at in range(size))


def _fewer_sides(value: object) -> Iterator[object]:
    assert isinstance(value, tuple)
    for at, side in enumerate(value):
        for less in _shorter(side):
            yield (*value[:at], less, *value[at + 1 :])


def _number(value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{str(value)[:60]} is no number" + (f" from {low:g} to {high:g}" if math.isfinite(high) else " of this kind"))
    return float(value)


MAX_S = 1e6


def _offset(value: object) -> float:
    return _number(value, low=-MAX_S, high=MAX_S)


def _seconds(value: object) -> float:
    return _number(value, low=0.0, high=MAX_S)


def _share(value: object) -> float:
    return _number(value, low=0.0, high=1.0)


def _rate(value: object) -> float:
    return _number(value, low=0.5, high=2.0)


def _count(value: object, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1_000_000:
        raise ValueError(f"{str(value)[:60]} is no count from {least} on")
    return value


def _ordinal(value: object) -> int:
    return _count(value, 1)


def _choice(*words: str) -> Field:
    def one_of(value: object) -> object:
        if value not in words:
            raise ValueError(f"{str(value)[:60]!r} is none of {', '.join(words)}")
        return value

    return Field(" or ".join(words), "|".join(words), str, str, one_of, _nothing)


_NUMBER = r"[+-]?[0-9.]+(?:e[+-]?[0-9]+)?"


def read_seconds(text: str) -> float:
    """``3 s``, ``300 ms`` or ``2 min``; raises ValueError."""
    found = re.fullmatch(rf"({_NUMBER}) ?(ms|s|min)", text.strip())
    if found is None:
        raise ValueError(f"{text[:60]!r} is no time; write it as 3 s, 300 ms or 2 min")
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "min": 60.0}[found[2]]


def _read_share(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _write_seconds(value: object) -> str:
    assert isinstance(value, float)
    return f"{value:.12g} s"


def _write_share(value: object) -> str:
    assert isinstance(value, float)
    return f"{value * 100:.9g} %"


def _rounder(value: object) -> Iterator[object]:
    """Nothing, one, and the same with fewer digits."""
    assert isinstance(value, float)
    yield from dict.fromkeys(each for each in (0.0, 1.0, round(value), round(value, 1), round(value, 2)) if each != value)


def _fewer(value: object) -> Iterator[object]:
    assert isinstance(value, int)
    yield from range(min(value, 5))


OF_NODES = ("a node", "nodes", "sides")
"""What names nodes of the world."""

_TIME = rf"{_NUMBER} ?(?:ms|s|min)"
_PERCENT = rf"{_NUMBER}(?: ?%)?"
_LIST = r"[A-Za-z0-9][A-Za-z0-9._, -]*?"

Node: TypeAlias = Annotated[str, Field("a node", NAME.pattern, str, str, _name, _nothing)]
Nodes: TypeAlias = Annotated[
    tuple[str, ...], Field("nodes", _LIST, lambda text: _names(_split(text)), lambda names: " ".join(_names(names)), _names, _shorter)
]
Sides: TypeAlias = Annotated[
    tuple[tuple[str, ...], ...],
    Field(
        "sides",
        r"[A-Za-z0-9][A-Za-z0-9._,| -]*?",
        lambda text: _sides([_split(side) for side in text.split("|")]),
        lambda sides: " | ".join(" ".join(side) for side in _sides(sides)),
        _sides,
        _fewer_sides,
    ),
]
Store: TypeAlias = Annotated[str, Field("a store, or any", NAME.pattern, str, str, _name, _nothing)]
Point: TypeAlias = Annotated[str, _choice("before", "torn", "after")]
Operation: TypeAlias = Annotated[str, _choice("write", "sync")]
Release: TypeAlias = Annotated[str, _choice("order", "burst")]
Seconds: TypeAlias = Annotated[float, Field("a time", _TIME, read_seconds, _write_seconds, _seconds, _rounder)]
Offset: TypeAlias = Annotated[float, Field("a time", _TIME, read_seconds, _write_seconds, _offset, _rounder)]
Share: TypeAlias = Annotated[float, Field("a share", _PERCENT, _read_share, _write_share, _share, _rounder)]
Rate: TypeAlias = Annotated[float, Field("a rate", _NUMBER, float, lambda value: f"{value:.9g}", _rate, _nothing)]
Count: TypeAlias = Annotated[int, Field("a count", r"[0-9]+", int, str, _count, _fewer)]
Ordinal: TypeAlias = Annotated[int, Field("a place from 1 on", r"[0-9]+", int, str, _ordinal, _fewer)]
