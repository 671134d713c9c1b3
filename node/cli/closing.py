"""What ``mesh wallet close`` does: tabs that the asked node pays on, or by the root key those of any node of its organisation.

A node closes its own tab only once the provider has all that it is owed. The root key does not wait for that, and has to be there where
nobody else can close it: the node is gone, or the provider is. The dispute window protects the provider either way.
"""

from collections.abc import Callable, Mapping
from functools import partial

import typer

from meshos.consensus.ledger.tabs import CloseTab
from meshos.errors import BadInput, MeshError, Refused
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_ledger import SHOWN
from meshos.node.cli.client_text import org_name, rows_of
from meshos.node.cli.output import document, note, ok, say, warn
from meshos.node.cli.paid_tabs import PaidTab, paid_tabs
from meshos.node.cli.registering import send_by_root
from meshos.node.config import NodeConfig
from meshos.node.meant import only

ANSWER_S = 30.0
TAB_DIGITS = 64
Close = Callable[[str], dict[str, object]]
"""Has one tab closed, by its id: what became of it."""


def close(target: Target, tab: str | None, *, as_json: bool) -> None:
    """See ``wallet.close``."""
    with Client(target) as client:
        tabs = [tab] if tab is not None else _own_tabs(client)
        closed, failed = _closed(tabs, lambda one: client.delete("v1", "tabs", one, timeout_s=ANSWER_S))
    _say(closed, failed, "this node pays on no tab", target, as_json=as_json)


def close_by_root(config: NodeConfig, target: Target, tab: str | None, *, as_json: bool) -> None:
    """See ``wallet.close``: ``tab``, whichever node of the organisation pays on it; without it those of all nodes that are gone.

    Raises BadInput ``root-key-not-here``, ``bad-tab-id`` or ``ambiguous-id``, Refused ``tab-not-open``, and as ``signing.send``.
    """
    with Client(target) as client:
        found = paid_tabs(client, config.org, client.get("v1", "accounts", config.org))
        meant = [_meant(found, tab, config.org)] if tab is not None else [one for one in found if one.left_behind]
        closed, failed = _closed([one.tab for one in meant], partial(_close_by_root, client, config))
    _say(closed, failed, f"no node of {config.org} that is gone pays on a tab", target, as_json=as_json)


def whole_id(tab: str | None) -> bytes:
    """A tab's id where no node can be asked what its beginning means; raises BadInput ``bad-tab-id``."""
    if tab is None or len(tab) != TAB_DIGITS or not _is_hex(tab):
        what = f"{(tab or '')[:70]!r} is not the whole id of a tab"
        raise BadInput("bad-tab-id", what, hint="it is 64 hex digits: mesh wallet balance --json")
    return bytes.fromhex(tab)


def _is_hex(text: str) -> bool:
    return all(sign in "0123456789abcdef" for sign in text)


def _meant(tabs: list[PaidTab], text: str, org: str) -> PaidTab:
    if not 8 <= len(text) <= TAB_DIGITS or not _is_hex(text):
        what = f"{text[:70]!r} is no tab's id"
        raise BadInput("bad-tab-id", what, hint="it is 64 hex digits, of which 8 are enough: mesh wallet balance")
    fits = [one for one in tabs if one.tab.startswith(text)]
    what = f"{org} pays on no open tab {text[:16]}"
    none = Refused("tab-not-open", what, hint=f"`mesh wallet balance {org}` lists those that it pays on")
    id_ = only(text, (one.tab for one in fits), none, shown_chars=16)
    return next(one for one in fits if one.tab == id_)


def _close_by_root(client: Client, config: NodeConfig, tab: str) -> dict[str, object]:
    """Closed, as the asked node's ledger has it then. A tab that closes already is left as it is."""
    before = _row(client, config.org, tab)
    changed = not before.get("closes")
    if changed:
        send_by_root(client, config, CloseTab(bytes.fromhex(tab)))
    now = _row(client, config.org, tab) or before
    return {name: now.get(name) for name in ("tab", "provider", "reserved", "redeemed", "closes")} | {"changed": changed}


def _row(client: Client, org: str, tab: str) -> Mapping[str, object]:
    rows = rows_of(client.get("v1", "accounts", org).get("tabs"))
    return next((row for row in rows if row.get("tab") == tab), {})


def _own_tabs(client: Client) -> list[str]:
    """The tabs that the asked node pays on."""
    status = client.get("v1", "status")
    tabs = rows_of(client.get("v1", "accounts", str(status.get("org"))).get("tabs"))
    return [str(tab.get("tab")) for tab in tabs if tab.get("caller") == status.get("node_id")]


def _closed(tabs: list[str], close_one: Close) -> tuple[list[dict[str, object]], list[tuple[str, MeshError]]]:
    closed, failed = [], []
    for tab in tabs:
        try:
            closed.append(close_one(tab))
        except MeshError as error:
            if len(tabs) == 1:
                raise
            failed.append((tab, error))
    return closed, failed


def _say(closed: list[dict[str, object]], failed: list[tuple[str, MeshError]], nothing: str, target: Target, *, as_json: bool) -> None:
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
            ok(nothing)
        elif closed:
            note(f"Next mesh wallet balance{target.options}, once {'that is' if len(closed) == 1 else 'those are'} over")
    if failed:
        raise typer.Exit(failed[0][1].exit_code)


def _told(tab: Mapping[str, object]) -> str:
    whose = f"the tab with {org_name(tab.get('provider'))}"
    paid = f"{tab.get('redeemed')} of {tab.get('reserved')} MESH were redeemed; the rest comes back"
    return f"{whose} closes at {tab.get('closes')}: {paid}" if tab.get("closes") else f"{whose} is closed: {paid}"
