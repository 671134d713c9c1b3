"""Over which of the two ways a stranger comes."""

import pytest


@pytest.fixture(params=["tcp", "quic"])
def quic(request: pytest.FixtureRequest) -> bool:
    """Whether it is QUIC."""
    return bool(request.param == "quic")
