"""What a node says of its ledger, without keeping its other work waiting."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from meshos.errors import Refused
from meshos.ids import NodeId
from meshos.node.facade.ledger import BACK, Books, LedgerDesk


async def test_a_transaction_that_is_nowhere_is_looked_for_between_other_work() -> None:
    looked: list[int] = []
    chain = SimpleNamespace(certified=looked.append)
    replica, window = SimpleNamespace(core=SimpleNamespace(chain=chain)), SimpleNamespace(height=BACK + 9)
    desk = LedgerDesk(cast(Any, None), Books(cast(Any, replica), cast(Any, window), cast(Any, None)), bytes(32), NodeId("me"), str)
    most = 0

    async def work(task_status: trio.TaskStatus[None]) -> None:
        nonlocal most
        before = 0
        task_status.started()
        while True:
            await trio.lowlevel.checkpoint()
            most, before = max(most, len(looked) - before), len(looked)

    async with trio.open_nursery() as nursery:
        await nursery.start(work)
        with pytest.raises(Refused, match="no-such-transaction"):
            await desk.transaction("0" * 64)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert len(looked) == BACK and most <= 2, f"{most} blocks without a turn for anybody else"
