"""``mesh bench pbft``: its four real processes, what it asks of them, and what its report holds to bars."""

import os

import pytest
import trio

from meshos.bench import pbft, verifying
from meshos.bench.machine import this_machine
from meshos.bench.pbft_node import Members, State
from meshos.bench.report import Report
from meshos.bench.verifying import Verifying
from meshos.errors import Failed
from meshos.ids import NodeId


async def test_four_processes_order_transfers_and_go_on_without_their_primary() -> None:
    with pbft.running() as mesh, trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            await nursery.start(mesh.client.run)
            before = (await mesh.settled())[0]
            submitted = await mesh.submit(mesh.payers, 2, 0.2)
            assert len(submitted.taken_ms) >= 8 and submitted.rate() > 0
            assert await mesh.kill_primary() > 0
            after = await mesh.settled()
            assert len({state.root for state in after}) == 1 and after[0].root != before.root
            assert after[0].view > before.view and after[0].height > before.height and mesh.primary != before.primary
            nursery.cancel_scope.cancel()


def test_members_and_states_come_back_as_they_were(tmp_path: os.PathLike[str]) -> None:
    members = Members.new([1, 2, 3, 4, 5])
    members.save(tmp_path)  # type: ignore[arg-type]
    assert Members.load(tmp_path) == members  # type: ignore[arg-type]
    state = State(3, NodeId("n1"), 7, b"r" * 32, 0, "")
    assert State.decode(state.encode()) == state


def test_a_verifier_that_says_nothing_is_no_figure() -> None:
    with pytest.raises(Failed, match="said nothing"):
        verifying._read(b"")


@pytest.mark.parametrize(("rate", "roots", "met"), [(2000.0, 4, [True, True]), (1000.0, 4, [False, True]), (2000.0, 3, [True, False])])
def test_the_rate_and_the_roots_are_held_to_bars_and_the_floor_is_a_quarter(rate: float, roots: int, met: list[bool]) -> None:
    report = Report("pbft", "mesh bench pbft", this_machine())
    pbft._throughput(report, pbft.Figures(many=[rate], limits=[Verifying(16_000.0, 60.0)], roots=[4, roots]))
    assert [row.met for row in report.rows if row.bar] == met
    assert next(row.p50 for row in report.rows if "share" in row.what) == rate / 40


def test_where_processor_time_goes_is_told_from_that_of_one_verification() -> None:
    report = Report("pbft", "mesh bench pbft", this_machine())
    pbft._where_it_goes(report, pbft.Figures(primary_ms=[0.9], backup_ms=[0.5], client_ms=[0.2], had=[90.0], limits=[Verifying(1.0, 60.0)]))
    assert report.rows[-1].p50 == pytest.approx(10.0)
