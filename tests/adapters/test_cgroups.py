"""What an agent and all that it starts use together is bounded, and no control group is left behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from meshos.adapters.onprem import cgroups, limits, sandbox
from meshos.adapters.onprem.cgroups import Place
from meshos.errors import Failed, MeshError
from meshos.ids import AgentId

from .conftest import Bench, processes_of

CODE = "x = bytearray(b'x') * (60 << 20); print(flush=True); time.sleep(600)"


def of_group(bench: Bench, controller: str) -> list[Path]:
    """The folders of this node's groups."""
    host = bench.provider._host
    assert host is not None
    return sorted(Path(host.groups[controller][0]).glob(f"{host.group}*")) if controller in host.groups else []


def need(bench: Bench, layer: str) -> None:
    if layer not in bench.provider.layers():
        pytest.skip(f"this machine gives no {layer}")


def bound(folder: Path) -> int:
    """The processor's share in microseconds a period."""
    file = folder / "cpu.cfs_quota_us"
    return int(file.read_text()) if file.exists() else int((folder / "cpu.max").read_text().split()[0])


async def test_memory_that_no_process_alone_answers_for_is_bounded_and_the_end_says_so(bench: Bench) -> None:
    need(bench, "cgroup-memory")
    agent = await bench.start(resources={"memory": "128Mi"})
    with pytest.raises(Failed) as caught:
        await bench.call(agent, "share", bytes=300 << 20)
    assert caught.value.name == "agent-out-of-memory" and caught.value.outcome == "unknown"
    assert await bench.call(agent, "echo") == {}, "it is started again"


async def test_many_processes_share_one_bound(bench: Bench) -> None:
    need(bench, "cgroup-memory")
    agent = await bench.start(resources={"memory": "128Mi"})
    (folder,) = of_group(bench, "memory")
    events = os.open(folder / ("memory.oom_control" if (folder / "memory.oom_control").exists() else "memory.events"), os.O_RDONLY)
    try:
        for _ in range(3):  # each by itself is allowed its 60 MiB
            await bench.call(agent, "fork", code=CODE)
        with trio.fail_after(60):
            while not cgroups.kills(events):
                await trio.sleep(0.01)
    finally:
        os.close(events)


async def test_its_share_of_a_processor_holds_from_when_it_serves(bench: Bench) -> None:
    need(bench, "cgroup-cpu")
    agent = await bench.start(resources={"cpu": 0.1})
    (folder,) = of_group(bench, "cpu")
    with trio.fail_after(30):
        while bound(folder) != 10_000:  # the launcher is told when it serves
            await trio.sleep(0.01)
    await bench.call(agent, "spin")
    with trio.fail_after(60):
        while "nr_throttled 0\n" in (folder / "cpu.stat").read_text():
            await trio.sleep(0.01)


async def test_until_it_serves_it_has_a_whole_processor(bench: Bench, nursery: trio.Nursery) -> None:
    need(bench, "cgroup-cpu")

    async def start() -> None:
        with pytest.raises(MeshError):
            await bench.start("hang", resources={"cpu": 0.1})

    nursery.start_soon(start)
    with trio.fail_after(20):
        while [bound(folder) for folder in of_group(bench, "cpu")] != [100 * limits.START_CPU_MILLIS]:
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()


async def test_the_number_of_processes_is_bounded(bench: Bench) -> None:
    need(bench, "cgroup-pids")
    await bench.start()
    (folder,) = of_group(bench, "pids")
    assert int((folder / "pids.max").read_text()) == limits.MAX_PROCESSES
    members = set(map(int, (folder / "cgroup.procs").read_text().split()))
    assert len(members) >= 2 and members <= set(processes_of(bench.agents))


@pytest.mark.parametrize("how", ["stop", "crash", "kill the launcher"])
async def test_no_group_outlives_its_agent(bench: Bench, how: str) -> None:
    need(bench, "cgroup-pids")
    agent = await bench.start()
    before = {folder for name in cgroups.CONTROLLERS for folder in of_group(bench, name)}
    assert before
    if how == "crash":
        with pytest.raises(MeshError):
            await bench.call(agent, "exit")
    elif how == "kill the launcher":
        stats = {pid: Path(f"/proc/{pid}/stat").read_text() for pid in processes_of(bench.agents)}  # killed, it takes the others along
        for pid, stat in stats.items():
            if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(pid, signal.SIGKILL)
        with trio.fail_after(20):
            while not bench.provider.statistics()[agent][0].restarts:
                await trio.sleep(0.01)
    await bench.provider.stop(agent)
    left = {folder for name in cgroups.CONTROLLERS for folder in of_group(bench, name)}
    assert not left and not [folder for folder in before if folder.exists()]


@pytest.fixture
def left_behind(bench: Bench) -> Iterator[list[Path]]:
    """Groups as a killed launcher leaves them: of this node's folder and of another's."""
    host = bench.provider._host
    assert host is not None
    names = (f"{host.group}1", f"{host.group[:-2]}x-1")
    made = [Path(folder) / name for folder, _ in host.groups.values() for name in names]
    for folder in made:
        folder.mkdir(exist_ok=True)
    yield made
    for folder in made:
        if folder.exists():
            folder.rmdir()


async def test_what_a_killed_node_left_behind_is_taken_away_at_the_next_start(bench: Bench, left_behind: list[Path]) -> None:
    host = bench.provider._host
    assert host is not None
    again = await sandbox.probe(bench.provider.config.data)
    assert again == host, "the same folder's node finds the same"
    assert [folder for folder in left_behind if folder.exists()] == [folder for folder in left_behind if host.group not in folder.name]


async def test_an_agent_cannot_lift_its_bounds(bench: Bench) -> None:
    need(bench, "cgroup-memory")
    agent: AgentId = await bench.start()
    for name in cgroups.CONTROLLERS:
        for folder in of_group(bench, name):
            for file in (folder / "cgroup.procs", folder.parent / "cgroup.procs"):
                assert str(await bench.call(agent, "write", path=str(file))).startswith("refused"), file


# -- where groups are made -------------------------------------------------------------------------------------------

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 master:3 - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_version_1_is_found_by_controller() -> None:
    found = cgroups.places("9:memory:/user/x\n2:cpu,cpuacct:/\n0::/\n", V1)
    assert found["memory"] == [Place("/sys/fs/cgroup/memory/user/x", 1), Place("/sys/fs/cgroup/unified", 2)]
    assert found["cpu"][0] == Place("/sys/fs/cgroup/cpu,cpuacct", 1)
    assert found["pids"] == [Place("/sys/fs/cgroup/unified", 2)]


def test_version_2_is_the_nodes_own_group_or_the_one_it_was_handed() -> None:
    mounts = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    found = cgroups.places("0::/system.slice/mesh.service/node\n", mounts)
    own = "/sys/fs/cgroup/system.slice/mesh.service"
    assert found == {key: [Place(f"{own}/node", 2), Place(own, 2)] for key in cgroups.CONTROLLERS}


def test_a_container_sees_its_part_of_the_tree() -> None:
    mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert cgroups.places("9:memory:/docker/abc\n", mounts)["memory"] == [Place("/sys/fs/cgroup/memory", 1)]
    assert cgroups.places("9:memory:/docker/abc/in\n", mounts)["memory"] == [Place("/sys/fs/cgroup/memory/in", 1)]
    assert cgroups.places("9:memory:/docker/abcdef\n", mounts)["memory"] == []


@pytest.mark.parametrize(
    ("groups", "mounts"), [("", V1), ("nonsense\n9:memory\n", V1), ("0::/a\n", "30 23 0:27 / /proc rw - proc proc rw\n")]
)
def test_where_there_is_none_none_is_found(groups: str, mounts: str) -> None:
    assert cgroups.places(groups, mounts) == {name: [] for name in cgroups.CONTROLLERS}
