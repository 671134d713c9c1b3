"""The organisation's nodes as the API shows them: what the leader says of the group, and what membership says of each node."""

from meshos.consensus.raft.events import Group
from meshos.consensus.raft.membership import Configuration
from meshos.errors import BadInput
from meshos.ids import NodeId, OrgDid
from meshos.node.api import shapes
from meshos.node.kernel.assembly import Assembly
from meshos.node.meant import only
from meshos.protocols.leader.wire import OrgNodes
from meshos.protocols.membership.machine import Membership

MIN_PREFIX = len("12D3KooW") + 4
"""Of a node id that is not written in full: its first eight characters are those of every node."""


def nodes_view(found: OrgNodes, membership: Membership, org: OrgDid) -> shapes.OrgNodesView:
    """All nodes of the organisation: those of the group, and those that are alive and have no part in it."""
    rows = [_row(membership, found, one.node, one.role, one.lag) for one in found.nodes]
    inside = {one.node for one in found.nodes}
    outside = sorted(view.node_id for view in membership.members() if view.org == org and view.state == "alive")
    for node in outside:
        if node not in inside:
            rows.append(_row(membership, found, node, "removed" if node in found.removed else "joining", None))
    voters = [one.node for one in found.nodes if one.role != "learner"]
    lose = _can_lose(len(voters), sum(membership.routable(node) for node in voters))
    leader = membership.name_of(found.leader) or found.leader
    return shapes.OrgNodesView(tuple(sorted(rows, key=lambda row: row.name)), leader, found.term, found.commit, lose)


def _row(membership: Membership, found: OrgNodes, node: NodeId, role: shapes.OrgRole, lag: int | None) -> shapes.OrgNodeView:
    member = membership.member(node)
    name, state = (node, None) if member is None else (member.facts.name, member.state)
    return shapes.OrgNodeView(node, name, role, node == found.leader, lag, state)


def named(text: str, found: OrgNodes, membership: Membership, org: OrgDid) -> NodeId:
    """The node of ``org`` that somebody means: its id, how that begins, or its name. Raises BadInput ``no-such-node``, ``ambiguous-id``."""
    names = {view.node_id: view.facts.name for view in membership.members() if view.org == org}
    names |= {node: "" for node in (*(one.node for one in found.nodes), *found.removed) if node not in names}
    if text in names:
        return NodeId(text)
    fits = [node for node, name in names.items() if name == text or (len(text) >= MIN_PREFIX and node.startswith(text))]
    known = ", ".join(sorted(name for name in names.values() if name)[:8])
    none = BadInput("no-such-node", f"no node of {org} is called {text[:80]!r}", hint=f"it has {known}: see `mesh org nodes`")
    return NodeId(only(text, fits, none))


def group_view(group: Group, assembly: Assembly, me: NodeId) -> shapes.GroupView:
    """What this node knows by itself."""
    membership, members = assembly.membership, group.members
    voters = members.voters | members.outgoing
    alive = sum(membership.routable(node) for node in voters)
    leader = None if group.leader is None else membership.name_of(group.leader) or group.leader
    lag = max(group.lags.values(), default=0) if group.leads else group.commit - group.applied
    lose = _can_lose(len(voters), alive)
    role = _role(members, assembly, me)
    return shapes.GroupView(
        leader, group.leads, role, group.term, group.commit, lag, len(voters), alive, len(members.learners - voters), lose
    )


def _role(members: Configuration, assembly: Assembly, me: NodeId) -> shapes.OrgRole:
    if assembly.group.removed:
        return "removed"
    if me in members.voters:
        return "voter"
    return "leaving" if me in members.outgoing else "learner" if me in members.learners else "joining"


def _can_lose(voters: int, alive: int) -> int:
    """How many more may fail before nothing can be decided; while the group changes, of the old and the new voters together."""
    return max(0, alive - (voters // 2 + 1))


def why_not_ready(assembly: Assembly) -> str:
    """In one sentence."""
    if assembly.group.removed:
        return "it was removed from its organisation's nodes"
    if assembly.org.lead is not None:
        return "its agents are being started"
    if not assembly.org.replica.raft.members.members:
        return "no node that leads its organisation has taken it up yet"
    return "its organisation has no leader that it knows of"
