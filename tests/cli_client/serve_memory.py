"""A process with the memory node behind a real API; prints its address and its admin key, and ends with its stdin."""

import sys

import trio

from meshos.node.api.app import build
from meshos.node.api.keys import KeyRing
from meshos.node.api.server import Listen, serve
from tests.api.memory_node import MemoryNode


async def main() -> None:
    async with trio.open_nursery() as nursery:
        node, ring = MemoryNode(nursery=nursery), KeyRing()
        node.cells_missing = int("--partial" in sys.argv)
        key = ring.mint("test", "admin", budget_micro=50_000_000)
        url = await nursery.start(lambda task_status: serve(build(node, ring), Listen(), task_status=task_status))
        print(url, key, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


trio.run(main)
