"""Sequential objects that a history can be checked against: a register, a map of them, a set, a counter.

Operations are frozen dataclasses; beside each stands what it gives. A map is checked key by key.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

from meshos.simulations.linearizability import UNKNOWN, Model, by_key


@dataclass(frozen=True, slots=True)
class Read:
    """Gives the value under ``key`` (None: there is none). A register alone has the key None."""

    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Write:
    """Sets the value; what it gives does not matter."""

    value: Hashable
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Cas:
    """Sets the value to ``new`` if it is ``old``; gives whether it did."""

    old: Hashable
    new: Hashable
    key: Hashable = None


@dataclass(frozen=True, slots=True)
class Append:
    """Puts ``text`` at the end of the value, which is text; what it gives does not matter."""

    text: str
    key: Hashable = None


RegisterOp: TypeAlias = Read | Write | Cas | Append


def _register(state: Hashable, op: Hashable, result: object) -> tuple[bool, Hashable]:
    if isinstance(op, Read):
        return result is UNKNOWN or result == state, state
    if isinstance(op, Write):
        return True, op.value
    if isinstance(op, Append):
        return True, f"{state or ''}{op.text}"
    assert isinstance(op, Cas)
    swaps = state == op.old
    return result is UNKNOWN or result is swaps, op.new if swaps else state


def _register_looks(op: Hashable, result: object) -> bool:
    return isinstance(op, Read) or (isinstance(op, Cas) and result is False)


def _show(op: Hashable, result: object) -> str:
    where = f"{op.key!r}, " if isinstance(op, RegisterOp) and op.key is not None else ""
    if isinstance(op, Read):
        return f"read({where.removesuffix(', ')}) -> {result!r}"
    if isinstance(op, Write):
        return f"write({where}{op.value!r})"
    if isinstance(op, Append):
        return f"append({where}{op.text!r})"
    assert isinstance(op, Cas)
    return f"cas({where}{op.old!r}, {op.new!r}) -> {result!r}"


def register(first: Hashable = None) -> Model[Hashable]:
    """Read, Write, Cas and Append of one value, ``first`` at the beginning."""
    return Model("register", first, _register, looks=_register_looks, show=_show)


def _key(op: Hashable) -> Hashable:
    assert isinstance(op, RegisterOp)
    return op.key


def key_values(first: Hashable = None) -> Model[Hashable]:
    """A register under each key."""
    return Model("map", first, _register, split=by_key(_key), looks=_register_looks, show=_show)


@dataclass(frozen=True, slots=True)
class Add:
    """Puts ``element`` into the set; gives whether it was new, or None where that was not told."""

    element: Hashable


@dataclass(frozen=True, slots=True)
class Remove:
    """Takes ``element`` out of the set; gives whether it was there, or None where that was not told."""

    element: Hashable


@dataclass(frozen=True, slots=True)
class Elements:
    """Gives the set, as a frozenset."""


def _set(state: frozenset[Hashable], op: Hashable, result: object) -> tuple[bool, frozenset[Hashable]]:
    if isinstance(op, Elements):
        return result is UNKNOWN or result == state, state
    assert isinstance(op, Add | Remove)
    changes = (op.element in state) is isinstance(op, Remove)
    after = state ^ {op.element} if changes else state
    return result is UNKNOWN or result is None or result is changes, after


def elements() -> Model[frozenset[Hashable]]:
    """Add, Remove and Elements of one set, empty at the beginning."""
    return Model("set", frozenset(), _set, looks=lambda op, result: isinstance(op, Elements) or result is False)


@dataclass(frozen=True, slots=True)
class Increase:
    """Adds ``by``; gives the sum after it, or None where that was not told."""

    by: int = 1


@dataclass(frozen=True, slots=True)
class Total:
    """Gives the sum."""


def _counter(state: int, op: Hashable, result: object) -> tuple[bool, int]:
    after = state + op.by if isinstance(op, Increase) else state
    return result is UNKNOWN or result == after or (result is None and isinstance(op, Increase)), after


def counter() -> Model[int]:
    """Increase and Total of one number, 0 at the beginning."""
    return Model("counter", 0, _counter, looks=lambda op, result: isinstance(op, Total))
