"""A small tree of plain values, each of which knows where it stands in the text, so that every error can point at it.

Two sources give the same tree: YAML text (places are lines and columns) and a decoded JSON body (places are paths such as
``$.pricing.perQuery``). Both are bounded before anything is built of them: size of the text, depth, number of values.
Aliases are followed and count as often as they are used, so that a "billion laughs" file ends at the same bound.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from meshos.errors import BadInput

MAX_TEXT_BYTES = 64 * 1024
"""An agent file with a long description and a dozen variables is 3 KiB."""
MAX_DEPTH = 8
"""``runtime.mcp.env.KEY`` is the deepest that has a meaning: 4."""
MAX_VALUES = 4_000
"""Keys and values together, aliases counted each time they are used."""
assert MAX_VALUES < MAX_TEXT_BYTES

_TAG = "tag:yaml.org,2002:"
_KINDS = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
"""What a value may look like; any other tag asks a loader to build something, which is never done here."""


class FileError(BadInput):
    """Something in a file or a body is wrong. ``excerpt`` is the line and a caret below it, or empty for a JSON body."""

    def __init__(self, name: str, detail: str, *, hint: str = "", excerpt: str = "") -> None:
        super().__init__(name, detail, hint=hint)
        self.excerpt = excerpt


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: ``label`` is ``file:line:column`` or a JSON path; ``excerpt`` as in FileError."""

    label: str
    excerpt: str = ""

    def error(self, name: str, detail: str, *, hint: str = "") -> FileError:
        """The error ``name`` about the value that stands here."""
        return FileError(name, f"{self.label}: {detail}", hint=hint, excerpt=self.excerpt)


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar. ``text`` is as it was written (a price is never a float on its way); ``kind`` is what it looks like."""

    text: str
    kind: str
    place: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: "tuple[Located, ...]"
    place: Place


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with text keys, in the order of the text; each key has a place of its own."""

    entries: "tuple[tuple[Text, Located], ...]"
    place: Place

    def __iter__(self) -> "Iterator[tuple[Text, Located]]":
        return iter(self.entries)


Located: TypeAlias = Text | Sequence | Table


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or an empty text."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def quoted(text: str, limit: int = 60) -> str:
    """``text`` in double quotes, cut to ``limit`` characters and without control characters."""
    printable = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return f'"{printable}{"..." if len(text) > limit else ""}"'


# -- from YAML -------------------------------------------------------------------------------------------------------


def from_yaml(text: str, file: str) -> Located:
    """The tree of ``text``; raises FileError ``bad-yaml`` with line, column and caret."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise FileError("bad-yaml", f"{file}: larger than {MAX_TEXT_BYTES // 1024} KiB", hint="such a file is small; keep data elsewhere")
    source = _Source(text.splitlines(), file)
    try:
        _check_events(text, source)
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(error.problem or error.context or "not YAML").split())[:160]
        raise source.at(mark.line if mark else 0, mark.column if mark else 0).error("bad-yaml", what) from error
    except (YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:160]
        raise FileError("bad-yaml", f"{file}: not YAML ({what})", hint="save it as plain UTF-8 text") from error
    if node is None:
        raise FileError("bad-yaml", f"{file}: the file is empty")
    return _Builder(source).build(node, 0)


def _check_events(text: str, source: "_Source") -> None:
    """Depth and number of events, before the recursive composer meets them."""
    depth = documents = 0
    for count, event in enumerate(YAML(typ="safe", pure=True).parse(text)):
        name = type(event).__name__
        depth += name.endswith(("MappingStartEvent", "SequenceStartEvent")) - name.endswith(("MappingEndEvent", "SequenceEndEvent"))
        documents += name == "DocumentStartEvent"
        mark = event.start_mark
        if depth > MAX_DEPTH:
            raise source.at(mark.line, mark.column).error("bad-yaml", f"nested more than {MAX_DEPTH} deep")
        if count > 2 * MAX_VALUES:
            raise source.at(mark.line, mark.column).error("bad-yaml", f"more than {MAX_VALUES} values")
        if documents > 1:
            raise source.at(mark.line, mark.column).error("bad-yaml", "a second document begins here", hint="one file is one document")


class _Source:
    """The lines of a file, for places."""

    def __init__(self, lines: list[str], file: str) -> None:
        self.lines = lines
        self.file = file

    def at(self, line: int, column: int) -> Place:
        """The place of a zero-based line and column."""
        shown = self.lines[line] if line < len(self.lines) else ""
        start = max(0, column - 100)  # a very long line shows the part around the caret
        shown = "".join(c if c.isprintable() else " " for c in shown[start : start + 120])
        return Place(f"{self.file}:{line + 1}:{column + 1}", f"{shown}\n{' ' * (column - start)}^" if shown else "")


class _Builder:
    """Composed nodes to a tree, counting what is built."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._built = 0

    def build(self, node: Node, depth: int) -> Located:
        place = self._source.at(node.start_mark.line, node.start_mark.column)
        self._built += 1
        if self._built > MAX_VALUES or depth > MAX_DEPTH:
            raise place.error("bad-yaml", f"more than {MAX_VALUES} values, or nested more than {MAX_DEPTH} deep, once aliases are followed")
        kind = str(node.tag).removeprefix(_TAG)
        if kind not in _KINDS and not (isinstance(node, ScalarNode) and node.style is not None):
            raise place.error("bad-yaml", f"the tag {quoted('!!' + kind)} has no meaning here")
        if isinstance(node, ScalarNode):
            return Text(str(node.value), kind if node.style is None else "str", place)
        if isinstance(node, SequenceNode):
            return Sequence(tuple(self.build(item, depth + 1) for item in node.value), place)
        assert isinstance(node, MappingNode)
        entries: list[tuple[Text, Located]] = []
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = self.build(key_node, depth + 1)
            if not isinstance(key, Text):
                raise key.place.error("bad-yaml", "a key must be plain text")
            if key.text in seen:
                raise key.place.error("bad-yaml", f"the key {quoted(key.text)} stands here a second time")
            if key.kind == "merge":
                raise key.place.error("bad-yaml", "merge keys (<<) are not read here", hint="write the keys out")
            seen.add(key.text)
            entries.append((key, self.build(value_node, depth + 1)))
        return Table(tuple(entries), place)


# -- from a JSON body ------------------------------------------------------------------------------------------------


def from_plain(value: object, root: str = "$") -> Located:
    """The tree of a decoded JSON value; raises FileError ``bad-value`` where it is too large or holds what JSON cannot."""
    budget = [MAX_VALUES, MAX_TEXT_BYTES]
    return _plain(value, root, 0, budget)


def _plain(value: object, path: str, depth: int, budget: list[int]) -> Located:
    place = Place(path[:200])
    budget[0] -= 1
    if budget[0] < 0:
        raise place.error("bad-value", f"more than {MAX_VALUES} values up to here")
    if depth > MAX_DEPTH:
        raise place.error("bad-value", f"nested more than {MAX_DEPTH} deep")
    if value is None:
        return Text("", "null", place)
    if isinstance(value, bool):
        return Text("true" if value else "false", "bool", place)
    if isinstance(value, str):
        _spend(value, place, budget)
        return Text(value, "str", place)
    if isinstance(value, int | float):
        if isinstance(value, int) and abs(value) >> 128:
            raise place.error("bad-value", "a number beyond all measure")
        return Text(repr(value), "int" if isinstance(value, int) else "float", place)
    if isinstance(value, list | tuple):
        return Sequence(tuple(_plain(item, f"{path}[{index}]", depth + 1, budget) for index, item in enumerate(value)), place)
    if isinstance(value, Mapping):
        entries: list[tuple[Text, Located]] = []
        for key, inner in value.items():
            if not isinstance(key, str):
                raise place.error("bad-value", "a key must be text")
            inner_path = f"{path}.{key[:80]}"
            _spend(key, Place(inner_path[:200]), budget)
            entries.append((Text(key, "str", Place(inner_path[:200])), _plain(inner, inner_path, depth + 1, budget)))
        return Table(tuple(entries), place)
    raise place.error("bad-value", f"{type(value).__name__} is not a JSON value")


def _spend(text: str, place: Place, budget: list[int]) -> None:
    """Take ``text`` off the characters that are left; raises FileError ``bad-value`` at the one for which there is no room."""
    budget[1] -= len(text)
    if budget[1] < 0:
        most = f"{MAX_TEXT_BYTES // 1024} KiB"
        raise place.error("bad-value", f"with the {len(text)} characters here there are more than {most} of text", hint="write less of it")
