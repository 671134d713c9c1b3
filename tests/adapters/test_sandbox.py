"""What an agent cannot do, whoever runs the node, and that nothing of it is left when it ends."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from meshos.adapters.onprem import sandbox, seccomp
from meshos.adapters.onprem.kernel import landlock_abi
from meshos.errors import BadInput, Refused
from meshos.ids import AgentId
from meshos.protocols.tasks.agent_file import Resources

from .conftest import Bench, processes_of

HERE = Path(__file__).resolve().parent
ROOT = os.geteuid() == 0
SOCKETS = {
    "unix": f"refused {errno.EAFNOSUPPORT}",
    "stream pair": "pair: x",
    "datagram pair": f"refused {errno.EAFNOSUPPORT}",
    "inet": "inet: None",
    "vsock": f"refused {errno.EAFNOSUPPORT}",
}
SLEEPER = "print('x', flush=True); time.sleep(600)"


async def test_it_cannot_read_the_nodes_key(bench: Bench) -> None:
    agent = await bench.start()
    assert (bench.node / "key").read_text() == "the node's private key"
    for path in (bench.node / "key", bench.node, bench.node / "agents" / agent / "0.log"):
        said = await bench.call(agent, "read", path=str(path))
        assert "private key" not in str(said)
        assert str(said).startswith("refused") or said in ("read: []", "read: ['agents']"), said


async def test_a_nodes_folder_is_hidden_even_where_its_modes_are_open(bench: Bench) -> None:
    bench.node.chmod(0o755)
    (bench.node / "key").chmod(0o644)
    agent = await bench.start()
    assert "private key" not in str(await bench.call(agent, "read", path=str(bench.node / "key")))
    assert "key" not in str(await bench.call(agent, "read", path=str(bench.node)))


async def test_it_cannot_look_into_the_node_or_signal_it(bench: Bench) -> None:
    agent = await bench.start()
    assert str(await bench.call(agent, "read", path=f"/proc/{os.getpid()}/environ")).startswith("refused")
    assert str(await bench.call(agent, "kill", pid=os.getpid())).startswith("refused")
    assert str(await bench.call(agent, "kill", pid=processes_of(bench.agents)[0])).startswith("refused")


async def test_it_writes_into_its_private_folder_only(bench: Bench) -> None:
    agent = await bench.start()
    private = bench.node / "agents" / agent / "0"
    assert await bench.call(agent, "write", path=str(private / "home" / "note")) == "wrote: 1"
    for path in (
        bench.agents / "x",
        bench.agents / "hostile.py",
        private / "inbox" / "x",
        private / "x",
        Path("/tmp/x-of-an-agent"),
        Path("/var/tmp/x"),
    ):
        assert str(await bench.call(agent, "write", path=str(path))).startswith("refused"), path
        assert path.name == "hostile.py" or not path.exists()


async def test_two_agents_do_not_see_each_others_private_folders(bench: Bench) -> None:
    one, two = await bench.start(), await bench.start(name="two")
    note = bench.node / "agents" / one / "0" / "home" / "note"
    await bench.call(one, "write", path=str(note))
    assert str(await bench.call(one, "read", path=str(note))) == "read: x"
    assert str(await bench.call(two, "read", path=str(note))).startswith("refused")


async def test_its_environment_is_clean(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of whoever started the node")
    agent = await bench.start()
    env = await bench.call(agent, "env")
    assert isinstance(env, dict) and env["MESH_API_KEY"] == "secret" and env["MESH_NODE"] == "http://127.0.0.1:1"
    given = {"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "USER", "LOGNAME", "LANG", "PYTHONDONTWRITEBYTECODE", "MESH_NODE", "MESH_API_KEY"}
    assert env.keys() - given <= {"LC_CTYPE"}  # Python's own, PEP 538


async def test_who_it_is(bench: Bench) -> None:
    agent = await bench.start()
    who = await bench.call(agent, "who")
    assert isinstance(who, dict)
    assert who["NoNewPrivs"] == "1" and int(str(who["CapEff"]), 16) == 0 and int(str(who["CapPrm"]), 16) == 0
    assert who["cwd"] == str(bench.agents)
    if ROOT:
        assert who["uid"] == sandbox.agent_uid(agent) and who["groups"] == []
    assert set(sandbox.ALWAYS) <= set(bench.provider.layers())
    assert bench.provider.statistics()[agent][0].layers == tuple(bench.provider.layers())


@pytest.mark.skipif(os.uname().machine not in seccomp.MACHINES, reason="no filter for this architecture")
async def test_it_opens_no_unix_socket_and_no_door_into_the_kernel(bench: Bench) -> None:
    agent = await bench.start()
    assert await bench.call(agent, "sockets", path="/nonexistent") == SOCKETS
    for number in seccomp.MACHINES[os.uname().machine].denied:
        assert await bench.call(agent, "syscall", words=[number, 0, 0, 0, 0, 0, 0]) == f"refused {errno.EPERM}", number
    who = await bench.call(agent, "who")
    assert isinstance(who, dict) and who["Seccomp"] == "2"


async def test_no_secret_stands_in_a_command_line(bench: Bench) -> None:
    await bench.start()
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(bench.agents)]
    assert len(lines) >= 2 and not any(b"secret" in line for line in lines)


async def test_its_memory_is_bounded(bench: Bench) -> None:
    agent = await bench.start(resources={"memory": "200Mi"})
    assert await bench.call(agent, "eat", bytes=400 << 20) == "MemoryError"
    assert await bench.call(agent, "eat", bytes=20 << 20) == 20 << 20


@pytest.mark.parametrize("keep_pipes", [False, True])
async def test_a_grandchild_in_its_own_session_ends_with_the_agent(bench: Bench, keep_pipes: bool) -> None:
    agent = await bench.start()
    before = len(processes_of(bench.agents))
    await bench.call(agent, "fork", code=SLEEPER, keep_pipes=keep_pipes)
    assert len(processes_of(bench.agents)) > before
    await bench.provider.stop(agent)
    assert processes_of(bench.agents) == []


async def test_a_crash_is_seen_at_once_though_a_grandchild_holds_its_pipes(bench: Bench) -> None:
    agent = await bench.start()
    await bench.call(agent, "fork", code="time.sleep(600)", keep_pipes=True)
    with pytest.raises(Exception, match="agent-crashed"):
        await bench.call(agent, "exit", timeout_s=10)
    assert await bench.call(agent, "echo") == {}
    await bench.provider.stop(agent)
    assert processes_of(bench.agents) == []


async def test_the_agents_folder_may_not_lie_in_a_nodes(bench: Bench) -> None:
    inside = bench.node / "agents" / "x"
    inside.mkdir(parents=True)
    shutil.copy(HERE / "hostile.py", inside)
    spec = bench.spec()
    with pytest.raises(BadInput, match="bad-runtime"):
        await bench.provider.start(type(spec)(spec.agent, spec.file, inside, {}))


async def test_an_agents_folder_around_the_nodes_shows_all_but_the_nodes(bench: Bench) -> None:
    top = bench.agents.parent
    shutil.copy(bench.agents / "hostile.py", top)
    (top / "hostile.py").chmod(0o644)
    spec = bench.spec()
    await bench.provider.start(type(spec)(spec.agent, spec.file, top, {}))
    assert "hostile.py" in str(await bench.call(spec.agent, "read", path=str(top)))
    assert "private key" not in str(await bench.call(spec.agent, "read", path=str(bench.node / "key")))


# -- other machines, other users -------------------------------------------------------------------------------------


def _python_for_everybody() -> str | None:
    """An interpreter of this version that a stranger may run."""
    for path in (Path(sys.executable), Path(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")):
        real = path.resolve()
        if path.exists() and all(parent.stat().st_mode & 0o001 for parent in (*path.parents, *real.parents)):
            return str(path)
    return None


@pytest.fixture
def open_folders() -> Iterator[tuple[Path, Path]]:
    """As ``folders``, owned by nobody."""
    import tempfile

    top = Path(tempfile.mkdtemp(prefix="agents-"))
    top.chmod(0o755)
    node, agents = top / "node", top / "agent-folder"
    for path in (node, agents):
        path.mkdir(mode=0o755)
    node.chmod(0o700)
    (node / "key").write_text("the node's private key")
    shutil.copy(HERE / "hostile.py", agents)
    (agents / "hostile.py").chmod(0o644)
    if ROOT:
        for path in (node, node / "key"):
            os.chown(path, 65534, 65534)
    yield node, agents
    shutil.rmtree(top, ignore_errors=True)


def _as_ordinary_user(folders: tuple[Path, Path], without: str) -> dict[str, object]:
    python = _python_for_everybody() if ROOT else sys.executable
    if python is None:
        pytest.skip("no interpreter of this version that another user may run")
    import meshos

    packages = [str(Path(meshos.__file__).resolve().parent.parent), *(path for path in sys.path if path.endswith("site-packages"))]
    done = subprocess.run(
        [python, str(HERE / "ordinary_user.py"), *map(str, folders), without],
        env={"PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"},
        cwd="/",
        capture_output=True,
        timeout=100,
        **({"user": 65534, "group": 65534, "extra_groups": []} if ROOT else {}),  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr[-3000:].decode()
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("without", ["nothing", "namespaces"])
def test_an_ordinary_users_node_holds_the_same(open_folders: tuple[Path, Path], without: str) -> None:
    said = _as_ordinary_user(open_folders, without)
    layers = said["layers"]
    assert isinstance(layers, list) and "own-uid" not in layers
    assert said["echo"] == {"a": 1}
    assert said["home"] == "wrote: 1"
    assert str(said["folder"]).startswith("refused")
    if "landlock" in layers or "mount-namespace" in layers:
        assert "private key" not in str(said["key"])
    if landlock_abi() >= 6 or "pid-namespace" in layers:
        assert str(said["kill"]).startswith("refused")
    if "landlock" in layers or "pid-namespace" in layers:
        assert str(said["environ"]).startswith("refused")
    if "seccomp" in layers:
        assert said["sockets"] == SOCKETS
    assert said["left_while_it_runs"] and not said["left_after_stop"] and not said["left_after_crash"]


def test_what_an_agent_with_the_users_own_uid_may_read(open_folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    node, agents = open_folders
    home = node.parent / "home"
    for name in (".ssh", ".config", "project", "closed"):
        (home / name).mkdir(parents=True, mode=0o755)
    (home / "closed").chmod(0o700)
    monkeypatch.setenv("HOME", str(home))
    readable = sandbox.readable_roots((node,))
    assert "/usr" in readable and str(agents) in readable and str(home / "project") in readable
    for path in (node, node / "key", home / ".ssh", home / ".config", home / "closed"):
        assert [root for root in readable if path.is_relative_to(root)] == []
    home.chmod(0o700)
    assert [root for root in sandbox.readable_roots((node,)) if Path(root).is_relative_to(home)] == []


@pytest.mark.skipif(not ROOT, reason="only root gives agents another uid")
async def test_root_without_a_mount_namespace_says_which_folder_is_closed(folders: tuple[Path, Path]) -> None:
    node, agents = folders
    host = sandbox.Host(True, ("own-uid", "landlock"), landlock_abi())
    private = node / "agents" / "a-one" / "0"

    def plan(command: str) -> sandbox.Plan:
        return sandbox.make_plan(
            host, AgentId("a-one"), (command,), {}, folder=agents, private=private, hidden=(node,), resources=Resources()
        )

    with pytest.raises(Refused, match="sandbox-too-weak") as caught:
        plan("/bin/sh")
    assert str(node) in caught.value.hint
    node.chmod(0o711)
    readable = plan("/bin/sh").readable
    assert str(agents) in readable and [path for path in readable if node.is_relative_to(path)] == []
    with pytest.raises(Refused, match="sandbox-too-weak"):
        sandbox.make_plan(
            sandbox.Host(True, ("landlock",), 7),
            AgentId("a"),
            ("sh",),
            {},
            folder=agents,
            private=private,
            hidden=(),
            resources=Resources(),
        )


async def test_a_node_that_is_killed_takes_its_agents_with_it(folders: tuple[Path, Path]) -> None:
    node, agents = folders
    async with trio.open_nursery() as nursery:
        command = [sys.executable, str(HERE / "ordinary_user.py"), str(node), str(agents), "wait"]
        env = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HOME": "/nonexistent"}
        process = await nursery.start(
            lambda task_status: trio.run_process(
                command, env=env, check=False, capture_stdout=False, stdout=subprocess.PIPE, task_status=task_status
            )
        )
        with trio.fail_after(30):
            assert b"ready" in await process.stdout.receive_some()
        assert len(processes_of(agents)) >= 3
        process.send_signal(signal.SIGKILL)
        with trio.fail_after(10):
            while processes_of(agents):
                await trio.sleep(0.01)
