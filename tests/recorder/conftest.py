"""Commands are run as a user runs them, as in ``tests/cli``."""

from tests.cli.conftest import mesh as mesh
