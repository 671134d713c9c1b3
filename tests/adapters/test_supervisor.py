"""Agents that work, crash, hang, and babble: what the caller is told, and that the next call works."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from meshos import cbor
from meshos.adapters.onprem import limits
from meshos.adapters.onprem.mcp_session import MAX_GARBAGE_AT_START
from meshos.errors import BadInput, Failed, MeshError, Refused, Unreachable
from meshos.ids import AgentId, TaskId
from meshos.protocols.tasks.ports import CallTool

from .conftest import QUICK, Bench, impatient, processes_of


async def refused(work: object) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await work  # type: ignore[misc]
    return caught.value


async def test_a_tool_is_listed_and_called(bench: Bench) -> None:
    tools = await bench.provider.start(bench.spec())
    echo = next(tool for tool in tools if tool.name == "echo")
    assert echo.read_only and echo.idempotent and echo.description == "Gives back what it is given."
    assert cbor.decode(echo.schema, max_bytes=1000) == {"type": "object"}
    assert not next(tool for tool in tools if tool.name == "sleep").read_only
    assert await bench.call(AgentId("a-one"), "echo", a=1, b=["é", None, 2.5]) == {"a": 1, "b": ["é", None, 2.5]}


async def test_a_list_of_tools_in_pages_is_followed(bench: Bench) -> None:
    assert len(await bench.provider.start(bench.spec("pages"))) == len(await bench.provider.start(bench.spec("good", "two")))


@pytest.mark.parametrize(
    ("mode", "name", "says"),
    [
        ("crash", "agent-crashed", "exit code 7: cannot import the module that it needs"),
        ("garbage", "agent-garbage", f"{MAX_GARBAGE_AT_START + 1} lines in a row"),
        ("old", "agent-garbage", "1999-01-01"),
        ("bad-tools", "agent-garbage", "no proper name"),
        ("twice", "agent-garbage", "two tools of one name"),
        ("endless-pages", "agent-garbage", "no end"),
    ],
)
async def test_what_cannot_start_says_why_and_is_not_kept(bench: Bench, mode: str, name: str, says: str) -> None:
    error = await refused(bench.provider.start(bench.spec(mode)))
    assert error.name == name and says in error.detail, error
    assert processes_of(bench.agents) == [] and bench.provider.statistics() == {}
    assert (await refused(bench.call(AgentId("a-one"), "echo"))).name == "agent-not-here"


async def test_a_program_that_is_not_here(bench: Bench) -> None:
    spec = bench.spec()
    for command in ("no-such-program", "./nothing.sh", "/nonexistent/x"):
        file = replace(spec.file, runtime=replace(spec.file.runtime, command=(command,)))  # type: ignore[type-var]
        error = await refused(bench.provider.start(replace(spec, file=file)))
        assert error.name == "agent-not-here" and isinstance(error, Refused)
    script = bench.agents / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    file = replace(spec.file, runtime=replace(spec.file.runtime, command=("./script",)))  # type: ignore[type-var]
    assert (await refused(bench.provider.start(replace(spec, file=file)))).name == "agent-not-here"
    assert (await refused(bench.provider.start(replace(spec, folder=Path("/nonexistent"))))).name == "agent-not-here"


class TestHandshake:
    @pytest.fixture
    def pace(self) -> object:
        return replace(QUICK, start_timeout_s=1.5)

    @pytest.mark.parametrize("mode", ["hang", "no-newline"])
    async def test_silence_and_noise_end_in_time(self, bench: Bench, mode: str) -> None:
        error = await refused(bench.provider.start(bench.spec(mode)))
        assert error.name in ("agent-hung", "agent-garbage")
        assert processes_of(bench.agents) == []


async def test_a_crash_ends_the_call_with_its_last_words_and_the_next_call_works(bench: Bench) -> None:
    agent = await bench.start()
    error = await refused(bench.call(agent, "exit", code=3))
    assert isinstance(error, Failed) and error.name == "agent-crashed" and error.outcome == "unknown"
    log = Path(error.hint.rpartition(" ")[2])
    assert log.is_file() and log.name == "0.log"
    assert "exit code 3: the last words of a broken program" in error.detail
    assert await bench.call(agent, "echo", again=True) == {"again": True}
    (replica,) = bench.provider.statistics()[agent]
    assert (
        replica.restarts == 1
        and replica.state == "ready"
        and replica.last_error.startswith("agent-crashed: the agent ended with exit code 3")
    )


@pytest.mark.parametrize(("whom", "says"), [("agent", "killed by signal 9"), ("launcher", "killed with its launcher")])
async def test_killed_from_outside(bench: Bench, whom: str, says: str) -> None:
    agent = await bench.start()
    before = processes_of(bench.agents)
    async with trio.open_nursery() as nursery:
        seen: list[MeshError] = []

        async def wait() -> None:
            seen.append(await refused(bench.call(agent, "sleep", seconds=30)))

        nursery.start_soon(wait)
        while not bench.provider.statistics()[agent][0].in_flight:
            await trio.sleep(0.01)
        for pid in before:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() if whom == "launcher" else os.readlink(f"/proc/{pid}/cwd") == str(bench.agents):
                os.kill(pid, signal.SIGKILL)
    assert seen[0].name == "agent-crashed" and says in seen[0].detail, seen[0]
    assert await bench.call(agent, "echo") == {}
    assert not set(before) & set(processes_of(bench.agents))


async def test_it_is_given_up_after_so_many_crashes_and_says_so(bench: Bench) -> None:
    agent = await bench.start()
    for _ in range(limits.MAX_RESTARTS + 1):
        assert (await refused(bench.call(agent, "exit"))).name == "agent-crashed"
    error = await refused(bench.call(agent, "echo"))
    assert error.name == "agent-down" and error.outcome == "not_done" and "given-up" in error.detail
    assert await bench.start() and await bench.call(agent, "echo") == {}  # deploying it again is a new beginning


class TestHealth:
    @pytest.fixture
    def pace(self) -> object:
        return impatient(QUICK)

    async def test_a_stopped_process_is_seen_by_its_silence(self, bench: Bench) -> None:
        agent = await bench.start()
        error = await refused(bench.call(agent, "stop"))
        assert error.name == "agent-hung" and error.outcome == "unknown"
        assert await bench.call(agent, "echo") == {}

    async def test_a_server_that_is_busy_is_not_taken_for_hung(self, bench: Bench) -> None:
        agent = await bench.start("mute-pings")
        assert await bench.call(agent, "sleep", seconds=1) == "slept"


class TestIdleHealth:
    @pytest.fixture
    def pace(self) -> object:
        return replace(impatient(QUICK), busy_timeout_s=10_000)

    async def test_one_that_is_stopped_while_nobody_calls_is_seen_too(self, bench: Bench) -> None:
        agent = await bench.start()
        for pid in processes_of(bench.agents):
            if os.readlink(f"/proc/{pid}/cwd") == str(bench.agents):
                os.kill(pid, signal.SIGSTOP)
        with trio.fail_after(30):
            while not bench.provider.statistics()[agent][0].restarts:
                await trio.sleep(0.02)
        assert bench.provider.statistics()[agent][0].last_error.startswith("agent-hung")
        assert await bench.call(agent, "echo") == {}


async def test_many_calls_at_once_each_get_their_own_answer(bench: Bench) -> None:
    agent = await bench.start(replicas=2)
    with trio.fail_after(20):
        while any(replica.state != "ready" for replica in bench.provider.statistics()[agent]):
            await trio.sleep(0.01)
    answers: dict[int, object] = {}

    async def one(index: int) -> None:
        answers[index] = await bench.call(agent, "echo", index=index)

    async with trio.open_nursery() as nursery:
        for index in range(200):
            nursery.start_soon(one, index)
    assert answers == {index: {"index": index} for index in range(200)}
    assert all(replica.calls > 0 for replica in bench.provider.statistics()[agent])


async def test_cancelling_and_running_out_of_time_reach_the_tool(bench: Bench) -> None:
    agent = await bench.start()
    marker = bench.node / "agents" / agent / "0" / "home" / "cancelled"
    with trio.move_on_after(0.3):
        await bench.call(agent, "sleep", seconds=60)
    with trio.fail_after(10):
        while not marker.exists():
            await trio.sleep(0.01)
    marker.unlink()
    error = await refused(bench.call(agent, "sleep", timeout_s=0.3, seconds=60))
    assert isinstance(error, Unreachable) and error.name == "deadline-exceeded" and error.outcome == "unknown"
    with trio.fail_after(10):
        while not marker.exists():
            await trio.sleep(0.01)
    assert bench.provider.statistics()[agent][0].in_flight == 0


async def test_nonsense_between_messages_is_survived(bench: Bench) -> None:
    agent = await bench.start()
    assert await bench.call(agent, "nonsense") == "after nonsense"
    assert bench.provider.statistics()[agent][0].garbage_lines == 5


async def test_an_answer_that_is_not_utf8_costs_one_call(bench: Bench) -> None:
    agent = await bench.start()
    error = await refused(bench.call(agent, "not_utf8"))
    assert error.name == "agent-garbage" and error.outcome == "unknown"
    assert await bench.call(agent, "echo") == {}
    assert bench.provider.statistics()[agent][0].restarts == 0


async def test_an_answer_too_deep_is_refused(bench: Bench) -> None:
    agent = await bench.start()
    assert (await refused(bench.call(agent, "deep"))).name == "agent-garbage"
    assert await bench.call(agent, "echo") == {}


async def test_64_mib_arrive_and_129_are_refused_while_others_are_served(bench: Bench) -> None:
    agent = await bench.start(resources={"memory": "512Mi"})
    result = await bench.provider.call(CallTool(agent, TaskId("t-1"), "big", cbor.encode({"bytes": 64 << 20}), 60))
    assert len(result.value) == (64 << 20) + 5
    assert (await refused(bench.call(agent, "big", timeout_s=60, bytes=130 << 20))).name == "result-too-large"
    assert await bench.call(agent, "echo") == {} and bench.provider.statistics()[agent][0].restarts == 0


async def test_a_gibibyte_is_refused_without_being_held(bench: Bench) -> None:
    agent = await bench.start()
    before = _resident_bytes()
    peak = 0
    async with trio.open_nursery() as nursery:

        async def look() -> None:
            nonlocal peak
            while True:
                peak = max(peak, _resident_bytes())
                await trio.sleep(0.02)

        nursery.start_soon(look)
        error = await refused(bench.call(agent, "big", timeout_s=120, bytes=1 << 30))
        nursery.cancel_scope.cancel()
    assert error.name == "result-too-large" and error.outcome == "done" and "1024 MiB" in error.detail
    assert peak - before < 2 * limits.MAX_LINE_BYTES
    assert await bench.call(agent, "echo") == {}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class TestEndless:
    @pytest.fixture
    def pace(self) -> object:
        return impatient(QUICK)

    async def test_a_line_without_end_is_seen_as_a_hang_and_others_go_on(self, bench: Bench) -> None:
        agent, other = await bench.start(), await bench.start(name="two")
        async with trio.open_nursery() as nursery:
            ended = trio.Event()

            async def endless() -> None:
                error = await refused(bench.call(agent, "endless", timeout_s=60))
                assert error.name in ("agent-hung", "agent-garbage")
                ended.set()

            nursery.start_soon(endless)
            while not ended.is_set():
                assert await bench.call(other, "echo", timeout_s=20) == {}
                await trio.sleep(0.05)
        assert await bench.call(agent, "echo") == {}


async def test_a_flood_of_messages_is_slowed_down_not_lost(bench: Bench) -> None:
    agent, other = await bench.start(), await bench.start(name="two")
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            error = await refused(bench.call(agent, "flood", timeout_s=1.5))
            assert error.name == "deadline-exceeded"  # 20,000 at 500/s would take 36 s

        nursery.start_soon(flood)
        for _ in range(20):
            assert await bench.call(other, "echo") == {}


async def test_questions_of_the_server_are_answered(bench: Bench) -> None:
    assert await bench.call(await bench.start(), "ask") == "asked"


async def test_stderr_without_end_fills_no_disk(bench: Bench) -> None:
    agent = await bench.start("noisy")
    log = bench.node / "agents" / agent / "0.log"
    with trio.fail_after(60):
        while bench.provider.statistics()[agent][0].log_bytes < 3 * limits.LOG_FILE_BYTES:
            await trio.sleep(0.02)
    assert await bench.call(agent, "echo") == {}
    await bench.provider.stop(agent)
    files = sorted(log.parent.glob("*.log*"))
    assert [file.name for file in files] == ["0.log", "0.log.1"]
    assert all(file.stat().st_size <= limits.LOG_FILE_BYTES and file.stat().st_mode & 0o077 == 0 for file in files)


async def test_a_log_that_the_disk_does_not_take_stops_neither_agent_nor_node(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    log = bench.node / "agents" / "a-one" / "0.log"
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    agent = await bench.start("noisy")
    with trio.fail_after(20):
        while not (told := [record for record in caplog.records if record.message == "agent-log-lost"]):
            await trio.sleep(0.01)
    assert await bench.call(agent, "echo") == {} and "No space left" in told[0].err and len(told) == 1  # type: ignore[attr-defined]
    assert bench.provider.statistics()[agent][0].restarts == 0


async def test_bad_calls_are_refused_before_the_tool_hears_of_them(bench: Bench) -> None:
    agent = await bench.start()
    error = await refused(bench.call(agent, "ecco"))
    assert error.name == "unknown-tool" and isinstance(error, BadInput) and 'did you mean "echo"?' in error.hint
    assert "has no tool 'ecco'; it has " in error.detail and "echo" in error.detail, "what another node's caller sees is the detail"
    for data in (cbor.encode([1]), b"\xff", b"", cbor.encode({"a": float("inf")}), cbor.encode({"a": [{"b": b"bytes"}]})):
        error = await refused(bench.provider.call(CallTool(agent, TaskId("t-1"), "echo", data, 5)))
        assert error.name in ("bad-arguments", "bad-encoding") and error.outcome == "not_done"
    assert (await refused(bench.call(AgentId("a-nobody"), "echo"))).name == "agent-not-here"


async def test_a_file_sent_along_is_a_path_while_the_call_runs(bench: Bench) -> None:
    agent = await bench.start()
    said = await bench.call(agent, "read", path=b"what the file says")
    assert said == "read: what the file says"
    seen = await bench.call(agent, "echo", notes={"filename": "../../etc/pass wd.txt", "content": b"x"}, more=1)
    assert isinstance(seen, dict) and seen["notes"].endswith("/inbox/t-1/0-pass_wd.txt") and seen["more"] == 1
    assert list((bench.node / "agents" / agent / "0" / "inbox").iterdir()) == []


async def test_deploying_again_replaces_what_runs_and_a_bad_one_does_not(bench: Bench) -> None:
    agent = await bench.start()
    before = set(processes_of(bench.agents))
    assert len(before) >= 2
    assert (await refused(bench.provider.start(bench.spec("crash")))).name == "agent-crashed"
    assert await bench.call(agent, "echo") == {} and set(processes_of(bench.agents)) == before
    await bench.start()
    assert await bench.call(agent, "echo") == {} and not before & set(processes_of(bench.agents))


async def test_after_a_restart_of_the_node_it_is_tried_again_without_waiting(bench: Bench) -> None:
    assert await bench.provider.start(bench.spec("sleepy-start"), must_start=False) == ()
    assert await bench.call(AgentId("a-one"), "echo") == {}
    assert len(bench.provider.tools(AgentId("a-one"))) > 5


async def test_a_stop_is_clean_and_one_that_ignores_it_is_killed(bench: Bench) -> None:
    agent = await bench.start("stubborn")
    assert processes_of(bench.agents)
    await bench.provider.stop(agent)
    assert processes_of(bench.agents) == []
    await bench.provider.stop(agent)  # twice is no error
    began = time.monotonic()
    agent = await bench.start("good")
    await bench.provider.stop(agent)
    assert processes_of(bench.agents) == [] and began > 0
