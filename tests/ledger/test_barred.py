"""Who is in quarantine, as a node remembers it from block to block."""

from typing import cast

from meshos.consensus.ledger.quarantine import QUARANTINE
from meshos.protocols.ledger import quarantine
from meshos.protocols.ledger.port import LedgerView


class Ledger:
    """A state in which some are in quarantine, that counts how often it is asked."""

    height = 7
    restoring = False

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return next((b"\x81\x01" for name in self.names if key == QUARANTINE.key(name)), None)


def test_a_name_is_looked_up_once_a_block_and_anew_after_it() -> None:
    ledger = Ledger()
    barred = quarantine.barred_by(cast(LedgerView, ledger))
    assert [barred("a-1", "n-1") for _ in range(3)] == [None] * 3 and ledger.reads == 2
    ledger.names.add("n-1")
    ledger.height = 8
    assert [barred("a-1", "n-1") for _ in range(3)] == ["n-1"] * 3 and ledger.reads == 4
    ledger.restoring = True
    assert barred("n-1") is None


def test_so_many_names_are_remembered() -> None:
    ledger = Ledger()
    barred = quarantine.barred_by(cast(LedgerView, ledger))
    for number in range(quarantine.REMEMBERED + 1):
        barred(f"a-{number}")
    barred("one more")
    before = ledger.reads
    barred("a-1")
    assert ledger.reads == before + 1  # all were forgotten
