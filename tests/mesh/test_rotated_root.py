"""Another root key for an organisation of three nodes, run as processes: they swap their certificates and find each other again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.conftest import end
from tests.mesh.test_several_nodes import Three, seat
from tests.mesh.testnet import free_base, until


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    net = Three(tmp_path)
    try:
        net.must("testnet", "up", "--detach", "--orgs", 1, "--replicas", 3, "--timing", "fast", "--base-port", free_base())
        yield net
    finally:
        end(tmp_path)


def test_the_root_key_is_rotated_once_all_nodes_have_certificates_under_it(three: Three) -> None:
    here, did = ("--dir", three.node("alpha-1").dir), three.node("alpha-1").did
    begun = json.loads(three.must("org", "rotate-root", *here, "--json"))
    assert sorted(one["name"] for one in begun["waiting"]) == ["alpha-2", "alpha-3"]
    refused = three.mesh("org", "rotate-root", "--commit", *here)
    assert (refused.code, "[certificates-missing]" in refused.err) == (4, True), refused
    for one in begun["waiting"]:
        pem = three.must("org", "reissue", one["node_id"], *here)
        (Path(three.node(one["name"]).dir) / "certificate.next.pem").write_text(pem)
    done = json.loads(three.must("org", "rotate-root", "--commit", *here, "--json"))
    assert (done["committed"], done["height"] > 0) == (True, True)
    found = three.ask("alpha-1", "GET", f"/v1/ledger/orgs/{did}").body
    assert found["root"] == begun["next"]
    taker = three.node("alpha-3").node_id  # by its id: while certificates are swapped nodes part, and alpha-1 may not know its name
    moved = json.loads(three.must("org", "seat", taker, *here, "--json"))
    assert moved["changed"] and seat(three)[0] == taker, "the new root key signs"
    for node in three.nodes():
        until(lambda node=node: not (Path(node.dir) / "certificate.next.pem").exists(), f"{node.name} has not swapped its certificate")
    until(lambda: all(three.sees(one.name, other.name) == "alive" for one in three.nodes() for other in three.nodes()), "they parted")
