"""What the pages tell people to type exists: every command, every option, every make target, every file that is linked."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from meshos.node.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def typed(page: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of every command in a page: in indented blocks, after `$ `, behind a pipe, and in backquotes."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        candidates = re.findall(r"`((?:mesh|make) [^`]+)`", line)
        block = re.match(r"(?:    (?:.*(?:\$|\|) )?|\$ )((?:mesh|make) .*)", line)
        if block:
            candidates.append(block[1])
        for text in candidates:
            yield number, shlex.split(text.replace("…", "X"), comments=True)


def options_of(words: list[str]) -> tuple[list[str], set[str] | None]:
    """The command's words at the start of ``words``, and its options; None if there is no such command."""
    main.add_plugins(words)
    command = typer.main.get_command(main.app)
    path: list[str] = []
    options: set[str] = set()
    for word in words:
        inner = getattr(command, "commands", None)
        if inner is None:
            break
        if word.startswith("-"):
            break
        if word not in inner:
            return [*path, word], None
        command = inner[word]
        path.append(word)
    for parameter in command.params:
        options |= {*parameter.opts, *parameter.secondary_opts}
    return path, options | {"--help", "-h", "--version"}


def faults(words: list[str]) -> list[str]:
    """What of one command line does not exist."""
    program, *rest = words
    if program == "make":
        wanted = [word for word in rest if "=" not in word and re.fullmatch(r"[a-z-]+", word)]
        return [f"make has no target {word}" for word in wanted if word not in TARGETS]
    path, options = options_of(rest)
    if options is None:
        return [f"there is no command mesh {' '.join(path)}"]
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    return [f"mesh {' '.join(path)} has no option {option}" for option in sorted(given - options)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_a_page_exists(page: Path) -> None:
    wrong = [f"{page.name}:{line}: {fault}" for line, words in typed(page) for fault in faults(words)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_linked_file_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_no_page_has_its_reader_write_a_file_into_the_checkout_that_a_pipe_spares() -> None:
    piped = [re.findall(r"^    echo .* > .*$", page.read_text(encoding="utf-8"), re.MULTILINE) for page in PAGES]
    assert not [line for lines in piped for line in lines]


def test_clean_removes_what_git_ignores_at_the_top_and_leaves_a_testnet() -> None:
    ignored = set(re.findall(r"^/?([^/*\n]+)/$", (ROOT / ".gitignore").read_text(encoding="utf-8"), re.MULTILINE))
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nclean:")[2]
    assert {name for name in ignored if name not in recipe.split()} == {"testnet"}


def test_a_wrong_command_is_seen() -> None:
    assert faults(["mesh", "discovr", "x"]) and faults(["mesh", "testnet", "upp"]) and faults(["make", "tets"])
    assert faults(["mesh", "discover", "x", "--orgs", "beta"])
    assert not faults(["mesh", "testnet", "up", "--detach"]) and not faults(["make", "demo", "KEEP=1"])


def test_the_readme_begins_with_the_demo_and_ends_setup_questions() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("make demo") < text.index("## ") and "make test" in text and "libgmp-dev" in text
