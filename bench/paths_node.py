"""One process of ``mesh bench paths``: a node with the product's host, rpc and links, on TCP and QUIC, in a network namespace.

    python -m meshos.bench.paths_node FOLDER NUMBER

Number 1 answers. Number 0 calls it RATE times a second from its start on, whether the calls before have been answered or not, without
retries. It takes one word a line and answers each by a line of JSON: ``calls`` since it was asked last, and ``paths`` as they are now.
"""

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from meshos.bench.namespaces import ADDRESSES
from meshos.bench.raft_node import MESH, ORG, Members
from meshos.bench.services import ASKING, BIG, ECHO, SERVICES, anybody, no_signature
from meshos.effects import Machine
from meshos.errors import MeshError
from meshos.flow import Ask
from meshos.flow_machine import Flows
from meshos.ids import NodeId, Peer
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.tcp import TcpPath
from meshos.protocols.rpc.events import OpenLink, SendMessage
from meshos.protocols.rpc.limits import STALL_MIN_S
from meshos.protocols.rpc.machine import Rpc

BODY = bytes(200)
PORT = 7700
RATE = 200
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    """Times are those of the machine's monotonic clock; ``error`` is a name, empty where it was answered."""

    asked: float
    ended: float
    error: str


@dataclass(frozen=True, slots=True)
class PathState:
    """``well``: it has answered all that was sent on it, or is not late yet. ``why`` it carries, empty where it does not."""

    path: str
    why: str
    well: bool
    rtt_s: float | None
    loss: float
    rate: float


class Node:
    """A host with rpc, flows and links on the paths of these kinds. It echoes (ECHO), and gives as many bytes as it is asked for (BIG)."""

    def __init__(
        self,
        members: Members,
        number: int,
        addresses: Sequence[str] = ADDRESSES,
        kinds: Sequence[type[TcpPath] | type[QuicPath]] = (TcpPath, QuicPath),
    ) -> None:
        self.me, self.other = Peer(members.node(number), ORG), members.node(1 - number)
        self._addresses = {members.node(each): (address, PORT) for each, address in enumerate(addresses)}
        credentials = members.credentials(number)
        paths = [kind(credentials, addresses[number], PORT, self._address_of) for kind in kinds]
        self.links = Links(self.me, MESH, paths, self._deliver, lambda act: self.host.at_turn_end(act))
        self.rpc = Rpc(self.me, dict.fromkeys((ECHO, BIG), anybody), random.SystemRandom())
        machines: dict[str, Machine] = {"rpc": self.rpc, "flows": Flows(SERVICES, limit=8192)}
        self.host = Host(
            machines,
            stores={},
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message},
            ports={},
            sign=no_signature,
        )

    async def ask(self, protocol: str, body: bytes, timeout_s: float = TIMEOUT_S) -> None:
        """One question to the other one, without another try; raises MeshError."""
        await self.host.flow(ASKING, Ask(self.other, protocol, body, timeout_s), timeout_s=2 * timeout_s)

    def _address_of(self, node: NodeId) -> tuple[str, int] | None:
        return self._addresses.get(node)

    def _deliver(self, events: Sequence[object]) -> bool:
        self.host.deliver_all([("rpc", event) for event in events])
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.host.run)
            await nursery.start(self.links.run)
            task_status.started()

    def paths(self) -> list[PathState]:
        """Of the main connections."""
        peer, now = self.links.peer(self.other), trio.current_time()
        states = {state.path: state for state in self.links.states() if state.lanes != ("bulk",)}
        if peer is None:
            return []
        found = []
        for name, channel in peer.mains.items():
            state, late = states[name], channel.waits_since is not None and now - channel.waits_since > STALL_MIN_S / 2
            found.append(PathState(name, state.why, not late and state.rtt_s is not None, state.rtt_s, state.loss, state.rate))
        return found


class Caller:
    """Calls at a steady rate, and remembers what became of each."""

    def __init__(self, node: Node) -> None:
        self.ended: list[Call] = []
        self._node = node

    async def run(self) -> None:
        """Until cancelled."""
        at = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._call)
                at += 1 / RATE
                await trio.sleep_until(at)

    async def _call(self) -> None:
        asked, error = time.monotonic(), ""
        try:
            await self._node.ask(ECHO, BODY)
        except MeshError as failure:
            error = failure.name
        self.ended.append(Call(asked, time.monotonic(), error))


async def _serve(folder: Path, number: int) -> None:
    node = Node(Members.load(folder), number)
    caller = Caller(node)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        if number == 0:
            nursery.start_soon(caller.run)
        print("ready", flush=True)
        async for line in trio.wrap_file(sys.stdin):
            found: list[Call] | list[PathState] = node.paths()
            if line.strip() == "calls":
                found, caller.ended = caller.ended, []
            print(json.dumps([asdict(each) for each in found]), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_serve, Path(sys.argv[1]), int(sys.argv[2]))
