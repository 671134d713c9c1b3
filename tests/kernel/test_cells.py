"""By what a node lays its directory: who holds nothing since the ledger has discharged it, and of whom others testify."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from meshos.consensus.ledger.limits import TESTIMONY_MS
from meshos.consensus.ledger.members import ORGS, _encode
from meshos.consensus.ledger.orgs import Leave
from meshos.consensus.ledger.testimonies import Testify as Accuse  # pytest takes what begins with Test for its own
from meshos.ids import NodeId, Peer
from meshos.node.kernel.cells import Cells
from meshos.protocols.directory.cells.query import SEARCH
from meshos.protocols.directory.suspects import Lie
from meshos.protocols.ledger.port import LedgerView
from tests.facade.test_explaining import an_assembly
from tests.kernel.test_news import Window
from tests.ledger.books import NAMES, Books, did, genesis
from tests.ledger.test_orgs import add_node

ME = Peer(NodeId("alpha-1"), did("alpha"))


def cells_of(books: Books, count: int) -> Cells:
    nodes = [NodeId(f"{name}-1") for name in NAMES[:count]]
    return Cells(ME, cast(LedgerView, Window(books)), lambda: [*nodes, NodeId("beta-2")], b"seed")


def holding(cells: Cells) -> dict[str, int]:
    return {seat.node: seat.place for seat in cells._seats()}


def test_a_discharged_node_holds_nothing_and_every_other_keeps_its_place() -> None:
    books = Books(genesis(4))
    books.do("beta-root", add_node(books, "beta", "beta-2"))
    cells = cells_of(books, 4)
    before = holding(cells)
    assert before == {"alpha-1": 0, "beta-1": 0, "beta-2": 1, "gamma-1": 0, "delta-1": 0}
    for by in ("alpha-1", "gamma-1"):
        assert holding(cells) == before
        books.do(by, Accuse("beta-1", "omitted", bytes(32)))
    assert holding(cells) == {node: place for node, place in before.items() if node != "beta-1"}


def test_others_are_the_nodes_of_all_organisations_that_are_there_and_unknown_where_one_has_none() -> None:
    alone, books = Books(genesis(1)), Books(genesis(4))
    assert cells_of(alone, 1).others() == frozenset()
    cells = cells_of(books, 4)
    assert cells.others() == {"beta-1", "gamma-1", "delta-1"}
    books.do("beta-root", add_node(books, "beta", "beta-2"))
    assert cells.others() == {"beta-1", "beta-2", "gamma-1", "delta-1"}
    books.do("delta-root", Leave(did("alpha")))
    assert cells.others() == {"beta-1", "beta-2", "gamma-1"}
    window = Window(books)
    window.scan = lambda prefix: ((key, _encode(replace(ORGS.decode(value), nodes=()))) for key, value in books.state.scan(prefix))
    assert Cells(ME, cast(LedgerView, window), list, b"seed").others() is None, "of whom nothing is registered yet"
    window = Window(books)
    window.restoring = True
    assert Cells(ME, cast(LedgerView, window), list, b"seed").others() is None


def test_where_too_few_organisations_are_left_the_discharged_hold_all_the_same() -> None:
    books = Books(genesis(4))
    cells = cells_of(books, 4)
    for whom, by in (("delta-1", ("alpha-1", "beta-1")), ("gamma-1", ("alpha-1", "beta-1"))):
        for one in by:
            books.do(one, Accuse(whom, "omitted", bytes(32)))
        assert set(holding(cells)) == ({"alpha-1", "beta-1", "gamma-1"} if whom == "delta-1" else {f"{name}-1" for name in NAMES[:4]})


def test_whom_others_accuse_is_told_and_not_what_the_own_organisation_says_nor_what_has_lapsed_or_is_decided() -> None:
    books = Books(genesis(7))
    cells = cells_of(books, 7)
    books.do("alpha-1", Accuse("beta-1", "stale", bytes(32)))
    assert cells.accused() == []
    books.do("gamma-1", Accuse("delta-1", "stale", bytes(32)))
    books.do("beta-1", Accuse("eta-1", "stale", bytes(32)))
    assert cells.accused() == ["delta-1", "eta-1"]
    for by in ("alpha-1", "gamma-1"):
        books.do(by, Accuse("eta-1", "stale", bytes(32)))
    assert cells.accused() == ["delta-1"]
    books.time_ms += TESTIMONY_MS
    assert cells.accused() == []


def test_what_the_directory_is_convinced_of_is_what_the_registrar_owes_and_it_hears_who_is_accused() -> None:
    assembly = an_assembly("alpha-1")
    parts = assembly.flows._services[SEARCH].args[0]  # type: ignore[attr-defined]
    assert assembly.registrar._convinced() == {}
    parts.suspects.catch(NodeId("beta-1"), Lie("stale", bytes(32)), proven=True)
    assert assembly.registrar._convinced() == {NodeId("beta-1"): Lie("stale", bytes(32))}
    assert parts.spots and parts.accused == parts.agreed.__self__.accused
    assert not parts.behind()
    assembly.ledger.core = SimpleNamespace(behind=3)  # type: ignore[assignment]
    assert parts.behind()
