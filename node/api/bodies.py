"""The bodies of POST requests: what is read, checked, and described in OpenAPI, in one place.

Unknown members are refused, since a misspelt filter that is ignored would give a wrong answer.
"""

import base64
import binascii
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meshos.consensus.ledger.limits import MAX_CHANGES, MAX_NAME_CHARS, MAX_NUMBER, MAX_REASON_BYTES, MAX_RENT_DAYS, RENT_DAYS
from meshos.errors import BadInput, Refused
from meshos.ids import AgentId
from meshos.node.api import json_text, limits
from meshos.node.api.amounts import micro
from meshos.node.api.shapes import CallRequest, Deploy, DiscoverQuery, Excluded, SentFile, Weights

Text = Annotated[str, Field(max_length=limits.TEXT_CHARS)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Amount = Annotated[str, Field(max_length=40, description="MESH, decimal, at most 6 decimals", examples=["10", "0.25"])]
Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON_BYTES, description="In one line; it stands on the ledger.")]
LedgerTime = Annotated[float, Field(gt=0, le=limits.LEDGER_S, description="seconds")]
Parameters = Annotated[
    dict[Name, Annotated[int, Field(ge=0, le=MAX_NUMBER)]],
    Field(min_length=1, max_length=MAX_CHANGES, description="Give parameters of the mesh other values: names and whole numbers."),
]
Did = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS, examples=["did:mesh:enterprise:acme"])]
Positive = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
Weight = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[list[Name], Field(max_length=64)]


class Body(BaseModel):
    """What all bodies have."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="null")

    idempotencyKey: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="A repetition with the same key gets the recorded answer; with another body it is refused (409)."
    )


class DeployBody(Body):
    """POST /v1/agents: the agent file as JSON."""

    agent: dict[str, object] = Field(description="The agent file's mapping (CONTRACT.md, 'The agent file').")
    folder: Text | None = Field(default=None, description="The agent file's folder, if it lies on the node's machine.")
    region: Name | None = None
    replicas: Annotated[int, Field(ge=1, le=100)] | None = None

    def shape(self) -> Deploy:
        """What the service is asked."""
        return Deploy(self.agent, self.folder, self.region, self.replicas, self.idempotencyKey)


class TransferBody(BaseModel):
    """MESH of this node's organisation for another."""

    model_config = ConfigDict(extra="forbid", strict=True)

    to: Name = Field(description="The DID of the organisation that gets it.")
    amount: Amount


class TransactionBody(Body):
    """POST /v1/transactions: a transfer, which this node signs, or a request that was signed elsewhere."""

    transfer: TransferBody | None = None
    request: Annotated[str, Field(max_length=limits.REQUEST_CHARS)] | None = Field(default=None, description="A signed request, base64.")
    timeout: LedgerTime = 30.0

    def signed(self) -> bytes | None:
        """The bytes of ``request``; raises BadInput ``bad-request`` unless exactly one of the two is there."""
        if (self.transfer is None) == (self.request is None):
            raise BadInput("bad-request", "give either `transfer` or `request`")
        if self.request is None:
            return None
        try:
            return base64.b64decode(self.request, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadInput("bad-request", "`request` is not base64") from error


class RentBody(Body):
    """POST /v1/directory/rooms: room for records, in the name of this node's organisation."""

    records: Positive = Field(description="Beyond the free ones, in all.")
    days: Annotated[int, Field(ge=1, le=MAX_RENT_DAYS)] = Field(default=RENT_DAYS, description="Today included; days are those of UTC.")
    atMost: Amount | None = Field(default=None, description="If it costs more, it is refused (`rent-dearer`).")
    timeout: LedgerTime = 30.0


class ActionBody(BaseModel):
    """What an autonomous decision does: one of these."""

    model_config = ConfigDict(extra="forbid", strict=True)

    quarantine: Name | None = Field(default=None, description="Put an organisation (DID), a node or an agent (id) in quarantine.")
    lift: Name | None = Field(default=None, description="Let it out again.")
    parameters: Parameters | None = None


class ProposalBody(Body):
    """POST /v1/approvals: an autonomous decision, proposed in the name of this node's organisation."""

    action: ActionBody
    reason: Reason
    timeout: LedgerTime = 30.0

    def action_fields(self) -> list[object]:
        """Its kind and what it is about; raises BadInput ``bad-request`` unless exactly one kind is there."""
        found = [[kind, value] for kind, value in self.action.model_dump(exclude_none=True).items()]
        if len(found) != 1:
            raise BadInput("bad-request", "give one action: `quarantine`, `lift` or `parameters`")
        return found[0]


class JudgementBody(Body):
    """POST /v1/approvals/{id}/approve and /reject, in the name of this node's organisation."""

    reason: Reason
    timeout: LedgerTime = 30.0


class CoordinatorBody(BaseModel):
    """Who is a meta-coordinator."""

    model_config = ConfigDict(extra="forbid", strict=True)

    did: Did
    entitled: bool = Field(description="true: it becomes one; false: it is one no longer.")


class UpgradeBody(BaseModel):
    """When other rules of the ledger take effect."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Positive
    height: Positive = Field(description="From this block on.")


class SubjectBody(BaseModel):
    """What the voting organisations decide: one of these."""

    model_config = ConfigDict(extra="forbid", strict=True)

    admit: Annotated[str, Field(max_length=limits.APPLICATION_CHARS)] | None = Field(
        default=None, description="Admit an organisation: its application, as `mesh org apply` prints it."
    )
    coordinator: CoordinatorBody | None = None
    expel: Did | None = Field(default=None, description="End the membership of an organisation (DID).")
    parameters: Parameters | None = None
    reinstate: Did | None = Field(default=None, description="Give a suspended validator's organisation (DID) its vote back.")
    upgrade: UpgradeBody | None = None


class MotionBody(Body):
    """POST /v1/proposals: a motion, in the name of this node's organisation."""

    motion: SubjectBody
    timeout: LedgerTime = 30.0

    def subject(self) -> tuple[str, object]:
        """Its kind and what it is about; raises BadInput ``bad-request`` unless exactly one kind is there."""
        found = list(self.motion.model_dump(exclude_none=True).items())
        if len(found) != 1:
            kinds = ", ".join(f"`{kind}`" for kind in SubjectBody.model_fields)
            raise BadInput("bad-request", f"a motion is one of {kinds}")
        return found[0]


class VoteBody(Body):
    """POST /v1/proposals/{id}/votes, in the name of this node's organisation."""

    choice: Literal["for", "against", "abstain"]
    timeout: LedgerTime = 30.0


class Range(BaseModel):
    """Bounds of a number, both included."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    min: float | None = None
    max: float | None = None


class ExcludeBody(BaseModel):
    """What an agent must not have to be in the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    capabilities: Names = []
    certifications: Names = []
    regions: Names = []
    organisations: Annotated[list[Did], Field(max_length=64, description="DIDs")] = []


class WeighBody(BaseModel):
    """How much what is measured counts beside how well an agent fits: 0 not at all, 1 as much."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    trust: Weight = 0.0
    latency: Weight = 0.0
    price: Weight = 0.0


class Filters(BaseModel):
    """What an agent must fulfil to be in the answer. Words are compared without regard to case."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    trustScore: Range | None = Field(default=None, description="0 to 100")
    certifications: Names = []
    capabilities: Names = []
    maxLatency: Annotated[float, Field(ge=0, description="milliseconds")] | None = None
    maxPrice: Amount | None = None
    region: Name | None = None
    exclude: ExcludeBody = ExcludeBody()


class DiscoverBody(Body):
    """POST /v1/discover: agents that fit `query`, or are like the agent `related`. One of the two is given."""

    query: Annotated[str, Field(min_length=1, max_length=limits.TEXT_CHARS)] | None = Field(
        default=None, description="What is needed, in plain words."
    )
    related: Name | None = Field(default=None, description="An agent's id, or the beginning of one: agents like this one, itself left out.")
    filters: Filters = Filters()
    weigh: WeighBody = WeighBody()
    facets: bool = Field(default=False, description="Count what all that fulfil the filters have: the 20 most frequent of each kind.")
    cursor: Annotated[str, Field(min_length=1, max_length=limits.CURSOR_CHARS)] | None = Field(
        default=None, description="The `cursor` of an answer: its next page. Of a question the 100 that rank highest can be paged."
    )
    collapse: bool = Field(
        default=True, description="Show agents of one organisation that say nearly the same as one, with `alike` and `alikeCount`."
    )
    limit: Annotated[int, Field(ge=1, le=limits.DISCOVER_LIMIT)] = 10
    embeddings: bool = Field(default=False, description="Return each record's 768 numbers too.")

    def shape(self) -> DiscoverQuery:
        """What the service is asked; raises BadInput ``bad-request`` unless exactly one of query and agent is there."""
        if (self.query is None) == (self.related is None):
            raise BadInput("bad-request", "give either `query` or `related`")
        return replace(
            _asked(self.query or "", self.filters, self.weigh),
            limit=self.limit,
            embeddings=self.embeddings,
            related=None if self.related is None else AgentId(self.related),
            facets=self.facets,
            cursor=self.cursor,
            collapse=self.collapse,
        )


class ScoreBody(Body):
    """POST /v1/explain/{id}: why an agent has its score for the question `query`, asked with these filters and weights."""

    query: Annotated[str, Field(min_length=1, max_length=limits.TEXT_CHARS)] = Field(description="What is needed, in plain words.")
    filters: Filters = Filters()
    weigh: WeighBody = WeighBody()

    def shape(self) -> DiscoverQuery:
        """What the service is asked."""
        return _asked(self.query, self.filters, self.weigh)


def _asked(query: str, filters: Filters, weigh: WeighBody) -> DiscoverQuery:
    trust, out = filters.trustScore, filters.exclude
    return DiscoverQuery(
        query,
        10,
        min_trust=trust.min if trust else None,
        max_trust=trust.max if trust else None,
        certifications=tuple(filters.certifications),
        capabilities=tuple(filters.capabilities),
        region=filters.region,
        max_latency_ms=filters.maxLatency,
        max_price_micro=micro(filters.maxPrice) if filters.maxPrice is not None else None,
        exclude=Excluded(tuple(out.capabilities), tuple(out.certifications), tuple(out.regions), tuple(out.organisations)),
        weigh=Weights(weigh.trust, weigh.latency, weigh.price),
    )


class FileBody(BaseModel):
    """A file sent along."""

    model_config = ConfigDict(extra="forbid", strict=True)

    filename: Name
    content: str = Field(description="base64")

    def shape(self, name: str) -> SentFile:
        """The decoded file; raises BadInput ``bad-request``."""
        if self.filename in (".", "..") or any(sign in self.filename for sign in "/\\\0"):
            raise BadInput("bad-request", f"the file name of {name!r} is a path", hint="send the last part of the path only")
        try:
            return SentFile(name, self.filename, base64.b64decode(self.content, validate=True))
        except (binascii.Error, ValueError) as error:
            raise BadInput("bad-request", f"the content of the file {name!r} is not base64") from error


class TaskBody(Body):
    """POST /v1/tasks."""

    agentId: Name
    type: Name = Field(description="One of the agent's tasks (the MCP tool's name).")
    data: dict[str, object] = Field(default={}, description="The tool's arguments.")
    timeout: Annotated[float, Field(gt=0, le=limits.TIMEOUT_S_MAX, description="seconds")] = limits.TIMEOUT_S_DEFAULT
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    budget: Amount | None = Field(default=None, description="The most that this call may cost.")
    wait: bool = Field(default=True, description="false: answer 202 as soon as the task is accepted.")
    files: Annotated[dict[Name, FileBody], Field(max_length=16)] = {}

    def shape(self) -> CallRequest:
        """What the service is asked; raises BadInput."""
        files = tuple(file.shape(name) for name, file in self.files.items())
        if sum(len(file.content) for file in files) > limits.FILE_BYTES:
            raise Refused("too-large", f"the files are larger than {limits.FILE_BYTES} bytes together")
        return CallRequest(
            AgentId(self.agentId),
            self.type,
            json_text.arguments(self.data),
            self.timeout,
            priority=self.priority,
            budget_micro=micro(self.budget) if self.budget is not None else None,
            idempotency_key=self.idempotencyKey,
            wait=self.wait,
            files=files,
        )


class PublishBody(Body):
    """POST /v1/publish: agents that run elsewhere."""

    lines: Annotated[list[str], Field(max_length=limits.PUBLISH_LINES)] = Field(
        description="Each the JSON text of one agent: an agent file's fields, an MCP server.json, or an A2A card."
    )


class KeyBody(Body):
    """POST /v1/keys: a new API key."""

    name: Name
    role: Literal["admin", "operator", "caller", "read"]
    budget: Amount | None = Field(default=None, description="MESH that it may spend in all; none: no limit.")


AnyBody = TypeVar("AnyBody", bound=Body)


def read(kind: type[AnyBody], body: bytes) -> AnyBody:
    """The checked body; raises BadInput ``bad-request`` that says where it is wrong, and repeats nothing of it."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:120]
        message = first["msg"][:1].lower() + first["msg"][1:200]
        raise BadInput("bad-request", f"{place}: {message}" if place else f"the body is wrong: {message}") from error
