"""What a node does after each change of whom to believe is bounded, however many changes others make."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from meshos.errors import busy
from meshos.ids import NodeId, OrgDid
from meshos.node.sweeping import Sweeping
from meshos.protocols.directory.services import DISOWN
from meshos.protocols.membership.revocations import SPREAD_FLOW

ORGS = [OrgDid(f"did:mesh:enterprise:o{number}") for number in range(40)]
PEERS = [NodeId("n1"), NodeId("n2")]


class Host:
    """Each Flow goes on until the next ``end``; ``fails``: then it ends by an error."""

    def __init__(self, *, fails: bool = False) -> None:
        self.begun: list[tuple[str, Any]] = []
        self._gate = trio.Event()
        self._fails = fails

    async def flow(self, service: str, argument: object, *, timeout_s: float) -> object:
        assert timeout_s > 0
        self.begun.append((service, argument))
        await self._gate.wait()
        if self._fails:
            raise busy("the directory")
        return 0

    async def end(self) -> None:
        gate, self._gate = self._gate, trio.Event()
        gate.set()
        await wait_all_tasks_blocked()

    def routable_peers(self) -> list[NodeId]:
        return PEERS


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("act", "first", "second"),
    [
        (lambda sweeping, org: sweeping.disown([org]), (DISOWN, frozenset(ORGS[:1])), (DISOWN, frozenset(ORGS))),
        (lambda sweeping, org: sweeping.spread(), SPREAD_FLOW, SPREAD_FLOW),
    ],
)
async def test_changes_without_end_make_one_look_at_a_time_and_none_is_forgotten(
    nursery: trio.Nursery, act: Callable[[Sweeping, OrgDid], None], first: object, second: object, fails: bool
) -> None:
    host = Host(fails=fails)
    sweeping = Sweeping(host, nursery)
    sweeping.host = host

    def begun() -> list[object]:
        return [flow if flow[0] == DISOWN else flow[0] for flow in host.begun]

    act(sweeping, ORGS[0])
    await wait_all_tasks_blocked()
    for org in ORGS * 3:
        act(sweeping, org)  # also of the one that is looked at now: it may have changed behind the look
    await wait_all_tasks_blocked()
    assert begun() == [first]
    await host.end()
    assert begun() == [first, second]
    await host.end()
    assert begun() == [first, second], "nothing is due"
    act(sweeping, ORGS[0])
    await wait_all_tasks_blocked()
    assert begun() == [first, second, first]
    await host.end()
