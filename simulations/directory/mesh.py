"""Nodes with a directory in cells each, in the simulator: the real machines and Flows, over ways as long as they are given.

Membership is a stand-in (``views``), signatures are simulated, the sentence model is a table (``readings``). Nodes that lie do so in what
they answer to searches (``liars``); all else is the code of every node.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from meshos.crypto.signing import Signer, Verifier
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.effects import Machine, Outcome
from meshos.errors import Refused
from meshos.flow import Flow, Propose
from meshos.flow_machine import FlowEnded, Flows, Perform, Service, StartFlow
from meshos.ids import NodeId, OrgDid, Peer
from meshos.node.kernel.core import OUTSIDE
from meshos.protocols.directory.answering import answer
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.codebook import encode as encode_codebook
from meshos.protocols.directory.cells.codebook import name_of as codebook_name
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.limits import COPIES, ID_PLACES
from meshos.protocols.directory.cells.placement import Seat, holders
from meshos.protocols.directory.cells.query import SEARCH
from meshos.protocols.directory.cells.routing import Chart, chart
from meshos.protocols.directory.cells.summary import Summary
from meshos.protocols.directory.cells.summary import encode as encode_summary
from meshos.protocols.directory.charting import name_of as summary_name
from meshos.protocols.directory.checking import Checker
from meshos.protocols.directory.commands import MACHINE, Arrange, EntrySignature, IndexChanged, Merge, Places, SignEntry
from meshos.protocols.directory.embedder import Embedder
from meshos.protocols.directory.limits import LAYOUT_BYTES
from meshos.protocols.directory.machine import Directory
from meshos.protocols.directory.parts import Charted, Parts
from meshos.protocols.directory.record import PROTOCOL, Entry, Sealed, body_of, domain, seal
from meshos.protocols.directory.search import DiscoverRequest
from meshos.protocols.directory.services import DISCOVER, services
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.wire import HINT
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.rpc.machine import Rpc
from meshos.simulations.directory.views import View, Views
from meshos.simulations.network import NetworkFaults
from meshos.simulations.world import SimNode, Spec, World

GENESIS = b"planet".ljust(32, b".")
SECRETS = SimulatedWorld(1)
VERIFIER: Verifier = SimulatedVerifier(SECRETS)

Lie = Callable[[Parts, Inbound], Flow[bytes]]
"""What a node answers to a search in the place of ``answering.answer``."""


def node_name(number: int) -> NodeId:
    """The only node of organisation ``number``."""
    return NodeId(f"n{number:04d}")


def org_name(number: int) -> OrgDid:
    """Organisations are numbered like their nodes."""
    return OrgDid(f"did:mesh:enterprise:org-{number:04d}")


def org_of(signer: str, proof: bytes) -> OrgDid:
    """For whom a node speaks; its certificate is its name. Raises Refused ``bad-record``."""
    if proof != signer.encode():
        raise Refused("bad-record", "the certificate is not the signer's")
    return org_name(int(signer[1:]))


def signed(entry: Entry, signer: NodeId) -> Sealed:
    """``entry`` as its owner ``signer`` publishes it."""
    return seal(entry, signer, SimulatedSigner(SECRETS, signer).sign(domain(GENESIS), body_of(entry)), signer.encode())


@dataclass(frozen=True, slots=True)
class Laid:
    """A record that is there when the run begins, and where it lies."""

    sealed: Sealed
    places: Places


class DirectoryMesh:
    """``nodes`` directories of as many organisations in the cells of ``codebook``; node n hears of changes after ``lags``[n] seconds.

    ``spots``: whether nodes check holders, which asks questions that no table of readings knows. Of ``accused`` the ledger has testimonies,
    and those that are ``discharged`` hold nothing.
    """

    def __init__(
        self,
        seed: int,
        nodes: int,
        codebook: Codebook,
        embedder: Embedder,
        faults: NetworkFaults,
        lag_s: tuple[float, float],
        *,
        spots: bool = False,
    ) -> None:
        self.world = World(seed, faults)
        self.ids = [node_name(number) for number in range(nodes)]
        self.codebook = codebook
        self.layout_name = codebook_name(encode_codebook(codebook))[:LAYOUT_BYTES]
        lags = self.world.generator("lags")
        self.views = Views(frozenset(self.ids), {node: lags.uniform(*lag_s) for node in self.ids})
        self.parts: dict[NodeId, Parts] = {}
        self.lies: dict[NodeId, Lie] = {}
        self.ended: dict[object, tuple[float, Outcome[object]]] = {}
        self.accused: frozenset[NodeId] = frozenset()
        self.discharged: frozenset[NodeId] = frozenset()
        self._spots = spots
        self._embedder = embedder
        self._flows = 0
        self._numbers = {node: number for number, node in enumerate(self.ids)}
        self._holders: dict[tuple[View, frozenset[NodeId]], tuple[tuple[NodeId, ...], ...]] = {}
        self._layouts: dict[NodeId, tuple[View, frozenset[NodeId], Layout]] = {}
        self.world.noticed = self._noticed
        for number, node in enumerate(self.ids):
            signer: Signer = SimulatedSigner(SECRETS, node)
            spec = Spec(
                node,
                org_name(number),
                self._build,
                stores=("directory",),
                signer=signer,
                verifier=VERIFIER,
                ports={SignEntry: partial(_sign, signer)},
            )
            self.world.add(spec).start()

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        me = node.name
        way_s = self.world.network.faults.way_s
        parts = self.parts[me] = Parts(
            me,
            node.spec.org,
            Checker(VERIFIER, GENESIS, org_of, self._embedder, me.encode()),
            Shelf(self._embedder),
            peers=lambda: [other for other in self._view(me).members if other != me],
            seen=lambda: self.layout(me),
            rtt_s=lambda other: way_s(me, other) + way_s(other, me),
            spots=self._spots,
            accused=lambda: sorted(self.accused - {me}),
        )

        def anybody(_: Peer) -> bool:
            return True

        table: dict[str, Service] = {**services(parts), SEARCH: partial(self._search, parts)}
        return {
            "flows": Flows(table, limit=1000),
            "rpc": Rpc(Peer(me, node.spec.org), {PROTOCOL: anybody, HINT: anybody, SEARCH: anybody}, node.rng),
            "directory": Directory(me, node.views["directory"]),
        }

    async def _search(self, parts: Parts, inbound: Inbound) -> bytes:
        lie = self.lies.get(parts.node)
        return await (answer(parts, inbound) if lie is None else lie(parts, inbound))

    # -- who sees whom, and where records lie ------------------------------------------------------------------------

    def _view(self, me: NodeId) -> View:
        return self.views.of(me, self.world.now)

    def layout(self, me: NodeId) -> Layout:
        """By the codebook, among the nodes that ``me`` holds for alive."""
        view = self._view(me)
        known = self._layouts.get(me)
        if known is None or known[0] is not view or known[1] is not self.discharged:
            layout = Layout(me, self.layout_name, self.codebook, self.holders_of(view))
            known = self._layouts[me] = view, self.discharged, layout
        return known[2]

    def holders_of(self, view: View) -> tuple[tuple[NodeId, ...], ...]:
        """The holders of each place among the nodes of a view."""
        key = view, self.discharged
        if key not in self._holders:
            seats = [Seat(org_name(self._numbers[node]), 0, node) for node in view.members if node not in self.discharged]
            self._holders[key] = holders(GENESIS, seats, self.codebook.cells + ID_PLACES)
        return self._holders[key]

    def changed(self, far: frozenset[NodeId] = frozenset()) -> None:
        """Something has come to be so that nodes will hear of: who lives, and who is cut off (``far``; nobody: all hear all)."""
        alive = frozenset(node for node in self.ids if self.world.nodes[node].alive)
        self.views.changed(self.world.now, alive, far, apart=bool(far))

    # -- beginning as after a long time at rest ----------------------------------------------------------------------

    def lay(self, records: Iterable[Laid]) -> None:
        """Have every holder of a record, and its owner, hold it, with its vector checked, as if it had been published long ago."""
        of_node: dict[NodeId, list[Laid]] = {node: [] for node in self.ids}
        where = self.holders_of(self._view(self.ids[0]))
        for one in records:
            to = {NodeId(one.sealed.signer), *(node for place in one.places for node in where[place])}
            for node in to:
                of_node[node].append(one)
        for number, node in enumerate(self.ids):
            some = of_node[node]
            entries, places = tuple(one.sealed for one in some), tuple(one.places for one in some)
            checked = frozenset(one.sealed.digest for one in some)
            for command in (Arrange(self.layout_name), Merge(entries, checked, self.layout_name, places)):
                self.world.nodes[node].deliver(MACHINE, Perform(10**9 + number, Propose(command, MACHINE), None))
            self.parts[node].layout = self.layout(node)

    def tell_summaries(self, summaries: Sequence[Summary], lies: Mapping[NodeId, Callable[[Summary], Summary]] | None = None) -> Chart:
        """Have every node know what the holders of all cells tell, as after some rounds of asking; the chart that each has drawn of it.
        Those in ``lies`` tell something else."""
        where, lying = self.holders_of(self._view(self.ids[0])), lies or {}
        told: dict[int, dict[NodeId, tuple[bytes, Summary]]] = {}
        for one in summaries:
            for node in where[one.cell]:
                said = lying[node](one) if node in lying else one
                told.setdefault(one.cell, {})[node] = summary_name(encode_summary(said)), said
        voices = [{cell: [*of.values()][at][1] for cell, of in told.items() if at < len(of)} for at in range(COPIES)]
        drawn = chart(self.codebook, *voices)
        for parts in self.parts.values():
            parts.charted = Charted(self.layout_name, {cell: dict(of) for cell, of in told.items()}, chart=drawn)
        return drawn

    def link(self) -> None:
        """Open a link from every node to all that hold a cell, as the rounds of asking for summaries do within some minutes."""
        where = self.holders_of(self._view(self.ids[0]))[: self.codebook.cells]
        asked = sorted({node for nodes in where for node in nodes})
        nodes = self.world.nodes
        for one in self.ids:
            for other in asked:
                if one != other and nodes[one].alive and nodes[other].alive:
                    self.world.links.warm(nodes[one], nodes[other])

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, node: NodeId, request: DiscoverRequest) -> object:
        """Start a question at ``node``; the Flow, whose end ``ended`` will have with its time."""
        return self.start(node, DISCOVER, request)

    def start(self, node: NodeId, service: str, argument: object) -> object:
        """Start one of the directory's Flows for callers at ``node``; the Flow, as ``ask``."""
        self._flows += 1
        flow = f"question-{self._flows}"
        self.world.nodes[node].deliver("flows", StartFlow(flow, service, argument, None, OUTSIDE))
        return flow

    def directory(self, node: NodeId) -> Directory:
        """The machine of a node."""
        machine = self.world.nodes[node].core.machine("directory")
        assert isinstance(machine, Directory)
        return machine

    def _noticed(self, node: SimNode, effect: object) -> None:
        if isinstance(effect, IndexChanged):
            self.parts[node.name].shelf.changed(effect)
        elif isinstance(effect, FlowEnded):
            self.ended[effect.flow] = self.world.now, effect.outcome


def _sign(signer: Signer, _: SimNode, effect: SignEntry) -> EntrySignature:
    return EntrySignature(signer.name, signer.sign(domain(GENESIS), effect.body), signer.name.encode())
