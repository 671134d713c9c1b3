"""approvals, propose, approve, reject, pause."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from meshos.errors import BadInput
from meshos.node.cli import client_proposals
from meshos.node.cli.client_answer import ask, for_program, order
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import digits, left, org_name, plural, rows_of, table_of, texts_of
from meshos.node.cli.output import note, ok, say, table, warn

MAX_FILE = 64 * 1024


def approvals(target: Target, *, everything: bool, quiet: bool, as_json: bool) -> None:
    """See ``decisions.approvals``."""
    answer = ask(target, "v1", "approvals", only=None if everything else {"state": "open"})
    rows = rows_of(answer.get("approvals"))
    if for_program("approvals", answer, as_json=as_json, quiet=quiet, ids=[row.get("id") for row in rows]):
        return
    columns = ("ID", "ACTION", "RISK", "STATE", "APPROVED", "EXPIRES", "BY", "WHY")
    table(columns, [_row(row) for row in rows], right=("RISK",))
    _say_paused(answer)
    waiting = sum(row.get("state") == "open" for row in rows)
    note(f"{plural(waiting, 'decision')} {'waits' if waiting == 1 else 'wait'} at block {answer.get('height')}, as {target.name} sees it")
    if waiting:
        first = next(row for row in rows if row.get("state") == "open")
        note(f"Next mesh approve {digits(first)}{target.options}")


def _row(row: Mapping[str, object]) -> tuple[object, ...]:
    names = ", ".join(org_name(one) for one in texts_of(row.get("approvedBy")))
    approved = f"{row.get('approvals')} of {row.get('needed')}: {names}" if row.get("needed") else "not needed"
    expires = left(row.get("expires")) if row.get("expires") else "-"
    return (
        digits(row),
        action_text(row),
        row.get("risk"),
        row.get("state"),
        approved,
        expires,
        org_name(row.get("by")),
        row.get("reason"),
    )


def action_text(row: Mapping[str, object]) -> str:
    """What a decision does, in a few words."""
    for kind, what in table_of(row.get("action")).items():
        if kind == "parameters":
            return ", ".join(f"{name} = {value}" for name, value in table_of(what).items())
        return f"{kind} {org_name(what) if str(what).startswith('did:') else what}"
    return "-"


def propose(target: Target, file: Path, timeout_s: float, *, vote: bool, as_json: bool) -> None:
    """See ``decisions.propose``."""
    content = _content(file)
    if client_proposals.is_motion(content, vote=vote):
        client_proposals.move(target, file, content, timeout_s, as_json=as_json)
        return
    reason = content.pop("reason", None)
    if not content:
        raise BadInput("bad-proposal", f"{file} names nothing to be done", hint="see `mesh propose --help` for how it looks")
    if not isinstance(reason, str):
        hint = "add `reason: TEXT`; what the organisations are to vote on has none, and --vote"
        raise BadInput("bad-proposal", f"{file} gives no reason for {', '.join(content)}", hint=hint)
    put(target, content, reason, timeout_s, "propose", as_json=as_json)


def put(target: Target, action: Mapping[str, object], reason: str, timeout_s: float, command: str, *, as_json: bool) -> None:
    """Propose ``action``, and say how it stands; a document is that of ``command``."""
    answer = order(target, "v1", "approvals", body={"action": action, "reason": reason}, timeout_s=timeout_s)
    if for_program(command, answer, as_json=as_json):
        return
    say(str(answer.get("id")))
    _verdict(answer, f"proposed: {action_text(answer)}, risk {answer.get('risk')}")
    if answer.get("state") == "open":
        note(f"Next, at another coordinator: mesh approve {digits(answer)}")


def judge(target: Target, decision: str, act: str, reason: str, key: Path | None, timeout_s: float, *, as_json: bool) -> None:
    """See ``decisions.approve`` and ``decisions.reject``."""
    if key is None:
        answer = order(target, "v1", "approvals", decision, act, body={"reason": reason}, timeout_s=timeout_s)
    else:
        from meshos.node.cli import signing

        with Client(target) as client:
            answer = signing.judge(client, decision, act, reason, key, timeout_s)
    if for_program(act, answer, as_json=as_json):
        return
    say(str(answer.get("state")))
    _verdict(answer, f"{answer.get('act') or act} of {digits(answer)} ({action_text(answer)}) stands in block {answer.get('height')}")


def pause(target: Target, key: Path, minutes: float, reason: str, timeout_s: float, *, as_json: bool) -> None:
    """See ``decisions.pause``."""
    from meshos.node.cli import signing

    with Client(target) as client:
        done = signing.pause(client, key, round(minutes * 60_000), reason, timeout_s)
        answer = {**done, "pausedUntil": client.query({"state": "open"}, "v1", "approvals").get("pausedUntil")}
    if for_program("pause", answer, as_json=as_json):
        return
    say(str(answer.get("pausedUntil")))
    ok(f"autonomy is paused in the whole mesh until {answer.get('pausedUntil')}")


def _verdict(answer: Mapping[str, object], done: str) -> None:
    ok(done)
    _say_paused(answer)
    for wish in rows_of(answer.get("people")):
        said = ", ".join(texts_of(wish.get("by")))
        note(f"people: {wish.get('percent')} % of human power for {wish.get('act')} ({said}); {wish.get('needed')} % decide")
    if answer.get("state") == "open":
        approved = ", ".join(org_name(one) for one in texts_of(answer.get("approvedBy")))
        count = f"{answer.get('approvals')} of {answer.get('needed')} needed"
        note(f"open: approved by {count} ({approved}); {left(answer.get('expires'))} left")
    else:
        note(f"it is {answer.get('state')}")


def _say_paused(answer: Mapping[str, object]) -> None:
    if answer.get("pausedUntil"):
        warn(f"a person has paused autonomy until {answer['pausedUntil']}: coordinators execute nothing until then")


def _content(file: Path) -> dict[str, object]:
    """The file's mapping; raises BadInput ``cannot-read`` or ``bad-proposal``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from meshos.node.folder import read_file

    data = sys.stdin.buffer.read(MAX_FILE + 1) if str(file) == "-" else read_file(file, MAX_FILE)
    try:
        value = YAML(typ="safe").load(data.decode("utf-8-sig"))
    except (YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise BadInput("bad-proposal", f"{file}{place}: this is neither YAML nor JSON", hint="see `mesh propose --help`") from error
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value) or not _is_json(value):
        raise BadInput("bad-proposal", f"{file} holds no mapping of plain values", hint="see `mesh propose --help` for how it looks")
    return dict(value)


def _is_json(value: object) -> bool:
    """Whether it can be sent: YAML knows dates, JSON does not."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
