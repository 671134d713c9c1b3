"""Which nodes decide for the organisation: the Flow that keeps its Raft group as large as its nodes allow, and what people ask of it.

Only the leader changes the group, and one change follows another. A node of the organisation that membership shows alive, with a
certificate that was checked, becomes a learner: it is sent everything and has no vote. Of 1, 3 and 5 votes the group has as many as there
are nodes with all of its log, never an even number: a second vote would double what can fail and let nothing more be lost. Membership is
a hint, so nobody loses its vote for being silent (DESIGN.md, 'Three ways to agree'). It loses it for good when its organisation's root
key revokes it, or when somebody removes it here; a learner that has caught up takes its place in the same change. A leaf, which is
reached through others and asleep at times, votes only where without it the group would be smaller, and gives its vote to the next node
that has everything (docs/decisions/0030-leaves.md).

A node that was removed is told by nobody, since nobody sends to it any more. One that hears no leader for a while asks the others.
"""

from collections.abc import Callable, Sequence, Set
from contextlib import suppress

from meshos.consensus.org.commands import ListRemoved, RemoveNode
from meshos.consensus.org.machine import Lead, leads_not
from meshos.consensus.raft.events import ChangeMembers, GetGroup, Group, Stale
from meshos.consensus.raft.limits import MAX_MEMBERS
from meshos.consensus.raft.membership import Change, Configuration
from meshos.crypto.certificates import RevocationList, describe
from meshos.errors import MeshError, Refused, Unreachable
from meshos.flow import Propose, Sleep
from meshos.ids import NodeId, Peer
from meshos.protocols.leader.limits import WORD_S
from meshos.protocols.leader.reaching import ask_any
from meshos.protocols.leader.wire import LEADER, AskNodes, OrgNode, OrgNodes, OrgRole, decode_nodes, encode_question
from meshos.protocols.membership.commands import Certified

SIZES = (5, 3, 1)
"""How many may vote."""
LOOK_S = 1.0
"""How often the leader looks whether the group is as it should be."""
CAUGHT_UP = 64
"""Entries that a learner may lack to be given a vote: they are on their way to it, and the change waits for them for a moment."""
LOST_LOOKS = 5
"""After so many looks without a leader a node asks the others whether it still belongs to them."""
REMOVE_S = 10.0
REMOVE_PAUSE_S = 0.2
"""How long a removal is waited for, and how often it is tried: another change may be under way."""


class GroupFlows:
    """The Flows of one node. ``alive`` gives the nodes of its organisation, itself among them, that membership shows alive and whose
    certificates were checked; ``expelled`` those that were revoked; ``nodes`` all that can be asked, the leader first; ``is_leaf`` says
    of whom membership knows that nobody can dial it.
    """

    def __init__(
        self,
        me: Peer,
        *,
        office: Lead,
        alive: Callable[[], Set[NodeId]],
        expelled: Callable[[], Set[NodeId]],
        nodes: Callable[[], Sequence[NodeId]],
        is_leaf: Callable[[NodeId], bool] = lambda node: False,
    ) -> None:
        self._me = me
        self._office = office
        self._alive, self._expelled, self._nodes = alive, expelled, nodes
        self._is_leaf = is_leaf
        self._lost = 0
        self.removed = False
        """Whether this node knows that it was removed from its organisation's nodes."""

    async def keep(self, _: object) -> None:
        """Never ends. What fails (this node leads no more, another change is under way) is looked at again."""
        while True:
            await Sleep(LOOK_S)
            try:
                if self._office.lead is not None:
                    await self._tend()
                elif self._office.leader is None:
                    await self._ask_whether_removed()
                else:
                    self._lost = 0
            except MeshError:
                continue

    async def nodes(self, _: object) -> OrgNodes:
        """The group as this node, its leader, sees it; Unreachable ``not-leading`` where it is not."""
        group = await Propose[Group](GetGroup())
        if self._office.lead is None or not group.leads:
            raise leads_not()
        members = group.members
        rows = tuple(OrgNode(node, _role(members, node), group.lags.get(node, 0)) for node in sorted(members.members))
        removed = await Propose[frozenset[NodeId]](Stale(ListRemoved()))
        return OrgNodes(self._me.node, group.term, group.commit, rows, removed)

    async def remove(self, node: NodeId, by: str) -> OrgNodes:
        """Remove ``node`` for good, at ``by``'s wish, and wait until it has no part in the group; again for the same node changes nothing.

        Raises Refused ``last-node`` where nobody could decide without it, Unreachable ``removal-unfinished`` where it takes too long.
        """
        before = await self.nodes(None)
        group = await Propose[Group](GetGroup())
        if node in group.members.voters and not _may_vote(group, self._unwanted(before.removed) | {node}, self._alive()):
            what = f"{node} is the only node of its organisation that has all of its state and may decide"
            raise Refused("last-node", what, hint="let another node join and catch up first: `mesh org nodes` shows how far it is")
        await Propose[bool](RemoveNode(node, by))
        for _ in range(round(REMOVE_S / REMOVE_PAUSE_S)):
            with suppress(Refused):  # another change is under way: the next try finds it done
                await self._tend()
            group = await Propose[Group](GetGroup())
            if node not in group.members.members and not group.members.joint:
                rows = tuple(OrgNode(one, _role(group.members, one), group.lags.get(one, 0)) for one in sorted(group.members.members))
                return OrgNodes(group.leader or self._me.node, group.term, group.commit, rows, before.removed | {node})
            await Sleep(REMOVE_PAUSE_S)
        what = f"that {node} is to be removed is recorded, and not carried out yet"
        raise Unreachable("removal-unfinished", what, hint="look at `mesh org nodes`; a majority of those that vote must be up")

    async def _tend(self) -> None:
        """Make the next change that the group needs, if any."""
        group = await Propose[Group](GetGroup())
        if not group.leads:
            return
        removed = await Propose[frozenset[NodeId]](Stale(ListRemoved()))
        changes = next_change(
            group.members,
            leader=self._me.node,
            unwanted=self._unwanted(removed),
            caught_up=_caught_up(group),
            alive=self._alive(),
            leaves={node for node in group.members.members if self._is_leaf(node)},
        )
        if changes:
            await Propose[Configuration](ChangeMembers(changes))

    def _unwanted(self, removed: Set[NodeId]) -> Set[NodeId]:
        return removed | self._expelled()

    async def _ask_whether_removed(self) -> None:
        self._lost += 1
        if self._lost % LOST_LOOKS or self.removed:
            return
        others = [node for node in self._nodes() if node != self._me.node]
        answer = await ask_any(self._me.org, lambda: others, LEADER, encode_question(AskNodes()), WORD_S)
        self.removed = self._me.node in decode_nodes(answer).removed


def next_change(
    now: Configuration,
    *,
    leader: NodeId,
    unwanted: Set[NodeId],
    caught_up: Set[NodeId],
    alive: Set[NodeId],
    leaves: Set[NodeId] = frozenset(),
) -> tuple[Change, ...]:
    """What the group needs, as one change; nothing while another is under way.

    ``leader`` keeps its vote unless it is unwanted itself, or a leaf: these come last. Those that are to decide no more are, where there is
    a choice, silent ones. The last voter stays, however unwanted, until another can take its place.
    """
    if now.joint:
        return ()
    stay = sorted(now.voters - unwanted, key=lambda node: (node != leader, node not in alive, node not in caught_up, node))
    spare = sorted((now.learners & caught_up & alive) - unwanted)
    able = sorted(stay + spare, key=lambda node: node in leaves)
    size = next((size for size in SIZES if size <= len(able)), 0)
    voters = frozenset(able[:size]) or now.voters
    gone = (unwanted & now.members) - voters
    room = MAX_MEMBERS - len(now.members | voters)
    joining = sorted(alive - unwanted - now.members)[:room]
    changes = [Change("voter", node) for node in voters - now.voters]
    changes += [Change("learner", node) for node in now.voters - voters - gone]
    changes += [Change("removed", node) for node in gone]
    changes += [Change("learner", node) for node in joining]
    return tuple(sorted(changes, key=lambda change: change.node))


def revoked_of(expelled: Sequence[Certified], listed: RevocationList | None) -> set[NodeId]:
    """Those of them that their organisation's list names. One that was expelled because the root of its certificate is another now is
    about to show a certificate of that root, and keeps its vote."""
    return set() if listed is None else {one.node for one in expelled if describe(one.certificate).serial in listed.serials}


def _may_vote(group: Group, unwanted: Set[NodeId], alive: Set[NodeId]) -> bool:
    """Whether anybody could vote if these were gone."""
    return bool(group.members.voters - unwanted or (group.members.learners & _caught_up(group) & alive) - unwanted)


def _caught_up(group: Group) -> Set[NodeId]:
    """Members that have nearly all, as far as this leader knows: of one that it has not heard yet it knows nothing."""
    return {node for node, lag in group.lags.items() if lag <= CAUGHT_UP and lag < group.last}


def _role(members: Configuration, node: NodeId) -> OrgRole:
    if node in members.voters:
        return "voter"
    return "leaving" if node in members.outgoing else "learner"
