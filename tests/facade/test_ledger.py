"""What the API says of a transfer, by how it has ended."""

from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from meshos.consensus.pbft.records import RESTORING
from meshos.effects import Put
from meshos.errors import MeshError, Refused, Unreachable
from meshos.ids import NodeId
from meshos.node.facade.ledger import LedgerDesk
from meshos.protocols.ledger.port import ReplicaLedger
from meshos.protocols.ledger.slots import Concluded
from meshos.storage.memory import MemoryStore

BETA = "did:mesh:enterprise:beta"


def desk(ended: object) -> LedgerDesk:
    async def flow(service: str, command: object, *, timeout_s: float) -> object:
        if isinstance(ended, MeshError):
            raise ended
        return ended

    host: Any = SimpleNamespace(flow=flow)
    return LedgerDesk(host, SimpleNamespace(), bytes(32), NodeId("me"), lambda node: NodeId(""))  # type: ignore[arg-type]


async def test_a_transfer_that_this_node_has_not_seen_end_is_named_so_that_another_can_be_asked() -> None:
    with pytest.raises(Unreachable, match="unknown-yet") as raised:
        await desk(Concluded(b"r", bytes.fromhex("ab" * 32), "unknown")).transfer(BETA, 5, "key", 3.0)
    assert "abababab" in raised.value.hint and raised.value.outcome == "unknown" and "3 s" not in raised.value.detail


async def test_a_transfer_that_takes_too_long_may_still_be_done() -> None:
    with pytest.raises(Unreachable, match="within 3 s") as raised:
        await desk(Unreachable("deadline-exceeded", "no")).transfer(BETA, 5, "key", 3.0)
    assert (raised.value.name, raised.value.outcome) == ("unknown-yet", "unknown")


async def test_a_transfer_that_was_refused_or_expired_fails_by_that_name() -> None:
    for ended, name in ((("refused", "insufficient-funds"), "insufficient-funds"), (("expired", ""), "transaction-expired")):
        with pytest.raises(Refused, match=name):  # as the catalogue has it
            await desk(Concluded(b"r", bytes(32), *ended)).transfer(BETA, 5, "key", 3.0)
    done = await desk(Concluded(b"r", bytes(32), "committed", "", 7)).transfer(BETA, 5, "key", 3.0)
    assert done == {"txId": "00" * 32, "height": 7, "outcome": "committed"}


# -- looking for a transaction -----------------------------------------------------------------------------------------


def searching(height: int, certified: Callable[[int], object]) -> LedgerDesk:
    chain = SimpleNamespace(certified=certified)
    books: Any = SimpleNamespace(window=SimpleNamespace(height=height), replica=SimpleNamespace(core=SimpleNamespace(chain=chain)))
    return LedgerDesk(SimpleNamespace(), books, bytes(32), NodeId("me"), lambda node: NodeId(""))  # type: ignore[arg-type]


async def test_the_node_goes_on_while_a_transaction_is_looked_for_in_thousands_of_blocks() -> None:
    read: list[int] = []
    at: list[int] = []

    async def others() -> None:
        while len(read) < 500:
            at.append(len(read))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        with pytest.raises(Refused, match="no-such-transaction"):
            await searching(500, read.append).transaction("0123456789abcdef")
    assert len(at) > 400 and read == list(range(500, 0, -1)), "nothing else had its turn"


async def test_one_transaction_is_looked_for_at_a_time() -> None:
    read: list[int] = []
    desk = searching(50, read.append)

    async def look() -> None:
        with pytest.raises(Refused, match="no-such-transaction"):
            await desk.transaction("0123456789abcdef")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        nursery.start_soon(look)
    assert read == 2 * list(range(50, 0, -1))


# -- a state on its way ------------------------------------------------------------------------------------------------


async def test_nothing_is_told_from_a_state_of_which_only_a_part_is_here() -> None:
    """Some of the accounts are laid down, others not: a balance of then is nobody's."""
    store = MemoryStore(Random(1))
    store.write([Put(RESTORING, b"a checkpoint")])
    window: Any = ReplicaLedger(SimpleNamespace(core=SimpleNamespace(chain=SimpleNamespace(height=7))), store)  # type: ignore[arg-type]
    books: Any = SimpleNamespace(window=window)
    desk = LedgerDesk(SimpleNamespace(), books, bytes(32), NodeId("me"), lambda node: NodeId(""))  # type: ignore[arg-type]
    with pytest.raises(Refused, match="state-incomplete"):
        await desk.account(BETA)
