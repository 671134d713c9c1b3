"""What can be asked of a mesh, without any input or output: each operation is a generator of requests that gets their answers.

The sync and the async client run the same operations, so they cannot differ.
"""

import base64
import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from mesh_os import records
from mesh_os.config import AgentConfig
from mesh_os.errors import BadInput, Refused
from mesh_os.records import AgentRecord, Found, Json, Task

T = TypeVar("T")

TASK_S = 30.0
"""A task's time if nothing else is said."""
GRACE_S = 10.0
"""How much longer than a task the client waits, so that the node's own answer comes first."""
DEPLOY_S = 130.0
MAX_FILES = 8 * 1024 * 1024
"""All files of one task together, as the API takes them."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. ``wait_s`` None: the client's own timeout."""

    method: str
    path: str
    body: Json | None = None
    wait_s: float | None = None


Operation: TypeAlias = Generator[Request, Json, T]

AnyAgent: TypeAlias = "AgentRecord | str"
"""An agent's record, or its id."""


def deploy(config: AgentConfig) -> Operation[AgentRecord]:
    """Deploy an agent; raises BadInput ``no-runtime``."""
    body: Json = {"agent": config.agent_file()}
    if config.folder is not None:
        body["folder"] = str(Path(config.folder).absolute())
    return records.agent((yield _post("/v1/agents", body, DEPLOY_S)))


def undeploy(agent: AnyAgent) -> Operation[None]:
    """End an agent of the node's organisation."""
    yield Request("DELETE", f"/v1/agents/{_id(agent)}", wait_s=DEPLOY_S)


def agent(identity: str) -> Operation[AgentRecord]:
    """The record of any organisation's agent."""
    return records.agent((yield Request("GET", f"/v1/agents/{_id(identity)}")))


def agents() -> Operation[list[AgentRecord]]:
    """The agents of the node's organisation."""
    answer = yield Request("GET", "/v1/agents")
    try:
        return [records.agent(one) for one in answer["agents"]]
    except (KeyError, TypeError) as error:
        raise records.bad_answer() from error


@dataclass(frozen=True, slots=True)
class Search:
    """How agents are searched for, whatever they are to fit. See ``MeshOS.discover``."""

    filters: Mapping[str, Any] | None = None
    limit: int = 10
    embeddings: bool = False
    weigh: Mapping[str, float] | None = None
    facets: bool = False
    cursor: str | None = None
    collapse: bool = True

    def body(self) -> Json:
        """The members of the request; what was not said is left to the node."""
        body: Json = {"limit": self.limit}
        if self.cursor is not None:
            body["cursor"] = self.cursor
        for name in ("filters", "weigh"):
            if getattr(self, name):
                body[name] = dict(getattr(self, name))
        for name in ("embeddings", "facets"):
            if getattr(self, name):
                body[name] = True
        if not self.collapse:
            body["collapse"] = False
        return body


def discover(query: str, search: Search) -> Operation[Found]:
    """Agents of all organisations that fit ``query``, best first."""
    return records.found((yield _post("/v1/discover", {"query": query, **search.body()})))


def related(to: AnyAgent, search: Search) -> Operation[Found]:
    """Agents that are like one, the most alike first, itself left out."""
    return records.found((yield _post("/v1/discover", {"related": to if isinstance(to, str) else to.agentId, **search.body()})))


def substitutes(of: AnyAgent, search: Search) -> Operation[Found]:
    """Agents that are like one and have all of its capabilities."""
    record = (yield from agent(of)) if isinstance(of, str) else of
    wanted = [*(search.filters or {}).get("capabilities", ()), *record.capabilities]
    filters = {**(search.filters or {}), "capabilities": list(dict.fromkeys(wanted))}
    return (yield from related(record, replace(search, filters=filters)))


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a task runs."""

    timeout: float = TASK_S
    priority: int = 5
    budget: str | None = None
    wait: bool = True
    idempotency_key: str | None = None


def call(agent: AnyAgent, type: str, data: Mapping[str, Any], files: Mapping[str, Any], terms: Terms) -> Operation[Task]:
    """Run a task and give all that is known of it, however it ended."""
    body: Json = {
        "agentId": agent if isinstance(agent, str) else agent.agentId,
        "type": type,
        "data": dict(data),
        "timeout": terms.timeout,
        "priority": terms.priority,
        "wait": terms.wait,
    }
    if terms.budget is not None:
        body["budget"] = terms.budget
    if terms.idempotency_key is not None:
        body["idempotencyKey"] = terms.idempotency_key
    if files:
        body["files"] = _read(files)
    return records.task((yield _post("/v1/tasks", body, terms.timeout + GRACE_S)))


def collaborate(agent: AgentRecord, task: Mapping[str, Any], terms: Terms) -> Operation[Any]:
    """Run ``task`` (short or long form) on ``agent`` and give its result; raises if there is none."""
    type, data, files = spelt_out(agent, task)
    return (yield from call(agent, type, data, files, terms)).value()


def execute(mesh_id: str, task: Mapping[str, Any], terms: Terms) -> Operation[Any]:
    """Run ``task`` on the agent of the organisation ``mesh_id`` that fits best; raises Refused ``no-agent-for-task``."""
    type = _type_of(task)
    found = yield from discover(type.replace("_", " ").replace("-", " "), Search(limit=100, collapse=False))
    best = next((one for one in found if one.meshId == mesh_id and one.task(type) is not None), None)
    if best is None:
        raise Refused(
            "no-agent-for-task", f"no agent of {mesh_id} that was found has the task {type!r}", hint="discover shows what there is"
        )
    return (yield from collaborate(best, task, terms))


def task(identity: str) -> Operation[Task]:
    """A task, running or ended."""
    return records.task((yield Request("GET", f"/v1/tasks/{_quoted(identity)}")))


def cancel(identity: str) -> Operation[Task]:
    """Stop a task that runs; one that has ended stays as it ended."""
    return records.task((yield Request("DELETE", f"/v1/tasks/{_quoted(identity)}")))


def publish(lines: Sequence[str]) -> Operation[Json]:
    """Publish agents that run elsewhere, each a JSON text; gives ``{accepted, agentIds, refused}``."""
    return (yield _post("/v1/publish", {"lines": list(lines)}, DEPLOY_S))


def explain(subject: AnyAgent, query: str | None, search: Search) -> Operation[Json]:
    """Why something is as it is, or why an agent has its score for a question."""
    path = f"/v1/explain/{_id(subject)}"
    if query is None:
        return (yield Request("GET", path))
    body = {name: value for name, value in search.body().items() if name in ("filters", "weigh")}
    return (yield _post(path, {"query": query, **body}))


def look(what: str) -> Operation[Json]:
    """GET /v1/``what``."""
    return (yield Request("GET", f"/v1/{what}"))


# -- tasks, short and long -------------------------------------------------------------------------------------------


def spelt_out(agent: AgentRecord, task: Mapping[str, Any]) -> tuple[str, Json, dict[str, Any]]:
    """(type, data, files) of a task in its short or long form; raises BadInput ``bad-task``."""
    type = _type_of(task)
    if "type" in task:
        return type, _mapping(task.get("data", {}), "data"), _mapping(task.get("files", {}), "files")
    value = task[type]
    if isinstance(value, Mapping):
        return type, dict(value), {}
    name = _argument(agent, type)
    if isinstance(value, PathLike) or (isinstance(value, str) and _is_file(value)):
        return type, {}, {name: value}
    return type, {name: value}, {}


def _type_of(task: Mapping[str, Any]) -> str:
    if "type" in task:
        extra = set(task) - {"type", "data", "files"}
        if extra or not isinstance(task["type"], str):
            raise BadInput("bad-task", f"a task has type, data and files, not {sorted(map(str, extra))}", hint=_HINT)
        return str(task["type"])
    if len(task) != 1:
        raise BadInput("bad-task", "a task in its short form has one member, its type", hint=_HINT)
    return str(next(iter(task)))


_HINT = 'write {"type": "analyze_patent", "data": {…}} or {"analyze_patent": …}'


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput("bad-task", f"{name} is not a mapping", hint=_HINT)
    return dict(value)


def _argument(agent: AgentRecord, type: str) -> str:
    """The argument that a bare value is meant for: the first required one, or the only one.

    Raises BadInput ``bad-task``, or Unreachable ``bad-answer`` where the record has a schema that is none.
    """
    kind = agent.task(type)
    if kind is None:
        known = ", ".join(one.name for one in agent.tasks) or "none"
        raise BadInput("bad-task", f"{agent.name} has no task {type!r}", hint=f"its tasks: {known}")
    required, properties = kind.inputSchema.get("required") or [], kind.inputSchema.get("properties") or {}
    if not isinstance(required, list) or not isinstance(properties, dict):
        raise records.bad_answer()
    names = list(required)[:1] or (list(properties) if len(properties) == 1 else [])
    if not names:
        raise BadInput("bad-task", f"{type} does not say which argument a bare value is for", hint=_HINT)
    return str(names[0])


def _is_file(text: str) -> bool:
    try:
        return len(text) < 1024 and "\0" not in text and Path(text).is_file()
    except OSError:
        return False


def _read(files: Mapping[str, Any]) -> Json:
    """The files as the API takes them; raises BadInput ``bad-file``."""
    read: Json = {}
    left = MAX_FILES
    for name, path in files.items():
        try:
            with open(fspath(path), "rb") as file:
                content = file.read(left + 1)
        except (OSError, TypeError) as error:
            raise BadInput("bad-file", f"the file {str(path)!r} cannot be read", hint="check the path") from error
        left -= len(content)
        if left < 0:
            raise BadInput("bad-file", f"the files are larger than {MAX_FILES} bytes together", hint="send less along")
        read[name] = {"filename": Path(path).name, "content": base64.b64encode(content).decode()}
    return read


def _post(path: str, body: Json, wait_s: float | None = None) -> Request:
    """A POST that may be repeated: it has a key of its own unless the caller chose one."""
    return Request("POST", path, {"idempotencyKey": secrets.token_hex(16), **body}, wait_s)


def _id(agent: AnyAgent) -> str:
    return _quoted(agent if isinstance(agent, str) else agent.agentId)


def _quoted(text: str) -> str:
    """An id as a part of a path; raises BadInput ``bad-id``."""
    if not text:  # without it, it would be another path
        raise BadInput("bad-id", "the id is empty", hint="write the whole id; a record has it as agentId")
    return quote(text, safe="")
