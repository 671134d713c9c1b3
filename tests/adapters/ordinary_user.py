"""A provider in a process of its own: tries what an agent may not do, as whoever runs this; prints what it was told as JSON."""

import atexit
import json
import os
import shutil
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import trio

from meshos import cbor
from meshos.adapters.onprem import sandbox
from meshos.adapters.onprem.process import Grace
from meshos.adapters.onprem.provider import AgentSpec, OnPremConfig, OnPremProvider
from meshos.adapters.onprem.supervisor import Pace
from meshos.errors import MeshError
from meshos.ids import AgentId, TaskId
from meshos.protocols.tasks.agent_file import parse_mapping
from meshos.protocols.tasks.ports import CallTool


def left(top: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes() + os.fsencode(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if str(top).encode() in words:
                found.append(entry.name)
    return found


def session_bus() -> str:
    """A socket of the user's, as open as a session bus is to whoever has the user's uid."""
    folder = tempfile.mkdtemp(prefix="bus-")
    listener = socket.socket(socket.AF_UNIX)
    atexit.register(lambda: [listener.close(), shutil.rmtree(folder)])
    os.chmod(folder, 0o755)
    listener.bind(f"{folder}/bus")
    os.chmod(f"{folder}/bus", 0o777)
    listener.listen()
    return f"{folder}/bus"


async def main(node: Path, agents: Path, mode: str) -> None:
    pace = Pace(grace=Grace(1, 1, 5), backoff_first_s=0.05)
    provider = OnPremProvider(OnPremConfig(node / "agents", hidden=(node,), pace=pace))
    command = ["python", "hostile.py", "stubborn"]  # it stays when its input ends and ignores SIGTERM
    file = parse_mapping({"name": "one", "description": "d", "runtime": {"mcp": {"command": command}}})
    agent = AgentId("a-one")
    said: dict[str, object] = {}

    async def call(tool: str, **arguments: object) -> object:
        result = await provider.call(CallTool(agent, TaskId("t-1"), tool, cbor.encode(arguments), 20))
        value = cbor.decode(result.value, max_bytes=1 << 20)
        return value["value"] if isinstance(value, dict) else value

    async with trio.open_nursery() as nursery:
        await nursery.start(provider.run)
        if mode == "namespaces":
            host = await sandbox.probe(Path("/"))
            provider._host = replace(host, layers=tuple(layer for layer in host.layers if "namespace" not in layer))
        said["layers"] = provider.layers()
        await provider.start(AgentSpec(agent, file, agents, {}))
        if mode == "wait":
            await call("fork", code="time.sleep(600)")
            print("ready", flush=True)
            await trio.sleep_forever()
        said["echo"] = await call("echo", a=1)
        said["key"] = await call("read", path=str(node / "key"))
        said["home"] = await call("write", path=str(node / "agents/a-one/0/home/x"))
        said["folder"] = await call("write", path=str(agents / "x"))
        said["environ"] = await call("read", path=f"/proc/{os.getpid()}/environ")
        said["sockets"] = await call("sockets", path=session_bus())
        said["kill"] = await call("kill", pid=os.getpid())
        await call("fork", code="time.sleep(600)")
        said["left_while_it_runs"] = left(agents.parent)
        await provider.stop(agent)
        said["left_after_stop"] = left(agents.parent)
        await provider.start(AgentSpec(agent, file, agents, {}))
        await call("fork", code="time.sleep(600)", keep_pipes=True)
        try:
            await call("exit")
        except MeshError as error:
            said["crash"] = error.name
        await provider.stop(agent)
        said["left_after_crash"] = left(agents.parent)
        nursery.cancel_scope.cancel()
    print(json.dumps(said))


trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
