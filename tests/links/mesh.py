"""A small mesh for tests: two organisations with real keys and certificates, and nodes with real sockets and the real host."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from meshos.crypto.certificates import Trust, issue, new_root, read_revocations, revoke
from meshos.crypto.keys import SigningKey, node_id
from meshos.effects import Cast, Report
from meshos.flow import Ask
from meshos.flow_machine import Flows, Service
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.runtime.host import Host
from meshos.node.runtime.links.links import Links
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.rpc.casting import Listeners
from meshos.protocols.rpc.events import OpenLink, SendMessage
from meshos.protocols.rpc.machine import Rpc

MESH = bytes(range(32))
ALPHA, BETA = OrgDid("did:mesh:enterprise:alpha"), OrgDid("did:mesh:university:beta")
DAY_S = 86_400.0
ASK = "/test/ask/1"
LISTENER = "listener"
PATHS: dict[str, type[TcpPath] | type[QuicPath]] = {"tcp": TcpPath, "quic": QuicPath}


@dataclass
class Org:
    did: OrgDid
    key: SigningKey
    root: bytes


def new_org(did: OrgDid) -> Org:
    key = SigningKey.generate()
    return Org(did, key, new_root(key, did, now=time.time()))


def forge(der: bytes, issuer: Org) -> bytes:
    """The same certificate, names and all, properly issued by ``issuer``: what a dishonest organisation could make."""
    honest = x509.load_der_x509_certificate(der)
    root = x509.load_der_x509_certificate(issuer.root)
    builder = x509.CertificateBuilder(
        root.subject, honest.subject, honest.public_key(), honest.serial_number, honest.not_valid_before_utc, honest.not_valid_after_utc
    )
    for extension in honest.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    key = Ed25519PrivateKey.from_private_bytes(issuer.key.seed())
    return builder.sign(key, None).public_bytes(Encoding.DER)


class Mesh:
    """The genesis of a test: which organisations there are, and what each node is given."""

    kind = "tcp"
    """Over which path nodes are linked, or paths: ``tcp+quic``."""

    def __init__(self, mesh: bytes = MESH, orgs: tuple[OrgDid, ...] = (ALPHA, BETA)) -> None:
        self.hash = mesh
        self.id = mesh.hex()[:32]
        self.orgs = {did: new_org(did) for did in orgs}
        self.nodes: dict[NodeId, Node] = {}

    def trust(self, revoked: dict[OrgDid, bytes] | None = None) -> Trust:
        lists = {did: read_revocations(der, did, self.orgs[did].key.public) for did, der in (revoked or {}).items()}
        return Trust(self.id, {did: org.key.public for did, org in self.orgs.items()}, lists)

    def credentials(
        self,
        org: OrgDid = ALPHA,
        *,
        age_s: float = 0.0,
        lifetime_s: float = DAY_S,
        signed_by: Org | None = None,
        certified_key: SigningKey | None = None,
        forged_by: Org | None = None,
    ) -> Credentials:
        """A new node of ``org``; ``signed_by`` really signs its certificate, ``forged_by`` is an issuer that OpenSSL believes."""
        key = SigningKey.generate()
        root = (signed_by or self.orgs[org]).key
        public = (certified_key or key).public
        certificate = issue(root, mesh_id=self.id, org=org, node=public, now=time.time() - age_s, lifetime_s=lifetime_s)
        if forged_by is not None:
            certificate = forge(certificate, forged_by)
        return Credentials(key, certificate, self.hash, self.trust(), tuple(each.root for each in self.orgs.values()))

    def revoking(self, org: OrgDid, serials: list[int]) -> Trust:
        return self.trust({org: revoke(self.orgs[org].key, org, serials, number=1, now=time.time())})

    def address_of(self, node: NodeId, kind: str = "") -> tuple[str, int] | None:
        found = self.nodes.get(node)
        if found is None or not found.reachable:
            return None
        return "127.0.0.1", next((path.port for path in found.paths if path.name == kind), found.path.port)

    def node(
        self,
        org: OrgDid = ALPHA,
        credentials: Credentials | None = None,
        services: dict[str, Service] | None = None,
        listeners: Listeners | None = None,
    ) -> "Node":
        credentials = credentials or self.credentials(org)
        node = Node(self, org, credentials, services or {}, listeners)
        self.nodes[node.id] = node
        return node


class Node:
    """rpc, flows, links and a machine that keeps what it hears, on the real host."""

    def __init__(
        self, mesh: Mesh, org: OrgDid, credentials: Credentials, services: dict[str, Service], listeners: Listeners | None = None
    ) -> None:
        self.credentials = credentials
        self.id = node_id(credentials.key.public)
        self.peer = Peer(self.id, org)
        self.reachable = True
        self.full = False  # whether the mailbox takes nothing
        self.events: list[object] = []
        self.heard: list[object] = []
        self.reports: list[object] = []
        rpc = Rpc(self.peer, dict.fromkeys(services, lambda peer: True), random.SystemRandom(), listeners=listeners)
        flows = Flows({**services, ASK: ask_service}, limit=10_000)
        kinds = mesh.kind.split("+")
        addresses = [partial(mesh.address_of, kind=kind) for kind in kinds] if len(kinds) > 1 else [mesh.address_of]
        self.paths = [PATHS[kind](credentials, "127.0.0.1", 0, address_of) for kind, address_of in zip(kinds, addresses, strict=True)]
        self.path = self.paths[0]
        self.links = Links(self.peer, credentials.mesh, self.paths, self._deliver, lambda act: self.host.at_turn_end(act))
        self.rpc = rpc
        self.flows = flows
        self.host = Host(
            {"rpc": rpc, "flows": flows, LISTENER: Casts()},
            stores={},
            handlers={OpenLink: self.links.open_link, SendMessage: self.links.send_message},
            ports={},
            sign=_never_sign,
            observe=self._observe,
        )

    def _deliver(self, events: Sequence[object]) -> bool:
        if self.full:
            return False
        self.host.deliver_all([("rpc", event) for event in events])
        return True

    def _observe(self, machine: str, event: object, effects: list[object]) -> None:
        if machine == "rpc":
            self.events.append(event)
        elif machine == LISTENER:
            self.heard.append(event)
        self.reports += [effect for effect in effects if isinstance(effect, Report)]

    async def start(self, nursery: trio.Nursery) -> "Node":
        self.scope = trio.CancelScope()
        await nursery.start(self._run)
        return self

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.host.run)
                await nursery.start(self.links.run)
                task_status.started()

    def kill(self) -> None:
        """End everything of this node at once."""
        self.scope.cancel()

    def cast(self, *casts: Cast) -> None:
        """Cast from a machine, all in one step."""
        self.host.deliver(LISTENER, casts)

    async def ask(self, to: NodeId, protocol: str, body: bytes = b"", *, timeout_s: float = 10.0, retries: int = 0) -> bytes:
        """Ask from a Flow, as everything in a node does."""
        ask = Ask(to, protocol, body, timeout_s, retries)
        value = await self.host.flow(ASK, ask, timeout_s=timeout_s + 5)
        assert isinstance(value, bytes)
        return value

    def of(self, kind: type) -> list[Any]:
        """The events of one kind that rpc has heard."""
        return [event for event in self.events if isinstance(event, kind)]

    def recredential(self, **changes: Any) -> None:
        self.credentials = replace(self.credentials, **changes)
        for path in self.paths:
            path.trust(self.credentials)
        self.links.recheck()


class Casts:
    """A machine that casts what it is given."""

    def step(self, now: float, event: object) -> list[object]:
        return list(event) if isinstance(event, tuple) else []

    def deadline(self) -> float | None:
        return None


async def ask_service(ask: Ask) -> bytes:
    return await ask


async def _never_sign(domain: str, payload: bytes) -> bytes:
    raise AssertionError("nothing is signed here")


async def until(condition: Any, *, timeout_s: float = 10.0) -> None:
    """Wait until ``condition()`` holds; the time is only there so that a failing test ends."""
    with trio.fail_after(timeout_s):
        while not condition():
            await trio.sleep(0.002)
