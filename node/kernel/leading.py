"""What any node of an organisation may be asked, and its leader does: deploying, withdrawing, how processes do, which nodes there are.

A node that leads does it itself; any other passes it on to the leader, by the service ``/meshos/leader/1``, which nodes of the same
organisation alone may ask. A leader that has just lost the lead says so, and that nothing was done, and the next is asked.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from meshos.consensus.org.machine import Lead, leads_not
from meshos.errors import MeshError, Refused
from meshos.ids import NodeId, Peer
from meshos.node.kernel import agents
from meshos.node.kernel.agents import AgentFlows, DeployAsked, Deployment, UndeployAsked
from meshos.node.kernel.group import REMOVE_S, GroupFlows
from meshos.protocols.directory.record import parse
from meshos.protocols.leader.limits import WORD_S
from meshos.protocols.leader.reaching import ask_any
from meshos.protocols.leader.wire import (
    LEADER,
    AgentDeployed,
    AgentProcesses,
    AskDeploy,
    AskNodes,
    AskProcesses,
    AskRemove,
    AskUndeploy,
    OrgNodes,
    Question,
    decode_deployed,
    decode_nodes,
    decode_processes,
    decode_question,
    decode_withdrawn,
    encode_deployed,
    encode_nodes,
    encode_processes,
    encode_question,
    encode_withdrawn,
)
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.tasks.agent_file import parse_canonical

T = TypeVar("T")

LOST = frozenset({"stale-term", "not-leading"})
"""How a leader hears that it is none any more."""
DEPLOY_S = 120.0
"""Starting a server, reading its tools, embedding, recording."""


class Leading:
    """The Flows of one node. ``nodes`` gives the nodes of its organisation that can be asked, the leader first."""

    def __init__(
        self, me: Peer, *, office: Lead, nodes: Callable[[], Sequence[NodeId]], agent_flows: AgentFlows, group: GroupFlows
    ) -> None:
        self._me = me
        self._office = office
        self._nodes = nodes
        self._agents = agent_flows
        self._group = group

    # -- asked on this node ------------------------------------------------------------------------------------------

    async def deploy(self, asked: DeployAsked) -> Deployment:
        """See ``AgentFlows.deploy``."""
        here = await self._if_leading(lambda: self._agents.deploy(asked))
        if here is not None:
            return here
        done = decode_deployed(await self._ask(AskDeploy(asked.canonical, asked.folder, asked.by), DEPLOY_S))
        return Deployment(parse(done.record), done.node, done.ready)

    async def undeploy(self, asked: UndeployAsked) -> str:
        """See ``AgentFlows.undeploy``; gives the agent's name."""
        here = await self._if_leading(lambda: self._agents.undeploy(asked))
        if here is not None:
            return here.name
        return decode_withdrawn(await self._ask(AskUndeploy(asked.agent, asked.by), DEPLOY_S))

    async def processes(self, _: object) -> tuple[AgentProcesses, ...]:
        """How the processes of the organisation's agents do, which run where its leader is."""
        if self._office.lead is not None:
            return await agents.processes()
        return decode_processes(await self._ask(AskProcesses(), WORD_S))

    async def nodes(self, _: object) -> OrgNodes:
        """See ``GroupFlows.nodes``."""
        if self._office.lead is not None:
            return await self._group.nodes(None)
        return decode_nodes(await self._ask(AskNodes(), WORD_S))

    async def remove(self, asked: AskRemove) -> OrgNodes:
        """See ``GroupFlows.remove``."""
        here = await self._if_leading(lambda: self._group.remove(asked.node, asked.by))
        if here is not None:
            return here
        return decode_nodes(await self._ask(asked, REMOVE_S + WORD_S))

    async def _if_leading(self, do: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """What comes of it here, if this node leads; None where it does not, or lost the lead before anything was done."""
        if self._office.lead is None:
            return None
        try:
            return await do()
        except MeshError as error:
            if error.name not in LOST or error.outcome != "not_done":
                raise
            return None

    async def _ask(self, question: Question, timeout_s: float) -> bytes:
        return await ask_any(self._me.org, self._nodes, LEADER, encode_question(question), timeout_s)

    # -- asked by another node of the organisation ---------------------------------------------------------------------

    async def serve(self, inbound: Inbound) -> bytes:
        """The service ``LEADER``. Raises Unreachable ``not-leading``, Refused ``bad-message``, and what was asked for raises."""
        question = decode_question(inbound.body)
        if self._office.lead is None:
            raise leads_not()
        try:
            return await self._lead(question)
        except Refused as error:
            if error.name in LOST:
                raise leads_not() from error
            raise

    async def _lead(self, question: Question) -> bytes:
        if isinstance(question, AskDeploy):
            file = parse_canonical(question.file)
            done = await self._agents.deploy(DeployAsked(file, question.file, question.folder, question.by))
            return encode_deployed(AgentDeployed(done.record.to_bytes(), done.node, done.ready))
        if isinstance(question, AskUndeploy):
            return encode_withdrawn((await self._agents.undeploy(UndeployAsked(question.agent, question.by))).name)
        if isinstance(question, AskProcesses):
            return encode_processes(await agents.processes())
        if isinstance(question, AskRemove):
            return encode_nodes(await self._group.remove(question.node, question.by))
        return encode_nodes(await self._group.nodes(None))
