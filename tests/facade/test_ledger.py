"""What the API says of a transfer, by how it has ended."""

from types import SimpleNamespace
from typing import Any

import pytest

from meshos.errors import Failed, MeshError, Unreachable
from meshos.ids import NodeId
from meshos.node.facade.ledger import LedgerDesk
from meshos.protocols.ledger.slots import Concluded

BETA = "did:mesh:enterprise:beta"


def desk(ended: object) -> LedgerDesk:
    async def flow(service: str, command: object, *, timeout_s: float) -> object:
        if isinstance(ended, MeshError):
            raise ended
        return ended

    host: Any = SimpleNamespace(flow=flow)
    return LedgerDesk(host, SimpleNamespace(), bytes(32), lambda node: NodeId(""))  # type: ignore[arg-type]


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
        with pytest.raises(Failed, match=name):
            await desk(Concluded(b"r", bytes(32), *ended)).transfer(BETA, 5, "key", 3.0)
    done = await desk(Concluded(b"r", bytes(32), "committed", "", 7)).transfer(BETA, 5, "key", 3.0)
    assert done == {"txId": "00" * 32, "height": 7, "outcome": "committed"}
