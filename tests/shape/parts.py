"""What both drivers are given: a machine that persists before it answers, and Flows that fan out, hedge, wait and give up."""

import random
from collections.abc import Iterable

from meshos.consensus.raft.events import Unlinked
from meshos.effects import Completed, Machine, Ok, Persist, Put, Tell
from meshos.flow import Ask, Gather, Propose, Sleep, after, successes
from meshos.flow_machine import Flows, Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.rpc.machine import Rpc
from meshos.storage.store import View

ORG = OrgDid("did:mesh:enterprise:acme")
STORE = "/test/store/1"  # appends the body, answers how many there are once it is on disk
SLOW = "/test/slow/1"  # never answers in time


class Register:
    """Appends values; answers each with its place, after it is on disk. Also what must be true when it restarts."""

    def __init__(self, view: View) -> None:
        self.values = [value for _, value in view.scan(b"v")]

    def step(self, now: float, event: object) -> list[object]:
        if isinstance(event, Unlinked):
            return []
        assert isinstance(event, Perform) and isinstance(event.operation, Propose)
        value = event.operation.command
        assert isinstance(value, bytes)
        self.values.append(value)
        place = len(self.values)
        put = Put(b"v%08d" % place, value)
        return [Persist((put,)), Tell(event.reply_to, Completed(event.op, Ok(place)))]

    def deadline(self) -> float | None:
        return None


class Services:
    """The Flows of one node; ``cancelled`` counts how many were told that they are not wanted any more."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def store(self, inbound: Inbound) -> bytes:
        return b"%d" % await Propose[int](inbound.body)

    async def slow(self, inbound: Inbound) -> bytes:
        try:
            await Sleep(3600)
        except BaseException:
            self.cancelled += 1
            raise
        return b"late"

    async def fan_out(self, nodes: tuple[NodeId, ...]) -> list[bytes]:
        return successes(await Gather(*(Ask(node, STORE, b"x", timeout_s=5) for node in nodes)))

    async def hedge(self, nodes: tuple[NodeId, NodeId]) -> bytes:
        first, second = (Ask(node, protocol, b"h", timeout_s=5) for node, protocol in zip(nodes, (SLOW, STORE), strict=True))
        return successes(await Gather(first, after(0.05, second), need=1))[0]

    async def wait_for(self, node: NodeId) -> bytes:
        return await Ask(node, SLOW, b"", timeout_s=60)


def machines(me: NodeId, view: View, rng: random.Random, services: Services) -> dict[str, Machine]:
    def anybody(_: Peer) -> bool:
        return True

    flows = Flows(
        {STORE: services.store, SLOW: services.slow, "fan_out": services.fan_out, "hedge": services.hedge, "wait_for": services.wait_for},
        limit=100,
    )
    return {"flows": flows, "rpc": Rpc(Peer(me, ORG), {STORE: anybody, SLOW: anybody}, rng), "org": Register(view)}


def stored(view: View) -> list[bytes]:
    return [value for _, value in view.scan(b"v")]


def quiet(all_machines: Iterable[Machine]) -> bool:
    """No Flow is left anywhere."""
    return all(machine.statistics()["flows"] == 0 for machine in all_machines if isinstance(machine, Flows))
