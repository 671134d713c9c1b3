"""What ``mesh status`` says of the square, and ``mesh square`` of how old what it proves is."""

from types import SimpleNamespace
from typing import Any

import pytest

from meshos import cbor
from meshos.node.cli import client_square, proven_age
from meshos.node.cli.client_mesh import status_lines
from meshos.protocols.square import describe
from meshos.times import time_text
from tests.square.mesh import ASKER, done, mesh


def test_where_strangers_ask_is_shown_with_how_many_there_are() -> None:
    said = status_lines({"p2p": ["/ip4/192.0.2.1/tcp/8401/p2p/12D3KooW", "/ip4/192.0.2.1/udp/8401/quic-v1/p2p/12D3KooW"], "strangers": 1})
    assert "Square   1 connection of strangers, at 192.0.2.1:8401" in said


def test_a_node_without_a_square_says_nothing_of_it() -> None:
    assert not [line for line in status_lines({}) if line.startswith("Square")]
    assert not [line for line in status_lines({"p2p": []}) if line.startswith("Square")]
    assert status_lines({"p2p": ["x"], "strangers": 0}), "an address that is none breaks nothing"


def test_a_proven_head_is_told_with_its_age_and_an_old_one_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    of = mesh("abcde")  # of a genesis of this year, and no block since
    client: Any = SimpleNamespace(head=of.known.head(), trusted=SimpleNamespace(validators=of.chain.validators))
    client_square._proven_head(client)
    said = capsys.readouterr().err
    assert f"block {of.chain.height}, " in said and " old, is signed by 4 of 5 validators; 4 are enough" in said
    assert proven_age.age_ms(client.head.header.time_ms) <= proven_age.OLD_MS or "ask another one, too" in said


def test_the_document_of_a_mesh_says_when_its_newest_block_was_made() -> None:
    of = mesh("abcde")
    said: Any = done(describe.protocol(of.known, tuple).answer({}, ASKER))
    document = client_square._described(describe.read_description(cbor.decode(cbor.encode(said), max_bytes=1 << 20)), None)
    head = of.known.head()
    assert head is not None and document["head"] == {
        "height": head.header.height,
        "hash": head.header.hash.hex(),
        "epoch": 1,
        "time": time_text(head.header.time_ms),
    }
