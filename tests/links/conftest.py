"""Over which path nodes are linked."""

import pytest

from meshos.node.runtime.links import peer_links, standby
from tests.links.mesh import PATHS, Mesh


@pytest.fixture(params=PATHS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test that uses it is run over each path."""
    monkeypatch.setattr(Mesh, "kind", request.param)
    return str(request.param)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links over both paths, which are measured, and opened again, in little time."""
    monkeypatch.setattr(Mesh, "kind", "tcp+quic")
    monkeypatch.setattr(standby, "MEASURE_S", 0.02)
    monkeypatch.setattr(standby, "PATH_PING_S", 0.05)
    monkeypatch.setattr(peer_links, "AGAIN_MIN_S", 0.05)
