"""Who belongs to a group, and how that changes: one voter at a time, or any number through joint consensus (thesis, chapter 4).

A configuration lies in the log as an entry and is in force on a node from the moment it is in that node's log, committed or not
(section 4.1). If the entry is truncated, the one before is in force again. A leader begins a change only once the one before is
committed, and with it an entry of its own term (the correction of 2015 to section 4.1).

While a configuration is joint, ``outgoing`` holds the voters before the change: elections and commits need a majority of both. Its
leader leaves it by itself as soon as it is committed. Who voted and is to be a learner stays a voter until then (``demoted``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from meshos import cbor
from meshos.consensus.raft.entries import bad_message
from meshos.consensus.raft.limits import MAX_MEMBERS, MAX_NODE_CHARS
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId

Nodes: TypeAlias = frozenset[NodeId]
NOBODY: Nodes = frozenset()


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes, who voted before (empty unless joint), who only follows, and who will only follow once the change is over."""

    voters: Nodes = NOBODY
    outgoing: Nodes = NOBODY
    learners: Nodes = NOBODY
    demoted: Nodes = NOBODY

    @property
    def joint(self) -> bool:
        """Whether two majorities are needed."""
        return bool(self.outgoing)

    @property
    def halves(self) -> tuple[Nodes, Nodes]:
        """The voters, as ``quorum.py`` wants them."""
        return self.voters, self.outgoing

    @property
    def members(self) -> Nodes:
        """All that are sent entries."""
        return self.voters | self.outgoing | self.learners

    def votes(self, node: NodeId) -> bool:
        """Whether ``node`` has a vote."""
        return node in self.voters or node in self.outgoing


@dataclass(frozen=True, slots=True)
class Change:
    """``node`` becomes a voter, a learner, or no member any more."""

    to: Literal["voter", "learner", "removed"]
    node: NodeId


def changed(now: Configuration, changes: Sequence[Change]) -> Configuration:
    """The configuration that ``changes`` lead to: at once if they move at most one voter, else a joint one.

    Raises BadInput ``bad-membership`` for a change that makes no sense, Refused ``membership-changing`` within a change.
    """
    if now.joint:
        raise Refused("membership-changing", "another change of the group's members is under way", hint="try again in a moment")
    target = _target(now, changes)
    if len(now.voters ^ target.voters) <= 1:
        return target
    demoted = target.learners & now.voters
    return replace(target, outgoing=now.voters, learners=target.learners - demoted, demoted=demoted)


def left(joint: Configuration) -> Configuration:
    """What a joint configuration becomes."""
    return Configuration(joint.voters, NOBODY, joint.learners | joint.demoted, NOBODY)


def _target(now: Configuration, changes: Sequence[Change]) -> Configuration:
    named = [change.node for change in changes]
    if not changes or len(set(named)) != len(named) or len(named) > MAX_MEMBERS:
        raise BadInput("bad-membership", "a change names between one and all members, and each once")
    voters, learners = set(now.voters), set(now.learners)
    for change in changes:
        if not 0 < len(change.node) <= MAX_NODE_CHARS:
            raise BadInput("bad-membership", f"{change.node[:40]!r} is no node's id")
        voters.discard(change.node)
        learners.discard(change.node)
        if change.to == "voter":
            voters.add(change.node)
        elif change.to == "learner":
            learners.add(change.node)
    if not voters:
        raise BadInput("bad-membership", "a group without voters decides nothing any more")
    if len(now.voters | voters | learners) > MAX_MEMBERS:
        raise BadInput("bad-membership", f"a group has at most {MAX_MEMBERS} members")
    target = Configuration(frozenset(voters), NOBODY, frozenset(learners), NOBODY)
    if target == now:
        raise BadInput("bad-membership", "the group's members are as that change would make them")
    return target


def encode_configuration(configuration: Configuration) -> bytes:
    """Four sorted lists."""
    lists = (configuration.voters, configuration.outgoing, configuration.learners, configuration.demoted)
    return cbor.encode([sorted(nodes) for nodes in lists])


def decode_configuration(data: bytes) -> Configuration:
    """The configuration in ``data``; raises Refused ``too-large``, ``bad-encoding`` or ``bad-raft-message``."""
    value = cbor.decode(data, max_bytes=4 * MAX_MEMBERS * (MAX_NODE_CHARS + 3), max_depth=2)
    if type(value) is not list or len(value) != 4:
        raise bad_message("a configuration")
    voters, outgoing, learners, demoted = [_nodes(nodes) for nodes in value]
    apart = not (learners & (voters | outgoing)) and demoted <= outgoing and not demoted & voters
    if not apart or len(voters | outgoing | learners) > MAX_MEMBERS or not voters:
        raise bad_message("a configuration")
    return Configuration(voters, outgoing, learners, demoted)


def _nodes(value: cbor.Value) -> Nodes:
    if type(value) is not list or len(value) > MAX_MEMBERS:
        raise bad_message("a configuration")
    nodes = []
    for node in value:
        if type(node) is not str or not 0 < len(node) <= MAX_NODE_CHARS:
            raise bad_message("a configuration")
        nodes.append(NodeId(node))
    if sorted(set(nodes)) != nodes:
        raise bad_message("a configuration")
    return frozenset(nodes)
