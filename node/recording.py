"""What of a running node is recorded: its machines, what they were built with, and where it lies in its folder.

The recording holds what peers and users have said to the node, as its database does, and is readable by its owner alone. It never holds a
private key, a passphrase, an API key or an invitation: none of them is ever given to a machine.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import trio

from meshos.consensus.ledger.nodes import KEPT
from meshos.effects import Machine
from meshos.node.config import NodeConfig
from meshos.node.given import Given
from meshos.node.kernel.core import Core
from meshos.node.runtime.recorder.recorder import Recorder
from meshos.node.runtime.recorder.ring import Ring
from meshos.storage.store import LiveView, View

logger = logging.getLogger("meshos.recorder")

FOLDER = "recorder"
LEFT_OUT = ("flows",)
"""Machines that are not recorded (recorder.py says why)."""


class Recording:
    """The recorder of this process, begun. ``now`` and ``wall_ms`` are the clocks with which the machines are to be built."""

    def __init__(self, folder: Path, given: Given, software: str) -> None:
        self._ring = Ring(folder)
        self._recorder = Recorder(self._ring, given=given, node=given.certified.node, software=software, left_out=LEFT_OUT)
        self.now, self.wall_ms = trio.current_time(), int(time.time() * 1000)
        self.random = self._recorder.random
        self.observe = self._recorder.observe
        KEPT.spares_reads = False

    def views(self, views: Mapping[str, View]) -> Mapping[str, LiveView]:
        """What the machines are to read from."""
        return {name: self._recorder.view(name, view) for name, view in views.items()}

    def begin(self, machines: Mapping[str, Machine], core: Core) -> None:
        """The machines are built; ``core`` drives them."""
        self._recorder.begin(machines, core, self.now, self.wall_ms)

    def statistics(self) -> dict[str, float]:
        """For metrics."""
        return {**self._recorder.statistics(), **self._ring.statistics()}

    def close(self) -> None:
        """Write down what waits."""
        self._ring.close()


def start(config: NodeConfig, given: Given, software: str) -> Recording | None:
    """The recording of a node that wants one. A folder that cannot be written is told in the log, and stops nobody."""
    if not config.recorder:
        return None
    try:
        return Recording(config.dir / FOLDER, given, software)
    except OSError as error:
        logger.warning("not-recorded", extra={"err": error.strerror or str(error)})
        return None
