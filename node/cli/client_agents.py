"""deploy, undeploy, agents, publish."""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from meshos.errors import BadInput
from meshos.node.cli.client_answer import ask, for_program
from meshos.node.cli.client_connection import Client, Target, full_id
from meshos.node.cli.client_text import duration, number, plural, rows_of, short, table_of, texts_of
from meshos.node.cli.output import clean, note, ok, progress, say, table, warn

DEPLOY_S = 130.0
MAX_AGENT_FILE = 64 * 1024
BATCH_LINES = 100
BATCH_BYTES = 4 * 1024 * 1024
MAX_LINE = 1024 * 1024


def deploy(target: Target, file: Path, region: str | None, replicas: int | None, *, quiet: bool, as_json: bool) -> None:
    """See ``client.deploy``."""
    from meshos.protocols.tasks.agent_file import parse_yaml, to_mapping
    from meshos.protocols.tasks.located import FileError

    try:
        agent = to_mapping(parse_yaml(_text(file), file.name))
    except FileError as error:
        if error.excerpt:
            print(clean(error.excerpt, keep_lines=True), file=sys.stderr)
        raise
    body: dict[str, object] = {"agent": agent, "idempotencyKey": secrets.token_hex(16)}
    if target.local():
        body["folder"] = str(file.absolute().parent)
    if region is not None:
        body["region"] = region
    if replicas is not None:
        body["replicas"] = replicas
    with Client(target) as client, progress() as shown:
        if not quiet:
            shown.at(f"starting {agent['name']} on {target.name}")
        answer = client.post("v1", "agents", body=body, timeout_s=DEPLOY_S)
    if for_program("deploy", answer, as_json=as_json):
        return
    say(str(answer["agentId"]))
    if quiet:
        return
    tasks = [str(one.get("name")) for one in rows_of(answer.get("tasks"))]
    where = ", ".join(texts_of(answer.get("nodes"))) or target.name
    took = duration(answer.get("took_ms"))
    count = _replicas(answer)
    ok(f"{answer.get('name')} version {answer.get('version')} runs on {where}{count}, {took}; tasks: {', '.join(tasks) or 'none'}")
    wanted, there = table_of(answer.get("availability")).get("region"), answer.get("nodeRegion")
    if wanted and there and wanted != there and number(answer.get("replicasWanted")):
        warn(f"its region is to be {wanted}, but {where} is in {there}: an agent runs on the node that it is deployed on")
    note(f'Next mesh discover "{_question(answer)}"{target.options}')


def _replicas(answer: Mapping[str, object]) -> str:
    """How many of several are ready by now; the others still start, or show in `mesh agents` why not."""
    running, wanted = (int(number(answer.get(key)) or 0) for key in ("replicasRunning", "replicasWanted"))
    return f" ({running} of {wanted} replicas by now: mesh agents)" if wanted > 1 else ""


def _question(record: Mapping[str, object]) -> str:
    """A few words by which the agent just deployed is found, safe to paste into a shell."""
    words = str(record.get("description") or record.get("name")).split()[:8]
    return "".join(sign for sign in " ".join(words) if sign.isalnum() or sign in " -,").strip() or "what you need"


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_AGENT_FILE + 1)
        if len(data) > MAX_AGENT_FILE:
            raise BadInput("cannot-read", f"{file} is larger than {MAX_AGENT_FILE // 1024} KiB", hint="is it an agent file?")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise BadInput("cannot-read", f"{file} cannot be read: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise BadInput("cannot-read", f"{file} is not UTF-8 text", hint="save it as UTF-8") from error


def undeploy(target: Target, agent_id: str, *, as_json: bool) -> None:
    """See ``client.undeploy``."""
    with Client(target) as client:
        answer = client.delete("v1", "agents", full_id(client, agent_id), timeout_s=DEPLOY_S)
    if for_program("undeploy", answer, as_json=as_json):
        return
    ok(f"{answer.get('name')} is gone; nodes that cannot be reached now hear of it later")


def agents(target: Target, *, quiet: bool, as_json: bool) -> None:
    """See ``client.agents``."""
    answer = ask(target, "v1", "agents")
    rows = rows_of(answer.get("agents"))
    if for_program("agents", answer, as_json=as_json, quiet=quiet, ids=[row.get("agentId") for row in rows]):
        return
    shown: list[tuple[object, ...]] = []
    for row in rows:
        replicas = table_of(row.get("replicas"))
        tasks = ", ".join(str(one.get("name")) for one in rows_of(row.get("tasks")))
        notes = "; ".join(filter(None, ("in quarantine" if row.get("quarantined") else "", str(row.get("note") or ""))))
        count = f"{replicas.get('running', 0)}/{replicas.get('wanted', 0)}"
        shown.append((short(row.get("agentId")), row.get("name"), row.get("state"), count, tasks, notes))
    columns = ("ID", "NAME", "STATE", "REPLICAS", "TASKS", "NOTE")
    table(_without_empty(columns, shown), [_kept(columns, shown, row) for row in shown], right=("REPLICAS",))
    note(f"{plural(len(rows), 'agent')}, as {target.name} sees it")


def _without_empty(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    """The columns, without the last if no row has anything in it."""
    return list(columns if any(row[-1] for row in rows) else columns[:-1])


def _kept(columns: tuple[str, ...], rows: list[tuple[object, ...]], row: tuple[object, ...]) -> list[object]:
    return list(row[: len(_without_empty(columns, rows))])


def publish(target: Target, file: Path, *, as_json: bool) -> int:
    """See ``client.publish``."""
    ids: set[str] = set()
    seen = 0
    refused: list[Mapping[str, object]] = []
    with Client(target) as client, progress() as shown:
        for batch in _batches(file):
            body = {"lines": [line for _, line in batch], "idempotencyKey": secrets.token_hex(16)}
            answer = client.post("v1", "publish", body=body, timeout_s=DEPLOY_S)
            ids.update(texts_of(answer.get("agentIds")))
            for row in rows_of(answer.get("refused")):
                index = int(number(row.get("line")) or 1) - 1
                place = batch[index][0] if 0 <= index < len(batch) else 0
                refused.append({**row, "line": place})
            seen += len(batch)
            if not as_json:
                shown.at(f"{seen} lines sent, {plural(len(ids), 'agent')} published")
    if not seen:
        raise BadInput("cannot-read", f"{_called(file)} says nothing", hint="one agent a line, as JSON")
    accepted = len(ids)
    if for_program("publish", {"accepted": accepted, "refused": refused}, as_json=as_json):
        return int(accepted == 0 and bool(refused))
    for row in refused[:20]:
        warn(f"{_called(file)}:{row['line']}: {row.get('detail')} [{row.get('name')}]")
    if len(refused) > 20:
        warn(f"and {len(refused) - 20} more lines; --json lists them all")
    verdict = f"{plural(accepted, 'agent')} published, {plural(len(refused), 'line')} refused"
    if accepted or not refused:
        ok(verdict)
        return 0
    note(f"mesh: {verdict}; mend the lines above")
    return 1


def _called(file: Path) -> str:
    """What a line of it is said to be in."""
    return "stdin" if str(file) == "-" else file.name


def _opened(file: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb")


def _batches(file: Path) -> Iterator[list[tuple[int, str]]]:
    """The lines that say something, with their numbers, in batches that a node takes at once."""
    batch: list[tuple[int, str]] = []
    size = 0
    try:
        with _opened(file) as opened:
            for place, raw in enumerate(iter(lambda: opened.readline(MAX_LINE + 1), b""), 1):
                if len(raw) > MAX_LINE:
                    raise BadInput(
                        "cannot-read", f"{_called(file)}:{place}: the line is longer than {MAX_LINE // 1024} KiB", hint="one agent a line"
                    )
                line = raw.decode("utf-8-sig" if place == 1 else "utf-8", "replace").strip()
                if not line:
                    continue
                if batch and (len(batch) >= BATCH_LINES or size + len(raw) > BATCH_BYTES):
                    yield batch
                    batch, size = [], 0
                batch.append((place, line))
                size += len(raw)
    except OSError as error:
        raise BadInput("cannot-read", f"{file} cannot be read: {error.strerror}", hint="check the path") from error
    if batch:
        yield batch
