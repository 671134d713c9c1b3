"""What a node says of its ledger, without keeping its other work waiting."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from meshos.consensus.pbft.events import Head
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.errors import Refused
from meshos.ids import NodeId
from meshos.node.facade.ledger import BACK, Books, LedgerDesk
from tests.pbft.making import seats


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


@pytest.mark.parametrize(
    ("suspended", "silent", "said"), [(False, "", ""), (True, "", "validator-suspended"), (True, "disk-rolled-back", "disk-rolled-back")]
)
async def test_a_validator_that_is_suspended_does_not_vote_and_is_told_why(suspended: bool, silent: str, said: str) -> None:
    four = seats(4)
    me = four.entries[2]
    voting = ValidatorSet(1, (*four.entries[:2], replace(me, suspended=suspended), four.entries[3]))
    told = Head(64, bytes(32), 0, bytes(32), 1, 0, me.node, True, 0, 0, silent)

    async def flow(*_: object, timeout_s: float) -> Head:
        return told

    replica = SimpleNamespace(core=SimpleNamespace(chain=SimpleNamespace(validators=voting)))
    books = Books(cast(Any, replica), cast(Any, None), cast(Any, None))
    head = await LedgerDesk(cast(Any, SimpleNamespace(flow=flow)), books, bytes(32), me.node, lambda node: node).head()
    assert (head.votes, head.silent) == (said == "", said)
