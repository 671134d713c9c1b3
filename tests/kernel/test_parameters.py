"""The directory goes by the mesh's parameters: one value is shipped, what the ledger says counts, and owners have time to renew."""

from types import SimpleNamespace
from typing import Any

from meshos.consensus.ledger.actions import Tune
from meshos.consensus.ledger.approvals import Propose
from meshos.consensus.ledger.parameters import SPECS
from meshos.node import folder
from meshos.node.kernel.ledger import record_lifetime
from meshos.protocols.directory import keeping, limits
from tests.ledger.books import Books

TTL = "directory-record-ttl-ms"


def test_a_record_lives_as_long_as_the_ledger_says() -> None:
    books = Books()
    window: Any = SimpleNamespace(get=books.state.get, restoring=False)
    assert record_lifetime(window) == limits.TTL_S == folder.template().directory.record_ttl_ms / 1000, "what is shipped"
    books.do("alpha-1", Propose(Tune(((TTL, 100_000_000),)), "longer"))
    assert record_lifetime(window) == 100_000.0
    window.restoring = True
    assert record_lifetime(window) == limits.TTL_S, "nothing can be read off a part of a state"


def test_of_the_shortest_life_an_owner_has_time_to_renew_a_record_several_times() -> None:
    looks_s = keeping.RENEW_EVERY * limits.SYNC_S
    shortest_s = SPECS[TTL].least / 1000
    assert shortest_s * (1 - 1 / limits.RENEWALS) >= 4 * looks_s
