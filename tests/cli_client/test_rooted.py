"""What commands of the root key ask and refuse before anything is signed; the ledger's own word is in tests/mesh/test_several_nodes.py."""

import base64
import json
from pathlib import Path

import pytest

from meshos import genesis
from meshos.consensus.ledger.kinds import Order, read
from meshos.consensus.ledger.tabs import CloseTab
from meshos.crypto.keystore import TEST_COST
from meshos.ids import OrgDid
from meshos.node import folder
from meshos.node.cli.seating import Moved, in_force
from meshos.node.config import Address, NodeConfig
from tests.api.memory_ledger import NODE
from tests.cli_client.conftest import Mesh

ALPHA = OrgDid("did:mesh:enterprise:alpha")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the root key of alpha, which is in no genesis: nothing is sent from it."""
    place = tmp_path_factory.mktemp("alpha") / "alpha-1"
    nowhere = Address("127.0.0.1", 1)
    config = NodeConfig(dir=place, name="alpha-1", org=ALPHA, api=nowhere, gossip=nowhere, link=nowhere)
    folder.make_org(config, now=0.0, cost=TEST_COST, root_cost=TEST_COST)
    folder.write_file(config.genesis, genesis.to_json(folder.template()))
    return place


def test_the_seat_is_where_it_should_be(mesh: Mesh, place: Path) -> None:
    for name in ("alpha-1", NODE, NODE[:12]):
        ran = mesh("org", "seat", name, "--dir", str(place))
        assert (ran.code, ran.out) == (0, f"{NODE}\n") and "there already" in ran.err, ran
    document = json.loads(mesh("org", "seat", NODE, "--dir", str(place), "--json").out)
    assert (document["schema"], document["changed"], document["fromHeight"]) == ("mesh.org-seat/1", False, None)


@pytest.mark.parametrize(("height", "from_height"), [(1, 64), (63, 64), (64, 128), (65, 128)])
def test_what_a_checkpoints_own_block_sets_is_in_force_with_the_next(height: int, from_height: int) -> None:
    assert in_force(height) == Moved(ALPHA, None, None, changed=True, height=height).from_height == from_height


@pytest.mark.parametrize("name", ["", "beta-1", NODE[:8], "12D3KooWzzzz", "x" * 500])
def test_a_node_that_the_ledger_does_not_know_gets_no_seat(mesh: Mesh, place: Path, name: str) -> None:
    ran = mesh("org", "seat", name, "--dir", str(place))
    assert (ran.code, ran.out) == (2, "") and "[no-such-node]" in ran.err and "mesh ledger org" in ran.err
    assert "[no-such-node]" in mesh("org", "seat", name, "--dir", str(place), "--nonce", "1", "--moves", "2").err


@pytest.mark.parametrize("words", [(), ("alpha-1", "--give-up"), ("alpha-1", "--nonce", "3"), ("--give-up", "--moves", "3")])
def test_what_belongs_together_is_said_together(mesh: Mesh, place: Path, words: tuple[str, ...]) -> None:
    ran = mesh("org", "seat", *words, "--dir", str(place))
    assert (ran.code, ran.out) == (2, "") and "[usage]" in ran.err


def test_a_folder_without_the_root_key_signs_nothing(mesh: Mesh, place: Path) -> None:
    (place / "root.keys").rename(place / "root.away")
    try:
        ran = mesh("org", "seat", "--give-up", "--dir", str(place))
        assert (ran.code, "[root-key-not-here]" in ran.err) == (2, True)
    finally:
        (place / "root.away").rename(place / "root.keys")


def test_an_organisation_as_the_ledger_has_it(mesh: Mesh) -> None:
    ran = mesh("ledger", "org", ALPHA)
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[0] == ["ROLE", "NAME", "SEAT", "KEY"] and rows[1][-1] == "z6MkRoot", ran
    assert rows[2:] == [["node", "alpha-1", "votes", NODE], ["person", "Ada", "-", "z6MkPerson"]], ran
    assert "its seat was moved 2 times" in ran.err
    assert json.loads(mesh("ledger", "org", ALPHA, "--json").out)["schema"] == "mesh.ledger-org/1"
    assert "[no-such-org]" in mesh("ledger", "org", "did:mesh:enterprise:nobody").err


def test_leaving_is_for_good_so_somebody_says_yes(mesh: Mesh, place: Path) -> None:
    ran = mesh("org", "leave", "--dir", str(place))
    assert (ran.code, ran.out) == (2, "") and "[not-confirmed]" in ran.err and "--yes" in ran.err
    assert "[bad-did]" in mesh("org", "leave", "--heir", "beta", "--yes", "--dir", str(place)).err
    ran = mesh("org", "leave", "--yes", "--dir", str(place))
    assert (ran.code, "[tabs-open]" in ran.err) == (4, True), ran
    assert f"`mesh wallet close --root {place}` for the 2 tabs of nodes that are gone, then wait" in ran.err, ran
    assert "its 10 MESH stay in its account" in ran.err and "its 4 keys" in ran.err and "its vote ends" in ran.err
    offline = mesh("org", "leave", "--nonce", "3", "--dir", str(place))
    assert offline.code == 0 and len(offline.out.split()) == 1, "signed, and not sent"


def test_a_tab_is_closed_by_the_beginning_of_its_id(mesh: Mesh) -> None:
    ran = mesh("wallet", "close", "abababab")
    assert (ran.code, ran.out) == (0, "ab" * 32 + "\n") and "2.5 of 10 MESH were redeemed; the rest comes back" in ran.err
    assert "[tab-not-open]" in mesh("wallet", "close", "cdcdcdcd").err
    assert json.loads(mesh("wallet", "close", "abababab", "--json").out)["failed"] == []
    assert "pays on no tab" in mesh("wallet", "close").err


def test_tabs_of_nodes_that_are_gone_are_named_with_the_way_to_close_them(mesh: Mesh) -> None:
    ran = mesh("wallet", "balance")
    assert ran.code == 0 and "12D3KooWlo is gone, and paid on cdcdcdcdcdcd" in ran.err and "mesh wallet close --root DIR" in ran.err, ran


def test_the_root_key_closes_a_tab_offline_by_its_whole_id(mesh: Mesh, place: Path) -> None:
    here = ("--root", str(place), "--nonce", "3")
    ran = mesh("wallet", "close", "cd" * 32, *here)
    assert (ran.code, len(ran.out.split())) == (0, 1) and "mesh ledger send" in ran.err, ran
    order = read(base64.b64decode(ran.out))
    assert isinstance(order, Order) and (order.body, order.transaction.nonce) == (CloseTab(b"\xcd" * 32), 3)
    for words in ((), ("cdcdcdcd",), ("zz" * 32,)):
        assert "[bad-tab-id]" in mesh("wallet", "close", *words, *here).err
    assert "[usage]" in mesh("wallet", "close", "cd" * 32, "--nonce", "3").err


@pytest.mark.parametrize(("tab", "name"), [("CDCDCDCD", "bad-tab-id"), ("cdcd", "bad-tab-id"), ("ef" * 32, "tab-not-open")])
def test_what_is_no_tab_of_the_organisation_is_not_closed_by_root(mesh: Mesh, place: Path, tab: str, name: str) -> None:
    ran = mesh("wallet", "close", tab, "--root", str(place))
    assert ran.code != 0 and f"[{name}]" in ran.err, ran


def test_a_tab_is_not_closed_by_a_root_key_that_the_asked_node_does_not_know_as_one(mesh: Mesh, place: Path) -> None:
    ran = mesh("wallet", "close", "cdcdcdcd", "--root", str(place))
    assert (ran.code, "[signer-not-allowed]" in ran.err) == (4, True), ran
