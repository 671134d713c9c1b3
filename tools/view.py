"""Build ``build/view``, what mypy reads: links that show the top-level folders as ``meshos.<folder>``, as it runs no ``__path__`` code.

trio is linked there too: libp2p brings trio-typing, whose old stubs would otherwise hide the types that trio itself has.
"""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VIEW = ROOT / "build" / "view" / "meshos"
FOLDERS = ("crypto", "storage", "consensus", "protocols", "adapters", "node", "simulations", "bench")


def wanted() -> dict[str, Path]:
    """Link name to what it should show."""
    inner = {entry.name: entry for entry in (ROOT / "meshos").iterdir() if entry.name != "__pycache__"}
    return inner | {folder: ROOT / folder for folder in FOLDERS}


def build() -> None:
    """Make the view match the tree: add what is missing, drop what is stale."""
    VIEW.mkdir(parents=True, exist_ok=True)
    links = wanted()
    for entry in VIEW.iterdir():
        if not entry.is_symlink() or entry.name not in links or entry.resolve() != links[entry.name]:
            entry.unlink()
    for name, target in links.items():
        link = VIEW / name
        if not link.is_symlink():
            link.symlink_to(target)
    trio = importlib.util.find_spec("trio")
    assert trio is not None and trio.origin is not None
    link = VIEW.parent / "trio"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(trio.origin).parent)


if __name__ == "__main__":
    build()
