"""What must hold of honest validators at every moment, told by whoever watches them: a reference ledger, and a register of signatures."""

from collections.abc import Callable, Container

from meshos.consensus.pbft.block import Certified, Header, certificate_claims, request_hash, requests_root
from meshos.consensus.pbft.checkpoint import is_boundary
from meshos.consensus.pbft.events import Committed, Decided
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Domain, Verifier
from meshos.effects import Put, Write
from meshos.ids import NodeId
from meshos.simulations.pbft.toy import Toy
from meshos.simulations.world import WALL_BEGIN_MS, Violation


def unsafe(message: str) -> Violation:
    """What must never happen has happened."""
    return Violation("safety", message)


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


class Reference:
    """The blocks as they were first decided by an honest node, judged by itself.

    Agreement and total order: at each height all honest nodes decide one header. Validity: only what was ``submitted`` is ordered, each
    once, and executed as the reference does. Certificates: each decision is proven to a third party.
    """

    def __init__(
        self,
        genesis_hash: bytes,
        genesis: ValidatorSet,
        interval: int,
        verifier: Verifier,
        submitted: Container[bytes],
        visited: Callable[[str], None],
    ) -> None:
        self._genesis_hash = genesis_hash
        self._interval = interval
        self._verifier = verifier
        self._submitted = submitted
        self._visited = visited
        self._toy = Toy(genesis_hash, genesis)
        self._toy.sets = self._validators_of
        self._state = _State()
        first = self._toy.genesis()
        self._state.write(first.writes)
        self._root = first.root
        self._sets = {0: genesis}
        self._now = genesis
        self._pending: ValidatorSet | None = None
        self.headers: list[Header] = []
        self.places: dict[bytes, Committed] = {}

    @property
    def epoch(self) -> int:
        """Of the next block."""
        return self._now.epoch

    def decided(self, node: NodeId, decided: Decided) -> None:
        """An honest ``node`` has decided a block."""
        header = decided.certified.block.header
        if header.height <= len(self.headers):
            first = self.headers[header.height - 1]
            if first.hash != header.hash:
                raise unsafe(f"agreement: {node} decides another block at height {header.height} than was decided")
        elif header.height == len(self.headers) + 1:
            self._extend(node, decided)
        else:
            raise unsafe(f"order: {node} decides height {header.height} before {len(self.headers) + 1}")
        self._certificate(node, decided.certified)

    def seated(self, node: NodeId) -> bool:
        """Whether ``node`` has, had or shall have a seat."""
        sets = [*self._sets.values(), *([] if self._pending is None else [self._pending])]
        return any(validators.index_of(node) is not None for validators in sets)

    def told(self, name: bytes, place: Committed) -> None:
        """A client was told where its request stands."""
        if self.places.get(name) != place:
            raise unsafe(f"durability: a client was told {place.height}/{place.index}, and the mesh says otherwise")

    def _certificate(self, node: NodeId, certified: Certified) -> None:
        header, certificate = certified.block.header, certified.certificate
        claims = certificate_claims(self._genesis_hash, header, certificate, self._sets[header.epoch])
        signers = {index for index, _ in certificate.signatures}
        n = self._sets[header.epoch].n
        if len(signers) < (n + (n - 1) // 3 + 2) // 2 or not all(self._verifier.verify_many(claims)):
            raise unsafe(f"the certificate of height {header.height} at {node} proves nothing")

    def _extend(self, node: NodeId, decided: Decided) -> None:
        block, header = decided.certified.block, decided.certified.block.header
        parent = self.headers[-1].hash if self.headers else self._genesis_hash
        time_ms = self.headers[-1].time_ms if self.headers else WALL_BEGIN_MS
        boundary = is_boundary(header.height, self._interval)
        named = self._pending if boundary and self._pending is not None else self._now
        right = (self._now.epoch, parent, self._root, requests_root(block.request_hashes), named.hash)
        if (header.epoch, header.parent, header.state_root, header.requests_root, header.next_validators) != right:
            raise unsafe(f"validity: the header of height {header.height} is not the one that follows")
        if header.time_ms <= time_ms:
            raise unsafe(f"ledger time does not go on at height {header.height}")
        self._judge_requests(header.height, block.requests)
        executed = self._toy.execute(self._state, block)  # type: ignore[arg-type]
        if executed.results != decided.results:
            raise unsafe(f"{node} gives other results at height {header.height}")
        self._state.write(executed.writes)
        self._root = executed.root
        self._after(header, named, executed.next_validators)
        for index, (name, result) in enumerate(zip(block.request_hashes, executed.results, strict=True)):
            self.places[name] = Committed(header.height, index, result)

    def _judge_requests(self, height: int, requests: tuple[bytes, ...]) -> None:
        for request in requests:
            name = request_hash(request)
            if name in self.places:
                raise unsafe(f"validity: a request is ordered again at height {height}")
            accusation = not self._toy.claims(request) or self._toy.claims(request)[0].domain.protocol != "toy"
            if not accusation and name not in self._submitted:
                raise unsafe(f"validity: a request at height {height} was never submitted")
            if not all(self._verifier.verify_many(self._toy.claims(request))):
                raise unsafe(f"validity: a request at height {height} is not signed")

    def _after(self, header: Header, named: ValidatorSet, wanted: ValidatorSet | None) -> None:
        if named is not self._now:
            self._now, self._pending = named, None
            self._sets[named.epoch] = named
            self._visited("other validators came into force")
        if wanted is not None:
            same = wanted.entries == self._now.entries
            self._pending = None if same else ValidatorSet(self._now.epoch + 1, wanted.entries)
        self.headers.append(header)

    def _validators_of(self, epoch: int) -> ValidatorSet | None:
        upcoming = self._pending if self._pending is not None else self._now
        boundary = is_boundary(len(self.headers) + 1, self._interval)
        return self._sets.get(epoch) or (upcoming if boundary and upcoming.epoch == epoch else None)


class Signatures:
    """Nobody honest signs two things in one domain, nor votes below its promise; over all its lives. And of two or more nobody honest runs
    ahead: who asks for a view is at most one beyond what another honest validator has voted in or asked for, else they might not meet
    again for long.
    """

    def __init__(self) -> None:
        self._signed: dict[tuple[str, Domain], bytes] = {}
        self._promised: dict[tuple[str, int], int] = {}
        self._reached: dict[int, dict[str, int]] = {}

    def signs(self, name: str, domain: Domain, payload: bytes) -> None:
        """The key ``name`` of an honest node signs."""
        if domain.protocol != "pbft" or domain.phase == "new-view":
            return
        first = self._signed.setdefault((name, domain), payload)
        if first != payload:
            raise unsafe(f"honesty: {name} signs a second {domain.phase} in view {domain.view} at height {domain.height}")
        key = (name, domain.epoch)
        if domain.phase == "view-change":
            self._promised[key] = max(domain.view, self._promised.get(key, 0))
            self._keeps_step(name, domain)
        elif domain.phase != "checkpoint" and domain.view < self._promised.get(key, 0):
            raise unsafe(f"honesty: {name} votes in view {domain.view} after promising {self._promised[key]}")
        if domain.phase != "checkpoint":
            reached = self._reached.setdefault(domain.epoch, {})
            reached[name] = max(domain.view, reached.get(name, 0))

    def _keeps_step(self, name: str, domain: Domain) -> None:
        others = max((view for other, view in self._reached.get(domain.epoch, {}).items() if other != name), default=0)
        if domain.view > others + 1:
            raise Violation("stuck", f"{name} asks for view {domain.view}, and nobody else honest has come beyond {others}")
