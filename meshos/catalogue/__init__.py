"""The catalogue of error names: what each means and what to do; one TOML file a part, read once."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from meshos.errors import KINDS, BadInput, Broken


@dataclass(frozen=True, slots=True)
class Entry:
    """What ``mesh explain NAME`` says about one error name."""

    name: str
    """Stable, kebab-case."""
    kind: str
    """The class that carries it: Failed, BadInput, Unreachable, Refused or Broken."""
    means: str
    """One or two plain sentences: what happened."""
    do: str
    """What whoever reads it can do about it."""
    part: str
    """The TOML file it stands in, without its suffix."""
    example: str = ""
    """A whole text to copy from, of several lines; empty for most."""

    @property
    def exit_code(self) -> int:
        """What a command that ends with this error exits with."""
        return KINDS[self.kind].exit_code


def _read(part: str, text: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for name, table in tomllib.loads(text).items():
        missing = [key for key in ("kind", "means", "do") if not isinstance(table, dict) or not isinstance(table.get(key), str)]
        if missing or table["kind"] not in KINDS:
            raise Broken("catalogue-broken", f"{part}.toml: [{name}] needs a known kind and the texts means and do")
        found[name] = Entry(
            name=name, kind=table["kind"], means=table["means"], do=table["do"], part=part, example=str(table.get("example", ""))
        )
    return found


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Every entry by name, in the order of the names; where two parts explain one name (a test forbids it), the first part's."""
    found: dict[str, Entry] = {}
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        part = file.name.removesuffix(".toml")
        found = _read(part, file.read_text(encoding="utf-8")) | found
    return MappingProxyType(dict(sorted(found.items())))


def explain(name: str) -> Entry:
    """The entry of ``name``; ``unknown-name`` if no part knows it."""
    entry = entries().get(name)
    if entry is None:
        raise BadInput("unknown-name", f"no error is called {name!r}", hint="run `mesh explain --list` for all of them")
    return entry
