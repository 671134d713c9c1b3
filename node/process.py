"""One node as a process: from its folder until it has left.

Order of starting: what can be refused is looked at first (configuration, keys, genesis, certificate, the folder's lock, the ports),
then machines, then ports, then the world is told (``Started``). Order of leaving: goodbye to the mesh, then no new requests, then
links, then agents, then the disk. A second signal ends the process at once.
"""

import gc
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import trio

from meshos.errors import MeshError, first_of
from meshos.node.compose import Node, Ready
from meshos.node.config import NodeConfig, load
from meshos.node.opening import open_folder
from meshos.node.runtime import logs
from meshos.node.terminal import mute
from meshos.storage.level import LevelStore


def run(directory: Path, ready: Callable[[Ready], None]) -> int:
    """Run the node in ``directory`` until it has left, and call ``ready`` once when it serves; the exit code.

    Raises MeshError for whatever keeps it from running.
    """
    config = load(directory)
    logs.set_up(config.name)
    _raise_file_limit()
    try:
        return trio.run(_run, config, ready, strict_exception_groups=True)
    except BaseExceptionGroup as group:
        known = group.subgroup(MeshError)
        unknown = group.split(MeshError)[1]
        if unknown is not None or known is None:
            raise
        raise first_of(known) from group


def _raise_file_limit() -> None:
    """As many file descriptors as this user may have: links, the API, agents and LevelDB share them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: NodeConfig, ready: Callable[[Ready], None]) -> int:
    in_terminal = os.isatty(0)  # before anything can close it
    opened = await open_folder(config)
    with ExitStack() as stack:
        level = LevelStore(config.data)
        stack.callback(level.close)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                node = Node(opened, level, nursery)
                if node.recording is not None:
                    stack.callback(node.recording.close)
                await node.start()
                ready(node.facts_of_start())
                gc.collect()
                gc.freeze()  # a full collection over what lives for ever would stop the loop for 100 ms (DESIGN.md)
                await _until_asked_to_leave(signals, node, in_terminal=in_terminal)
                print("leaving, again to force", file=sys.stderr, flush=True)
                nursery.start_soon(_force, signals)
                await node.leave()
                nursery.cancel_scope.cancel()
    print("left", file=sys.stderr, flush=True)
    return 0


async def _until_asked_to_leave(signals: AsyncIterator[int], node: Node, *, in_terminal: bool) -> None:
    """SIGHUP: read the revocation lists again; where it means that the terminal has gone, leave with it."""
    async for number in signals:
        if number != signal.SIGHUP:
            return
        if in_terminal and not os.isatty(0):
            mute()
            return
        await node.trusting.reload()


async def _force(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            os._exit(130)
