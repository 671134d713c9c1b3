"""Which paths there are, what each needs, and what waits for later."""

from dataclasses import dataclass
from typing import Literal

from meshos.node.api.keys import Right


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: ``handler`` names the method of ``Api``; ``right`` None: public."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: str
    right: Right | None
    summary: str


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", "healthz", None, "Should the process go on?"),
    Route("GET", "/readyz", "readyz", None, "Can the node serve its users?"),
    Route("GET", "/openapi.json", "openapi", None, "This API for programs"),
    Route("GET", "/docs", "docs", None, "This API for people"),
    Route("GET", "/.well-known/agent-card.json", "agent_card", None, "A2A card"),
    Route("GET", "/1.0/identifiers/{did}", "did_document", None, "DID resolution"),
    Route("GET", "/metrics", "metrics", "look", "Prometheus metrics"),
    Route("GET", "/v1/status", "status", "look", "This node"),
    Route("GET", "/v1/members", "members", "look", "The nodes of the mesh"),
    Route("GET", "/v1/events", "events", "look", "Server-sent events"),
    Route("GET", "/v1/org/nodes", "org_nodes", "look", "The nodes of this node's org"),
    Route("DELETE", "/v1/org/nodes/{id}", "remove_node", "operate", "Remove a node of this node's org"),
    Route("GET", "/v1/agents", "agents", "find", "The agents of this node's org"),
    Route("GET", "/v1/agents/{id}", "agent", "find", "An agent's record"),
    Route("GET", "/v1/explain/{id}", "explain", "find", "Why"),
    Route("POST", "/v1/explain/{id}", "explain_score", "find", "Why an agent has its score for a question"),
    Route("POST", "/v1/discover", "discover", "find", "Find agents"),
    Route("POST", "/v1/tasks", "call", "call", "Run a task"),
    Route("GET", "/v1/tasks/{id}", "task", "call", "A task"),
    Route("DELETE", "/v1/tasks/{id}", "cancel", "call", "Cancel a task"),
    Route("POST", "/v1/agents", "deploy", "operate", "Deploy an agent"),
    Route("DELETE", "/v1/agents/{id}", "undeploy", "operate", "Undeploy an agent"),
    Route("POST", "/v1/publish", "publish", "operate", "Publish agents that run elsewhere"),
    Route("GET", "/v1/ledger/head", "ledger_head", "look", "The newest block"),
    Route("GET", "/v1/ledger/blocks/{height}", "ledger_block", "look", "A block"),
    Route("GET", "/v1/ledger/proofs/{table}/{name}", "proof", "look", "A proof of what the ledger says of a key"),
    Route("GET", "/v1/accounts/{did}", "account", "look", "An organisation's account"),
    Route("POST", "/v1/transactions", "transact", "operate", "Have the ledger do something"),
    Route("GET", "/v1/transactions/{id}", "transaction", "look", "A transaction"),
    Route("GET", "/v1/ledger/keys/{name}", "ledger_key", "look", "A key that signs transactions"),
    Route("GET", "/v1/ledger/orgs/{did}", "ledger_org", "look", "An organisation's keys and its seat"),
    Route("GET", "/v1/directory/rooms/{did}", "room", "look", "Room for an organisation's records"),
    Route("POST", "/v1/directory/rooms", "rent", "operate", "Rent room for records"),
    Route("DELETE", "/v1/tabs/{id}", "close_tab", "operate", "Close a tab that this node pays on"),
    Route("GET", "/v1/approvals", "approvals", "look", "Autonomous decisions, and who approved them"),
    Route("POST", "/v1/approvals", "propose", "operate", "Propose an autonomous decision"),
    Route("GET", "/v1/approvals/{id}", "approval", "look", "An autonomous decision"),
    Route("POST", "/v1/approvals/{id}/approve", "approve", "operate", "Approve a decision"),
    Route("POST", "/v1/approvals/{id}/reject", "reject", "operate", "Reject a decision"),
    Route("GET", "/v1/proposals", "proposals", "look", "What the voting organisations decide"),
    Route("POST", "/v1/proposals", "move", "operate", "Move something for the voting organisations to decide"),
    Route("GET", "/v1/proposals/{id}", "proposal", "look", "A motion"),
    Route("POST", "/v1/proposals/{id}/votes", "vote", "operate", "Vote on a motion"),
    Route("GET", "/v1/quarantine", "quarantine", "look", "Who is in quarantine"),
    Route("GET", "/v1/keys", "keys", "keys", "API keys"),
    Route("POST", "/v1/keys", "make_key", "keys", "Make an API key"),
    Route("DELETE", "/v1/keys/{id}", "revoke_key", "keys", "Revoke an API key"),
)

HOT: tuple[tuple[str, str, str], ...] = (("POST", "/v1/tasks", "call"), ("POST", "/v1/discover", "discover"))
"""Served past FastAPI's own layers."""

NOT_YET: tuple[tuple[str, list[str], str], ...] = (
    ("/v1/trust/{did}", ["GET"], "measured trust"),
    ("/v1/audit", ["GET"], "the audit log"),
    ("/.well-known/ai-catalog.json", ["GET"], "the public catalogues"),
    ("/search", ["POST"], "the public catalogues"),
    ("/v0/servers", ["GET"], "the public catalogues"),
    ("/mcp", ["GET", "POST"], "the mesh as an MCP server"),
    ("/a2a", ["POST"], "the mesh as an A2A agent"),
)
"""Paths of CONTRACT.md that a later version brings, and what each waits for."""

_PLAIN: dict[tuple[str, str], Right | None] = {(route.method, route.path): route.right for route in ROUTES if "{" not in route.path}
_BELOW: tuple[tuple[str, str, Right | None], ...] = tuple(
    (route.method, route.path.partition("{")[0], route.right) for route in ROUTES if "{" in route.path
)


def need(method: str, path: str) -> Right | None:
    """The right that a request needs, None for public ones. An unknown path needs one too: strangers learn nothing."""
    if (method, path) in _PLAIN:
        return _PLAIN[(method, path)]
    for known, prefix, right in _BELOW:
        if method == known and path.startswith(prefix):
            return right
    return "find"
