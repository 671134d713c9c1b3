"""members, status, explain."""

from collections.abc import Mapping

from meshos.node.cli.client_answer import ask, for_program
from meshos.node.cli.client_connection import Client, Target, full_id
from meshos.node.cli.client_text import duration, number, org_name, percent, plural, rows_of, table_of, texts_of
from meshos.node.cli.output import block, note, say, signed_state, table

STATES = ("alive", "suspect", "dead", "left")


def members(target: Target, *, quiet: bool, as_json: bool) -> None:
    """See ``client.members``."""
    answer = ask(target, "v1", "members")
    rows = sorted(rows_of(answer.get("members")), key=lambda row: (org_name(row.get("org")), str(row.get("name"))))
    if for_program("members", answer, as_json=as_json, quiet=quiet, ids=[row.get("node_id") for row in rows]):
        return
    noted = any(row.get("note") for row in rows)
    columns = ["NODE", "ORG", "STATE", "SINCE", "LOAD", *(["NOTE"] if noted else [])]
    table(columns, [[*_member(row), *([row.get("note") or " "] if noted else [])] for row in rows], right=("SINCE", "LOAD"))
    counts = {state: sum(row.get("state") == state for row in rows) for state in STATES}
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    note(f"{plural(len(rows), 'member')}: {parts or 'none'}, as {answer.get('seenBy') or target.name} sees it")


def _member(row: Mapping[str, object]) -> tuple[object, ...]:
    state = str(row.get("state"))
    load = percent(row.get("load")) if state == "alive" else "-"
    return (row.get("name"), org_name(row.get("org")), signed_state(state), duration(row.get("since_ms")), load)


def status(target: Target, *, as_json: bool) -> int:
    """See ``client.status``."""
    answer = ask(target, "v1", "status")
    if not for_program("status", answer, as_json=as_json):
        block("\n".join(status_lines(answer)))
    return 0 if answer.get("health") == "healthy" else 1


def status_lines(answer: Mapping[str, object]) -> list[str]:
    """The node in a few lines."""
    problems = texts_of(answer.get("problems"))
    tasks, hosted, process = table_of(answer.get("tasks")), table_of(answer.get("agents")), table_of(answer.get("process"))
    counts = table_of(answer.get("members"))
    seen = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state)) or "none"
    waiting = ", ".join(texts_of(tasks.get("notes")))
    memory = number(process.get("rssBytes"))
    lines = [
        f"{answer.get('name')} of {org_name(answer.get('org'))}, {answer.get('health')}, up {duration(answer.get('up_ms'))}",
        *[f"! {problem}" for problem in problems],
        f"Members  {seen}",
        f"Org      {'; '.join(group_parts(table_of(answer.get('group'))))}",
        f"Agents   {hosted.get('running', 0)} of {hosted.get('hosted', 0)} running",
        f"Records  {_directory(table_of(answer.get('directory')))}",
        f"Tasks    {tasks.get('running', 0)} running, {tasks.get('waiting', 0)} waiting{': ' + waiting if waiting else ''}",
        f"Ledger   {_ledger(table_of(answer.get('ledger')))}",
        f"Humans   {_humans(table_of(answer.get('humans')))}",
        *_links(answer),
        *_square(answer),
        f"Process  {'-' if not memory else f'{memory / 1048576:.0f} MiB'}, loop lag {duration(process.get('loopLag_ms'))}",
    ]
    return lines


def _directory(directory: Mapping[str, object]) -> str:
    """How many records the node holds, and how the directory lies; an older node tells nothing of that."""
    records, cells, least = (directory.get(part) for part in ("records", "cells", "cellsFrom"))
    if cells:
        return f"{records} here, the directory is in {cells} cells"
    if "cells" not in directory:
        return str(records or 0)
    if not least:
        return f"{records}, the directory is whole"
    due = (number(records) or 0) >= (number(least) or 0)
    return f"{records}, the directory is whole; it is {'being cut into cells' if due else f'cut into cells once there are {least}'}"


def _links(answer: Mapping[str, object]) -> list[str]:
    """With how many nodes it is linked over each path, where it is not the same with all; an older node tells nothing of it."""
    links = table_of(answer.get("links"))
    return (
        [f"Links    {', '.join(f'{count} over {path}' for path, count in sorted(links.items(), reverse=True))}"] if len(links) > 1 else []
    )


def _square(answer: Mapping[str, object]) -> list[str]:
    """Where strangers ask it; a node without a square tells nothing."""
    addresses = texts_of(answer.get("p2p"))
    if not addresses:
        return []
    _, _, host, _, port, *_ = (*addresses[0].split("/"), "", "", "", "", "")
    return [f"Square   {plural(answer.get('strangers'), 'connection')} of strangers, at {host}:{port}"]


def _humans(humans: Mapping[str, object]) -> str:
    approvals, motions, paused = (humans.get(part) for part in ("approvalsWaiting", "proposalsWaiting", "pausedUntil"))
    said = [f"autonomy is paused until {paused}"] if paused else []
    said += [
        f"{plural(approvals, 'approval')} {'waits' if approvals == 1 else 'wait'}: mesh approvals" if approvals else "no approval waits"
    ]
    if motions:
        said += [f"{plural(motions, 'motion')} {'waits' if motions == 1 else 'wait'} for this organisation's vote: mesh proposals"]
    return "; ".join(said)


def _ledger(head: Mapping[str, object]) -> str:
    votes = "votes" if head.get("votes") else f"does not vote: {head.get('silent')}" if head.get("silent") else "follows"
    behind = f", {plural(head.get('behind'), 'block')} behind" if head.get("behind") else ""
    waiting = f", {plural(head.get('waiting'), 'transaction')} waiting" if head.get("waiting") else ""
    return f"block {head.get('height')}, view {head.get('view')}, primary {head.get('primary')}; {votes}{behind}{waiting}"


def group_parts(group: Mapping[str, object]) -> tuple[str, ...]:
    """The organisation's group: who leads and how far all are, and what it can bear. An older node tells nothing of it."""
    if not group:
        return ("-",)
    voters, alive = int(number(group.get("voters")) or 0), int(number(group.get("votersAlive")) or 0)
    role, lag = str(group.get("role")), int(number(group.get("lag")) or 0)
    if role in ("joining", "removed"):
        return ("this node was removed from it" if role == "removed" else "this node waits to be taken up by its leader",)
    if group.get("leader") is None:
        return ("no leader", f"{alive} of {plural(voters, 'voter')} in reach, {voters // 2 + 1} needed")
    part = "" if role == "voter" else "; this node is a learner" if role == "learner" else "; this node is leaving"
    lead = f"raft leader {group['leader']}, term {group.get('term')}, {lag} behind"
    return (lead, f"{alive} of {voters} can vote, can lose {group.get('canLose')} more{part}")


def list_errors(*, as_json: bool) -> None:
    """All error names with what they mean."""
    from meshos import catalogue

    entries = catalogue.entries()
    if not for_program("explain", {"names": list(entries)}, as_json=as_json):
        table(("NAME", "EXIT", "MEANS"), [(name, entry.exit_code, entry.means) for name, entry in entries.items()], right=("EXIT",))


def explain_error(name: str, *, as_json: bool) -> bool:
    """Print what the error ``name`` means; False if ``name`` is an id of something, which a node has to explain."""
    from meshos import catalogue

    if name not in catalogue.entries() and _is_id(name):
        return False
    entry = catalogue.explain(name)
    example = {"example": entry.example} if entry.example else {}
    shown = {"name": name, "kind": entry.kind, "exit": entry.exit_code, "means": entry.means, "do": entry.do}
    if not for_program("explain", shown | example, as_json=as_json):
        say(entry.means)
        say(f"Do: {entry.do}")
        if entry.example:
            block(f"\n{entry.example.rstrip()}")
    return True


def _is_id(text: str) -> bool:
    """Whether ``text`` looks like the id of a task, an agent, a node or an org."""
    return text.startswith(("t-", "a-", "12D3KooW", "did:")) or any(sign.isdigit() for sign in text)


def explain(target: Target, subject: str, question: Mapping[str, object] | None, *, as_json: bool) -> None:
    """Ask the node why; with a ``question`` why an agent has its score for it."""
    with Client(target) as client:
        whole = full_id(client, subject) if subject.startswith("a-") else subject
        answer = client.get("v1", "explain", whole) if question is None else client.post("v1", "explain", whole, body=question)
    if not for_program("explain", answer, as_json=as_json):
        block("\n".join(texts_of(answer.get("lines"))))
