"""Closing a tab through the node that pays on it: which one is meant, whose it is, and when the answer comes."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from meshos.consensus.ledger.tabs import TABS, Tab
from meshos.errors import MeshError
from meshos.ids import NodeId, OrgDid
from meshos.node.facade.ledger import MAX_TABS_SHOWN
from meshos.node.facade.ledger import _tabs_of as tabs_of
from meshos.node.facade.tabs import close_tab
from meshos.protocols.payments.commands import EndTab

ME, BETA = NodeId("me"), "did:mesh:enterprise:beta"
MINE, OTHERS, TWIN = bytes.fromhex("aa" * 32), bytes.fromhex("bb" * 32), bytes.fromhex("aa" * 31 + "ff")
TAB = Tab(ME, "did:mesh:enterprise:alpha", BETA, 10, 4)


class Ledger:
    """Tabs; a tab that is ended closes at 7."""

    def __init__(self) -> None:
        self.tabs = {MINE: TAB, OTHERS: replace(TAB, caller="other"), TWIN: TAB}
        self.ended: list[object] = []

    def get(self, key: bytes) -> bytes | None:
        tab = self.tabs.get(key.removeprefix(TABS.prefix))
        return None if tab is None else TABS.encode(tab)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((TABS.key(id_), TABS.encode(tab)) for id_, tab in self.tabs.items() if TABS.key(id_).startswith(prefix))

    async def flow(self, service: str, command: object, *, timeout_s: float) -> None:
        self.ended.append(command)
        self.tabs[MINE] = replace(TAB, closes_ms=7)


async def close(ledger: Ledger, text: str) -> Any:
    window: Any = ledger
    host: Any = SimpleNamespace(flow=ledger.flow)
    return await close_tab(host, window, ME, text, lambda node: f"name of {node}")


async def test_a_tab_of_this_node_is_closed_once() -> None:
    ledger = Ledger()
    closed = await close(ledger, MINE.hex())
    assert closed == {"tab": MINE.hex(), "provider": BETA, "reserved_micro": 10, "redeemed_micro": 4, "closes_ms": 7, "changed": True}
    assert not (await close(ledger, MINE.hex()))["changed"] and len(ledger.ended) == 1
    assert ledger.ended == [EndTab(BETA)]  # type: ignore[arg-type]


def test_of_very_many_tabs_those_that_the_organisation_pays_on_come_first_and_all() -> None:
    ledger = Ledger()
    paid = {bytes([255]) * 31 + bytes([number]): TAB for number in range(3)}
    ledger.tabs = {bytes([number]) * 32: replace(TAB, org=BETA, provider=TAB.org) for number in range(MAX_TABS_SHOWN)} | paid
    state: Any = ledger
    rows = tabs_of(state, OrgDid(TAB.org))
    assert [row["tab"] for row in rows[:3]] == [id_.hex() for id_ in paid] and len(rows) == MAX_TABS_SHOWN


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "bad-tab-id"),
        ("aa" * 3, "bad-tab-id"),
        ("AA" * 32, "bad-tab-id"),
        ("aa" * 33, "bad-tab-id"),
        ("../../keys", "bad-tab-id"),
        ("aa" * 8, "ambiguous-id"),
        ("cc" * 32, "tab-not-open"),
        ("bbbbbbbbb", "not-your-tab"),
    ],
)
async def test_what_is_no_tab_of_this_node_is_refused(text: str, name: str) -> None:
    ledger = Ledger()
    with pytest.raises(MeshError, match=name) as raised:
        await close(ledger, text)
    assert ledger.ended == [] and (name != "not-your-tab" or "name of other" in raised.value.hint)
