"""A real folder and a real disk: founding and joining happen once, and a lost disk is not taken for a new node."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from meshos.consensus.ledger.application import Ledger
from meshos.consensus.org.replicated import OrgState
from meshos.consensus.raft.applying import State
from meshos.errors import Refused
from meshos.node.cli.testnet import making
from meshos.node.config import load
from meshos.node.founding import BEGUN, begin, check_mesh
from meshos.node.opening import Folder, open_folder
from meshos.protocols.ledger.port import LEDGER
from meshos.storage.level import LevelStore


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An organisation's first node and two others, as a testnet has them."""
    testnet = making.make(tmp_path_factory.mktemp("made") / "testnet", orgs=1, replicas=3, base_port=20_000, timing="fast")
    return [Path(node.dir) for node in testnet.nodes]


@pytest.fixture
def opened(folders: list[Path], tmp_path: Path, request: pytest.FixtureRequest) -> Folder:
    """A copy of the folder of the node that the test names by its place."""
    place = tmp_path / "node"
    shutil.copytree(folders[request.param], place)
    return trio.run(open_folder, load(place))


def begun(opened: Folder) -> State:
    """What lies on the node's disk once it has begun."""
    level = LevelStore(opened.config.data)
    try:
        store = level.prefixed("org")
        begin(opened, store)
        return State(store, OrgState())
    finally:
        level.close()


@pytest.mark.parametrize("opened", [0], indirect=True)
def test_the_first_node_founds_the_group_alone_and_once(opened: Folder) -> None:
    first = begun(opened)
    assert first.configuration.voters == {opened.me.node} and first.index == 1
    assert begun(opened).configuration == first.configuration, "again changes nothing"
    (opened.config.dir / BEGUN).unlink()
    assert begun(opened).configuration == first.configuration, "it ended between the two writes"
    assert (opened.config.dir / BEGUN).exists()


@pytest.mark.parametrize("opened", [1, 2], indirect=True)
def test_any_other_node_begins_with_nothing(opened: Folder) -> None:
    joined = begun(opened)
    assert not joined.configuration.members and joined.index == 0
    assert begun(opened).index == 0


@pytest.mark.parametrize("opened", [0, 1], indirect=True)
def test_a_node_that_lost_its_disk_is_refused_by_name_and_nothing_is_written(opened: Folder) -> None:
    begun(opened)
    shutil.rmtree(opened.config.data)
    for _ in range(2):
        with pytest.raises(Refused, match="state-lost"):
            begun(opened)


@pytest.mark.parametrize("opened", [0], indirect=True)
def test_a_genesis_that_is_not_that_of_the_ledger_on_this_disk_is_refused(opened: Folder) -> None:
    level = LevelStore(opened.config.data)
    try:
        store = level.prefixed(LEDGER)
        check_mesh(opened, store)
        store.write(Ledger(opened.genesis).genesis().writes)
        check_mesh(opened, store)
        other = replace(opened.genesis, time_ms=opened.genesis.time_ms + 1_000)
        with pytest.raises(Refused) as caught:
            check_mesh(replace(opened, genesis=other), store)
        assert caught.value.name == "wrong-genesis"
    finally:
        level.close()
