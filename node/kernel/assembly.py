"""How the machines of a node are put together: once, for the process and for the simulator.

Whoever calls ``assemble`` gives what is outside (keys' verifiers, views of disks, clocks, the model), and gets the machines and
the few things that its ports must reach.
"""

import random
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.commitments import least_version
from meshos.consensus.org.machine import MACHINE as ORG
from meshos.consensus.org.machine import OrgMachine
from meshos.consensus.org.replicated import GROUP, OrgState
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL
from meshos.consensus.pbft.replica import CAST as PBFT
from meshos.consensus.pbft.replica import Replica as Pbft
from meshos.consensus.raft.config import Config as RaftConfig
from meshos.consensus.raft.replica import Replica, protocol_of
from meshos.crypto.signing import Verifier
from meshos.effects import Machine
from meshos.errors import MeshError
from meshos.flow_machine import Flows, Service
from meshos.genesis import Genesis
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel.agents import AgentFlows
from meshos.node.kernel.asking import (
    ASK_DIRECTORY,
    ASK_LEDGER,
    ASK_ORG,
    ASK_PAYING,
    CALL,
    CALLED_OFF,
    DELIVER,
    DEPLOY,
    KEEP_GROUP,
    KEEP_SEAT,
    ORG_NODES,
    PROCESSES,
    RECOVER,
    REMOVE_NODE,
    SEND,
    SETTLE,
    TIDY,
    UNDEPLOY,
    ask_directory,
    ask_ledger,
    ask_org,
    ask_paying,
    send_transaction,
)
from meshos.node.kernel.cells import Cells
from meshos.node.kernel.group import GroupFlows, revoked_of
from meshos.node.kernel.leading import Leading
from meshos.node.kernel.ledger import directory_caps, record_lifetime, replica_of
from meshos.node.kernel.news import DecisionNews
from meshos.node.kernel.payments import STORED as PAYMENTS_STORED
from meshos.node.kernel.payments import USUAL, Terms, payment_machines
from meshos.node.kernel.seating import SEAT, Seating
from meshos.node.kernel.watch import END, START, Watch
from meshos.node.kernel.watch import MACHINE as KERNEL
from meshos.presets import Timing
from meshos.protocols.directory.cells.counting import TALLY
from meshos.protocols.directory.cells.query import SEARCH
from meshos.protocols.directory.checking import Checker
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.machine import Directory
from meshos.protocols.directory.newest import newest
from meshos.protocols.directory.parts import Measures, Parts, unmeasured
from meshos.protocols.directory.record import PROTOCOL as DIRECTORY
from meshos.protocols.directory.record import OrgOf
from meshos.protocols.directory.services import services as directory_services
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.wire import HINT
from meshos.protocols.leader.wire import LEADER
from meshos.protocols.ledger.port import LEDGER, ReplicaLedger
from meshos.protocols.ledger.quarantine import Barred, barred_by
from meshos.protocols.ledger.registrar import MACHINE as REGISTRAR
from meshos.protocols.ledger.registrar import Registrar
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.lane import MACHINE as LANE
from meshos.protocols.membership.lane import Lane
from meshos.protocols.membership.machine import Membership, Seed
from meshos.protocols.membership.machine import domain as membership_domain
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.membership.reach import GOSSIP
from meshos.protocols.membership.revocations import PROTOCOL as REVOCATIONS
from meshos.protocols.membership.revocations import Held, Revocations
from meshos.protocols.membership.statements import NodeFacts
from meshos.protocols.membership.sync import PROTOCOL as MEMBERSHIP
from meshos.protocols.membership.sync import CheckCertificate
from meshos.protocols.membership.sync import services as membership_services
from meshos.protocols.payments.books import OrgBooks
from meshos.protocols.relay.events import MACHINE as RELAY
from meshos.protocols.relay.machine import Relay
from meshos.protocols.relay.policy import USUAL as RELAYS
from meshos.protocols.relay.policy import Policy as RelayPolicy
from meshos.protocols.relay.wire import CAST as RELAYING
from meshos.protocols.rpc.casting import Listener
from meshos.protocols.rpc.limits import SERVED
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.tasks.call import Calls
from meshos.protocols.tasks.limits import HEAD_BYTES, MAX_ARGUMENTS_BYTES
from meshos.protocols.tasks.outbox import MACHINE as RECEIPTS
from meshos.protocols.tasks.outbox import Delivery, ReceiptOutbox
from meshos.protocols.tasks.payments import OnCredit
from meshos.protocols.tasks.receipt import PROTOCOL as RECEIPT
from meshos.protocols.tasks.serve import TaskServices
from meshos.protocols.tasks.settling import Settling
from meshos.protocols.tasks.wire import CALL_OFF, TASK
from meshos.storage.store import LiveView

FLOWS = 8192
"""Flows that run at once: the requests of all peers (protocols/rpc/limits.py), those of the API, and the node's own."""

assert FLOWS >= 2 * SERVED, "peers' requests leave room for the API's and the node's own"

BODIES = {TASK: MAX_ARGUMENTS_BYTES + HEAD_BYTES + 4}
"""The protocols whose requests may be larger than 1 MiB."""

STORED = ("membership", "org", "directory", LEDGER, *PAYMENTS_STORED)
"""The machines that have a disk."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a node is given from outside. ``secret`` is random and this node's alone; ``wall_ms`` is the wall clock, ``now`` the driver's
    clock at this moment, ``now_ms`` the wall clock then."""

    certified: Certified
    facts: NodeFacts
    genesis: Genesis
    validator_key: str
    timing: Timing
    seeds: Sequence[Seed]
    verifier: Verifier
    check_certificate: CheckCertificate
    org_of: OrgOf
    rng: random.Random
    secret: bytes
    views: Mapping[str, LiveView]
    now: float
    now_ms: int
    wall_ms: Callable[[], int]
    embedder: Embedder
    raft: RaftConfig
    measures: Measures = unmeasured
    revoked: Held | None = None
    """The revocation lists to hand on, where there are any."""
    terms: Terms = USUAL
    relaying: RelayPolicy = RELAYS
    checkpoint_interval: int = CHECKPOINT_INTERVAL
    keep_blocks: int | None = None
    """The same for all nodes of a mesh; smaller in simulations."""

    @property
    def genesis_hash(self) -> bytes:
        """What names the mesh."""
        return self.genesis.hash


@dataclass(frozen=True, slots=True)
class Assembly:
    """The machines, and those of them and of their parts that ports and the API read."""

    machines: Mapping[str, Machine]
    membership: Membership
    lane: Lane
    rpc: Rpc
    flows: Flows
    directory: Directory
    receipts: ReceiptOutbox
    watch: Watch
    tasks: TaskServices
    shelf: Shelf
    revocations: Revocations
    org: OrgMachine
    group: GroupFlows
    ledger: Pbft
    window: ReplicaLedger
    barred: Barred
    registrar: Registrar
    relay: Relay
    parts: Parts
    cells: Cells

    def providers_of(self, org: OrgDid) -> tuple[NodeId, ...]:
        """The nodes of ``org`` that work can be sent to now: of the own organisation, the one that leads it first."""
        return tuple(sorted(self.membership.routable_of(org), key=lambda node: node != self.org.leader))


def assemble(outside: Outside) -> Assembly:
    """All machines of one node, wired."""
    me = Peer(outside.certified.node, outside.certified.org)
    membership = _membership(outside)

    def org_of_member(node: NodeId) -> OrgDid | None:
        member = membership.member(node)
        return None if member is None else member.org

    def providers_of(org_: OrgDid) -> tuple[NodeId, ...]:
        return tuple(membership.routable_of(org_)) if org_ != me.org else (me.node,)

    def own_routable() -> Set[NodeId]:
        return {node for node in membership.routable_of(me.org) if membership.organisation_of(node) == me.org}

    def own_alive() -> Set[NodeId]:
        return {node for node in own_routable() if _is_alive(membership, node)}

    def own_expelled() -> Set[NodeId]:
        former = [one for one in membership.expelled() if one.org == me.org]
        return {one.node for one in former} if outside.revoked is None else revoked_of(former, outside.revoked().get(me.org))

    def own_nodes() -> Sequence[NodeId]:
        leader = () if org.leader is None else (org.leader,)  # it is heard, also where membership has doubts
        return tuple(dict.fromkeys((*leader, *membership.routable_of(me.org), me.node)))

    def is_leaf(node: NodeId) -> bool:
        return bool(outside.facts.anchors if node == me.node else membership.anchors_of(node))

    org = OrgMachine(_replica(outside, me))
    wall_ms = outside.now_ms
    ledger = replica_of(
        outside.genesis,
        me,
        outside.validator_key,
        outside.views[LEDGER],
        outside.verifier,
        interval=outside.checkpoint_interval,
        keep_blocks=outside.keep_blocks,
        now=outside.now,
        wall_ms=wall_ms,
        listeners=(KERNEL, *PAYMENTS_STORED),
    )
    window = ReplicaLedger(ledger, outside.views[LEDGER])
    barred = barred_by(window)
    shelf = Shelf(outside.embedder)
    checker = Checker(outside.verifier, outside.genesis_hash, outside.org_of, outside.embedder, outside.secret)
    parts = Parts(me.node, me.org, checker, shelf, membership.routable_peers, outside.measures, barred, rtt_s=membership.rtt_s)
    cells = Cells(me, window, lambda: (*membership.routable_peers(), *(() if outside.facts.anchors else (me.node,))), outside.genesis_hash)
    parts.agreed, parts.seen, parts.accused = cells.agreed, partial(cells.seen, parts), cells.accused
    parts.behind, parts.others = lambda: bool(ledger.core.behind), cells.others
    agents = AgentFlows(
        me,
        office=org,
        embedder=outside.embedder,
        wall_ms=outside.wall_ms,
        newest=partial(newest, parts),
        above=lambda agent: least_version(window, me.org, agent),
    )
    group = GroupFlows(me, office=org, alive=own_alive, expelled=own_expelled, nodes=own_nodes, is_leaf=is_leaf)
    seating = Seating(
        me,
        office=org,
        ledger=window,
        verifier=outside.verifier,
        genesis_hash=outside.genesis_hash,
        routable=own_routable,
        wall_ms=outside.wall_ms,
        behind=lambda: ledger.core.behind,
        is_leaf=is_leaf,
    )
    leading = Leading(me, office=org, nodes=own_nodes, agent_flows=agents, group=group)
    tasks = TaskServices(
        me,
        office=org,
        genesis_hash=outside.genesis_hash,
        verifier=outside.verifier,
        payments=OnCredit(me.org),
        serves=agents.serves,
        barred=barred,
    )
    calls = Calls(me, genesis_hash=outside.genesis_hash, verifier=outside.verifier, org_of=org_of_member, pays=True, barred=barred)
    revocations = Revocations(outside.revoked or dict)

    async def start(term: int) -> int:
        failed: MeshError | None = None
        try:
            await agents.run_all(term)
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
        DEPLOY: leading.deploy,
        UNDEPLOY: leading.undeploy,
        PROCESSES: leading.processes,
        ORG_NODES: leading.nodes,
        REMOVE_NODE: leading.remove,
        LEADER: leading.serve,
        SEAT: seating.agree,
        KEEP_SEAT: seating.keep,
        TIDY: agents.keep_tidy,
        RECOVER: tasks.keep_recovering,
        KEEP_GROUP: group.keep,
        DELIVER: Delivery(providers_of, pays=True).deliver,
        SETTLE: Settling(calls, providers_of).settle,
        START: start,
        END: agents.end_all,
        ASK_ORG: ask_org,
        ASK_DIRECTORY: ask_directory,
        ASK_LEDGER: ask_ledger,
        SEND: send_transaction,
        ASK_PAYING: ask_paying,
    }
    flows = Flows(services, limit=FLOWS)

    def own_only(peer: Peer) -> bool:
        return peer.org == me.org

    def not_left(peer: Peer) -> bool:
        org = None if window.restoring else queries.org(window, peer.org)
        return peer.org == me.org or org is None or not org.left_ms

    to_link = (MEMBERSHIP, PROBE_PROTOCOL)  # what the node needs too that votes until the next checkpoint, of one that has left
    of_members = (REVOCATIONS, DIRECTORY, HINT, SEARCH, TALLY, TASK, CALL_OFF, RECEIPT)
    allowed = {**dict.fromkeys(to_link, any_linked), **dict.fromkeys(of_members, not_left), LEADER: own_only, SEAT: own_only}
    listeners = {
        protocol_of(GROUP): Listener(ORG, own_only),
        PBFT: Listener(LEDGER, any_linked),
        GOSSIP: Listener(LANE, any_linked),
        RELAYING: Listener(RELAY, not_left),
    }
    rpc = Rpc(me, allowed, outside.rng, bodies=BODIES, listeners=listeners)
    directory = Directory(me.node, outside.views["directory"], partial(directory_caps, window), partial(record_lifetime, window))
    also = (DELIVER, SETTLE, TIDY, RECOVER, KEEP_GROUP, KEEP_SEAT)
    relay = Relay(me, outside.relaying, rpc.peer_of, outside.rng)
    registrar = Registrar(
        me,
        org,
        window,
        org.replica.view,
        now=outside.now,
        endorses=lambda: parts.endorses,
        convinced=lambda: parts.suspects.convinced,
    )
    lane = Lane(membership, outside.verifier)
    receipts, watch = ReceiptOutbox(), Watch(also, membership.name_of, DecisionNews(window).take, lambda: ledger.core.behind)
    machines: dict[str, Machine] = {
        "flows": flows,
        "rpc": rpc,
        "membership": membership,
        LANE: lane,
        ORG: org,
        LEDGER: ledger,
        **payment_machines(
            me, outside.genesis_hash, window, OrgBooks(org.replica.view), outside.terms, outside.views, now=outside.now, wall_ms=wall_ms
        ),
        REGISTRAR: registrar,
        "directory": directory,
        RECEIPTS: receipts,
        RELAY: relay,
        KERNEL: watch,
    }
    return Assembly(
        machines,
        membership,
        lane,
        rpc,
        flows,
        directory,
        receipts,
        watch,
        tasks,
        shelf,
        revocations,
        org,
        group,
        ledger,
        window,
        barred,
        registrar,
        relay,
        parts,
        cells,
    )


def any_linked(peer: Peer) -> bool:
    """Who has come through a link's handshake holds a certificate of an organisation that is believed; that is enough to ask."""
    del peer
    return True


def _is_alive(membership: Membership, node: NodeId) -> bool:
    member = membership.member(node)
    return member is not None and member.state == "alive"


def _replica(outside: Outside, me: Peer) -> Replica:
    return Replica(
        ORG,
        GROUP,
        me.node,
        OrgState(),
        outside.views[ORG],
        org=me.org,
        config=outside.raft,
        rng=outside.rng,
        now=outside.now,
        wall_ms=outside.now_ms,
        subscribers=(KERNEL,),
    )


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
