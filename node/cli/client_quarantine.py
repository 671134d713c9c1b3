"""quarantine list, quarantine lift."""

from meshos.node.cli import client_decisions
from meshos.node.cli.client_answer import for_program
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import plural, rows_of
from meshos.node.cli.output import note, table


def list_(target: Target, *, quiet: bool, as_json: bool) -> None:
    """See ``quarantine.list_``."""
    with Client(target) as client:
        answer = client.get("v1", "quarantine")
        rows = rows_of(answer.get("quarantined"))
        while answer.get("more") and rows:
            answer = client.query({"after": str(rows[-1].get("id"))}, "v1", "quarantine")
            rows += rows_of(answer.get("quarantined"))
    whole = {**answer, "quarantined": rows}
    if for_program("quarantine-list", whole, as_json=as_json, quiet=quiet, ids=[row.get("id") for row in rows]):
        return
    if rows:
        shown = [(row.get("id"), row.get("kind"), row.get("since"), "several" if row.get("settled") else "one alone") for row in rows]
        table(("ID", "KIND", "SINCE", "DECIDED BY"), shown)
    note(f"{plural(len(rows), 'subject')} in quarantine at block {answer.get('height')}, as {target.name} sees it")


def lift(target: Target, subject: str, reason: str, timeout_s: float, *, as_json: bool) -> None:
    """See ``quarantine.lift``."""
    client_decisions.put(target, {"lift": subject}, reason, timeout_s, "quarantine-lift", as_json=as_json)
