"""call: run a task and print its result alone."""

import base64
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshos.errors import KINDS, BadInput, Failed, MeshError, Refused, Unreachable
from meshos.node.cli.client_answer import for_program
from meshos.node.cli.client_connection import MAX_TEXT, Client, Target, full_id
from meshos.node.cli.client_text import duration, mesh, table_of
from meshos.node.cli.output import clean, note, ok, say

GRACE_S = 10.0
"""Beyond the task's own time: the node waits 5 s longer itself, so that its own answer comes first."""
MAX_DATA = 1024 * 1024
"""As node/api/limits.py has it, which is not loaded here: DATA_BYTES."""
MAX_WHY = 2_000
"""Characters of what a tool says of its failure."""
MAX_FILES = 8 * 1024 * 1024
"""All files of a call together: FILE_BYTES."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    agent: str
    task: str
    data: str
    files: tuple[str, ...]
    timeout_s: float
    priority: int
    budget: str | None


def call(target: Target, asked: Asked, *, quiet: bool, as_json: bool) -> int:
    """See ``client.call``."""
    body: dict[str, object] = {
        "type": asked.task,
        "data": _data(asked.data),
        "timeout": asked.timeout_s,
        "priority": asked.priority,
        "idempotencyKey": secrets.token_hex(16),
    }
    if asked.budget is not None:
        body["budget"] = asked.budget
    if asked.files:
        body["files"] = _files(asked.files)
    with Client(target) as client:
        body["agentId"] = full_id(client, asked.agent)
        answer = client.post("v1", "tasks", body=body, timeout_s=asked.timeout_s + GRACE_S)
    error = _error(answer, target.options)
    if for_program("call", answer, as_json=as_json):
        return error.exit_code if error is not None else 0
    if error is not None:
        _say_why(answer.get("result"))
        raise error
    if quiet:
        say(str(answer.get("taskId")))
        return 0
    _print(answer.get("result"))
    timing = table_of(answer.get("timing"))
    cost = answer.get("cost")
    price = "" if cost in (None, "", "0") else f", {mesh(cost)}"
    explain = f"mesh explain {_short(answer.get('taskId'))}{target.options}"
    ok(f"{duration(timing.get('total_ms'))} on {answer.get('node') or target.name}{price}; {explain}")
    return 0


def _short(task: object) -> str:
    """The beginning of a task's id that a node takes for it: longer than an agent's, since nobody may guess one."""
    return str(task)[:14]


def _say_why(result: object) -> None:
    """What the tool says of its failure; on stderr, since it is no result."""
    if result is not None:
        note(_text(result)[:MAX_WHY])


def _text(result: object) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _print(result: object) -> None:
    """The result as it is; on a terminal without what could play tricks with it."""
    text = _text(result)
    if sys.stdout.isatty():
        text = clean(text, keep_lines=True)
    sys.stdout.write(text.encode("utf-8", "replace").decode() + ("" if text.endswith("\n") else "\n"))
    sys.stdout.flush()


def _error(answer: Mapping[str, object], options: str) -> MeshError | None:
    """What the end of the task means for the command; None for a result. ``options`` are those that named the node."""
    status = answer.get("status")
    if status == "completed":
        return None
    told = table_of(answer.get("error"))
    detail = clean(str(told.get("detail") or ""))[:MAX_TEXT]
    explain = f"mesh explain {answer.get('taskId')}{options}"
    if status == "outcome_unknown":
        hint = f"look before you repeat it; {explain}"
        return Unreachable("outcome-unknown", detail or "it is unknown whether the task was done", hint=hint, outcome="unknown")
    if status == "expired":
        return Failed("task-expired", detail or "the task was not done in its time", hint=f"give it a longer --timeout; {explain}")
    if status == "cancelled":
        return Failed("task-cancelled", detail or "the task was cancelled", hint=explain)
    name = clean(str(told.get("name") or ""))[:80]
    hint = clean(str(told.get("hint") or ""))[:MAX_TEXT] or explain
    if not name:
        return Failed("tool-failed", detail, hint=hint)
    if told.get("outcome") == "not_done":
        return _kind_of(name)(name, detail or "the task was not run", hint=hint, outcome="not_done")
    return Failed(name, detail or "the task failed", hint=hint, outcome="done")


def _kind_of(name: str) -> type[MeshError]:
    """What kind of error a task ended with before anything ran: a refusal is one, wherever it was found."""
    from meshos import catalogue

    entry = catalogue.entries().get(name)
    return Failed if entry is None else KINDS[entry.kind]


def _data(text: str) -> dict[str, object]:
    """The task's arguments; raises BadInput ``bad-data`` or ``cannot-read``, Refused ``too-large``."""
    source = "--data"
    if text == "@-":
        source, data = "stdin", sys.stdin.buffer.read(MAX_DATA + 1)
        text = _arguments(source, data)
    elif text.startswith("@"):
        source = text[1:]
        text = _arguments(source, _bytes(Path(source), MAX_DATA + 1))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadInput("bad-data", f"{source}{place}: this is not JSON", hint="""write it like '{"name": "value"}'""") from error
    if not isinstance(value, dict):
        raise BadInput("bad-data", f"{source}: a task's arguments are a JSON object", hint="""write it like '{"name": "value"}'""")
    return value


def _arguments(source: str, data: bytes) -> str:
    if len(data) > MAX_DATA:
        told = f"{source} has more than {MAX_DATA >> 20} MiB, the most that a task's arguments have"
        raise Refused("too-large", told, hint="send it as a file, with --file")
    return data.decode("utf-8-sig", "replace")


def _files(given: tuple[str, ...]) -> dict[str, object]:
    files: dict[str, object] = {}
    left = MAX_FILES
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise BadInput("bad-data", f"--file {text[:80]!r} names no argument", hint="write it like --file document=patent.pdf")
        content = _bytes(Path(path), left + 1)
        left -= len(content)
        if left < 0:
            told = f"with {path} the files have more than {MAX_FILES >> 20} MiB, the most that is sent along with a task"
            raise Refused("too-large", told, hint="have the agent fetch what is larger")
        files[name] = {"filename": Path(path).name, "content": base64.b64encode(content).decode()}
    return files


def _bytes(path: Path, most: int) -> bytes:
    """The file's first ``most`` bytes; raises BadInput ``cannot-read``."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise BadInput("cannot-read", f"{path} cannot be read: {error.strerror}", hint="check the path") from error
