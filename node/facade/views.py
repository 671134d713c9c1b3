"""From what machines and Flows hold to what the API shows."""

from collections.abc import Callable
from typing import TypeAlias

from meshos import cbor
from meshos.consensus.org.commands import Ended, Problem
from meshos.errors import MeshError
from meshos.ids import AgentId, NodeId
from meshos.node.api import shapes
from meshos.node.api.amounts import text
from meshos.node.facade import linking
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.limits import CELLS_FROM
from meshos.protocols.directory.parts import Agreed, Measured
from meshos.protocols.directory.record import AgentRecord, Sealed
from meshos.protocols.leader.wire import AgentProcesses
from meshos.protocols.membership.events import MemberView
from meshos.protocols.tasks.call import CallRequest, TaskResult
from meshos.protocols.tasks.receipt import SignedReceipt, decode_receipt
from meshos.protocols.tasks.tools import Tool
from meshos.times import rfc3339

NameOf: TypeAlias = Callable[[NodeId], str | None]
"""What a member calls itself; None of a node that is no member."""

SCHEMA_BYTES = 1 << 20


def cells(layout: Layout, agreed: Agreed) -> tuple[int | None, int | None]:
    """In how many cells the directory lies (None while it is whole), and at how many records it is cut where the mesh wants that."""
    if layout.codebook is not None:
        return layout.codebook.cells, None
    return None, CELLS_FROM if agreed.in_cells else None


def agent_view(
    sealed: Sealed, record: AgentRecord, measured: Measured, *, embeddings: bool = False, quarantined: bool = False
) -> shapes.AgentView:
    """A record with what the mesh measured beside it."""
    profile = record.profile
    return shapes.AgentView(
        agent_id=record.agent_id,
        mesh_id=record.mesh_id,
        name=profile.name,
        description=profile.description,
        capabilities=profile.capabilities,
        specializations=profile.specializations,
        models=profile.models,
        certifications=profile.certifications,
        trust_score=measured.trust_score,
        trust_evidence=measured.trust_evidence,
        pricing=shapes.Pricing(profile.per_query or None, profile.per_hour or None),
        availability=shapes.Availability(measured.uptime, measured.avg_latency_ms, profile.region),
        tasks=tuple(_task_kind(tool) for tool in profile.tasks),
        version=record.version,
        embedding_model=record.embedding_model,
        last_updated_ms=record.updated_ms,
        signature=sealed.signature.hex(),
        embeddings=tuple(float(number) for number in record.embeddings()) if embeddings else None,
        quarantined=quarantined,
    )


def _task_kind(tool: Tool) -> shapes.TaskKind:
    schema = cbor.decode(tool.schema, max_bytes=SCHEMA_BYTES)
    assert isinstance(schema, dict)  # checked when the record was taken in
    return shapes.TaskKind(tool.name, tool.description, schema, tool.read_only, tool.idempotent)


def hosted(view: shapes.AgentView, processes: AgentProcesses | None, wanted: int, *, elsewhere: bool) -> shapes.HostedAgent:
    """An agent of this organisation, and how its processes do where they run."""
    found = processes or AgentProcesses(view.agent_id, 0, 0, 0, "")
    state: shapes.AgentState = "running"
    if elsewhere:
        state = "elsewhere"
    elif not found.count:
        state = "stopped"
    elif not found.ready:
        state = "failed" if found.given_up == found.count else "restarting" if found.note else "starting"
    return shapes.HostedAgent(view, state, wanted, found.ready, found.note)


def member_view(view: MemberView, name_of: NameOf, now: float, paths: tuple[shapes.PathView, ...] = ()) -> shapes.MemberView:
    """A member as this node sees it."""
    accusers = sorted(name_of(accusation.accuser) or accusation.accuser for accusation in view.accusations)
    notes = [f"accused by {', '.join(accusers)}"] if accusers else []
    if view.unroutable_in_s is not None:
        notes.append(f"in {max(0.0, view.unroutable_in_s):.0f} s no more work is sent to it")
    elif not view.routable and view.state in ("alive", "suspect"):
        notes.append("no work is sent to it")
    if (changed := linking.changed(paths, name_of)) is not None:
        notes.append(changed)
    facts = view.facts
    if facts.anchors:
        notes.append(f"reached through {', '.join(name_of(node) or node for node in facts.anchors)}")
    return shapes.MemberView(
        node_id=view.node_id,
        name=view.name,
        org=view.org,
        region=view.region,
        state=view.state,
        incarnation=view.incarnation,
        since_ms=max(0.0, now - view.since) * 1000,
        load=facts.load_permille / 1000 if view.state == "alive" else None,
        version=facts.version,
        addresses=tuple(address for address in (facts.link, facts.gossip, facts.api) if address),
        note="; ".join(notes),
        paths=paths,
    )


def task_view(result: TaskResult, total_ms: float, name_of: NameOf) -> shapes.TaskView:
    """A task that was called from here and has ended."""
    receipt = None if result.receipt is None else decode_receipt(result.receipt.payload)
    tool_ms = float(result.ended_ms - result.started_ms) if result.ended_ms else None
    return shapes.TaskView(
        task_id=result.task,
        agent_id=result.agent,
        status=result.status,
        result=result.result,
        error=None if result.problem is None else task_error(result.problem),
        receipt=None if result.receipt is None else receipt_json(result.receipt),
        timing=shapes.Timing(total_ms, tool_ms),
        node="" if receipt is None else name_of(receipt.provider.node) or receipt.provider.node,
        cost_micro=0 if receipt is None else receipt.price_micro,
    )


def task_raised(asked: CallRequest, error: MeshError) -> shapes.TaskView:
    """A task that was called from here, and of which nothing came back but ``error``."""
    status: shapes.TaskStatus = "outcome_unknown" if error.outcome == "unknown" else "failed"
    return shapes.TaskView(asked.task, asked.agent, status, error=task_error(error))


def served_view(ended: Ended, agent: AgentId, name_of: NameOf) -> shapes.TaskView:
    """A task that this organisation has run for somebody."""
    node = decode_receipt(ended.receipt).provider.node if ended.receipt else None
    took = float(ended.ended_ms - ended.intent.at_ms)
    return shapes.TaskView(
        task_id=ended.intent.task,
        agent_id=agent,
        status=ended.status,
        result=ended.result,
        error=None if ended.problem is None else task_error(ended.problem),
        receipt=receipt_json(SignedReceipt(ended.receipt, ended.signature, ended.countersignature)) if ended.receipt else None,
        timing=shapes.Timing(took, took),
        node="" if node is None else name_of(node) or node,
        cost_micro=ended.owed_micro,
    )


def task_error(problem: Problem | MeshError) -> shapes.TaskError:
    """Why a task has no result."""
    return shapes.TaskError(problem.name, problem.detail, problem.hint, problem.outcome)


def receipt_json(signed: SignedReceipt) -> shapes.Json:
    """A receipt for people and programs: its content in the forms of CONTRACT.md, and the signed bytes to check it by."""
    receipt = decode_receipt(signed.payload)
    return {
        "taskId": receipt.task,
        "agentId": receipt.agent,
        "caller": receipt.caller.node,
        "callerOrg": receipt.caller.org,
        "provider": receipt.provider.node,
        "providerOrg": receipt.provider.org,
        "status": receipt.status,
        "requestHash": receipt.request_hash.hex(),
        "resultHash": receipt.result_hash.hex(),
        "resultBytes": receipt.result_size,
        "price": text(receipt.price_micro),
        "time": rfc3339(receipt.at_ms),
        "signed": signed.payload.hex(),
        "signature": signed.signature.hex(),
        "countersignature": signed.countersignature.hex(),
    }
