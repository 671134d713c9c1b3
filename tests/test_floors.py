"""The floors of docs/architecture.md: who may import whom, and who may touch the world."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("meshos", "crypto", "storage", "consensus", "protocols", "adapters", "node", "simulations", "bench")
NODE_FLOORS = ("kernel", "runtime", "api", "cli")
PURE = ("meshos", "consensus", "protocols", "node/kernel")

IO_MODULES = {"asyncio", "concurrent", "http", "httpx", "logging", "multiprocessing", "os", "sched", "select", "selectors", "shutil"}
IO_MODULES |= {"signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "trio", "urllib"}
"""Modules through which a machine would reach a clock, a disk, a socket, a thread or a log by itself."""
WORLD_CALLS = frozenset(
    {("datetime", "now"), ("datetime", "today"), ("datetime", "utcnow"), ("date", "today"), ("uuid", "uuid1"), ("uuid", "uuid4")}
)
ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {
        ("protocols/directory/shelf.py", "threading"),  # locks, no threads: Compute's workers share the index with the event loop
    }
)
"""(file, what): exceptions, each with its reason beside it."""


def sources(folder: str) -> list[Path]:
    return [file for file in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in file.parts]


def dotted_name(file: Path) -> tuple[str, ...]:
    """The import name of a file, as in ("meshos", "crypto", "keys")."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return parts if parts[:1] == ("meshos",) else ("meshos", *parts)


def imports(tree: ast.AST, file: Path) -> Iterator[tuple[int, str]]:
    """Every imported dotted name with its line; ``from a import b`` gives ``a.b``, relative imports are resolved."""
    here = dotted_name(file)
    package = here if file.name == "__init__.py" else here[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def floor_of(name: str) -> str | None:
    """The floor that a dotted import name belongs to; None for other people's packages."""
    parts = name.split(".")
    if parts[0] != "meshos":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS[1:] else "meshos"


def floor_faults(file: Path, text: str) -> list[str]:
    """What ``file`` with this ``text`` imports that it must not."""
    here = dotted_name(file)
    own = floor_of(".".join([*here, "x"])) or "meshos"
    faults = []
    for line, name in imports(ast.parse(text), file):
        where = f"{file.relative_to(ROOT)}:{line}: imports {name}"
        parts = name.split(".")
        if parts[0] in FLOORS[1:]:
            faults.append(f"{where}: write meshos.{name} (it would be loaded a second time under the bare name)")
            continue
        if parts[:2] == ["meshos", "meshos"]:
            faults.append(f"{where}: meshos stands inside meshos")
        floor = floor_of(name)
        if floor is not None and FLOORS.index(floor) > FLOORS.index(own):
            faults.append(f"{where}: {own}/ may not import from {floor}/")
        if own == "node" and floor == "node" and len(here) > 2 and here[2] in NODE_FLOORS and len(parts) > 2:
            theirs = NODE_FLOORS.index(parts[2]) if parts[2] in NODE_FLOORS else -1
            if theirs > NODE_FLOORS.index(here[2]):
                faults.append(f"{where}: node/{here[2]}/ may not import from node/{parts[2]}/")
    return faults


def io_faults(file: Path, text: str) -> list[str]:
    """Where ``file`` with this ``text`` reaches for the world by itself."""
    shown = str(file.relative_to(ROOT))
    tree = ast.parse(text)
    found: list[tuple[int, str]] = []
    for line, name in imports(tree, file):
        parts = name.split(".")
        if parts[0] in IO_MODULES:
            found.append((line, parts[0]))
        elif parts[0] == "secrets" or (parts[0] == "random" and len(parts) > 1 and parts[1] != "Random"):
            found.append((line, name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "random" and node.attr != "Random":
                found.append((node.lineno, f"random.{node.attr}"))
            elif (node.value.id, node.attr) in WORLD_CALLS:
                found.append((node.lineno, f"{node.value.id}.{node.attr}"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print", "input"):
            found.append((node.lineno, f"{node.func.id}()"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("write_text", "write_bytes"):
            found.append((node.lineno, f".{node.func.attr}()"))
    return [f"{shown}:{line}: uses {what}" for line, what in found if (shown, what) not in ALLOWED]


@pytest.mark.parametrize("folder", FLOORS)
def test_imports_only_from_the_floors_before(folder: str) -> None:
    faults = [fault for file in sources(folder) for fault in floor_faults(file, file.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_tests_tools_and_examples_use_the_one_import_name() -> None:
    faults = []
    for folder in ("tests", "tools", "examples"):
        for file in sources(folder):
            for line, name in imports(ast.parse(file.read_text(encoding="utf-8")), file):
                if name.split(".")[0] in FLOORS[1:]:
                    faults.append(f"{file.relative_to(ROOT)}:{line}: import meshos.{name}, not the bare name")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("folder", PURE)
def test_deciding_code_does_no_io(folder: str) -> None:
    faults = [fault for file in sources(folder) for fault in io_faults(file, file.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_every_exception_is_still_needed() -> None:
    unused = [(name, what) for name, what in ALLOWED if what not in (ROOT / name).read_text(encoding="utf-8")]
    assert not unused


def test_every_folder_has_a_docstring_in_its_init() -> None:
    missing = []
    for floor in FLOORS:
        for folder in {file.parent for file in sources(floor)}:
            init = folder / "__init__.py"
            if not init.is_file() or not ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))):
                missing.append(str(init.relative_to(ROOT)))
    assert not missing, f"each package folder says in one line what it is: {sorted(missing)}"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("crypto/x.py", "from meshos.storage.store import Store"),
        ("crypto/x.py", "from meshos import node"),
        ("meshos/x.py", "def f():\n    import meshos.crypto.keys"),
        ("consensus/x.py", "from consensus.org import machine"),
        ("protocols/rpc/x.py", "from ...node import kernel"),
        ("node/kernel/x.py", "from meshos.node.runtime import host"),
        ("node/api/x.py", "from meshos.node.cli import main"),
        ("storage/x.py", "import meshos.meshos.ids"),
    ],
)
def test_a_forbidden_import_is_seen(file: str, text: str) -> None:
    assert floor_faults(ROOT / file, text)


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from os import path",
        "import random\nrandom.choice([1])",
        "from random import shuffle",
        "import datetime\nfrom datetime import datetime\ndatetime.now()",
        "open('x')",
        "def f():\n    import trio",
    ],
)
def test_forbidden_io_is_seen(text: str) -> None:
    assert io_faults(ROOT / "protocols/x.py", text)


@pytest.mark.parametrize("text", ["import random\nr = random.Random(1)\nr.choice([1])", "from meshos.crypto import keys", "import heapq"])
def test_what_is_allowed_passes(text: str) -> None:
    file = ROOT / "protocols/x.py"
    assert not io_faults(file, text) and not floor_faults(file, text)
