"""Find agents: ``from mesh import AgentDiscovery``. Everything else is in ``mesh_os``."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mesh_os import AgentRecord, Found, MeshOS

__all__ = ["AgentDiscovery", "AgentRecord", "Found", "MeshOS"]


class AgentDiscovery:
    """Semantic search over all organisations of a mesh. ``api_key`` and ``node`` default to MESH_API_KEY and MESH_NODE."""

    def __init__(self, api_key: str | None = None, node: str | None = None) -> None:
        self._mesh = MeshOS(api_key, node)

    def __enter__(self) -> "AgentDiscovery":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def search(self, query: str, filters: Mapping[str, Any] | None = None, limit: int = 10) -> Found:
        """Agents that fit, best first: see ``MeshOS.discover``."""
        return self._mesh.discover(query, filters=filters, limit=limit)

    def close(self) -> None:
        """Close the connections."""
        self._mesh.close()
