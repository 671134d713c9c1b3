"""What is done with a group: clients write and read, an operator changes who belongs to it and who leads.

Each client has one operation under way at a time, at a node of its choice for each, and gives up after a time that is longer than any
that the group takes. What it saw goes into a ``History``. In the end, after the faults, probes must be answered everywhere.
"""

import random
from dataclasses import dataclass
from functools import partial

from meshos.consensus.raft.events import ChangeMembers, TransferLeadership
from meshos.consensus.raft.membership import Change, Configuration
from meshos.effects import Err, Ok
from meshos.ids import NodeId
from meshos.simulations.history import History
from meshos.simulations.raft.group import Group
from meshos.simulations.raft.registers import Read, Set
from meshos.simulations.world import SimNode, Violation, World

CLIENTS = 6
NAMES = ("a", "b", "c")
THINK_S = 0.25
"""On average between two operations of one client."""
PATIENCE_S = 11.0
"""When a client gives up: later than the group ends what it could not decide (``Config.proposal_s``)."""
OPERATE_S = 4.0
"""On average between two acts of the operator."""
PROBE_S = 12.0
"""So long before the end probes begin; the faults are over for longer than that."""


@dataclass(slots=True)
class _Open:
    """An operation under way."""

    token: int
    ended: bool = False


class Clients:
    """Reads and writes, and a Checker of what must be answered in the end."""

    def __init__(self, group: Group, *, until_s: float, probe_s: float = PROBE_S) -> None:
        self.group = group
        self.world = group.world
        self.history = History(lambda: self.world.now)
        self.figures: dict[str, float] = {"operations": 0, "acknowledged": 0, "not done": 0, "unknown": 0}
        self._rng = self.world.generator("clients")
        self._written = 0
        self._probes: dict[str, object] = {}
        self._until_s = until_s
        for number in range(CLIENTS):
            self.world.at(self._rng.uniform(0.5, 2.0), self._go_on, f"client {number}")
        self.world.at(max(0.0, until_s - probe_s), self._probe)

    def _go_on(self, client: str) -> None:
        """The next operation of ``client``, after a pause."""
        living = self.group.living()
        if living and self.world.now < self._until_s - 1:
            node = self._rng.choice(living)
            name = self._rng.choice(NAMES)
            if self._rng.random() < 0.5:
                self._written += 1
                command: Set | Read = Set(name, str(self._written), self._rng.choice((0, 0, 100, 3000)))
            else:
                command = Read(name)
            self._begin(client, node, command)
            return
        self._later(client)

    def _later(self, client: str) -> None:
        self.world.after(self._rng.expovariate(1 / THINK_S), self._go_on, client)

    def _begin(self, client: str, node: NodeId, command: Set | Read) -> None:
        self.figures["operations"] += 1
        under_way = _Open(self.history.invoke(client, command))
        self.group.propose(node, command, partial(self._end, client, under_way))
        self.world.after(PATIENCE_S, self._give_up, client, under_way)

    def _end(self, client: str, under_way: _Open, outcome: object) -> None:
        if under_way.ended:
            return
        under_way.ended = True
        if isinstance(outcome, Ok):
            self.figures["acknowledged"] += 1
            self.history.ok(under_way.token, outcome.value)
        elif isinstance(outcome, Err) and outcome.error.outcome == "not_done":
            self.figures["not done"] += 1
            self.history.fail(under_way.token)
        else:
            self.figures["unknown"] += 1
            self.history.info(under_way.token)
        self._later(client)

    def _give_up(self, client: str, under_way: _Open) -> None:
        """Its node died, or was paused all the time."""
        if not under_way.ended:
            self._end(client, under_way, None)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _probe(self) -> None:
        """At each member, and at one that is none, a write."""
        self._probes = {}
        for node in members_alive(self.group):
            self._probes[f"at {node}"] = None
            self.group.propose(node, Set(f"probe {node}", "there"), partial(self._probed, node))

    def _probed(self, node: NodeId, outcome: object) -> None:
        self._probes[f"at {node}"] = outcome

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``: bounded-time liveness after healing."""
        if not self._probes:
            raise Violation("stuck", "there is no group any more")
        for where, outcome in self._probes.items():
            if not isinstance(outcome, Ok):
                raise Violation("stuck", f"a write {where} long after the last fault came to {outcome}")


def members_alive(group: Group) -> list[NodeId]:
    """The living members of the newest committed configuration that a living node knows."""
    leader = group.leader()
    if leader is None:
        return []
    members = group.replica(leader).raft.members
    return [node for node in group.living() if node in members.members]


class Operator:
    """Adds, promotes, removes and replaces nodes, and hands leadership over."""

    def __init__(self, group: Group, *, end_s: float) -> None:
        self._group = group
        self._rng = group.world.generator("operator")
        self._end_s = end_s
        self.figures: dict[str, float] = {"changes": 0, "changes made": 0, "transfers made": 0}
        self._how_often = self._rng.choice((0.0, 1.0, 3.0, 6.0))
        if self._how_often:
            self._later()

    def _later(self) -> None:
        self._group.world.after(self._rng.expovariate(self._how_often / OPERATE_S), self._act)

    def _act(self) -> None:
        if self._group.world.now > self._end_s:
            return
        self._later()
        leader = self._group.leader()
        if leader is None:
            return
        members = self._group.replica(leader).raft.members
        if self._rng.random() < 0.25:
            voters = sorted(members.voters - {leader})
            if voters:
                self._group.propose(leader, TransferLeadership(self._rng.choice(voters)), self._transferred)
            return
        changes = _draw(self._rng, self._group.ids, members)
        if changes:
            self.figures["changes"] += 1
            self._group.propose(leader, ChangeMembers(tuple(changes)), self._changed)

    def _transferred(self, outcome: object) -> None:
        self.figures["transfers made"] += isinstance(outcome, Ok)

    def _changed(self, outcome: object) -> None:
        if isinstance(outcome, Ok):
            self.figures["changes made"] += 1
            self._group.world.visited("a change of members was made")

    def observe(self, node: SimNode, machine: str, event: object, effects: list[object]) -> None:
        """See ``Checker``."""

    def finish(self, world: World) -> None:
        """See ``Checker``."""


def _draw(rng: random.Random, ids: list[NodeId], members: Configuration) -> list[Change]:
    """Something sensible, or nothing."""
    outside = [node for node in ids if node not in members.members]
    voters, learners = sorted(members.voters), sorted(members.learners)
    match rng.choice(("learner", "promote", "voter", "remove", "replace", "shuffle")):
        case "learner" if outside:
            return [Change("learner", rng.choice(outside))]
        case "promote" if learners:
            return [Change("voter", rng.choice(learners))]
        case "voter" if outside:
            return [Change("voter", rng.choice(outside))]
        case "remove" if len(voters) > 1:
            return [Change("removed", rng.choice(voters + learners))]
        case "replace" if outside:
            return [Change("voter", rng.choice(outside)), Change("removed", rng.choice(voters))]
        case "shuffle":
            return _shuffled(rng, ids, voters)
        case _:
            return []


def _shuffled(rng: random.Random, ids: list[NodeId], voters: list[NodeId]) -> list[Change]:
    """Any other set of voters: what joint consensus is for."""
    wanted = set(rng.sample(ids, k=rng.randint(1, len(ids))))
    added = [Change("voter", node) for node in sorted(wanted - set(voters))]
    gone = [Change(rng.choice(("removed", "learner")), node) for node in sorted(set(voters) - wanted)]
    return added + gone
