"""`make setup` names what is missing before anything starts, with the command that installs it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("bash", "env", "dirname", "date", "mkdir", "tail", "grep", "cat")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout with the setup script only, and a ``bin`` with neither compiler nor make nor Python."""
    for name in ("tools", "bin"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "tools" / "setup", tmp_path / "tools" / "setup")
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def set_up(place: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the script with nothing but ``bin`` to find programs in."""
    environment = {"PATH": str(place / "bin"), "PYTHON": python, "HOME": os.environ.get("HOME", "/")}
    return subprocess.run([place / "tools" / "setup"], env=environment, capture_output=True, text=True, timeout=60, check=False)


def give(place: Path, *names: str) -> None:
    """Put programs into ``bin``; that they are found is all that is looked at."""
    for name in names:
        (place / "bin" / name).symlink_to("/bin/true")


def test_compiler_and_make_are_named_together_and_nothing_is_changed(bare: Path) -> None:
    done = set_up(bare, sys.executable)
    assert done.returncode == 2 and done.stdout == ""
    assert "missing: g++ (to compile hnswlib), make; nothing was changed" in done.stderr
    assert "sudo apt-get install g++ make" in done.stderr
    assert sorted(entry.name for entry in bare.iterdir()) == ["bin", "tools"]


def test_a_missing_python_is_named(bare: Path) -> None:
    give(bare, "g++", "make")
    done = set_up(bare, "/no/such/python")
    assert done.returncode == 2 and "missing: Python 3.11 or 3.12;" in done.stderr and "python3.11-dev" in done.stderr


@pytest.mark.parametrize(
    ("lacks", "said", "package"),
    [
        ("os.path.isfile = lambda path: False", "Python.h (to compile hnswlib)", "-dev"),
        ("importlib.util.find_spec = lambda name: None", "Python's venv module", "-venv"),
    ],
)
def test_a_python_without_its_parts_is_named(bare: Path, lacks: str, said: str, package: str) -> None:
    """The interpreter is the real one, with a start-up file that takes the part away."""
    give(bare, "g++", "make")
    (bare / "less").mkdir()
    (bare / "less" / "sitecustomize.py").write_text(f"import importlib.util, os.path\n{lacks}\n")
    python = bare / "bin" / "python-with-less"
    python.write_text(f'#!{bare}/bin/bash\nPYTHONPATH={bare}/less exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = set_up(bare, str(python))
    assert done.returncode == 2 and f"missing: {said};" in done.stderr
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}{package}" in done.stderr


def test_an_old_python_does_not_count(bare: Path) -> None:
    give(bare, "g++", "make")
    (bare / "less").mkdir()
    (bare / "less" / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 10, 0, 'final', 0)\n")
    python = bare / "bin" / "python-of-old"
    python.write_text(f'#!{bare}/bin/bash\nPYTHONPATH={bare}/less exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert "missing: Python 3.11 or 3.12;" in set_up(bare, str(python)).stderr
