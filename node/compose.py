"""The composition root: the machines, ports and API of one node, put together from its opened folder."""

import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import trio

from meshos.adapters.onprem.egress_policy import LOOPBACK, EgressPolicy
from meshos.adapters.onprem.provider import OnPremConfig, OnPremProvider
from meshos.consensus.org.machine import MACHINE as ORG
from meshos.consensus.pbft.events import WallTime as LedgerWallTime
from meshos.consensus.raft.events import WallTime
from meshos.crypto.boxes import Boxes
from meshos.crypto.signing import Domain, Ed25519Verifier
from meshos.effects import Sign
from meshos.errors import Refused, first_of
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node import folder, recording
from meshos.node.api.app import build
from meshos.node.api.event_log import EventLog
from meshos.node.api.keys import KeyRing
from meshos.node.api.server import Listen, keep_keys, serve, settings
from meshos.node.config import parse_address
from meshos.node.facade.facade import About, Facade, Seen
from meshos.node.facade.linking import WHY
from meshos.node.facade.measuring import Measurements
from meshos.node.facade.metrics import Metrics
from meshos.node.founding import begin, check_mesh
from meshos.node.given import given_of
from meshos.node.hosting import Hosting
from meshos.node.kernel.agents import LookAtAgents, StartAgent, StopAgent
from meshos.node.kernel.assembly import STORED, Assembly, Outside, assemble
from meshos.node.kernel.hearing import heard
from meshos.node.kernel.watch import MACHINE as KERNEL
from meshos.node.kernel.watch import Begin, Happened, LedgerMoved
from meshos.node.opening import Folder
from meshos.node.relaying import Relaying
from meshos.node.runtime.embedding.minilm import LazyMiniLM
from meshos.node.runtime.fault_hook import FaultHook
from meshos.node.runtime.gossip import Gossip
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.udp import why_taken
from meshos.node.strangers import door_of, open_square
from meshos.node.trusting import Trusting
from meshos.presets import PRESETS
from meshos.protocols.directory.commands import EntrySignature, IndexChanged, SignEntry
from meshos.protocols.directory.record import domain as entry_domain
from meshos.protocols.ledger.port import LEDGER, ReplicaLedger
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.membership.events import FactsChanged, Leave, LeaveCompleted, PeerProved, SendDatagram, Started
from meshos.protocols.membership.revocations import TakeRevocations
from meshos.protocols.rpc.events import LinkDown, OpenLink, SendMessage
from meshos.protocols.rpc.paths import Why
from meshos.protocols.square import join
from meshos.protocols.tasks.ports import CallTool, SignBytes
from meshos.storage.level import LevelStore
from meshos.storage.overlay import Overlay

logger = logging.getLogger("meshos.node")


VERSION = version("meshos")

LOAD_STEP_PERMILLE = 100
"""A change of load smaller than this is not worth telling the mesh."""
LEAVE_S = 5.0
SLEPT_S = 5.0
"""After a longer sleep nobody knows which connections are still there: routers and peers forget."""
TIME_S = 10.0
"""How often machines are told the wall time."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What is worth knowing of a node that serves now. ``api`` is the URL, ``sandbox`` the layers that keep its agents in."""

    name: str
    org: OrgDid
    node_id: NodeId
    mesh: str
    genesis: str
    api: str
    link: str
    gossip: str
    sandbox: tuple[str, ...]
    seeds: int
    p2p: tuple[str, ...] = ()
    """Where strangers ask, as multiaddrs; none where its configuration wants no square, or any port."""
    version: str = VERSION


class Node:
    """One running node: the parts that effects reach, and the handlers that carry them out."""

    def __init__(self, opened: Folder, level: LevelStore, nursery: trio.Nursery) -> None:
        self.opened = opened
        self.config, self.genesis = opened.config, opened.genesis
        self.nursery = nursery
        self.left = trio.Event()
        self.events = EventLog(os.urandom(4).hex(), lambda: int(time.time() * 1000))
        self.ring = KeyRing.load(self.config.api_keys)
        self.measurements = Measurements()
        self.stores = {name: level.prefixed(name) for name in STORED}
        check_mesh(opened, self.stores[LEDGER])
        begin(opened, self.stores[ORG])
        self.overlays = {name: Overlay(store) for name, store in self.stores.items()}
        self.given = given_of(opened, VERSION)
        self.facts = self.given.facts
        self.recording = recording.start(self.config, self.given, VERSION)
        self.verifier = Ed25519Verifier()
        self.assembly = self._assemble()
        self.trusting = Trusting(opened, self.assembly, ReplicaLedger(self.assembly.ledger, self.overlays[LEDGER]), nursery)
        self.hook = FaultHook(self._id_of, self._cut)
        boxes = Boxes(opened.node, self.genesis.hash)
        self.gossip = Gossip(boxes, self.assembly.membership, self.verifier, self._to("membership"), self.hook.is_cut)
        link = self.config.link
        credentials = self.trusting.credentials()
        paths: list[TcpPath | QuicPath] = [TcpPath(credentials, link.host, link.port, self._address_of, proved=self._proved)]
        self.no_quic = why_taken(link.host, link.port) if self.config.links_on_quic else ""
        if self.no_quic:
            logger.warning("no-quic", extra={"port": link.port, "why": self.no_quic})
        elif self.config.links_on_quic:
            paths.append(QuicPath(credentials, link.host, link.port, self._address_of, proved=self._proved))
        anchors_of = self.assembly.membership.anchors_of
        self.relaying = Relaying(credentials, opened.me, paths, self.given.relaying, anchors_of=anchors_of, proved=self._proved)
        self.links = Links(opened.me, self.genesis.hash, [*paths, self.relaying.path], self._from_links, self._at_turn_end)
        self.links.noticed = self._path_moved
        self.relaying.attach(self.links)
        egress = EgressPolicy.of([*self.config.egress_allow, *(LOOPBACK if self.genesis.testnet else ())])
        hidden = (self.config.dir.parent,) if self.genesis.testnet else (self.config.dir,)
        self.hosting = Hosting(OnPremProvider(OnPremConfig(self.config.dir / "agents", hidden, egress)), self.ring)
        self.host = self._host()
        self.trusting.host, self.trusting.paths, self.trusting.links = self.host, [*paths, self.relaying.path], self.links
        self.relaying.host = self.host
        self.trusting.sweeping.host = self.host
        door = door_of(opened, host=self.host, assembly=self.assembly, store=self.overlays[LEDGER], wall=time.time)
        self.square = open_square(
            opened,
            VERSION,
            host=self.host,
            assembly=self.assembly,
            store=self.overlays[LEDGER],
            sign=partial(opened.keys.sign, folder.NODE_KEY),
            wall_ms=lambda: int(time.time() * 1000),
            also=(join.protocol(door),),
        )
        self.metrics = Metrics(
            {
                "host": self.host.statistics,
                "flows": self.assembly.flows.statistics,
                "rpc": self.assembly.rpc.statistics,
                "membership": self.assembly.membership.statistics,
                "revocations": self.assembly.revocations.statistics,
                "org": self.assembly.org.statistics,
                "directory": self.assembly.directory.statistics,
                "receipts": self.assembly.receipts.statistics,
                "registrar": self.assembly.registrar.statistics,
                "gossip": self.gossip.statistics,
                "lane": self.assembly.lane.statistics,
                "links": self.links.statistics,
                "relay": self.assembly.relay.statistics,
                "relaying": self.relaying.statistics,
                "turns": self.hosting.turns.statistics,
                "loop": lambda: {"tasks": trio.lowlevel.current_statistics().tasks_living},
                **({} if self.square is None else {"square": self.square.statistics}),
                **({} if self.recording is None else {"recorder": self.recording.statistics}),
            }
        )

    def _assemble(self) -> Assembly:
        opened, given, recorded = self.opened, self.given, self.recording
        return assemble(
            Outside(
                certified=given.certified,
                facts=given.facts,
                genesis=self.genesis,
                validator_key=given.validator_key,
                timing=given.timing,
                seeds=given.seeds,
                verifier=self.verifier,
                check_certificate=opened.trust.check,
                org_of=opened.trust.org_of,
                rng=random.SystemRandom() if recorded is None else recorded.random,
                secret=os.urandom(32),
                views=self.overlays if recorded is None else recorded.views(self.overlays),
                now=trio.current_time() if recorded is None else recorded.now,
                now_ms=int(time.time() * 1000) if recorded is None else recorded.wall_ms,
                wall_ms=lambda: int(time.time() * 1000),
                embedder=LazyMiniLM(),
                measures=self.measurements.of,
                raft=given.raft,
                revoked=lambda: opened.trust.trust.revoked,
                terms=given.terms,
                keep_blocks=given.keep_blocks,
                relaying=given.relaying,
            )
        )

    def _host(self) -> Host:
        host = Host(
            self.assembly.machines,
            stores={name: (store, self.overlays[name]) for name, store in self.stores.items()},
            handlers={
                OpenLink: self.links.open_link,
                SendMessage: self.links.send_message,
                SendDatagram: self.gossip.send,
                IndexChanged: self.assembly.shelf.changed,
                Happened: self._happened,
                LedgerMoved: lambda _: self.trusting.look(),
                LeaveCompleted: lambda _: self.left.set(),
                **self.relaying.handlers(),
            },
            ports={
                CallTool: self.hosting.call_tool,
                SignEntry: self._sign_entry,
                StartAgent: self.hosting.start,
                StopAgent: self.hosting.stop,
                TakeRevocations: self.trusting.take_revocations,
            },
            at_once={SignBytes: self._sign_bytes, Sign: self._sign_at_once, LookAtAgents: self.hosting.look},
            sign=self._sign,
            observe=None if self.recording is None else self.recording.observe,
        )
        if self.recording is not None:
            self.recording.begin(self.assembly.machines, host.core)
        return host

    # -- what machines hear ------------------------------------------------------------------------------------------

    def _to(self, machine: str) -> Callable[[object], None]:
        return lambda event: self.host.deliver(machine, event)

    def _from_links(self, events: Sequence[object]) -> bool:
        self.host.deliver_all([each for event in events for each in heard(event)])
        for event in events:
            if type(event) is LinkDown:
                self.trusting.refused(event.reason)
        return True

    def _at_turn_end(self, act: Callable[[], None]) -> None:
        self.host.at_turn_end(act)

    def _proved(self, peer: Peer, certificate: bytes) -> None:
        self.host.deliver("membership", PeerProved(peer, certificate))

    # -- what machines want done -------------------------------------------------------------------------------------

    def _happened(self, effect: Happened) -> None:
        fields = dict(effect.fields)
        self.events.publish(effect.kind, effect.text, fields)
        logger.info(effect.kind, extra=fields)

    def _path_moved(self, node: NodeId, path: str, why: Why) -> None:
        name = self.assembly.membership.name_of(node) or node
        self.events.publish("path", f"what is sent to {name} goes over {path} now, as {WHY[why]}", {"peer": node, "path": path})
        logger.info("path", extra={"peer": node, "path": path, "why": why})

    async def _sign(self, sign: Sign) -> bytes:
        assert isinstance(sign.domain, Domain)
        return await self.opened.keys.sign(_key_of(sign), sign.domain, sign.payload)

    def _sign_at_once(self, sign: Sign) -> bytes:
        assert isinstance(sign.domain, Domain)
        return self.opened.keys.sign_now(_key_of(sign), sign.domain, sign.payload)

    def _sign_bytes(self, effect: SignBytes) -> bytes:
        return self.opened.keys.sign_now(folder.NODE_KEY, effect.domain, effect.payload)

    async def _sign_entry(self, effect: SignEntry) -> EntrySignature:
        signature = await self.opened.keys.sign(folder.NODE_KEY, entry_domain(self.genesis.hash), effect.body)
        return EntrySignature(self.opened.me.node, signature, self.trusting.certificate)

    # -- who is where ------------------------------------------------------------------------------------------------

    def _address_of(self, node: NodeId) -> tuple[str, int] | None:
        text = self.assembly.membership.link_address(node)
        if text is None:
            return None
        try:
            address = parse_address(text)
        except ValueError:
            return None
        return address.host, address.port

    def _id_of(self, name: str) -> NodeId | None:
        return next((view.node_id for view in self.assembly.membership.members() if view.name == name), None)

    def _cut(self, cut: frozenset[NodeId]) -> None:
        self.links.set_cut(cut)
        logger.warning("partition", extra={"cut": len(cut)})

    # -- living ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open every port, begin, and come back when the node serves."""
        config = self.config
        self.gossip.open(config.gossip.host, config.gossip.port)
        await self.nursery.start(self.host.run)
        await self.trusting.begin()
        await self.nursery.start(self.hosting.provider.run)
        try:
            await self.nursery.start(self.links.run)
        except* OSError as errors:  # it comes out of the nursery that the links run in
            detail = f"TCP port {config.link.port} on {config.link.host} cannot be had: {first_of(errors)}"
            raise Refused("port-taken", detail, hint="end what uses it, or choose another") from errors
        if self.relaying.punching is not None:
            await self.nursery.start(self.relaying.punching.run)
        await self.nursery.start(self.gossip.run)
        if self.genesis.testnet:
            await self.nursery.start(self.hook.serve, config.fault_socket)
        await self._serve_api()
        self.host.deliver("membership", Started())
        self.host.deliver(KERNEL, Begin())
        self.nursery.start_soon(self._tell_load)
        self.nursery.start_soon(self._tell_time)
        if self.square is not None:
            self.nursery.start_soon(self.square.run)
        if listed := frozenset(self.opened.trust.trust.revoked):  # a list may have come while this node was down, or just before its end
            self.trusting.sweeping.disown(listed)

    def facts_of_start(self) -> Ready:
        """What there is to tell once it serves."""
        config, me = self.config, self.opened.me
        return Ready(
            name=config.name,
            org=me.org,
            node_id=me.node,
            mesh=self.genesis.mesh,
            genesis=self.genesis.hash.hex(),
            api=self.hosting.api_url,
            link=str(config.link),
            gossip=str(config.gossip),
            sandbox=tuple(self.hosting.provider.layers()),
            seeds=len(config.seeds),
            p2p=() if self.square is None else self.square.configured,
        )

    async def _serve_api(self) -> None:
        config, opened = self.config, self.opened
        listen = Listen(config.api.host, config.api.port, config.api_tls_certificate, config.api_tls_key)
        scheme = "http" if listen.certificate is None else "https"
        about = About(opened.me, config.name, config.region, VERSION, self.genesis, f"{scheme}://{config.api}", trio.current_time())
        seen = Seen(
            self.measurements, self.metrics, self.hosting.serving, self.hosting.turns, self._problems, self.square, self.links.states
        )
        facade = Facade(about, self.host, self.assembly, self.hosting.provider, self.events, seen, self.overlays[LEDGER], self.nursery)
        app = build(facade, self.ring, settings=settings(listen), save_keys=partial(self.ring.save, config.api_keys))
        self.hosting.api_url = await self.nursery.start(partial(serve, app, listen))
        self.nursery.start_soon(keep_keys, self.ring, config.api_keys)

    def _problems(self) -> Sequence[str]:
        link = self.config.link
        links = f"its links go over TCP only: UDP port {link.port} on {link.host} cannot be had ({self.no_quic})" if self.no_quic else ""
        square = "" if self.square is None else self.square.problem
        return (*self.trusting.problems(), *(problem for problem in (links, square) if problem))

    async def _tell_load(self) -> None:
        """Tell the mesh how busy this machine is, when that has changed."""
        timing = PRESETS[self.config.timing or self.genesis.timing]
        while True:
            await trio.sleep(timing.facts_interval_s)
            load = min(1000, int(1000 * os.getloadavg()[0] / (os.cpu_count() or 1)))
            if abs(load - self.facts.load_permille) >= LOAD_STEP_PERMILLE:
                self.facts = replace(self.facts, load_permille=load)
                self.host.deliver("membership", FactsChanged(self.facts))

    async def _tell_time(self) -> None:
        """Tell the organisation's state and the ledger what the wall clock shows: it may be set, and this machine may have slept."""
        slept = asleep_s()
        while True:
            if asleep_s() - slept > SLEPT_S:
                slept = asleep_s()
                logger.warning("slept", extra={"seconds": round(slept)})
                self.links.renew()
            wall_ms = int(time.time() * 1000)
            self.host.deliver(ORG, WallTime(wall_ms))
            self.host.deliver(LEDGER, LedgerWallTime(wall_ms))
            self.host.deliver(TRANSACTIONS, LedgerWallTime(wall_ms))
            self.trusting.look()  # a state that was fetched makes no block here
            await trio.sleep(TIME_S)

    async def leave(self) -> None:
        """Say goodbye, and part from every peer."""
        self.host.deliver("membership", Leave())
        with trio.move_on_after(LEAVE_S):
            await self.left.wait()
        await self.links.leave()


def asleep_s() -> float:
    """For how many seconds this machine has been suspended since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _key_of(sign: Sign) -> str:
    """A validator's votes have a key of their own, which never leaves the node and is never backed up."""
    return folder.VALIDATOR_KEY if sign.machine == LEDGER else folder.NODE_KEY
