"""org nodes, org remove."""

from collections.abc import Mapping

from meshos.node.cli.client_answer import ask, for_program
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import plural, rows_of
from meshos.node.cli.output import note, ok, signed_state, table


def nodes(target: Target, *, quiet: bool, as_json: bool) -> None:
    """See ``org.nodes``."""
    answer = ask(target, "v1", "org", "nodes")
    rows = rows_of(answer.get("nodes"))
    if for_program("org-nodes", answer, as_json=as_json, quiet=quiet, ids=[row.get("node_id") for row in rows]):
        return
    table(("NODE", "ROLE", "LAG", "STATE", "ID"), [_row(row) for row in rows], right=("LAG",))
    voters = sum(row.get("role") in ("voter", "leaving") for row in rows)
    others = f", {plural(len(rows) - voters, 'other')}" if len(rows) > voters else ""
    where = f"term {answer.get('term')}, entry {answer.get('commit')}, as its leader {answer.get('leader')} sees it"
    note(f"{plural(voters, 'voter')}{others}: can lose {answer.get('canLose')} more; {where}")


def _row(row: Mapping[str, object]) -> tuple[object, ...]:
    role = "leader" if row.get("leader") else row.get("role")
    lag = row.get("lag")
    state = row.get("state")
    return (row.get("name"), role, "-" if lag is None else lag, signed_state(str(state)) if state else "-", row.get("node_id"))


def remove(target: Target, node: str, *, as_json: bool) -> None:
    """See ``org.remove``."""
    with Client(target) as client:
        answer = client.delete("v1", "org", "nodes", node)
    if for_program("org-remove", answer, as_json=as_json):
        return
    name = answer.get("name")
    ok(f"{name} is removed" if answer.get("changed") else f"{name} was removed before")
    note(f"Next mesh org nodes{target.options}")
