"""What a node reads on the ledger of codebooks."""

from dataclasses import replace

from meshos.consensus.ledger.codebooks import Endorse
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel.cells import Cells
from tests.ledger.books import Books, did, genesis


class Window:
    """A ledger's state as a node sees it."""

    restoring = False

    def __init__(self, books: Books) -> None:
        self.get = books.state.get
        self.scan = books.state.scan


def test_what_the_first_in_turn_has_brought_is_looked_at_first_and_it_alone_trains() -> None:
    books = Books(replace(genesis(4), meta_coordinators=(did("gamma"), did("delta"))))
    books.do("delta-1", Endorse(1, b"d" * 32))
    books.do("gamma-1", Endorse(1, b"g" * 32))
    books.do("alpha-1", Endorse(1, b"g" * 32))
    first = min(did("gamma"), did("delta"))
    for org in ("alpha", "beta", "gamma", "delta"):
        cells = Cells(Peer(NodeId(f"{org}-1"), OrgDid(did(org))), Window(books), lambda: [], b"seed")  # type: ignore[arg-type]
        assert cells.agreed().endorsed == (b"d" * 32, b"g" * 32)
        assert cells.agreed().trains == (did(org) == first) and not cells.agreed().version
