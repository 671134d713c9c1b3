"""The files of the vectors, and the examples of wire.md that are taken from them.

``python -m tests.vectors.pages`` writes both anew, after a change of the code that makes them: that is a change of the wire.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.vectors import basics, bundles, ledger, strangers
from tests.vectors.chain import FOLDER

PAGE = FOLDER.parents[1] / "docs" / "reference" / "wire.md"
EXAMPLE = re.compile(r"(<!-- vector (\S+) (\S+) -->\n```\n)(.*?)(```)", re.DOTALL)
DIGITS_A_LINE = 96

FILES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "cbor.json": basics.cbor_vectors,
    "keys.json": basics.key_vectors,
    "signing.json": basics.signing_vectors,
    "genesis.json": basics.genesis_vectors,
    "blocks.json": ledger.block_vectors,
    "tree.json": ledger.tree_vectors,
    "bundles.json": bundles.bundle_vectors,
    "square.json": strangers.square_vectors,
}


def file_of(name: str) -> str:
    """The text of one file."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def page_of(page: str, files: Mapping[str, Any]) -> str:
    """``page`` with the examples that ``files`` hold; raises KeyError or IndexError where one is not there."""
    return EXAMPLE.sub(lambda found: found[1] + _lines(_at(files[found[2]], found[3])) + found[5], page)


def _at(value: Any, path: str) -> str:
    for step in path.split("."):
        value = value[int(step) if isinstance(value, list) else step]
    return str(value)


def _lines(text: str) -> str:
    return "".join(text[at : at + DIGITS_A_LINE] + "\n" for at in range(0, len(text), DIGITS_A_LINE))


def write() -> None:
    """See the module's text."""
    for name in FILES:
        (FOLDER / name).write_text(file_of(name), encoding="utf-8")
    files = {name: json.loads((FOLDER / name).read_text(encoding="utf-8")) for name in FILES}
    PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), files), encoding="utf-8")


if __name__ == "__main__":
    write()
