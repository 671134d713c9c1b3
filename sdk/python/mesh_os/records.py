"""What a mesh answers: agents and tasks, with the names of the HTTP API. Unknown members are ignored: a mesh only ever adds some."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from mesh_os.errors import Failed, MeshError, Unreachable

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

Status = Literal["running", "completed", "failed", "cancelled", "expired", "outcome_unknown"]


@dataclass(frozen=True, slots=True)
class TaskKind:
    """One task of an agent. ``inputSchema`` is the JSON Schema of its data; the hints are None where the agent gives none."""

    name: str
    description: str
    inputSchema: Json
    readOnly: bool | None
    idempotent: bool | None


@dataclass(frozen=True, slots=True)
class Pricing:
    """MESH as decimal text; None where nothing is asked."""

    perQuery: str | None
    perHour: str | None


@dataclass(frozen=True, slots=True)
class Availability:
    """What the mesh measured: ``uptime`` 0 to 1, ``avgLatency`` in milliseconds; None before there was anything to measure."""

    uptime: float | None
    avgLatency: float | None
    region: str


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent of any organisation (``meshId`` is the organisation's DID). ``score`` and ``matched`` are there after a search, as is how
    many others of its organisation it stands for that say nearly the same (``alikeCount``, the ids of some in ``alike``)."""

    agentId: str
    meshId: str
    name: str
    description: str
    capabilities: list[str]
    specializations: list[str]
    models: list[str]
    certifications: list[str]
    trustScore: float
    trustEvidence: int
    pricing: Pricing
    availability: Availability
    tasks: list[TaskKind]
    version: int
    lastUpdated: str
    embeddingModel: str
    signature: str
    embeddings: list[float] | None = None
    score: float | None = None
    matched: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    alikeCount: int = 0

    def task(self, name: str) -> TaskKind | None:
        """The task called ``name``."""
        return next((kind for kind in self.tasks if kind.name == name), None)


class Found(list[AgentRecord]):
    """Agents, best first. ``complete`` is False when some of those asked (``cellsMissing`` of ``cellsAsked``) did not answer.

    ``cursor`` gets the next page; None at the end. ``facets`` is there if it was asked for: how many of all ``agents`` that fulfil the
    filters have which ``capabilities``, ``certifications`` and ``regions``, each a list of {value, agents}.
    """

    def __init__(
        self,
        agents: Iterable[AgentRecord],
        *,
        complete: bool,
        cellsAsked: int,
        cellsMissing: int,
        cursor: str | None = None,
        facets: Json | None = None,
    ) -> None:
        super().__init__(agents)
        self.complete, self.cellsAsked, self.cellsMissing = complete, cellsAsked, cellsMissing
        self.cursor, self.facets = cursor, facets


@dataclass(frozen=True, slots=True)
class Task:
    """A task and how it ended. ``result`` is the tool's structured content, else its text, else its content list."""

    taskId: str
    agentId: str
    status: Status
    result: Any
    error: Json | None
    receipt: Json | None
    timing: Json
    node: str
    cost: str

    def value(self) -> Any:
        """``result``; raises what it means that there is none."""
        if self.status == "completed":
            return self.result
        raise self.trouble()

    def trouble(self) -> MeshError:
        """The error that stands for a task without a result."""
        told = self.error or {}
        name, detail, hint = (str(told.get(member) or "") for member in ("name", "detail", "hint"))
        if self.status == "outcome_unknown":
            detail = detail or "it is unknown whether the task was done"
            return Unreachable(name or "outcome-unknown", detail, hint=hint or "look before you repeat it", outcome="unknown")
        if self.status == "running":
            return Unreachable(
                "still-running", "the task has not ended yet", hint="ask for it later with os.task(taskId)", outcome="unknown"
            )
        return Failed(name or f"task-{self.status}", detail or f"the task ended as {self.status}", hint=hint, outcome="done")


def agent(value: Json) -> AgentRecord:
    """An agent record from JSON; raises Unreachable ``bad-answer``."""
    try:
        pricing, availability = value.get("pricing") or {}, value.get("availability") or {}
        return AgentRecord(
            agentId=str(value["agentId"]),
            meshId=str(value["meshId"]),
            name=str(value["name"]),
            description=str(value.get("description", "")),
            capabilities=_texts(value, "capabilities"),
            specializations=_texts(value, "specializations"),
            models=_texts(value, "models"),
            certifications=_texts(value, "certifications"),
            trustScore=float(value.get("trustScore", 50)),
            trustEvidence=int(value.get("trustEvidence", 0)),
            pricing=Pricing(pricing.get("perQuery"), pricing.get("perHour")),
            availability=Availability(availability.get("uptime"), availability.get("avgLatency"), str(availability.get("region", ""))),
            tasks=[_kind(one) for one in value.get("tasks") or []],
            version=int(value.get("version", 0)),
            lastUpdated=str(value.get("lastUpdated", "")),
            embeddingModel=str(value.get("embeddingModel", "")),
            signature=str(value.get("signature", "")),
            embeddings=value.get("embeddings"),
            score=value.get("score"),
            matched=_texts(value, "matched"),
            alike=_texts(value, "alike"),
            alikeCount=int(value.get("alikeCount", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise bad_answer() from error


def found(value: Json) -> Found:
    """The answer to a search; raises Unreachable ``bad-answer``."""
    try:
        agents = [agent(one) for one in value["agents"]]
        return Found(
            agents,
            complete=value.get("complete") is True,
            cellsAsked=int(value.get("cellsAsked", 0)),
            cellsMissing=int(value.get("cellsMissing", 0)),
            cursor=value.get("cursor"),
            facets=value.get("facets"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise bad_answer() from error


def task(value: Json) -> Task:
    """A task from JSON; raises Unreachable ``bad-answer``."""
    try:
        return Task(
            taskId=str(value["taskId"]),
            agentId=str(value["agentId"]),
            status=cast(Status, _text(value["status"])),
            result=value.get("result"),
            error=_object(value.get("error")),
            receipt=_object(value.get("receipt")),
            timing=_object(value.get("timing")) or {},
            node=str(value.get("node", "")),
            cost=str(value.get("cost", "0")),
        )
    except (KeyError, TypeError) as error:
        raise bad_answer() from error


def bad_answer() -> Unreachable:
    """Whatever answered is no node, or one of another world."""
    return Unreachable("bad-answer", "what answers there is no node of a mesh", hint="look at the node's address", outcome="unknown")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text that is none")
    return value


def _object(value: Any) -> Json | None:
    if not (value is None or isinstance(value, dict)):
        raise TypeError("an object that is none")
    return value


def _texts(value: Mapping[str, Any], name: str) -> list[str]:
    return [str(one) for one in value.get(name) or []]


def _kind(value: Mapping[str, Any]) -> TaskKind:
    return TaskKind(
        str(value["name"]),
        str(value.get("description", "")),
        _object(value.get("inputSchema")) or {},
        value.get("readOnly"),
        value.get("idempotent"),
    )
