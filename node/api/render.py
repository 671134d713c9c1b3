"""The answers as JSON objects, with the names of CONTRACT.md."""

from meshos.node.api.amounts import text
from meshos.node.api.keys import Key
from meshos.node.api.shapes import (
    AgentView,
    Counted,
    Deployed,
    Discovered,
    Event,
    Explanation,
    GroupView,
    Health,
    HostedAgent,
    Json,
    LedgerHead,
    MembersView,
    MemberView,
    NodeRemoved,
    OrgNodesView,
    PathView,
    Published,
    StatusView,
    TaskView,
    Undeployed,
)
from meshos.times import rfc3339

Object = dict[str, object]


def agent(view: AgentView) -> Object:
    """The agent record."""
    price, seen = view.pricing, view.availability
    record: Object = {
        "agentId": view.agent_id,
        "meshId": view.mesh_id,
        "name": view.name,
        "description": view.description,
        "capabilities": view.capabilities,
        "specializations": view.specializations,
        "models": view.models,
        "certifications": view.certifications,
        "trustScore": view.trust_score,
        "pricing": {
            "perQuery": None if price.per_query_micro is None else text(price.per_query_micro),
            "perHour": None if price.per_hour_micro is None else text(price.per_hour_micro),
        },
        "availability": {"uptime": seen.uptime, "avgLatency": seen.avg_latency_ms, "region": seen.region},
        "lastUpdated": rfc3339(view.last_updated_ms),
        "tasks": [
            {
                "name": kind.name,
                "description": kind.description,
                "inputSchema": kind.input_schema,
                "readOnly": kind.read_only,
                "idempotent": kind.idempotent,
            }
            for kind in view.tasks
        ],
        "version": view.version,
        "embeddingModel": view.embedding_model,
        "trustEvidence": view.trust_evidence,
        "signature": view.signature,
        "quarantined": view.quarantined,
    }
    if view.embeddings is not None:
        record["embeddings"] = view.embeddings
    return record


def hosted(agents: tuple[HostedAgent, ...]) -> Object:
    """GET /v1/agents."""
    return {
        "agents": [
            {
                **agent(one.record),
                "state": one.state,
                "replicas": {"wanted": one.replicas_wanted, "running": one.replicas_running},
                "note": one.note,
            }
            for one in agents
        ]
    }


def deployed(one: Deployed) -> Object:
    """POST /v1/agents."""
    replicas = {"replicasRunning": one.replicas_running, "replicasWanted": one.replicas_wanted}
    return {**agent(one.record), **replicas, "nodes": one.nodes, "nodeRegion": one.region, "took_ms": round(one.took_ms, 1)}


def undeployed(one: Undeployed) -> Object:
    """DELETE /v1/agents/{id}."""
    return {"agentId": one.agent_id, "name": one.name}


def discovered(answer: Discovered) -> Object:
    """POST /v1/discover. ``facets`` is there only when it was asked for."""
    said: Object = {
        "agents": [
            {
                **agent(one.record),
                "score": round(one.score, 4),
                "matched": one.matched,
                "alike": one.alike,
                "alikeCount": one.alike_count,
            }
            for one in answer.agents
        ],
        "complete": answer.complete,
        "cellsAsked": answer.cells_asked,
        "cellsMissing": answer.cells_missing,
        "cursor": answer.cursor,
    }
    return said if answer.facets is None else said | {"facets": _counted(answer.facets)}


def _counted(facets: Counted) -> Object:
    kinds = {"capabilities": facets.capabilities, "certifications": facets.certifications, "regions": facets.regions}
    return {"agents": facets.agents, **{kind: [{"value": value, "agents": count} for value, count in rows] for kind, rows in kinds.items()}}


def published(answer: Published) -> Object:
    """POST /v1/publish."""
    return {
        "accepted": len(answer.agents),
        "agentIds": list(answer.agents),
        "refused": [{"line": one.line, "name": one.name, "detail": one.detail} for one in answer.refused],
    }


def task_head(view: TaskView) -> Object:
    """A task without its result."""
    error = view.error
    return {
        "taskId": view.task_id,
        "agentId": view.agent_id,
        "status": view.status,
        "error": None if error is None else {"name": error.name, "detail": error.detail, "hint": error.hint, "outcome": error.outcome},
        "receipt": view.receipt,
        "timing": {
            "total_ms": round(view.timing.total_ms, 3),
            "tool_ms": None if view.timing.tool_ms is None else round(view.timing.tool_ms, 3),
        },
        "node": view.node,
        "cost": text(view.cost_micro),
    }


def member(view: MemberView) -> Object:
    """One node."""
    return {
        "node_id": view.node_id,
        "name": view.name,
        "org": view.org,
        "region": view.region,
        "state": view.state,
        "incarnation": view.incarnation,
        "since_ms": round(view.since_ms),
        "load": view.load,
        "version": view.version,
        "addresses": view.addresses,
        "note": view.note,
        "paths": [path(one) for one in view.paths],
    }


def path(view: PathView) -> Object:
    """One connection to a node."""
    return {
        "path": view.path,
        "carries": view.carries,
        "why": view.why,
        "rtt_ms": None if view.rtt_ms is None else round(view.rtt_ms, 3),
        "loss": round(view.loss, 4),
        "via": view.via,
    }


def members(view: MembersView) -> Object:
    """GET /v1/members."""
    return {"members": [member(one) for one in view.members], "seenBy": view.seen_by}


def ledger_head(head: LedgerHead) -> Object:
    """GET /v1/ledger/head."""
    return {
        "height": head.height,
        "hash": head.hash,
        "stateRoot": head.state_root,
        "view": head.view,
        "primary": head.primary,
        "time": rfc3339(head.time_ms),
        "epoch": head.epoch,
        "validators": head.validators,
        "quorum": head.quorum,
        "votes": head.votes,
        "silent": head.silent or None,
        "behind": head.behind,
        "waiting": head.waiting,
    }


def ledger_block(block: Json) -> Object:
    """GET /v1/ledger/blocks/{h}."""
    return dated(block, "time_ms", "time") | {"transactions": [ledger_transaction(tx) for tx in _objects(block["transactions"])]}


def ledger_transaction(tx: Json) -> Object:
    """GET /v1/transactions/{id}."""
    return dated(tx, "expires_ms", "expires") if "expires_ms" in tx else dict(tx)


def account(view: Json) -> Object:
    """GET /v1/accounts/{did}: amounts as decimal MESH."""
    return _amounts(view, "balance") | {"tabs": [tab(one) for one in _objects(view["tabs"])]}


def tab(view: Json) -> Object:
    """One of an account's tabs; DELETE /v1/tabs/{id}."""
    return _amounts(dated(view, "closes_ms", "closes"), "reserved", "redeemed")


def room(view: Json) -> Object:
    """GET /v1/directory/rooms/{did}."""
    return _amounts(dated(view, "time_ms", "time"), "price") | _rented(view)


def rent(view: Json) -> Object:
    """POST /v1/directory/rooms."""
    return _amounts(dated(view, "until_ms", "until"), "paid") | _rented(view)


def _rented(view: Json) -> Object:
    return {"rented": [dated(one, "until_ms", "until") for one in _objects(view["rented"])]}


def ledger_org(view: Json) -> Object:
    """GET /v1/ledger/orgs/{did}."""
    return dated(dated(dated(view, "joined_ms", "joined"), "left_ms", "left"), "time_ms", "time")


def approvals(view: Json) -> Object:
    """GET /v1/approvals."""
    rest = dated(dated(view, "time_ms", "time"), "pausedUntil_ms", "pausedUntil")
    return rest | {"approvals": [_decision(one) for one in _objects(view["approvals"])]}


def quarantine(view: Json) -> Object:
    """GET /v1/quarantine."""
    return dated(view, "time_ms", "time") | {"quarantined": [dated(one, "since_ms", "since") for one in _objects(view["quarantined"])]}


def approval(view: Json) -> Object:
    """GET /v1/approvals/{id}."""
    rest = dated(dated(_decision(view), "time_ms", "time"), "pausedUntil_ms", "pausedUntil")
    return rest | {"trail": [dated(entry, "time_ms", "time") for entry in _objects(view["trail"])]}


def proposals(view: Json) -> Object:
    """GET /v1/proposals."""
    return dated(view, "time_ms", "time") | {"proposals": [_decision(one) for one in _objects(view["proposals"])]}


def proposal(view: Json) -> Object:
    """GET /v1/proposals/{id}."""
    return dated(_decision(view), "time_ms", "time") | {"trail": [dated(entry, "time_ms", "time") for entry in _objects(view["trail"])]}


def _decision(view: Json) -> Object:
    return dated(dated(view, "expires_ms", "expires"), "ended_ms", "ended")


def dated(of: Json, ms: str, name: str) -> Object:
    """The same with the time under ``ms`` as RFC 3339 under ``name``."""
    rest: Object = {key: value for key, value in of.items() if key != ms}
    at = of[ms]
    return rest | {name: rfc3339(at) if isinstance(at, int) else None}


def _amounts(of: Json, *names: str) -> Object:
    rest: Object = {key: value for key, value in of.items() if key.removesuffix("_micro") not in names}
    for name in names:
        micro = of[f"{name}_micro"]
        assert isinstance(micro, int)
        rest[name] = text(micro)
    return rest


def _objects(value: object) -> list[Json]:
    assert isinstance(value, list)
    return value


def org_nodes(view: OrgNodesView) -> Object:
    """GET /v1/org/nodes."""
    nodes = [
        {"node_id": one.node_id, "name": one.name, "role": one.role, "leader": one.leads, "lag": one.lag, "state": one.state}
        for one in view.nodes
    ]
    return {"nodes": nodes, "leader": view.leader, "term": view.term, "commit": view.commit, "canLose": view.can_lose}


def node_removed(done: NodeRemoved) -> Object:
    """DELETE /v1/org/nodes/{id}."""
    return {"node_id": done.node_id, "name": done.name, "changed": done.changed}


def group(view: GroupView | None) -> Object | None:
    """What a node knows of its organisation's group."""
    if view is None:
        return None
    return {
        "leader": view.leader,
        "leads": view.leads,
        "role": view.role,
        "term": view.term,
        "commit": view.commit,
        "lag": view.lag,
        "voters": view.voters,
        "votersAlive": view.voters_alive,
        "learners": view.learners,
        "canLose": view.can_lose,
    }


def status(view: StatusView) -> Object:
    """GET /v1/status. ``ledger`` is null until there is one. ``cells`` of the directory is null while it is whole, ``cellsFrom`` unless
    the mesh has decided for cells meanwhile: at so many records they come."""
    return {
        "node_id": view.node_id,
        "name": view.name,
        "org": view.org,
        "region": view.region,
        "version": view.version,
        "genesis": view.genesis,
        "health": "degraded" if view.problems else "healthy",
        "problems": view.problems,
        "up_ms": round(view.up_ms),
        "members": dict(view.members),
        "agents": {"hosted": view.agents_hosted, "running": view.agents_running},
        "directory": {"records": view.records, "cells": view.cells, "cellsFrom": view.cells_from},
        "tasks": {
            "running": view.tasks_running,
            "waiting": view.tasks_waiting,
            "notes": view.waiting_notes,
            "perSecond": round(view.calls_per_s, 2),
            "p95_ms": view.call_p95_ms,
        },
        "group": group(view.group),
        "p2p": list(view.p2p),
        "strangers": view.strangers,
        "links": dict(view.links),
        "ledger": None if view.ledger is None else ledger_head(view.ledger),
        "humans": {
            "approvalsWaiting": view.approvals_waiting,
            "proposalsWaiting": view.proposals_waiting,
            "pausedUntil": None if view.paused_until_ms is None else rfc3339(view.paused_until_ms),
        },
        "process": {"rssBytes": view.rss_bytes, "loopLag_ms": round(view.loop_lag_ms, 2)},
    }


def explanation(view: Explanation) -> Object:
    """GET and POST /v1/explain/{id}."""
    return {"subject": view.subject, "kind": view.kind, "lines": view.lines, "facts": view.facts}


def event(view: Event) -> Object:
    """One event of GET /v1/events."""
    return {"id": view.id, "kind": view.kind, "time": rfc3339(view.at_ms), "text": view.text, "data": view.data}


def health(view: Health) -> Object:
    """GET /healthz and /readyz."""
    return {"ok": view.ok, "problems": view.problems}


def key(one: Key) -> Object:
    """An API key, without what opens it."""
    return {
        "id": one.id,
        "name": one.name,
        "role": one.role,
        "budget": None if one.budget_micro is None else text(one.budget_micro),
        "spent": text(one.spent_micro),
        "agentId": one.agent,
    }
