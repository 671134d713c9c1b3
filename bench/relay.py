"""A call through a member that relays, beside a direct one: the same echo, in turns, in one process with all ends.

Direct: two nodes. Relayed: two nodes with a wall between them and a third that both are linked to. All five run on one loop, and a call
is one thing after the other in either case, so what is compared is work: what a relay adds is its own two connections, and a second
sealing at both ends.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from meshos.bench.link_pair import BODY, Echo
from meshos.bench.report import Report, Row
from meshos.bench.services import ASKING, BIG, ECHO, SERVICES, anybody, no_signature
from meshos.crypto.certificates import Trust, issue, new_root
from meshos.crypto.keys import SigningKey, node_id
from meshos.flow import Ask
from meshos.flow_machine import Flows
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.relaying import Relaying
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.relay.events import MACHINE
from meshos.protocols.relay.limits import MOST_BYTES_PER_S
from meshos.protocols.relay.machine import Relay
from meshos.protocols.relay.policy import Policy
from meshos.protocols.relay.wire import CAST
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.events import OpenLink, SendMessage
from meshos.protocols.rpc.limits import MIB
from meshos.protocols.rpc.machine import Rpc

TO_DIRECT = 3.0
"""The most that the median through a relay may be, in medians of a direct call."""
DIRECT, RELAYED = "direct", "through a relay"
COLD = 10
"""First calls, each over a link of its own."""
FAST = Policy(bytes_per_s=MOST_BYTES_PER_S, punch=False)


@dataclass(slots=True)
class _World:
    """Whose members they are, where everybody is, and who cannot get there."""

    root: SigningKey
    org: OrgDid
    ports: dict[NodeId, int] = field(default_factory=dict)
    walls: set[frozenset[NodeId]] = field(default_factory=set)


class _Node:
    def __init__(self, world: _World, credentials: Credentials) -> None:
        self.id = node_id(credentials.key.public)
        self._world = world
        peer, rng = Peer(self.id, world.org), random.SystemRandom()
        rpc = Rpc(peer, dict.fromkeys((ECHO, BIG), anybody), rng, listeners={CAST: Listener(MACHINE, anybody)})
        self.path = TcpPath(credentials, "127.0.0.1", 0, self._address_of)
        relaying = Relaying(credentials, peer, [self.path], FAST)
        self.links = Links(peer, credentials.mesh, [self.path, relaying.path], self._deliver, lambda act: self.host.at_turn_end(act))
        relaying.attach(self.links)
        self.host = Host(
            {
                "rpc": rpc,
                "flows": Flows(SERVICES, limit=1_000),
                MACHINE: Relay(peer, FAST, rpc.peer_of, rng),
            },
            stores={},
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message, **relaying.handlers()},
            ports={},
            sign=no_signature,
        )
        relaying.host = self.host

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.host.run)
        await nursery.start(self.links.run)
        self._world.ports[self.id] = self.path.port

    async def ask(self, to: NodeId, body: bytes = BODY, protocol: str = ECHO) -> bytes:
        value = await self.host.flow(ASKING, Ask(to, protocol, body, 60.0), timeout_s=60)
        assert isinstance(value, bytes)
        return value

    def _address_of(self, node: NodeId) -> tuple[str, int] | None:
        return None if frozenset((self.id, node)) in self._world.walls else ("127.0.0.1", self._world.ports[node])

    def _deliver(self, events: Sequence[object]) -> bool:
        self.host.deliver_all([("rpc", event) for event in events])
        return True


@dataclass(slots=True)
class Figures:
    """Milliseconds of calls, of first ones, and MiB a second of one large answer, by what they went through."""

    echoes: dict[str, Echo]
    cold: dict[str, Echo]
    mib_s: dict[str, float]


def measure(report: Report, *, short: bool) -> None:
    """Echoes in turns, first calls, and one large answer each."""
    figures = trio.run(measured, 400 if short else 4_000, 8 * MIB if short else 64 * MIB)
    for name, echo in figures.echoes.items():
        note = f"{echo.cpu_ms:.2f} ms of a core, all ends"
        report.rows.append(Row(f"echo of 200 B, {name}", echo.p(0.5), "ms", p99=echo.p(0.99), count=len(echo.ms), note=note))
    ratio = figures.echoes[RELAYED].p(0.5) / figures.echoes[DIRECT].p(0.5)
    report.rows.append(Row("ratio of medians: relayed to direct", ratio, "x", bar=f"<= {TO_DIRECT:.0f}", met=ratio <= TO_DIRECT))
    for name, echo in figures.cold.items():
        report.rows.append(
            Row(f"the first call, {name}", echo.p(0.5), "ms", p99=echo.p(0.99), count=len(echo.ms), note="no link before it")
        )
    for name, rate in figures.mib_s.items():
        report.rows.append(
            Row(f"one large answer, {name}", rate, "MiB/s", note="the relay's bandwidth not bounded" if name == RELAYED else "")
        )


async def measured(echoes: int, large: int) -> Figures:
    """All figures in one run."""
    world = _World(SigningKey.generate(), OrgDid("did:mesh:enterprise:bench"))
    (a, b, c, d, r), pairs = _nodes(world, 5), _nodes(world, 2 * COLD)
    world.walls.add(frozenset((c.id, d.id)))
    figures = Figures({DIRECT: Echo(), RELAYED: Echo()}, {DIRECT: Echo(), RELAYED: Echo()}, {})
    async with trio.open_nursery() as nursery:
        for node in (a, b, c, d, r, *pairs):
            await node.start(nursery)
        for node in (c, d, *pairs):
            await node.ask(r.id)
        calls = {DIRECT: (a, b.id), RELAYED: (c, d.id)}
        for caller, to in calls.values():
            await _timed(caller, to, 50)
        assert {state.via for state in c.links.states() if state.node == d.id} == {r.id}
        for _ in range(10):
            for name, (caller, to) in calls.items():
                echo, began = figures.echoes[name], time.process_time()
                echo.ms += await _timed(caller, to, echoes // 10)
                echo.cpu_ms += (time.process_time() - began) * 1000 / echoes
        for name, (caller, to) in calls.items():
            began = time.perf_counter()
            received = await caller.ask(to, str(large).encode(), BIG)
            figures.mib_s[name] = len(received) / MIB / (time.perf_counter() - began)
        for number in range(COLD):
            one, other = pairs[2 * number : 2 * number + 2]
            if number % 2:
                world.walls.add(frozenset((one.id, other.id)))
            figures.cold[RELAYED if number % 2 else DIRECT].ms += await _timed(one, other.id, 1)
        nursery.cancel_scope.cancel()
    return figures


def _nodes(world: _World, count: int) -> list[_Node]:
    """Of one organisation."""
    mesh, now = bytes(32), time.time()
    trust = Trust(mesh.hex()[:32], {world.org: world.root.public})
    authority = new_root(world.root, world.org, now=now)
    made = []
    for _ in range(count):
        key = SigningKey.generate()
        certificate = issue(world.root, mesh_id=trust.mesh_id, org=world.org, node=key.public, now=now)
        made.append(_Node(world, Credentials(key, certificate, mesh, trust, (authority,))))
    return made


async def _timed(caller: _Node, to: NodeId, times: int) -> list[float]:
    """Milliseconds of each of ``times`` calls."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await caller.ask(to)
        taken.append((time.perf_counter() - began) * 1000)
    return taken
