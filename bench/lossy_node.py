"""One process of ``mesh bench lossy``: a node with the product's host, rpc and links, at one end of a cable (slow_cable.py).

    python -m meshos.bench.lossy_node FOLDER NUMBER PATHS

PATHS is ``tcp,quic`` or one of them. Number 1 answers; number 0 takes one line after another and answers each by a line of JSON:
``echo N`` (milliseconds of N calls, one after another), ``pull MIB`` (seconds until so much has come), ``paths`` as they are now.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import trio

from meshos.bench.paths_node import BODY, Node
from meshos.bench.raft_node import Members
from meshos.bench.services import BIG, ECHO
from meshos.bench.slow_cable import ADDRESSES
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.tcp import TcpPath

KINDS = {"tcp": TcpPath, "quic": QuicPath}
PULL_S = 300.0


async def _times(node: Node, count: int) -> list[float]:
    taken: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await node.ask(ECHO, BODY)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


async def _pull_s(node: Node, mib: int) -> float:
    began = time.perf_counter()
    await node.ask(BIG, str(mib << 20).encode(), PULL_S)
    return time.perf_counter() - began


async def _serve(folder: Path, number: int, kinds: str) -> None:
    node = Node(Members.load(folder), number, ADDRESSES, [KINDS[kind] for kind in kinds.split(",")])
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        print("ready", flush=True)
        async for line in trio.wrap_file(sys.stdin):
            found: object = [asdict(path) for path in node.paths()]
            match line.split():
                case ["echo", count]:
                    found = await _times(node, int(count))
                case ["pull", mib]:
                    found = await _pull_s(node, int(mib))
            print(json.dumps(found), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_serve, Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
