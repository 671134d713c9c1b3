"""What must hold of validators of which up to f lie, checked apart from the faults and from the product's own judgement.

Agreement and total order: at each height all honest nodes decide one header. Validity: only what was submitted is ordered, each once, and
executed as the reference does. Certificates: each decision is proven to a third party. Durability: what a client was told stands where
it was told. Honesty: an honest validator never signs two votes for one domain, nor one below its promise, in all its lives, and does not
run ahead through the views. Liveness: after healing every client is served within a bound, and all honest nodes are at one height.
"""

from collections import Counter

from meshos.consensus.pbft.block import Header
from meshos.consensus.pbft.codec import decode, encode
from meshos.consensus.pbft.events import Decided, Noticed
from meshos.consensus.pbft.messages import Fetch, FetchCheckpoint, FetchChunk
from meshos.effects import Cast, Tell
from meshos.errors import Broken
from meshos.ids import NodeId
from meshos.simulations.pbft.group import GENESIS, MACHINE, Group
from meshos.simulations.pbft.laws import Reference, Signatures
from meshos.simulations.pbft.work import Clients
from meshos.simulations.world import SimNode, Violation, World

SERVED_S = 25.0
"""After healing every client is served within this time: f + 2 times the longest patience (``Timing.max_patience_ms``), and catching up."""
QUIET_S = 5.0
"""Nobody asks for anything any more; who is behind catches up."""
ASKED = 100
"""In a second: each validator of a large mesh some times. Where each useless answer is a reason to ask again, it is thousands."""
_ASKS = tuple(encode(question)[:2] for question in (Fetch(0), FetchCheckpoint(0), FetchChunk(0, b"")))


class LedgerChecker:
    """Agreement, order, validity, certificates and durability, as ``laws.Reference`` has them."""

    def __init__(self, group: Group, clients: Clients) -> None:
        self._group = group
        self._clients = clients
        interval, visited = group.config.checkpoint_interval, group.world.visited
        self._reference = Reference(GENESIS, group.genesis, interval, group.verifier, clients.submitted, visited)
        clients.placed = self._reference.places.get
        self._heights: dict[tuple[NodeId, int], int] = {}  # of each life of each node: what is committed is never taken back in one

    @property
    def figures(self) -> dict[str, float]:
        """What came of it."""
        return {"blocks": len(self.headers), "requests": len(self._reference.places), "epochs": self._reference.epoch}

    @property
    def headers(self) -> list[Header]:
        """What was decided."""
        return self._reference.headers

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != MACHINE or node.name in self._group.liars:
            return
        for effect in effects:
            if type(effect) is Tell:
                told = effect.event
                if type(told) is Decided:
                    self._reference.decided(node.name, told)
                elif type(told) is Noticed and isinstance(told.error, Broken):
                    raise Violation("safety", f"{node.name}: {told.error}")
        life, height = (node.name, node.epoch), self._group.replicas[node.name].core.chain.height
        if height < self._heights.get(life, 0):
            raise Violation("safety", f"{node.name} goes back from height {self._heights[life]} to {height}")
        self._heights[life] = height

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        for client in [*self._clients.clients, self._clients.operator]:
            for name, told in client.acked:
                self._reference.told(name, told)


class HonestyChecker:
    """Nobody honest signs two things in one domain, votes below its promise, or runs ahead through the views; over all its lives."""

    def __init__(self, group: Group) -> None:
        self._group = group
        group.looked.append(Signatures().signs)

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``. An honest disk that is no old copy knows of every vote that others have seen."""
        if machine != MACHINE or node.name in self._group.suspects:
            return
        for effect in effects:
            if type(effect) is Tell and isinstance(effect.event, Noticed) and effect.event.error.name == "disk-rolled-back":
                raise Violation("safety", f"honesty: others have seen votes of {node.name} that its disk does not know of")

    def finish(self, world: World) -> None:
        """See ``Checker``."""


class LivenessChecker:
    """Once the faults are over, every client is served within SERVED_S, and every honest node comes to the same height and state. And
    nobody is kept asking without end: no honest node asks for the same blocks, checkpoint or part more than ASKED times within a second."""

    def __init__(self, group: Group, clients: Clients, ledger: LedgerChecker) -> None:
        self._group, self._clients, self._ledger = group, clients, ledger
        self._asked: Counter[tuple[NodeId, bytes]] = Counter()
        self._since = 0.0

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != MACHINE or node.name in self._group.liars:
            return
        for effect in effects:
            if type(effect) is Cast and effect.body.startswith(_ASKS):
                self._asks(node.name, effect.body, self._group.world.now)

    def _asks(self, node: NodeId, question: bytes, now: float) -> None:
        if now - self._since >= 1.0:
            self._asked.clear()
            self._since = now
        self._asked[node, question] += 1
        if self._asked[node, question] > ASKED:
            what = type(decode(question)).__name__
            raise Violation("stuck", f"{node} asks the same {what} more than {ASKED} times within {now - self._since:.3f} s, and on")

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        healed = world.now - SERVED_S
        late = [client.name for client in self._clients.clients if not any(at > healed for at in client.acked_at)]
        if late:
            raise Violation("stuck", f"{late} are not served within {SERVED_S:g} s after healing: {self._where()}")
        world.run(world.now + QUIET_S)
        top = len(self._ledger.headers)
        for node in self._group.living():
            chain = self._group.replicas[node].core.chain
            if chain.height < top - 1:
                raise Violation("stuck", f"{node} is at height {chain.height}, the mesh at {top}: {self._where()}")
            if chain.height and chain.head != self._ledger.headers[chain.height - 1].hash:
                raise Violation("safety", f"{node} has another block at height {chain.height}")
            view = world.nodes[node].views[MACHINE]
            if self._group.toy_root(view) != chain.root:
                raise Violation("safety", f"the state of {node} is not the one of its root")

    def _where(self) -> str:
        rows: list[str] = []
        for node in self._group.ids:
            if self._group.world.nodes[node].alive:
                core = self._group.replicas[node].core
                record = core.desk.ballot.record
                liar = "!" if node in self._group.liars else ""
                seat = core.desk.index
                rows.append(f"{node}{liar}[{seat}] h{core.chain.height} e{core.chain.epoch} v{record.view}/{record.promised}")
        return ", ".join(rows)
