"""``mesh bench raft``: its group of real processes, and how it speaks to etcd."""

import os

import pytest
import trio

from meshos.bench import etcd, raft
from meshos.bench.machine import this_machine
from meshos.bench.raft_node import Members, Registers, State
from meshos.bench.raft_writer import write
from meshos.bench.report import Report
from meshos.effects import Put
from meshos.errors import Refused
from meshos.ids import NodeId


async def test_three_processes_take_writes_and_go_on_without_their_leader() -> None:
    with raft._group() as group, trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            await nursery.start(group.client.run)
            before = await group.find_leader()
            taken, rate = await group.write(4, 0.2)
            assert len(taken) >= 4 and all(ms > 0 for ms in taken) and rate > 0
            assert await group.kill_leader() > 0
            after = await group.find_leader()
            assert after.term > before.term and after.commit > before.commit and group.leader != before.leader
            nursery.cancel_scope.cancel()


def test_members_and_states_come_back_as_they_were(tmp_path: os.PathLike[str]) -> None:
    members = Members.new([1, 2, 3, 4])
    members.save(tmp_path)  # type: ignore[arg-type]
    assert Members.load(tmp_path) == members  # type: ignore[arg-type]
    state = State(3, NodeId("n1"), 7)
    assert State.decode(state.encode()) == state


def test_a_register_takes_what_a_writer_writes_and_nothing_else() -> None:
    assert Registers().decode(write(b"key", b"value")) == Put(b"key", b"value")
    for bad in (b"", b"\x05key"):
        with pytest.raises(Refused):
            Registers().decode(bad)


@pytest.mark.parametrize(("size", "length"), [(1, b"\x01"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_fields_of_protocol_buffers_carry_their_length_in_pieces_of_seven_bits(size: int, length: bytes) -> None:
    assert etcd._field(2, bytes(size)) == b"\x12" + length + bytes(size)


def test_where_a_peer_is_missing_the_report_says_so_and_holds_ours_to_no_ratio() -> None:
    report = Report("raft", "mesh bench raft", this_machine())
    ours = raft.Figures(single=[1.0], many=[1000.0], kills=[100.0])
    raft._latency(report, ours, raft.Figures())
    raft._throughput(report, ours, raft.Figures())
    raft._failover(report, ours, raft.Figures())
    assert [row.met for row in report.rows] == [None, None, True]


def test_each_bar_is_held_against_the_peer_of_the_same_run() -> None:
    report = Report("raft", "mesh bench raft", this_machine())
    ours = raft.Figures(single=[1.0], many=[9000.0], kills=[700.0])
    theirs = raft.Figures(single=[0.9], many=[3000.0], native=[6000.0], kills=[1000.0])
    raft._latency(report, ours, theirs)
    raft._throughput(report, ours, theirs)
    raft._failover(report, ours, theirs)
    assert [row.met for row in report.rows if row.bar] == [False, True, True, False]
