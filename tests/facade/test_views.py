"""What the API shows is in the forms of CONTRACT.md: MESH as decimal text, times as RFC 3339, names that say their unit."""

import dataclasses
import re
from types import SimpleNamespace
from typing import cast

from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.node.api import render
from meshos.node.facade import views
from meshos.node.facade.views import cells, receipt_json
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.layout import Layout
from meshos.protocols.directory.cells.limits import CELLS_FROM
from meshos.protocols.directory.limits import MAX_NUMBER
from meshos.protocols.directory.parts import Agreed, Measured
from meshos.protocols.directory.record import AgentRecord, parse
from meshos.protocols.tasks.receipt import Receipt, SignedReceipt
from tests.directory.world import checker, record, signed

CALLER = Peer(NodeId("12D3KooWcaller"), OrgDid("did:mesh:enterprise:gamma"))
PROVIDER = Peer(NodeId("12D3KooWprovider"), OrgDid("did:mesh:enterprise:alpha"))


def shown(price_micro: int, at_ms: int) -> dict[str, object]:
    receipt = Receipt(
        TaskId("t-1"),
        CALLER,
        PROVIDER,
        AgentId("a-1"),
        b"q" * 32,
        "completed",
        b"r" * 32,
        result_size=7,
        price_micro=price_micro,
        at_ms=at_ms,
    )
    return dict(receipt_json(SignedReceipt(receipt.payload(), b"s", b"c")))


def test_a_receipt_shows_mesh_as_text_and_its_time_as_rfc_3339() -> None:
    receipt = shown(10_500_000, 1_764_072_000_125)
    assert (receipt["price"], receipt["time"]) == ("10.5", "2025-11-25T12:00:00.125Z")
    assert (receipt["taskId"], receipt["agentId"], receipt["resultBytes"]) == ("t-1", "a-1", 7)
    assert shown(1, 0)["price"] == "0.000001" and shown(0, 0)["price"] == "0"


def test_a_directory_is_whole_or_in_cells_or_waits_for_enough_records() -> None:
    whole, cut = Layout(CALLER.node), Layout(CALLER.node, b"name", cast("Codebook", SimpleNamespace(cells=128)))
    assert cells(whole, Agreed()) == (None, None)
    assert cells(whole, Agreed(in_cells=True)) == (None, CELLS_FROM)
    assert cells(cut, Agreed(in_cells=True, version=1)) == (128, None)


def test_no_name_in_a_receipt_is_one_of_our_own_units() -> None:
    assert not [name for name in shown(1, 1) if re.search(r"(micro|Ms|_ms)$", name, re.IGNORECASE)]


def test_what_was_signed_at_a_time_that_no_calendar_has_is_shown() -> None:
    sealed = signed(dataclasses.replace(record("clock"), updated_ms=MAX_NUMBER), "n0-a")
    assert len(checker().admit([sealed.to_bytes()], frozenset()).entries) == 1
    entry = parse(sealed.to_bytes()).entry
    assert isinstance(entry, AgentRecord)
    assert render.agent(views.agent_view(sealed, entry, Measured()))["lastUpdated"] == "9999-12-31T23:59:59.999Z"
    assert shown(1, 2**63 - 1)["time"] == "9999-12-31T23:59:59.999Z"
