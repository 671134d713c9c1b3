"""How the machines of a node are put together: once, for the process and for the simulator.

Whoever calls ``assemble`` gives what is outside (keys' verifiers, views of disks, clocks, the model), and gets the machines and
the few things that its ports must reach.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from meshos.consensus.org.machine import OrgMachine
from meshos.crypto.signing import Verifier
from meshos.effects import Machine
from meshos.errors import MeshError
from meshos.flow import Propose
from meshos.flow_machine import Flows, Service
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel.agents import AgentFlows
from meshos.node.kernel.watch import MACHINE as KERNEL
from meshos.node.kernel.watch import START, Watch
from meshos.presets import Timing
from meshos.protocols.directory.checking import Checker
from meshos.protocols.directory.commands import MACHINE as DIRECTORY_MACHINE
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.machine import Directory
from meshos.protocols.directory.parts import Measures, Parts, unmeasured
from meshos.protocols.directory.record import PROTOCOL as DIRECTORY
from meshos.protocols.directory.record import OrgOf
from meshos.protocols.directory.services import services as directory_services
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.wire import HINT
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.machine import Membership, Seed
from meshos.protocols.membership.machine import domain as membership_domain
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.membership.revocations import PROTOCOL as REVOCATIONS
from meshos.protocols.membership.revocations import Held, Revocations
from meshos.protocols.membership.statements import NodeFacts
from meshos.protocols.membership.sync import PROTOCOL as MEMBERSHIP
from meshos.protocols.membership.sync import CheckCertificate
from meshos.protocols.membership.sync import services as membership_services
from meshos.protocols.rpc.limits import SERVED
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.tasks.call import Calls
from meshos.protocols.tasks.limits import HEAD_BYTES, MAX_ARGUMENTS_BYTES
from meshos.protocols.tasks.outbox import MACHINE as RECEIPTS
from meshos.protocols.tasks.outbox import ReceiptOutbox, deliver
from meshos.protocols.tasks.payments import OwedOnly
from meshos.protocols.tasks.receipt import PROTOCOL as RECEIPT
from meshos.protocols.tasks.serve import TaskServices
from meshos.protocols.tasks.wire import CALL_OFF, TASK
from meshos.storage.store import View

FLOWS = 8192
"""Flows that run at once: the requests of all peers (protocols/rpc/limits.py), those of the API, and the node's own."""

assert FLOWS >= 2 * SERVED, "peers' requests leave room for the API's and the node's own"

BODIES = {TASK: MAX_ARGUMENTS_BYTES + HEAD_BYTES + 4}
"""The protocols whose requests may be larger than 1 MiB."""

CALL, CALLED_OFF, DEPLOY, UNDEPLOY = "call", "call-off", "deploy", "undeploy"
DELIVER, TIDY = "receipts-deliver", "agents-tidy"
ASK_ORG, ASK_DIRECTORY = "ask-org", "ask-directory"
"""For whoever stands outside: put one command to the machine, give its answer."""

STORED = ("membership", "org", "directory")
"""The machines that have a disk."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a node is given from outside. ``secret`` is random and this node's alone; ``holder_of`` names the node that holds
    an organisation's state; ``wall_ms`` is the wall clock, ``now`` the driver's clock at this moment, ``now_ms`` the wall clock then."""

    certified: Certified
    facts: NodeFacts
    genesis_hash: bytes
    timing: Timing
    seeds: Sequence[Seed]
    verifier: Verifier
    check_certificate: CheckCertificate
    org_of: OrgOf
    holder_of: Callable[[OrgDid], NodeId | None]
    rng: random.Random
    secret: bytes
    views: Mapping[str, View]
    now: float
    now_ms: int
    wall_ms: Callable[[], int]
    embedder: Embedder
    measures: Measures = unmeasured
    revoked: Held | None = None
    """The revocation lists to hand on, where there are any."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The machines, and those of them and of their parts that ports and the API read."""

    machines: Mapping[str, Machine]
    membership: Membership
    rpc: Rpc
    flows: Flows
    directory: Directory
    receipts: ReceiptOutbox
    watch: Watch
    tasks: TaskServices
    shelf: Shelf
    revocations: Revocations
    holder_of: Callable[[OrgDid], NodeId | None]

    def providers_of(self, org: OrgDid) -> tuple[NodeId, ...]:
        """The nodes of ``org`` that work can be sent to now: the one that holds its state first."""
        holder = self.holder_of(org)
        return tuple(sorted(self.membership.routable_of(org), key=lambda node: node != holder))


def assemble(outside: Outside) -> Assembly:
    """All machines of one node, wired."""
    me = Peer(outside.certified.node, outside.certified.org)
    membership = _membership(outside)

    def org_of_member(node: NodeId) -> OrgDid | None:
        member = membership.member(node)
        return None if member is None else member.org

    def live_peers() -> list[NodeId]:
        return [view.node_id for view in membership.members() if view.node_id != me.node and membership.routable(view.node_id)]

    holder = outside.holder_of(me.org) or me.node
    tasks = TaskServices(me, holder=holder, genesis_hash=outside.genesis_hash, verifier=outside.verifier, payments=OwedOnly())
    calls = Calls(me, genesis_hash=outside.genesis_hash, verifier=outside.verifier, org_of=org_of_member)
    agents = AgentFlows(me, holder=holder, embedder=outside.embedder, wall_ms=outside.wall_ms)
    shelf = Shelf(outside.embedder)
    checker = Checker(outside.verifier, outside.genesis_hash, outside.org_of, outside.embedder, outside.secret)
    parts = Parts(me.node, me.org, checker, shelf, live_peers, outside.measures)

    revocations = Revocations(outside.revoked or dict)

    async def start(_: object) -> int:
        failed: MeshError | None = None
        try:
            await agents.start_all()
        except MeshError as error:
            failed = error  # open tasks are ended all the same
        ended = await tasks.recover(None)
        if failed is not None:
            raise failed
        return ended

    services: dict[str, Service] = {
        **membership_services(
            outside.verifier,
            membership.domain,
            outside.check_certificate,
            None if outside.revoked is None else revocations,
        ),
        **directory_services(parts),
        TASK: tasks.task,
        CALL_OFF: tasks.call_off,
        RECEIPT: tasks.receipt,
        CALL: calls.call,
        CALLED_OFF: calls.call_off,
        DEPLOY: agents.deploy,
        UNDEPLOY: agents.undeploy,
        TIDY: agents.keep_tidy,
        DELIVER: deliver,
        START: start,
        ASK_ORG: ask_org,
        ASK_DIRECTORY: ask_directory,
    }
    flows = Flows(services, limit=FLOWS)
    allowed = dict.fromkeys((MEMBERSHIP, PROBE_PROTOCOL, REVOCATIONS, DIRECTORY, HINT, TASK, CALL_OFF, RECEIPT), any_member)
    rpc = Rpc(me, allowed, outside.rng, bodies=BODIES)
    directory = Directory(me.node, outside.views["directory"])
    receipts, watch = ReceiptOutbox(), Watch(also=(DELIVER, TIDY))
    machines: dict[str, Machine] = {
        "flows": flows,
        "rpc": rpc,
        "membership": membership,
        "org": OrgMachine(outside.views["org"], now=outside.now, wall_ms=outside.now_ms),
        "directory": directory,
        RECEIPTS: receipts,
        KERNEL: watch,
    }
    return Assembly(machines, membership, rpc, flows, directory, receipts, watch, tasks, shelf, revocations, outside.holder_of)


async def ask_org(command: object) -> object:
    """The Flow ``ASK_ORG``."""
    return await Propose[object](command)


async def ask_directory(command: object) -> object:
    """The Flow ``ASK_DIRECTORY``."""
    return await Propose[object](command, to=DIRECTORY_MACHINE)


def any_member(peer: Peer) -> bool:
    """Who has come through a link's handshake holds a certificate of an organisation of this mesh; that is enough to ask."""
    del peer
    return True


def _membership(outside: Outside) -> Membership:
    return Membership(
        outside.certified,
        outside.facts,
        domain=membership_domain(outside.genesis_hash),
        timing=outside.timing,
        seeds=outside.seeds,
        rng=outside.rng,
        view=outside.views["membership"],
        subscribers=(KERNEL,),
    )
