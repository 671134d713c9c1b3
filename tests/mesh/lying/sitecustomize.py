"""What Python imports first in the nodes that a test starts with this folder on their PYTHONPATH: one of them lies, and time is short.

All of them keep their directory ``FASTER``, look after all places in one go that they hold no more, and have it cut into cells from
``CELLS_FROM`` records on. What they count in rounds (how often they check somebody, how far apart lies have to be) they count as ever.

The node that ``LYING_NODE`` in the environment names lies as long as there is a file ``LIES`` in its folder: what it answers to a search
lacks the best that it has found, whose id it writes into the file, a line an answer. What it has it lists and hands over honestly, and its
own questions it answers honestly, too.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshos.protocols.directory.parts import Parts
    from meshos.protocols.rpc.events import Inbound

LYING_NODE = "LYING_NODE"
LIES = "lies"

FASTER = 8
"""So many rounds in the time of one."""

CELLS_FROM = 256
"""Four records to a cell."""


def hurry() -> None:
    """Before anything is imported that takes one of these for itself."""
    from meshos.protocols.directory import limits
    from meshos.protocols.directory.cells import limits as bounds

    limits.SYNC_S /= FASTER
    limits.IDLE_S /= FASTER
    limits.HANDED_PLACES = limits.PLACES
    bounds.CELLS_FROM = CELLS_FROM


def lie(file: Path) -> None:
    """Answer searches with all but the best, and say so in ``file``, while that is there."""
    from meshos.protocols.directory import services
    from meshos.protocols.directory.answering import answer as honest
    from meshos.protocols.directory.cells.query import CellAnswer, decode_answer, encode_answer

    async def lying(parts: "Parts", inbound: "Inbound") -> bytes:
        data = await honest(parts, inbound)
        if not file.exists():
            return data
        answer = decode_answer(data)
        with file.open("a", encoding="utf-8") as lies:
            lies.write("".join(brief.id for brief in answer.found[:1]) + "\n")
        return encode_answer(CellAnswer(answer.cells, answer.found[1:], answer.sealed[1:]))

    services.answer = lying  # type: ignore[attr-defined]  # where it is used, which is not where it is made


if LYING_NODE in os.environ and "run" in sys.argv:
    from meshos.node.runtime.matrix_threads import load_numpy

    load_numpy()  # as `mesh run` does, before anything else imports it
    hurry()
    place = Path(sys.argv[sys.argv.index("--dir") + 1])
    if place.name == os.environ[LYING_NODE]:
        lie(place / LIES)
