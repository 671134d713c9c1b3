"""What clients ask of the validators: sums on their accounts, times to wait for, and now and then other validators."""

from collections.abc import Callable
from dataclasses import dataclass, field

from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.events import Committed, Submit
from meshos.consensus.pbft.validators import ValidatorSet, encode_validators
from meshos.crypto.simulated import SimulatedSigner
from meshos.effects import Err, Ok
from meshos.ids import NodeId, OrgDid
from meshos.simulations.pbft import group as group_of
from meshos.simulations.pbft.group import GENESIS, Group
from meshos.simulations.pbft.toy import request, seat

PATIENCE_S = 2.5
"""After this time a client asks another node the same."""


@dataclass(slots=True)
class Client:
    """One request after the other, each until it is answered."""

    name: str
    nonce: int = 0
    request: bytes = b""
    tries: int = 0
    acked: list[tuple[bytes, Committed]] = field(default_factory=list)
    acked_at: list[float] = field(default_factory=list)


class Clients:
    """``placed`` says of a request's hash where the mesh has ordered it: what a client finds out by asking around."""

    def __init__(self, group: Group, *, until_s: float, changes_until_s: float) -> None:
        self.group = group
        self.rng = group.world.generator("clients")
        self.submitted: set[bytes] = set()
        self.placed: Callable[[bytes], Committed | None] = lambda name: None
        self.clients = [Client(f"c{number}") for number in range(self.rng.randint(1, 4))]
        self.operator = Client("operator")
        self._change_every_s = self.rng.choice((1.0, 6.0))
        self._until_s = until_s
        self._changes_until_s = changes_until_s
        for client in self.clients:
            group.world.after(1.0 + self.rng.random(), self._next, client)
        group.world.after(3.0 + 5 * self.rng.random(), self._next, self.operator)

    def _next(self, client: Client) -> None:
        world = self.group.world
        if world.now >= (self._changes_until_s if client is self.operator else self._until_s):
            return
        client.nonce += 1
        client.tries += 1
        operation, argument = self._seats() if client is self.operator else self._operation()
        client.request = request(SimulatedSigner(self.group.secret, client.name), GENESIS, client.nonce, operation, argument)
        self.submitted.add(request_hash(client.request))
        self._try(client, client.tries)

    def _operation(self) -> tuple[str, object]:
        if self.rng.random() < 0.05:
            return "wait", self.rng.randint(1_000, 8_000)
        return "add", self.rng.randint(1, 100)

    def _seats(self) -> tuple[str, object]:
        """Other validators: more, fewer, or another node of the first organisation; never more liars among them than may be."""
        group, rng = self.group, self.rng
        by_org: dict[OrgDid, list[NodeId]] = {}
        for node in group.ids:
            by_org.setdefault(group.orgs[node], []).append(node)
        orgs = sorted(by_org)
        while True:
            chosen = sorted(rng.sample(orgs, k=rng.randint(group.fewest, len(orgs))))
            nodes = [rng.choice(by_org[org]) for org in chosen]
            if len(group.suspects.intersection(nodes)) <= group_of.liars_of(len(nodes)):
                break
        seats = ValidatorSet(0, tuple(seat(org, node) for org, node in zip(chosen, nodes, strict=True)))
        return "seats", encode_validators(seats)

    def _try(self, client: Client, number: int) -> None:
        """Submit, and come back if nothing is heard."""
        if client.tries != number:
            return
        world = self.group.world
        place = self.placed(request_hash(client.request)) if self.rng.random() < 0.3 else None
        if place is not None:
            self._done(client)  # it was ordered, and whoever knew has forgotten to say so
            return
        world.after(PATIENCE_S, self._try, client, number)
        nodes = [node for node in self.group.living() if not world.nodes[node].paused]
        if nodes:
            node = self.rng.choice(nodes)
            name = request_hash(client.request)
            self.group.ask(node, Submit(client.request), lambda outcome: self._answered(client, number, name, outcome))

    def _answered(self, client: Client, number: int, name: bytes, outcome: object) -> None:
        if isinstance(outcome, Ok) and isinstance(outcome.value, Committed):
            client.acked.append((name, outcome.value))
            client.acked_at.append(self.group.world.now)
            if client.tries == number:
                self._done(client)
        else:
            assert isinstance(outcome, Err)

    def _done(self, client: Client) -> None:
        client.tries += 1
        pause = self._change_every_s if client is self.operator else 0.5
        self.group.world.after(self.rng.expovariate(1 / pause), self._next, client)
