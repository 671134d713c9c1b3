"""What ``mesh wallet close`` does: tabs that the asked node pays on."""

from collections.abc import Mapping

import typer

from meshos.errors import MeshError
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_ledger import SHOWN
from meshos.node.cli.client_text import org_name, rows_of
from meshos.node.cli.output import document, note, ok, say, warn

ANSWER_S = 30.0


def close(target: Target, tab: str | None, *, as_json: bool) -> None:
    """See ``wallet.close``."""
    with Client(target) as client:
        closed, failed = _closed(client, [tab] if tab is not None else _own_tabs(client))
    if as_json:
        rows = [{"tab": tab, "name": error.name, "detail": error.detail, "hint": error.hint} for tab, error in failed]
        document("wallet-close", {"closed": closed, "failed": rows})
    else:
        for one in closed:
            say(str(one.get("tab")))
            ok(_told(one))
        for tab, error in failed:
            warn(f"{tab[:SHOWN]} stays open: {error.detail} [{error.name}]{f'; {error.hint}' if error.hint else ''}")
        if not closed and not failed:
            ok("this node pays on no tab")
        elif closed:
            note(f"Next mesh wallet balance{target.options}, once {'that is' if len(closed) == 1 else 'those are'} over")
    if failed:
        raise typer.Exit(failed[0][1].exit_code)


def _own_tabs(client: Client) -> list[str]:
    """The tabs that the asked node pays on."""
    status = client.get("v1", "status")
    tabs = rows_of(client.get("v1", "accounts", str(status.get("org"))).get("tabs"))
    return [str(tab.get("tab")) for tab in tabs if tab.get("caller") == status.get("node_id")]


def _closed(client: Client, tabs: list[str]) -> tuple[list[dict[str, object]], list[tuple[str, MeshError]]]:
    closed, failed = [], []
    for tab in tabs:
        try:
            closed.append(client.delete("v1", "tabs", tab, timeout_s=ANSWER_S))
        except MeshError as error:
            if len(tabs) == 1:
                raise
            failed.append((tab, error))
    return closed, failed


def _told(tab: Mapping[str, object]) -> str:
    whose = f"the tab with {org_name(tab.get('provider'))}"
    paid = f"{tab.get('redeemed')} of {tab.get('reserved')} MESH were redeemed; the rest comes back"
    return f"{whose} closes at {tab.get('closes')}: {paid}" if tab.get("closes") else f"{whose} is closed: {paid}"
