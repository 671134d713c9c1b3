"""The vectors are what the product's code makes, and the examples of wire.md are vectors: a change of either is a change of the wire."""

import json
import re

import pytest

from meshos.consensus.ledger import tree_limits
from meshos.consensus.ledger.parameters import KEPT
from meshos.consensus.pbft.limits import MAX_NUMBER, MAX_VALIDATORS
from meshos.node.runtime.square import announcing, routing
from meshos.node.runtime.square import limits as carrying
from meshos.protocols.square import describe, headers, join, limits, proof, resolve, search
from tests.vectors import pages
from tests.vectors.chain import FOLDER

PAGE = pages.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", pages.FILES)
def test_the_product_makes_the_committed_vectors(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == pages.file_of(name), "if the wire is to change: python -m tests.vectors.pages"


def test_the_examples_of_the_page_are_vectors() -> None:
    files = {name: json.loads((FOLDER / name).read_text(encoding="utf-8")) for name in pages.FILES}
    assert pages.page_of(PAGE, files) == PAGE, "python -m tests.vectors.pages"
    assert len(pages.EXAMPLE.findall(PAGE)) == PAGE.count("<!-- vector") >= 10


def test_every_file_is_in_the_pages_table_and_every_refusal_is_explained() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(pages.FILES)
    for name in pages.FILES:
        assert f"| [{name}](../../tests/vectors/{name}) |" in PAGE
    told = set(re.findall(r'"refused": "([a-z-]+)"', "".join(pages.file_of(name) for name in pages.FILES)))
    assert told and not [name for name in told if f"`{name}`" not in PAGE]


def test_the_page_lists_the_parameters_in_the_order_in_which_they_are_kept() -> None:
    rows = [
        f"{number}. `{name}`" + ("" if absent is None else f"; where it is not there: {absent}")
        for number, (name, absent) in enumerate(KEPT, 1)
    ]
    assert "\n" + "\n".join(rows) + "\n" in PAGE


def test_the_page_says_the_limits_that_hold() -> None:
    costs = ", ".join(str(module.COST) for module in (describe, headers, proof, resolve, search, join))
    kib = limits.KIB
    rows = [
        f"| streams on a connection | {carrying.STREAMS} |",
        f"| {carrying.CONNECTIONS}, {carrying.CONNECTIONS_AN_ADDRESS}, {carrying.CONNECTIONS_A_PEER} |",
        f"| {carrying.HANDSHAKES_AN_ADDRESS}; {carrying.HANDSHAKES} |",
        f"| streams that are refused on one connection | {carrying.STREAMS_REFUSED} |",
        f"| a connection without a request, open stream or ping | {carrying.IDLE_S:g} s |",
        f"| taking an answer | {carrying.WRITE_S:g} s |",
        f"| {carrying.PACKETS_A_SECOND} a second, {carrying.PACKETS_SAVED:,} saved; "
        f"{carrying.FRAMES_A_SECOND} a second, {carrying.FRAMES_SAVED} saved |",
        f"| a peer | {limits.PEER_TOKENS_A_SECOND} | {limits.PEER_TOKENS_SAVED} |",
        f"| an address | {limits.ADDRESS_TOKENS_A_SECOND} | {limits.ADDRESS_TOKENS_SAVED} |",
        f"| all strangers | {limits.TOKENS_A_SECOND} | {limits.TOKENS_SAVED} |",
        f"| describe, headers, proof, resolve, search, join | {costs} |",
        f"| {limits.CONNECT_TOKENS} |",
        f"| a stream | {limits.STREAM_TOKENS} |",
        f"| {routing.COST}; 1; 2; {announcing.COST} |",
        f"A request has at most {limits.REQUEST_BYTES // kib} KiB (that of `join` {join.REQUEST_BYTES:,} bytes)",
        f"an answer has at most {limits.ANSWER_BYTES // kib} KiB",
        f"has to arrive within {carrying.REQUEST_S:g} s of its first byte, and the next within {carrying.STREAM_IDLE_S:g} s",
        f"| `steps` | at most {limits.STEPS_A_PAGE} steps",
        f"at most {limits.GENESIS_PIECE_BYTES // kib} KiB of genesis.json",
        f"text of 1 to {limits.QUERY_CHARS:,} characters",
        f"1 to {MAX_VALIDATORS} seats",
        f"keys ({1} to {tree_limits.MAX_KEY_BYTES} bytes) to values (at most {tree_limits.MAX_VALUE_BYTES // kib} KiB)",
        f"| steps | at most {tree_limits.MAX_EPOCHS:,}, oldest first",
    ]
    assert not [row for row in rows if row not in PAGE]
    assert MAX_NUMBER == 2**53
