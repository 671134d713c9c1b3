"""The tabs that an organisation pays on, and which of its nodes pays on each: whether that one can still be asked to close it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshos.node.cli.client_connection import Client
from meshos.node.cli.client_text import plural, rows_of, short

GONE = frozenset({"dead", "left"})
"""States of a member that closes no tab any more; as little does a node that is none."""


@dataclass(frozen=True, slots=True)
class PaidTab:
    """``caller`` pays on it, and calls itself ``name`` (the beginning of its id, if it is no member). ``here``: it can be asked.

    ``asked``: it is the very node that was asked. ``row``: the tab as the API has it.
    """

    tab: str
    caller: str
    name: str
    here: bool
    asked: bool
    row: Mapping[str, object]

    @property
    def left_behind(self) -> bool:
        """Whether its node is gone and nobody has begun to close it."""
        return not self.here and not self.row.get("closes")


def paid_tabs(client: Client, org: str, account: Mapping[str, object]) -> list[PaidTab]:
    """Those in ``account``, the answer about ``org``'s; raises as ``Client.get``."""
    rows = [row for row in rows_of(account.get("tabs")) if row.get("org") == org]
    if not rows:
        return []
    asked = client.get("v1", "status").get("node_id")
    members = {str(row.get("node_id")): row for row in rows_of(client.get("v1", "members").get("members"))}
    return [_paid(row, members.get(str(row.get("caller"))), asked) for row in rows]


def _paid(row: Mapping[str, object], member: Mapping[str, object] | None, asked: object) -> PaidTab:
    caller = str(row.get("caller"))
    here = caller == asked or (member is not None and member.get("state") not in GONE)
    name = str(member.get("name")) if member is not None else short(caller)
    return PaidTab(str(row.get("tab")), caller, name, here, caller == asked, row)


def ways_to_close(tabs: Iterable[PaidTab], root: str) -> list[str]:
    """The commands that close them, each with where it is run; ``root``: the folder of the root key."""
    waiting = [tab for tab in tabs if not tab.row.get("closes")]
    at = sorted({tab.name for tab in waiting if tab.here})
    ways = [f"`mesh wallet close` at {', '.join(at)}"] if at else []
    gone = sum(not tab.here for tab in waiting)
    if gone:
        ways.append(f"`mesh wallet close --root {root}` for the {plural(gone, 'tab')} of nodes that are gone")
    return ways
