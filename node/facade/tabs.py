"""Closing a tab that this node pays on, before it is closed for want of use: what its organisation does before it leaves, for instance."""

import trio

from meshos.consensus.ledger.tabs import TABS, Tab
from meshos.errors import BadInput, Refused, Unreachable
from meshos.ids import NodeId, OrgDid
from meshos.node.api import shapes
from meshos.node.facade.views import NameOf
from meshos.node.kernel.asking import ASK_PAYING
from meshos.node.meant import is_beginning, only
from meshos.node.runtime.host import Host
from meshos.protocols.ledger.port import ReplicaLedger
from meshos.protocols.payments.commands import EndTab

LOOK_S = 5.0
CLOSE_S = 20.0
"""How long the ledger may take to show that the tab closes."""
POLL_S = 0.05


async def close_tab(host: Host, window: ReplicaLedger, me: NodeId, text: str, name_of: NameOf) -> shapes.Json:
    """The provider still has the dispute window to redeem its last voucher; then the rest is back. Again changes nothing.

    ``text``: the tab's id, or how that begins. Raises BadInput ``bad-tab-id`` or ``ambiguous-id``, Refused ``tab-not-open``,
    ``not-your-tab`` or ``tab-in-use``, Unreachable ``unknown-yet``.
    """
    id_, tab = _meant(window, text)
    if tab.caller != me:
        hint = f"ask its node {name_of(NodeId(tab.caller)) or tab.caller}: mesh wallet close"
        raise Refused("not-your-tab", f"the tab {id_.hex()[:12]} is paid on by {tab.caller} of {tab.org}", hint=hint)
    changed = not tab.closes_ms
    if changed:
        await host.flow(ASK_PAYING, EndTab(OrgDid(tab.provider)), timeout_s=LOOK_S)
        tab = await _closing(window, id_, tab)
    said = {"tab": id_.hex(), "provider": tab.provider, "reserved_micro": tab.reserved, "redeemed_micro": tab.redeemed}
    return said | {"closes_ms": tab.closes_ms or None, "changed": changed}


async def _closing(window: ReplicaLedger, id_: bytes, before: Tab) -> Tab:
    with trio.move_on_after(CLOSE_S):
        while True:
            tab = TABS.read(window, id_)
            if tab is None or tab.closes_ms:
                return tab or before
            await trio.sleep(POLL_S)
    what = f"the ledger has not said within {CLOSE_S:g} s that the tab closes"
    raise Unreachable("unknown-yet", what, hint="look again with `mesh wallet balance`; it cannot be done twice", outcome="unknown")


def _meant(window: ReplicaLedger, text: str) -> tuple[bytes, Tab]:
    if not is_beginning(text, 8):
        hint = "it is 64 hex digits, of which 8 are enough: mesh wallet balance"
        raise BadInput("bad-tab-id", f"{text[:70]!r} is no tab's id", hint=hint)
    whole = TABS.prefix + bytes.fromhex(text[: len(text) // 2 * 2])
    found = {key.removeprefix(TABS.prefix).hex(): value for key, value in window.scan(whole)}
    none = Refused("tab-not-open", f"there is no open tab {text[:16]}", hint="`mesh wallet balance` lists those of an organisation")
    id_ = only(text, (one for one in found if one.startswith(text)), none, shown_chars=16)
    return bytes.fromhex(id_), TABS.decode(found[id_])
