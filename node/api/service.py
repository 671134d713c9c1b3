"""The node as its API sees it: one method for each thing a user can ask for.

The composition root implements it with Flows; the API translates HTTP to it and back and knows nothing else. Every
method raises the errors of ``meshos.errors`` and nothing else on purpose. Every method may be cancelled (its client has
gone, or the request's time is up), and passes that on to what it has begun.
"""

from collections.abc import Sequence
from typing import Protocol

from meshos.ids import AgentId, TaskId
from meshos.node.api.shapes import (
    AgentView,
    Caller,
    CallRequest,
    Deploy,
    Deployed,
    Discovered,
    DiscoverQuery,
    EventStream,
    Explanation,
    Health,
    HostedAgent,
    Json,
    LedgerHead,
    MembersView,
    NodeRemoved,
    OrgNodesView,
    Published,
    RoomQuote,
    StatusView,
    TaskView,
    Undeployed,
)


class LedgerService(Protocol):
    """The ledger, for the API; see the module's text."""

    async def head(self) -> LedgerHead:
        """The newest block that this node has."""
        ...

    async def block(self, height: int) -> Json:
        """A block, who signed it, and what became of its transactions; raises Refused ``no-such-block``."""
        ...

    async def account(self, did: str) -> Json:
        """An organisation's balance and tabs; raises BadInput ``bad-did``, Refused ``no-such-account``."""
        ...

    async def knows(self, key: str) -> bool:
        """Whether ``transfer`` was asked for under this ``key`` before, so that it would only tell what became of that."""
        ...

    async def transfer(self, to: str, micro: int, key: str, timeout_s: float) -> Json:
        """Move MESH of this node's organisation, once for one ``key``; returns when it is committed. Raises Failed by the ledger's refusal,
        Unreachable ``unknown-yet``.
        """
        ...

    async def submit(self, request: bytes, timeout_s: float) -> Json:
        """Have a transaction ordered that was signed elsewhere; as ``transfer``."""
        ...

    async def transaction(self, text: str) -> Json:
        """What became of a transaction; raises BadInput ``bad-transaction-id``, Refused ``no-such-transaction``."""
        ...

    async def key(self, name: str) -> Json:
        """What the ledger knows of a key, and the nonce of its next transaction; raises Refused ``no-such-ledger-key``."""
        ...

    async def org(self, did: str) -> Json:
        """An organisation's keys and its seat; raises BadInput ``bad-did``, Refused ``no-such-org``."""
        ...

    async def close_tab(self, text: str) -> Json:
        """Begin to close a tab that this node pays on, by its id or how that begins; raises BadInput ``bad-tab-id`` or ``ambiguous-id``,
        Refused ``tab-not-open``, ``not-your-tab`` or ``tab-in-use``, Unreachable ``unknown-yet``.
        """
        ...

    async def proof(self, key: str) -> bytes:
        """What proves the value of a key of the ledger; raises Refused ``proof-not-yet``."""
        ...


class RoomService(Protocol):
    """Room in the directory, and what it costs, for the API; see the module's text."""

    async def room(self, did: str) -> Json:
        """How much room an organisation has, until when, and what more costs; raises BadInput ``bad-did``."""
        ...

    async def quote(self, records: int, days: int) -> RoomQuote:
        """What room for ``records`` for ``days`` costs beyond what is paid for; raises Refused ``rent-not-needed`` or
        ``rent-out-of-bounds``.
        """
        ...

    async def rent(self, quote: RoomQuote, key: str, timeout_s: float) -> Json:
        """Rent that in the name of this node's organisation; as ``LedgerService.transfer``."""
        ...


class DecisionService(Protocol):
    """Autonomous decisions, for the API; see the module's text."""

    async def approvals(self, *, open_only: bool) -> Json:
        """The decisions that wait, oldest first, then those that have ended, newest first."""
        ...

    async def quarantine(self, after: str) -> Json:
        """Who is in quarantine, in the order of their ids, those after ``after``."""
        ...

    async def approval(self, text: str) -> Json:
        """One decision by its id, or how that begins; raises BadInput ``bad-decision-id`` or ``ambiguous-id``, Refused
        ``no-such-decision``.
        """
        ...

    async def propose(self, action: Sequence[object], reason: str, key: str, timeout_s: float) -> Json:
        """Propose ``[kind, what]`` in the name of this node's organisation, once for one ``key``; returns when it is committed, with the
        decision as it is then. Raises Refused or Failed by the ledger's refusal, Unreachable ``unknown-yet``.
        """
        ...

    async def judge(self, text: str, act: str, reason: str, key: str, timeout_s: float) -> Json:
        """Approve or reject a decision in the name of this node's organisation; as ``propose``."""
        ...


class ProposalService(Protocol):
    """Motions, which the voting organisations decide, for the API; see the module's text."""

    async def proposals(self, *, open_only: bool) -> Json:
        """The motions that wait for votes, then those that have ended, newest first."""
        ...

    async def proposal(self, text: str) -> Json:
        """One motion by its id, or how that begins; raises BadInput ``bad-proposal-id`` or ``ambiguous-id``, Refused
        ``no-such-proposal``.
        """
        ...

    async def move(self, kind: str, what: object, key: str, timeout_s: float) -> Json:
        """Move ``what`` (JSON) of ``kind`` in the name of this node's organisation; as ``DecisionService.propose``."""
        ...

    async def vote(self, text: str, choice: str, key: str, timeout_s: float) -> Json:
        """Vote ``for`` or ``against`` a motion in the name of this node's organisation; as ``move``. ``abstain`` is Refused ``not-yet``."""
        ...


class NodeService(Protocol):
    """See the module's text. The API has checked the key's role, its rate and the sizes before it calls."""

    # -- agents ------------------------------------------------------------------------------------------------------

    async def deploy(self, deploy: Deploy, caller: Caller) -> Deployed:
        """Start the agent, read its tools, sign and publish its record; (org, name) again raises its version."""
        ...

    async def undeploy(self, agent_id: AgentId, caller: Caller) -> Undeployed:
        """End the agent of this org and bury its record; raises Refused ``no-such-agent``."""
        ...

    async def agents(self, caller: Caller) -> tuple[HostedAgent, ...]:
        """The agents of this node's org."""
        ...

    async def agent(self, agent_id: AgentId, caller: Caller) -> AgentView:
        """The record of any org's agent; raises Refused ``no-such-agent``.

        ``agent_id`` may be the beginning of an id; BadInput ``ambiguous-id`` if several begin with it. The same holds for
        the ids of ``task``, ``cancel`` and ``explain``.
        """
        ...

    async def publish(self, lines: Sequence[str], caller: Caller) -> Published:
        """Publish agents that run elsewhere, a JSON object a line; a bad line is refused, the others are taken."""
        ...

    # -- discovery and tasks -----------------------------------------------------------------------------------------

    async def discover(self, query: DiscoverQuery, caller: Caller) -> Discovered:
        """The agents of all orgs that fit the question best, or that are most like an agent. Raises BadInput ``bad-cursor``, ``bad-did``,
        Refused ``no-such-agent``."""
        ...

    async def call(self, request: CallRequest, caller: Caller) -> TaskView:
        """Run a task; cancelling this cancels the task. A task that failed is an answer, not an exception.

        Charges ``caller.purse``. The service owns deduplication by (caller, agent, idempotency key) over restarts; the
        same key with other contents raises Refused ``idempotency-conflict``.
        """
        ...

    async def task(self, task_id: TaskId, caller: Caller) -> TaskView:
        """A task of this org, as caller or provider; raises Refused ``no-such-task``."""
        ...

    async def cancel(self, task_id: TaskId, caller: Caller) -> TaskView:
        """Stop a task that runs; one that has ended stays as it ended."""
        ...

    # -- the organisation's nodes --------------------------------------------------------------------------------------

    async def org_nodes(self) -> OrgNodesView:
        """The nodes of this node's organisation, as its leader sees them."""
        ...

    async def remove_node(self, node: str, caller: Caller) -> NodeRemoved:
        """Remove a node of this node's organisation for good; ``node`` is its id, how that begins, or its name. Again changes nothing.

        Raises BadInput ``no-such-node`` or ``ambiguous-id``, Refused ``last-node``, Unreachable ``removal-unfinished``.
        """
        ...

    # -- the mesh ----------------------------------------------------------------------------------------------------

    async def members(self) -> MembersView:
        """All nodes as this one sees them."""
        ...

    async def status(self) -> StatusView:
        """How this node does."""
        ...

    async def explain(self, subject: str, caller: Caller) -> Explanation:
        """Why: of an agent, a task, a node by id; raises Refused ``nothing-to-explain``."""
        ...

    async def explain_score(self, agent_id: AgentId, query: DiscoverQuery, caller: Caller) -> Explanation:
        """Why an agent has its score for a question; raises Refused ``no-such-agent`` and what ``discover`` raises."""
        ...

    async def did_document(self, did: str) -> Json:
        """The W3C DID document of an org; raises Refused ``no-such-did`` or BadInput ``bad-did``."""
        ...

    async def agent_card(self) -> Json:
        """The A2A card of this node, for anybody."""
        ...

    @property
    def ledger(self) -> "LedgerService":
        """The ledger, as this node's replica has it."""
        ...

    @property
    def rooms(self) -> "RoomService":
        """Room in the directory, as this node's replica has it."""
        ...

    @property
    def decisions(self) -> "DecisionService":
        """Autonomous decisions, as this node's replica has them."""
        ...

    @property
    def proposals(self) -> "ProposalService":
        """Motions, as this node's replica has them."""
        ...

    # -- watching ----------------------------------------------------------------------------------------------------

    def events(self, since: str | None) -> EventStream:
        """What happens from now on, or after the event ``since``; ``EventLog`` (event_log.py) does this."""
        ...

    def metrics(self) -> bytes:
        """The node's metrics, Prometheus text format 0.0.4."""
        ...

    def healthy(self) -> Health:
        """Whether the process should go on (else: restart it)."""
        ...

    def ready(self) -> Health:
        """Whether the node can serve its users now."""
        ...
