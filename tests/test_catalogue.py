"""The catalogue of error names and the source agree: nothing is raised that cannot be explained, nothing explained that is not raised."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from meshos import catalogue
from meshos.errors import KINDS, BadInput, Broken

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("meshos", "crypto", "storage", "consensus", "protocols", "adapters", "node", "simulations", "bench")
FILES = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in file.parts]


def literals(node: ast.expr) -> list[str]:
    """The names an expression can give, where they are written out: a literal, or either arm of a conditional."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [*literals(node.body), *literals(node.orelse)]
    return []


def raised(tree: ast.AST) -> list[tuple[int, str, str]]:
    """(line, class, name) of every error that is made with a literal name."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        given = node.args[:1] or [keyword.value for keyword in node.keywords if keyword.arg == "name"]
        if called in KINDS and given:
            found += [(node.lineno, called, name) for name in literals(given[0])]
    return found


def strings(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def test_every_name_in_the_source_is_explained() -> None:
    known = catalogue.entries()
    missing = [
        f"{file.relative_to(ROOT)}:{line}: {kind}({name!r})"
        for file, tree in TREES.items()
        for line, kind, name in raised(tree)
        if name not in known
    ]
    assert not missing, "give each an entry in meshos/catalogue/<part>.toml:\n" + "\n".join(missing)


def test_every_name_is_raised_with_the_kind_it_is_explained_as() -> None:
    known = catalogue.entries()
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {kind}({name!r}), but {known[name].part}.toml says {known[name].kind}"
        for file, tree in TREES.items()
        for line, kind, name in raised(tree)
        if name in known and known[name].kind != kind
    ]
    assert not wrong, "\n".join(wrong)


def test_no_explained_name_is_unused() -> None:
    used = set().union(*(strings(tree) for tree in TREES.values()))
    unused = [f"{entry.part}.toml: [{name}]" for name, entry in catalogue.entries().items() if name not in used]
    assert not unused, "nothing raises these:\n" + "\n".join(unused)


def test_every_name_stands_in_one_part_only() -> None:
    parts: dict[str, list[str]] = {}
    for file in sorted((ROOT / "meshos" / "catalogue").glob("*.toml")):
        for name in tomllib.loads(file.read_text(encoding="utf-8")):
            parts.setdefault(name, []).append(file.name)
    assert not {name: files for name, files in parts.items() if len(files) > 1}


def test_names_and_texts_are_in_order() -> None:
    faults = []
    for name, entry in catalogue.entries().items():
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            faults.append(f"{name} is not kebab-case")
        for what, text in (("means", entry.means), ("do", entry.do)):
            if len(text) < 15 or not text.rstrip().endswith((".", "?", "`", ")")) or text != text.strip():
                faults.append(f"[{name}] {what} is no whole sentence: {text!r}")
    assert not faults, "\n".join(faults)


def test_explain_finds_a_name_and_refuses_a_stranger() -> None:
    entry = catalogue.explain("busy")
    assert (entry.kind, entry.exit_code, entry.part) == ("Refused", 4, "house")
    with pytest.raises(BadInput) as caught:
        catalogue.explain("no-such-name")
    assert caught.value.name == "unknown-name"


@pytest.mark.parametrize(
    "text",
    [
        '[x]\nkind = "Refused"\nmeans = "a"\n',
        '[x]\nkind = "Other"\nmeans = "a"\ndo = "b"\n',
        "x = 1\n",
        '[x]\nkind = 1\nmeans = "a"\ndo = "b"\n',
    ],
)
def test_a_broken_entry_is_named(text: str) -> None:
    with pytest.raises(Broken) as caught:
        catalogue._read("part", text)
    assert caught.value.name == "catalogue-broken"
