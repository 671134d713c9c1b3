"""``mesh bench ledger``: what its report holds to bars, and three validators whose fourth comes late."""

from dataclasses import fields

import pytest
import trio

from meshos.bench import ledger
from meshos.bench.machine import this_machine
from meshos.bench.pbft import running
from meshos.bench.pbft_node import State
from meshos.bench.report import Report
from meshos.consensus.pbft.config import Config
from meshos.ids import NodeId


async def test_a_validator_that_comes_late_is_where_the_others_are_who_go_on() -> None:
    with running(ledger.JOINER) as mesh, trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            await nursery.start(mesh.client.run)
            await mesh.settled()
            done = await ledger._commit(mesh, 20)
            synced = await ledger._sync(mesh, ledger.Synced("a new validator", done), 0.1)
            assert done >= 20 and synced.blocks >= 1 and synced.took_s > 0 and synced.same_root
            assert synced.before and synced.during
            assert len(await mesh.settled()) == 4
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("took_s", "same", "longest_ms", "met"),
    [(5.0, True, 90.0, [True, True, True]), (70.0, False, 2500.0, [False, False, False])],
)
def test_time_roots_and_the_longest_pause_of_the_others_are_held_to_bars(
    took_s: float, same: bool, longest_ms: float, met: list[bool]
) -> None:
    report = Report("ledger", "mesh bench ledger", this_machine())
    ledger._rows(report, ledger.Synced("one", 10, 0, 5, took_s, same, [10.0, 12.0], [20.0, longest_ms]))
    assert [row.met for row in report.rows if row.bar] == met


def test_who_was_down_misses_more_blocks_than_are_fetched_one_by_one() -> None:
    default = {field.name: field.default for field in fields(Config)}["transfer_blocks"]
    assert isinstance(default, int) and default < ledger.BLOCKS_AWAY


def test_who_is_as_high_as_another_was_just_before_has_caught_up() -> None:
    def state(height: int) -> State:
        return State(0, NodeId("n"), height, bytes(32), 0, "")

    assert ledger._caught_up(state(5), state(5)) and ledger._caught_up(state(5), state(6))
    assert not ledger._caught_up(state(5), state(4)) and not ledger._caught_up(None, state(4)) and not ledger._caught_up(state(4), None)
