"""What must hold of validators of which up to f lie, checked apart from the faults and from the product's own judgement.

Agreement and total order: at each height all honest nodes decide one header. Validity: only what was submitted is ordered, each once, and
executed as the reference does. Certificates: each decision is proven to a third party. Durability: what a client was told stands where
it was told. Honesty: an honest validator never signs two votes for one domain, nor one below its promise, in all its lives. Liveness: after
healing every client is served within a bound, and all honest nodes are at one height.
"""

from meshos.consensus.pbft.application import Executed
from meshos.consensus.pbft.block import Certified, Header, certificate_claims, request_hash, requests_root
from meshos.consensus.pbft.checkpoint import is_boundary
from meshos.consensus.pbft.events import Committed, Decided, Noticed
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Domain
from meshos.effects import Put, Tell, Write
from meshos.errors import Broken
from meshos.ids import NodeId
from meshos.simulations.pbft.group import GENESIS, MACHINE, Group
from meshos.simulations.pbft.toy import PREFIX
from meshos.simulations.pbft.work import Clients
from meshos.simulations.world import WALL_BEGIN_MS, SimNode, Violation, World

SERVED_S = 25.0
"""After healing every client is served within this time: f + 2 times the longest patience (``Timing.max_patience_ms``), and catching up."""
QUIET_S = 5.0
"""Nobody asks for anything any more; who is behind catches up."""


class _State:
    """The reference's state: a View on a dictionary."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def scan(self, prefix: bytes) -> "list[tuple[bytes, bytes]]":
        return sorted((key, value) for key, value in self.values.items() if key.startswith(prefix))

    def write(self, writes: tuple[Write, ...]) -> None:
        for write in writes:
            if isinstance(write, Put):
                self.values[write.key] = write.value
            else:
                self.values.pop(write.key, None)


class LedgerChecker:
    """A reference ledger: the blocks as they were first decided by an honest node, judged by itself."""

    def __init__(self, group: Group, clients: Clients) -> None:
        self._group = group
        self._clients = clients
        self._toy = group.toy()
        self._toy.sets = self._validators_of
        self._state = _State()
        genesis = self._toy.genesis()
        self._state.write(genesis.writes)
        self._root = genesis.root
        self._sets = {0: group.genesis}
        self._now = group.genesis
        self._pending: ValidatorSet | None = None
        self.headers: list[Header] = []
        self._places: dict[bytes, Committed] = {}
        self.figures: dict[str, float] = {"blocks": 0, "requests": 0, "epochs": 0, "views left": 0}
        clients.placed = self._places.get

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""
        if machine != MACHINE or node.name in self._group.liars:
            return
        for effect in effects:
            if type(effect) is Tell:
                told = effect.event
                if type(told) is Decided:
                    self._decided(node, told)
                elif type(told) is Noticed and isinstance(told.error, Broken):
                    raise Violation("safety", f"{node.name}: {told.error}")

    def _decided(self, node: SimNode, decided: Decided) -> None:
        header = decided.certified.block.header
        if header.height <= len(self.headers):
            first = self.headers[header.height - 1]
            if first.hash != header.hash:
                raise Violation("safety", f"agreement: {node.name} decides another block at height {header.height} than was decided")
        elif header.height == len(self.headers) + 1:
            self._extend(node, decided)
        else:
            raise Violation("safety", f"order: {node.name} decides height {header.height} before {len(self.headers) + 1}")
        self._certificate(node, decided.certified)

    def _certificate(self, node: SimNode, certified: Certified) -> None:
        header, certificate = certified.block.header, certified.certificate
        claims = certificate_claims(GENESIS, header, certificate, self._sets[header.epoch])
        signers = {index for index, _ in certificate.signatures}
        n = self._sets[header.epoch].n
        if len(signers) < (n + (n - 1) // 3 + 2) // 2 or not all(self._group.verifier.verify_many(claims)):
            raise Violation("safety", f"the certificate of height {header.height} at {node.name} proves nothing")

    def _extend(self, node: SimNode, decided: Decided) -> None:
        block, header = decided.certified.block, decided.certified.block.header
        parent = self.headers[-1].hash if self.headers else GENESIS
        time_ms = self.headers[-1].time_ms if self.headers else WALL_BEGIN_MS
        boundary = is_boundary(header.height, self._group.config.checkpoint_interval)
        named = self._pending if boundary and self._pending is not None else self._now
        right = (self._now.epoch, parent, self._root, requests_root(block.request_hashes), named.hash)
        if (header.epoch, header.parent, header.state_root, header.requests_root, header.next_validators) != right:
            raise Violation("safety", f"validity: the header of height {header.height} is not the one that follows")
        if header.time_ms <= time_ms:
            raise Violation("safety", f"ledger time does not go on at height {header.height}")
        self._judge_requests(header.height, block.requests)
        executed = self._toy.execute(self._state, block)  # type: ignore[arg-type]
        if executed.results != decided.results:
            raise Violation("safety", f"{node.name} gives other results at height {header.height}")
        self._state.write(executed.writes)
        self._after(header, named, executed)
        for index, (name, result) in enumerate(zip(block.request_hashes, executed.results, strict=True)):
            self._places[name] = Committed(header.height, index, result)

    def _judge_requests(self, height: int, requests: tuple[bytes, ...]) -> None:
        for request in requests:
            name = request_hash(request)
            if name in self._places:
                raise Violation("safety", f"validity: a request is ordered again at height {height}")
            accusation = not self._toy.claims(request) or self._toy.claims(request)[0].domain.protocol != "toy"
            if not accusation and name not in self._clients.submitted:
                raise Violation("safety", f"validity: a request at height {height} was never submitted")
            if not all(self._group.verifier.verify_many(self._toy.claims(request))):
                raise Violation("safety", f"validity: a request at height {height} is not signed")

    def _after(self, header: Header, named: ValidatorSet, executed: Executed) -> None:
        begins = named is not self._now
        if begins:
            self._now, self._pending = named, None
            self._sets[named.epoch] = named
            self._group.world.visited("other validators came into force")
        wanted = executed.next_validators
        if wanted is not None:
            same = wanted.entries == self._now.entries
            self._pending = None if same else ValidatorSet(self._now.epoch + 1, wanted.entries)
        self._root = executed.root
        self.headers.append(header)
        self.figures["blocks"] += 1
        self.figures["epochs"] = self._now.epoch

    def _validators_of(self, epoch: int) -> ValidatorSet | None:
        upcoming = self._pending if self._pending is not None else self._now
        boundary = is_boundary(len(self.headers) + 1, self._group.config.checkpoint_interval)
        return self._sets.get(epoch) or (upcoming if boundary and upcoming.epoch == epoch else None)

    def finish(self, world: World) -> None:
        """See ``Checker``."""
        acked = [entry for client in [*self._clients.clients, self._clients.operator] for entry in client.acked]
        for name, told in acked:
            if self._places.get(name) != told:
                raise Violation("safety", f"durability: a client was told {told.height}/{told.index}, and the mesh says otherwise")
        self.figures["requests"] = len(self._places)


class HonestyChecker:
    """Nobody honest signs two things in one domain, nor votes below its promise; over all its lives."""

    def __init__(self, group: Group) -> None:
        self._signed: dict[tuple[str, Domain], bytes] = {}
        self._promised: dict[tuple[str, int], int] = {}
        self._group = group
        group.looked.append(self._look)

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``. An honest disk that is no old copy knows of every vote that others have seen."""
        if machine != MACHINE or node.name in self._group.suspects:
            return
        for effect in effects:
            if type(effect) is Tell and isinstance(effect.event, Noticed) and effect.event.error.name == "disk-rolled-back":
                raise Violation("safety", f"honesty: others have seen votes of {node.name} that its disk does not know of")

    def _look(self, name: str, domain: Domain, payload: bytes) -> None:
        if domain.protocol != "pbft" or domain.phase == "new-view":
            return
        first = self._signed.setdefault((name, domain), payload)
        if first != payload:
            raise Violation("safety", f"honesty: {name} signs a second {domain.phase} in view {domain.view} at height {domain.height}")
        key = (name, domain.epoch)
        if domain.phase == "view-change":
            self._promised[key] = max(domain.view, self._promised.get(key, 0))
        elif domain.phase != "checkpoint" and domain.view < self._promised.get(key, 0):
            raise Violation("safety", f"honesty: {name} votes in view {domain.view} after promising {self._promised[key]}")

    def finish(self, world: World) -> None:
        """See ``Checker``."""


class LivenessChecker:
    """Once the faults are over, every client is served within SERVED_S, and every honest node comes to the same height and state."""

    def __init__(self, group: Group, clients: Clients, ledger: LedgerChecker) -> None:
        self._group, self._clients, self._ledger = group, clients, ledger

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

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


__all__ = ["PREFIX", "HonestyChecker", "LedgerChecker", "LivenessChecker", "NodeId"]
