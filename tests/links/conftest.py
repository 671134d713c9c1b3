"""Over which path nodes are linked."""

import pytest

from tests.links.mesh import PATHS, Mesh


@pytest.fixture(params=PATHS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test that uses it is run over each path."""
    monkeypatch.setattr(Mesh, "kind", request.param)
    return str(request.param)
