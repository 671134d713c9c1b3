"""What ``mesh top`` shows, as plain lines: one snapshot of a node in, the text of five panes out. No terminal, no clock, no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshos.node.cli.client_mesh import group_parts
from meshos.node.cli.client_text import duration, number, org_name, percent, plural, table_of, texts_of
from meshos.node.cli.output import clean, signed_state

WIDE, NARROW = 100, 60
"""Columns: from WIDE on all panes side by side, under NARROW a bare list, in between one pane below the other."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of a node. ``lost`` says since when it does not answer; then everything else is as it was last."""

    node: str
    status: Mapping[str, object]
    members: Sequence[Mapping[str, object]]
    agents: Sequence[Mapping[str, object]]
    events: Sequence[Mapping[str, object]] = ()
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Pane:
    """A titled box. ``number`` is its key."""

    number: int
    title: str
    lines: tuple[str, ...]


def headline(snapshot: Snapshot) -> str:
    """The node in one line: its name, whether it is well, how much of the mesh it sees."""
    if snapshot.lost:
        return f"{snapshot.node}  NO ANSWER since {snapshot.lost}; below is what was last known"
    status = snapshot.status
    alive = sum(row.get("state") == "alive" for row in snapshot.members)
    problems = texts_of(status.get("problems"))
    well = "healthy" if status.get("health") == "healthy" else f"DEGRADED: {problems[0] if problems else 'no reason given'}"
    name, up = clean(str(status.get("name", snapshot.node))), duration(status.get("up_ms"))
    return f"{name}  {clean(well)}  {alive}/{len(snapshot.members)} alive  up {up}"


def panes(snapshot: Snapshot, match: str = "") -> tuple[Pane, ...]:
    """The five panes; with ``match`` only the lines that have it in them."""
    found = (
        Pane(1, "Members", tuple(_member(row) for row in sorted(snapshot.members, key=lambda row: str(row.get("name"))))),
        Pane(2, "Tasks, agents", _tasks(snapshot)),
        Pane(3, "Ledger", _agreement(snapshot)),
        Pane(4, "Decisions", _decisions(snapshot)),
        Pane(5, "Events", tuple(_event(row) for row in reversed(snapshot.events))),
    )
    return tuple(Pane(one.number, one.title, _matching(one.lines, match) or ("none",)) for one in found)


def _matching(lines: tuple[str, ...], match: str) -> tuple[str, ...]:
    return tuple(line for line in lines if match.lower() in line.lower())


def _member(row: Mapping[str, object]) -> str:
    state = str(row.get("state"))
    load = percent(row.get("load")) if state == "alive" else duration(row.get("since_ms"))
    note = f"  {row['note']}" if row.get("note") else ""
    return clean(f"{signed_state(state):<9} {row.get('name')!s:<12} {org_name(row.get('org')):<10} {load:>6}{note}")


def _tasks(snapshot: Snapshot) -> tuple[str, ...]:
    tasks = table_of(snapshot.status.get("tasks"))
    rate, p95 = number(tasks.get("perSecond")) or 0.0, number(tasks.get("p95_ms"))
    first = (
        f"{rate:.1f}/s  p95 {'-' if p95 is None else duration(p95)}  {tasks.get('running', 0)} running, {tasks.get('waiting', 0)} waiting"
    )
    waits = [f"! {note}" for note in texts_of(tasks.get("notes"))]
    hosted = [_agent(row) for row in sorted(snapshot.agents, key=lambda row: str(row.get("name")))]
    return tuple(clean(line) for line in (first, *waits, *hosted))


def _agreement(snapshot: Snapshot) -> tuple[str, ...]:
    group = group_parts(table_of(snapshot.status.get("group")))
    return (
        *(clean(f"org: {part}") for part in group),
        *(clean(f"ledger: {part}") for part in _ledger(table_of(snapshot.status.get("ledger")))),
    )


def _ledger(head: Mapping[str, object]) -> tuple[str, ...]:
    if not head:
        return ("-",)
    votes = "this node votes" if head.get("votes") else "this node does not vote" if head.get("silent") else "this node follows"
    return (f"block {head.get('height')}, view {head.get('view')}, primary {head.get('primary')}", f"{votes}, {head.get('behind')} behind")


def _decisions(snapshot: Snapshot) -> tuple[str, ...]:
    waiting = int(number(table_of(snapshot.status.get("humans")).get("approvalsWaiting")) or 0)
    return (f"! {plural(waiting, 'decision')} {'waits' if waiting == 1 else 'wait'}: mesh approvals",) if waiting else ()


def _agent(row: Mapping[str, object]) -> str:
    replicas = table_of(row.get("replicas"))
    sign = "+" if row.get("state") in ("running", "elsewhere") else "!"
    note = f"  {row['note']}" if row.get("note") else ""
    return f"{sign} {row.get('name')!s:<24} {replicas.get('running', 0)}/{replicas.get('wanted', 0)} {row.get('state')}{note}"


def _event(row: Mapping[str, object]) -> str:
    return clean(f"{str(row.get('time', ''))[11:19]} {row.get('text') or row.get('kind')}")


def frame(snapshot: Snapshot, width: int, rows: int = 12) -> list[str]:
    """One plain picture, ``width`` columns wide; a pane has at most ``rows`` lines, and says how many it leaves out."""
    shown = [Pane(one.number, one.title, _cut(one.lines, rows)) for one in panes(snapshot)]
    head = [_fit(headline(snapshot), width).rstrip()]
    if width < NARROW:
        return head + [
            _fit(line, width).rstrip() for one in shown for line in (f"{one.number} {one.title}", *(f"  {text}" for text in one.lines))
        ]
    if width < WIDE:
        return head + [line for one in shown for line in _box(one, width, len(one.lines))]
    left = width // 2
    picture = head
    for first, second in ((shown[0], shown[1]), (shown[2], shown[3])):
        height = max(len(first.lines), len(second.lines))
        # The two boxes share the line between them.
        pairs = zip(_box(first, left, height), _box(second, width - left + 1, height), strict=True)
        picture += [a[:-1] + b for a, b in pairs]
    return picture + _box(shown[4], width, len(shown[4].lines))


def _cut(lines: tuple[str, ...], rows: int) -> tuple[str, ...]:
    return lines if len(lines) <= rows else (*lines[: rows - 1], f"... and {len(lines) - rows + 1} more")


def _box(pane: Pane, width: int, height: int) -> list[str]:
    title = f"+{pane.number} {pane.title}"
    body = [*pane.lines, *[""] * (height - len(pane.lines))]
    return [f"{title:-<{width - 1}}+", *(f"| {_fit(line, width - 4)} |" for line in body), f"+{'-' * (width - 2)}+"]


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: max(0, width - 3)] + "..."
