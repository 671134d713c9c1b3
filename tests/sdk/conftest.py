"""The SDK from its own folder, and a node in a process of its own."""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.cli_client.conftest import ROOT, Node, start

sys.path.insert(0, str(ROOT / "sdk" / "python"))


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """By default the memory node; MESH_TEST_NODE and MESH_TEST_API_KEY name another."""
    url, key = os.environ.get("MESH_TEST_NODE"), os.environ.get("MESH_TEST_API_KEY")
    if url and key:
        yield Node(url, key)
    else:
        yield from start()
