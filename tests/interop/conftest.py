"""A testnet as its user has it, with one agent, for programs that know nothing of us."""

from collections.abc import Iterator

import pytest

from tests.interop import programs
from tests.mesh.conftest import bring_up, end
from tests.mesh.testnet import EXAMPLES, Net, until


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """Four organisations, an agent that says what it is told, and some blocks."""
    programs.any_installed()
    folder = tmp_path_factory.mktemp("interop")
    try:
        found = bring_up(folder, 4)
        found.deploy_all({("alpha", EXAMPLES / "echo" / "agent.yaml"): "echo"})
        found.must("wallet", "transfer", found.node("beta").did, "3", "--org", "gamma")
        until(lambda: found.ask("alpha", "GET", "/v1/ledger/head").body["height"] > 1)
        yield found
    finally:
        end(folder)
