"""Nodes with a directory each in the simulator: real machines and Flows, simulated signatures, hashed words for a sentence model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from meshos.crypto.signing import Signer, Verifier
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Err, Machine, Ok
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.flow_machine import FlowEnded, Flows, Perform, StartFlow
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel.core import OUTSIDE
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells import codebook as codebooks
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.counting import TALLY
from meshos.protocols.directory.cells.layout import Layout, in_cells, whole
from meshos.protocols.directory.cells.placement import Seat
from meshos.protocols.directory.cells.query import SEARCH
from meshos.protocols.directory.checking import Checker
from meshos.protocols.directory.commands import MACHINE, EntrySignature, IndexChanged, Publish, SignEntry
from meshos.protocols.directory.embedder import HashedEmbedder
from meshos.protocols.directory.holdings import Caps, uncapped
from meshos.protocols.directory.machine import Directory
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.publishing import Publication, Published, Withdrawal
from meshos.protocols.directory.record import PROTOCOL, AgentRecord, Entry, Sealed, body_of, described, domain, seal
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.protocols.directory.services import DISCOVER, PUBLISH, WITHDRAW, services
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.wire import HINT
from meshos.protocols.rpc.machine import Rpc
from meshos.simulations.network import NetworkFaults
from meshos.simulations.world import SimNode, Spec, World

GENESIS = b"g" * 32
NOW_MS = 1_700_000_000_000
TEXT = "Tells the time in any city."
WORLD = SimulatedWorld(1)
VERIFIER: Verifier = SimulatedVerifier(WORLD)
EMBEDDER = HashedEmbedder()


def org(number: int) -> OrgDid:
    return OrgDid(f"did:mesh:enterprise:org-{number}")


def org_of(signer: str, proof: bytes) -> OrgDid:
    """Node ``n3-…`` belongs to org 3, and its certificate is its name."""
    if proof != signer.encode():
        raise Refused("bad-record", "the certificate is not the signer's")
    return org(int(signer.split("-")[0][1:]))


def checker(secret: bytes = b"s" * 32) -> Checker:
    return Checker(VERIFIER, GENESIS, org_of, EMBEDDER, secret)


def signed(entry: Entry, signer: str) -> Sealed:
    signature = SimulatedSigner(WORLD, signer).sign(domain(GENESIS), body_of(entry))
    return seal(entry, signer, signature, signer.encode())


def record(name: str = "clock", *, by: int = 0, version: int = 1, text: str = TEXT, forged: bool = False) -> AgentRecord:
    profile = Profile(name, text)
    (read,) = EMBEDDER.read(["quite another text about something else" if forged else profile.text()])
    return described(org(by), profile, version, NOW_MS, EMBEDDER.name, read)


def sealed_record(name: str = "clock", *, by: int = 0, version: int = 1, text: str = TEXT, forged: bool = False) -> Sealed:
    return signed(record(name, by=by, version=version, text=text, forged=forged), f"n{by}-a")


class Mesh:
    """``nodes`` nodes, one of each org, and a second one of each of the first ``twins``, that all know of each other."""

    def __init__(
        self, seed: int, nodes: int = 4, faults: NetworkFaults | None = None, twins: int = 0, lifetime_s: float | None = None
    ) -> None:
        self.world = World(seed, faults)
        self.ids = [NodeId(f"n{number}-a") for number in range(nodes)] + [NodeId(f"n{number}-b") for number in range(twins)]
        self.lifetime_s = limits.TTL_S if lifetime_s is None else lifetime_s
        self.orgs = [*range(nodes), *range(twins)]
        self.parts: dict[NodeId, Parts] = {}
        self.quarantine: set[str] = set()
        self.caps: dict[NodeId, Caps] = {}
        """What the ledger says of how much is held, as a node has it; uncapped, where nothing is here."""
        self.ended: dict[object, FlowEnded] = {}
        self.flows = 0
        self.codebook: Codebook | None = None
        self.layouts: dict[tuple[object, ...], Layout] = {}
        self.world.noticed = self._noticed
        for number, node in enumerate(self.ids):
            signer: Signer = SimulatedSigner(WORLD, node)
            ports = {SignEntry: lambda _, effect, signer=signer: _sign(effect, signer)}
            self.world.add(
                Spec(node, org(self.orgs[number]), self._build, stores=("directory",), signer=signer, verifier=VERIFIER, ports=ports)
            ).start()

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        me = node.name
        parts = self.parts[me] = Parts(
            me,
            node.spec.org,
            checker(me.encode()),
            Shelf(EMBEDDER),
            lambda: [other for other in self.ids if other != me],
            barred=self.barred,
            seen=lambda: self.seen(me),
            others=lambda: frozenset(self.ids) - {me},
        )

        def anybody(_: Peer) -> bool:
            return True

        return {
            "flows": Flows(services(parts), limit=1000),
            "rpc": Rpc(Peer(me, node.spec.org), {PROTOCOL: anybody, HINT: anybody, SEARCH: anybody, TALLY: anybody}, node.rng),
            "directory": Directory(
                me, node.views["directory"], lambda org: self.caps.get(me, uncapped)(org), lifetime=lambda: self.lifetime_s
            ),
        }

    def seen(self, me: NodeId) -> Layout:
        """The layout by the codebook that the test has set, among the nodes that are alive."""
        alive = tuple(node for node in self.ids if self.world.nodes[node].alive)
        key = (me, alive, id(self.codebook))
        if key not in self.layouts:
            places = zip(self.ids, self.orgs, strict=True)
            seats = [Seat(org(number), int(node.endswith("b")), node) for node, number in places if node in alive]
            named = codebooks.name_of(codebooks.encode(self.codebook))[:16] if self.codebook is not None else b""
            self.layouts[key] = whole(me) if self.codebook is None else in_cells(me, named, self.codebook, GENESIS, seats)
        return self.layouts[key]

    def barred(self, *names: str) -> str | None:
        """What the ledger says."""
        return next((name for name in names if name in self.quarantine), None)

    def _noticed(self, node: SimNode, effect: object) -> None:
        if isinstance(effect, IndexChanged):
            self.parts[node.name].shelf.changed(effect)
        else:
            assert isinstance(effect, FlowEnded), effect
            self.ended[effect.flow] = effect

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def machine(self, number: int) -> Directory:
        machine = self.world.nodes[self.ids[number]].core.machine("directory")
        assert isinstance(machine, Directory)
        return machine

    def start(self, number: int, service: str, argument: object) -> object:
        self.flows += 1
        flow = f"test-{self.flows}"
        self.world.nodes[self.ids[number]].deliver("flows", StartFlow(flow, service, argument, None, OUTSIDE))
        return flow

    def outcome(self, flow: object) -> Any:
        outcome = self.ended[flow].outcome
        if isinstance(outcome, Err):
            raise outcome.error
        assert isinstance(outcome, Ok)
        return outcome.value

    def slip_in(self, number: int, sealed: Sealed) -> None:
        """Have the node publish a record that was not made by its own Flow."""
        self.flows += 1
        propose = Perform(10**9 + self.flows, Propose(Publish((sealed,)), MACHINE), None)
        self.world.nodes[self.ids[number]].deliver(MACHINE, propose)

    def publish(self, number: int, *profiles: Profile, seconds: float = 1.0) -> Published:
        flow = self.start(number, PUBLISH, Publication(profiles, NOW_MS))
        self.run(seconds)
        found = self.outcome(flow)
        assert isinstance(found, Published)
        return found

    def withdraw(self, number: int, *names: str) -> Published:
        flow = self.start(number, WITHDRAW, Withdrawal(names, NOW_MS))
        self.run(1.0)
        found = self.outcome(flow)
        assert isinstance(found, Published)
        return found

    def discover(self, number: int, request: DiscoverRequest) -> DiscoverAnswer:
        flow = self.start(number, DISCOVER, request)
        self.run(1.0)
        found = self.outcome(flow)
        assert isinstance(found, DiscoverAnswer)
        return found

    def held(self, number: int) -> dict[str, int]:
        return self.machine(number).statistics()

    def alike(self) -> bool:
        """Whether all nodes that are alive hold the same."""
        return len({self.machine(number).digest() for number, node in enumerate(self.ids) if self.world.nodes[node].alive}) == 1


def _sign(effect: object, signer: Signer) -> EntrySignature:
    assert isinstance(effect, SignEntry)
    return EntrySignature(signer.name, signer.sign(domain(GENESIS), effect.body), signer.name.encode())


def changed_index(shelf: Shelf, put: Sequence[Sealed]) -> None:
    """Have ``shelf`` hold these."""
    shelf.changed(IndexChanged(tuple(put), (0,) * len(put), ()))


def changed(sealed: Sealed, **fields: Any) -> Sealed:
    return dataclasses.replace(sealed, **fields)
