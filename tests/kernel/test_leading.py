"""An organisation of several nodes, whole: who is taken up and removed, what any node may be asked, and what moves with the lead."""

from dataclasses import replace
from typing import Any

import pytest

from meshos.consensus.org.commands import GetPlacement, ReadAudit, RecordLead
from meshos.consensus.raft.config import LAN as RAFT
from meshos.consensus.raft.config import Config
from meshos.effects import Err, Ok
from meshos.errors import MeshError
from meshos.ids import NodeId, agent_id
from meshos.node.kernel.agents import DeployAsked, UndeployAsked
from meshos.node.kernel.asking import ASK_ORG, DEPLOY, ORG_NODES, REMOVE_NODE, UNDEPLOY
from meshos.presets import LAN
from meshos.protocols.leader.wire import AskRemove, OrgNodes
from meshos.protocols.membership.events import Expelled
from meshos.protocols.tasks.agent_file import parse_mapping
from meshos.simulations.mesh import Mesh
from meshos.simulations.work import Asking
from meshos.simulations.world import SimNode, World


class Org:
    """``count`` nodes of one organisation, of which those in ``late`` are not started yet."""

    def __init__(self, count: int, *, seed: int = 1, late: tuple[int, ...] = (), raft: Config = RAFT) -> None:
        self.world = World(seed)
        self.mesh = Mesh(self.world, count, timing=LAN, orgs=1, whole=True, raft=raft)
        self.asking = Asking(self.world)
        self.nodes = [self.world.nodes[node] for node in self.mesh.ids]
        self.agent = agent_id(self.nodes[0].spec.org, "Worker")
        for place, node in enumerate(self.nodes):
            if place not in late:
                node.start()
        self.run(8)

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def leader(self) -> SimNode:
        """The node that leads."""
        (leader,) = [node for node in self.nodes if node.alive and not node.paused and self.org(node).lead is not None]
        return leader

    def followers(self) -> list[SimNode]:
        """The living others."""
        return [node for node in self.nodes if node.alive and node is not self.leader()]

    def org(self, node: SimNode) -> Any:
        return self.mesh.assemblies[node.name].org

    def ask(self, node: SimNode, service: str, argument: object, seconds: float = 3.0) -> Any:
        """What comes of it; raises the error."""
        number = self.asking.ask(node, service, argument, 30.0)
        self.run(seconds)
        outcome = self.asking.ended[number]
        if isinstance(outcome, Err):
            raise outcome.error
        assert isinstance(outcome, Ok)
        return outcome.value

    def deploy(self, node: SimNode, text: str = "works") -> Any:
        file = parse_mapping({"name": "Worker", "description": text, "runtime": {"mcp": {"command": ["worker"]}}})
        return self.ask(node, DEPLOY, DeployAsked(file, file.canonical(), "/", "tester"))

    def runs_on(self) -> list[NodeId]:
        """The nodes that run the agent."""
        return [node.name for node in self.nodes if self.agent in self.mesh.agents.on(node)]

    def group(self, node: SimNode | None = None) -> tuple[list[NodeId], list[NodeId]]:
        """Voters and learners, as ``node`` (or the leader) sees them."""
        members = self.org(node or self.leader()).replica.raft.members
        assert not members.joint
        return sorted(members.voters), sorted(members.learners)


def test_nodes_that_join_are_taken_up_and_vote_when_the_number_is_odd() -> None:
    org = Org(4, late=(1, 2, 3))
    names = [node.name for node in org.nodes]
    seen = [org.group()]
    for late in org.nodes[1:]:
        late.start()
        org.run(20)
        seen.append(org.group())
    assert seen == [(names[:1], []), (names[:1], names[1:2]), (names[:3], []), (names[:3], names[3:])]
    assert all(org.mesh.assemblies[node.name].watch.ready for node in org.nodes)


def test_five_vote_and_a_silent_one_keeps_its_vote() -> None:
    org = Org(5)
    org.run(5)
    names = [node.name for node in org.nodes]
    assert org.group() == (names, [])
    org.followers()[0].crash()
    org.run(60)
    assert org.group() == (names, []), "membership is a hint"


def test_any_node_deploys_and_withdraws_and_the_leader_runs_it() -> None:
    org = Org(3)
    one, other = org.followers()
    done = org.deploy(one)
    assert done.node == org.leader().name and org.runs_on() == [org.leader().name]
    placed = org.ask(other, ASK_ORG, GetPlacement(org.agent))
    assert (placed.node, placed.term) == (org.leader().name, org.org(org.leader()).lead)
    assert org.ask(other, UNDEPLOY, UndeployAsked(org.agent, "tester")) == "Worker" and not org.runs_on()
    with pytest.raises(MeshError, match="agent-unknown"):
        org.ask(one, UNDEPLOY, UndeployAsked(org.agent, "tester"))


def test_what_is_asked_while_nobody_leads_is_done_by_the_next_leader() -> None:
    org = Org(3)
    asked = org.followers()[0]
    org.leader().crash()
    org.run(0.2)
    done = org.deploy(asked)
    assert done.node == org.leader().name


@pytest.mark.parametrize("asked_at_the_leader", [True, False])
def test_what_a_leader_was_about_to_record_when_it_lost_the_lead_is_done_by_the_next(asked_at_the_leader: bool) -> None:
    """The old leader's word does not count any more (``stale-term``): so nothing was done, and the next is asked."""
    org = Org(3)
    first = org.leader()
    file = parse_mapping({"name": "Worker", "description": "works", "runtime": {"mcp": {"command": ["worker"]}}})
    asked = first if asked_at_the_leader else org.followers()[0]
    number = org.asking.ask(asked, DEPLOY, DeployAsked(file, file.canonical(), "/", "tester"), 60.0)
    org.run(0.3)
    first.pause()
    org.run(5)
    first.resume()
    org.run(15)
    assert isinstance(org.asking.ended[number], Ok), org.asking.ended[number]
    assert org.leader() is not first and org.runs_on() == [org.leader().name]
    number = org.asking.ask(asked, UNDEPLOY, UndeployAsked(org.agent, "tester"), 60.0)
    org.run(5)
    assert isinstance(org.asking.ended[number], Ok) and not org.runs_on()


def test_agents_move_with_the_lead_and_come_back_with_nothing_run_twice() -> None:
    org = Org(3)
    org.deploy(org.nodes[1])
    first = org.leader()
    first.crash()
    org.run(10)
    assert org.runs_on() == [org.leader().name] != [first.name], "at most ten seconds"
    held = org.mesh.assemblies[org.followers()[0].name].directory.record(org.agent)
    assert held is not None and held.signer == org.leader().name, "whoever runs it vouches for it, and renews its record"
    first.start()
    org.run(10)
    assert org.leader() is not first and org.runs_on() == [org.leader().name]
    assert org.group() == (sorted(org.mesh.ids), [])


def test_a_leader_that_stood_still_finds_another_and_ends_what_it_runs() -> None:
    org = Org(3)
    org.deploy(org.nodes[1])
    first = org.leader()
    first.pause()
    org.run(10)
    second = org.leader()
    assert sorted(org.runs_on()) == sorted([first.name, second.name]), "it cannot know yet"
    first.resume()
    org.run(5)
    assert org.runs_on() == [second.name]
    lead = org.org(second).lead
    with pytest.raises(MeshError, match="stale-term"):
        org.ask(first, ASK_ORG, RecordLead(first.name, lead - 1))


def test_every_lead_is_recorded() -> None:
    org = Org(3)
    org.leader().crash()
    org.run(5)
    audit = org.ask(org.leader(), ASK_ORG, ReadAudit())
    leads = [(entry.by, int(entry.subject)) for entry in audit if entry.what == "lead"]
    assert leads[0][0] == org.mesh.ids[0] and leads[-1] == (org.leader().name, org.org(org.leader()).lead)


def test_a_removed_node_leaves_no_even_number_and_a_new_one_takes_its_place() -> None:
    org = Org(4, late=(3,))
    dead, asked = org.followers()
    dead.crash()
    found: OrgNodes = org.ask(asked, REMOVE_NODE, AskRemove(dead.name, "tester"))
    assert dead.name in found.removed and dead.name not in [one.node for one in found.nodes]
    assert org.group() == ([org.leader().name], [asked.name])
    again: OrgNodes = org.ask(asked, REMOVE_NODE, AskRemove(dead.name, "tester"))
    assert again.nodes == found.nodes, "again changes nothing"
    org.nodes[3].start()
    org.run(10)
    assert org.group() == (sorted([org.leader().name, asked.name, org.nodes[3].name]), [])
    audit = org.ask(asked, ASK_ORG, ReadAudit())
    assert [(entry.by, entry.subject) for entry in audit if entry.what == "remove-node"] == [("tester", dead.name)]


def test_a_learner_takes_the_place_of_a_removed_voter_in_the_same_change() -> None:
    org = Org(4)
    org.run(3)
    voters, learners = org.group()
    gone = next(node for node in org.followers() if node.name in voters)
    org.ask(org.leader(), REMOVE_NODE, AskRemove(gone.name, "tester"))
    assert org.group() == (sorted({*voters, *learners} - {gone.name}), [])


def test_a_leader_that_removes_itself_hands_over() -> None:
    org = Org(3)
    first = org.leader()
    org.deploy(first)
    org.ask(first, REMOVE_NODE, AskRemove(first.name, "tester"))
    org.run(5)
    second = org.leader()
    assert second is not first and org.runs_on() == [second.name]
    assert first.name not in {*org.group()[0], *org.group()[1]}


def test_a_removed_node_hears_of_it_stays_out_and_disturbs_nobody() -> None:
    org = Org(3)
    gone = org.followers()[0]
    gone.crash()
    org.ask(org.leader(), REMOVE_NODE, AskRemove(gone.name, "tester"))
    term = org.org(org.leader()).lead
    gone.start()
    org.run(30)
    assert org.mesh.assemblies[gone.name].group.removed and not org.mesh.assemblies[gone.name].watch.ready
    assert org.org(org.leader()).lead == term and gone.name not in {*org.group()[0], *org.group()[1]}
    done = org.deploy(gone)
    assert done.node == org.leader().name, "it still knows whom to ask"


def test_the_last_node_is_not_removed() -> None:
    org = Org(2, late=(1,))
    with pytest.raises(MeshError, match="last-node"):
        org.ask(org.leader(), REMOVE_NODE, AskRemove(org.leader().name, "tester"))
    assert org.group() == ([org.leader().name], [])
    org.nodes[1].start()
    org.run(8)
    first = org.leader()
    org.ask(first, REMOVE_NODE, AskRemove(first.name, "tester"))
    org.run(3)
    assert org.leader() is org.nodes[1] and org.group() == ([org.nodes[1].name], [])


def test_a_revoked_node_loses_its_vote() -> None:
    org = Org(3)
    gone = org.followers()[0]
    for node in org.nodes:
        node.deliver("membership", Expelled(gone.name))
    org.run(5)
    assert gone.name not in {*org.group()[0], *org.group()[1]} and len(org.group()[0]) == 1


def test_a_node_in_the_place_of_one_that_lost_its_disk_catches_up_by_the_state() -> None:
    short = replace(RAFT, keep_entries=8, compact_entries=4)
    org = Org(4, late=(3,), raft=short)
    lost = org.followers()[0]
    lost.crash()
    for number in range(40):
        org.deploy(org.leader(), f"version {number}")
    org.ask(org.leader(), REMOVE_NODE, AskRemove(lost.name, "tester"))
    assert org.org(org.leader()).replica.raft.log.first > 30, "the log alone would not do"
    new = org.nodes[3]
    new.start()
    org.run(15)
    assert new.name in org.group()[0]
    states = {bytes(repr(list(org.org(node).replica.view().scan(b""))), "utf-8") for node in org.nodes if node.alive}
    assert len(states) == 1


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_the_nodes_are_listed_by_whoever_is_asked(asked: int) -> None:
    org = Org(3)
    found: OrgNodes = org.ask(org.nodes[asked], ORG_NODES, None)
    assert found.leader == org.leader().name and found.term == org.org(org.leader()).lead
    assert [(one.node, one.role, one.lag) for one in found.nodes] == [(node.name, "voter", 0) for node in org.nodes]
