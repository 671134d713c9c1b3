"""Over which path legs go."""

from tests.links.conftest import kind

__all__ = ["kind"]
