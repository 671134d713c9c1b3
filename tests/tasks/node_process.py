"""A program with one real node's task parts (trio, rpc, LevelDB, Ed25519): it calls its own agent with key after key until it is killed.

    python node_process.py FOLDER FIRST [LAST]

Tools write a line into FOLDER/ran each time they run. Each result is printed once its call has ended. With LAST it ends by itself.
"""

import os
import random
import secrets
import sys
import time
from functools import partial
from pathlib import Path

import trio

from meshos import cbor
from meshos.consensus.org.commands import DeployAgent, GetAgent, Tool
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.signing import Ed25519Verifier, sign
from meshos.effects import Machine, Sign
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.flow_machine import Flows, Service
from meshos.ids import AgentId, OrgDid, Peer, TaskId
from meshos.node.runtime.host import Host, PortHandler
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.tasks import outbox, receipt, wire
from meshos.protocols.tasks.call import CallRequest, Calls, TaskResult
from meshos.protocols.tasks.payments import OwedOnly
from meshos.protocols.tasks.ports import CallTool, SignBytes, ToolResult
from meshos.protocols.tasks.serve import TaskServices
from meshos.storage.level import LevelStore
from meshos.storage.overlay import Overlay
from tests.org.lone import found, org_machine

ORG = OrgDid("did:mesh:enterprise:acme")
AGENT = AgentId("a-0123456789abcdef")
GENESIS = b"g" * 32


class TaskNode:
    """The parts of a node that tasks need, over the folder ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        seed = folder / "seed"
        if not seed.exists():
            seed.write_bytes(SigningKey.generate().seed())
        self.key = SigningKey(seed.read_bytes())
        self.me = Peer(node_id(self.key.public), ORG)
        self.store = LevelStore(folder / "db")
        store = self.store.prefixed("org")
        overlay = Overlay(store)
        verifier = Ed25519Verifier()
        found(store, self.me)
        self.org = org = org_machine(overlay, self.me, now=trio.current_time(), wall_ms=time.time_ns() // 1_000_000)
        self.services = TaskServices(self.me, office=org, genesis_hash=GENESIS, verifier=verifier, payments=OwedOnly())
        calls = Calls(self.me, genesis_hash=GENESIS, verifier=verifier, org_of=lambda node: ORG if node == self.me.node else None)
        flows: dict[str, Service] = {
            wire.TASK: self.services.task,
            receipt.PROTOCOL: self.services.receipt,
            "recover": self.services.recover,
            "deliver": outbox.Delivery(lambda _: (), pays=False).deliver,
            "call": calls.call,
            "propose": _propose,
        }
        allowed = dict.fromkeys((wire.TASK, receipt.PROTOCOL), lambda peer: True)
        machines: dict[str, Machine] = {
            "flows": Flows(flows, limit=1000),
            "rpc": Rpc(self.me, allowed, random.Random(secrets.randbits(64))),
            "org": org,
            "receipts": outbox.ReceiptOutbox(),
        }
        ports: dict[type, PortHandler] = {CallTool: self._call_tool, SignBytes: self._sign}
        self.host = Host(machines, stores={"org": (store, overlay)}, handlers={}, ports=ports, sign=_never)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve: recover first, then be ready."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.host.run)
            while self.org.lead is None:  # alone it leads at once, and that takes a sync
                await trio.sleep(0.005)
            await self.host.flow("recover", None, timeout_s=60)
            nursery.start_soon(partial(self.host.flow, "deliver", None, timeout_s=float("inf")))
            try:
                await self.host.flow("propose", GetAgent(AGENT), timeout_s=5)
            except Refused:
                tools = (Tool("read", True), Tool("pay", False))
                await self.host.flow(
                    "propose", DeployAgent(AGENT, "Demo", 1, b"", "/", b"", tools, 5, "test", self.me.node, 0), timeout_s=5
                )
            task_status.started()

    async def call(self, tool: str, key: str, arguments: bytes) -> TaskResult:
        """Call this node's own agent."""
        task = TaskId(f"t-{secrets.token_hex(16)}")
        request = CallRequest(task, AGENT, (self.me.node,), ORG, tool, arguments, 30.0, key)
        result = await self.host.flow("call", request, timeout_s=32)
        assert isinstance(result, TaskResult)
        return result

    async def _call_tool(self, call: CallTool) -> ToolResult:
        value = cbor.decode(call.arguments, max_bytes=1000)
        assert isinstance(value, dict)
        with (self.folder / "ran").open("a") as ran:
            ran.write(f"{value['n']!r}\n")
        return ToolResult(call.arguments, False, "replica-0")

    async def _sign(self, effect: SignBytes) -> bytes:
        return sign(self.key, effect.domain, effect.payload)


async def _never(sign: Sign) -> bytes:
    raise AssertionError("no machine signs here")


async def _propose(command: object) -> object:
    return await Propose[object](command)


def tool_of(number: int) -> str:
    """Every other call is one that may run again."""
    return "read" if number % 2 else "pay"


async def main(folder: Path, first: int, last: int | None) -> None:
    """Call for ever, or up to ``last``."""
    node = TaskNode(folder)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        number = first
        while last is None or number <= last:
            result = await node.call(tool_of(number), f"key {number}", cbor.encode({"n": number}))
            os.write(1, f"{number} {result.status} {(result.result or b'').hex()}\n".encode())
            number += 1
        nursery.cancel_scope.cancel()
    node.store.close()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
