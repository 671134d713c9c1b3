"""Deploy, find and call agents of a Mesh OS mesh."""

from mesh_os.async_client import AsyncAgent, AsyncFederation, AsyncMeshOS
from mesh_os.client import Agent, Federation, MeshOS
from mesh_os.config import AgentConfig
from mesh_os.errors import BadInput, Broken, Failed, MeshError, Refused, Unreachable
from mesh_os.records import AgentRecord, Availability, Found, Pricing, Task, TaskKind

__all__ = [
    "Agent",
    "AgentConfig",
    "AgentRecord",
    "AsyncAgent",
    "AsyncFederation",
    "AsyncMeshOS",
    "Availability",
    "BadInput",
    "Broken",
    "Failed",
    "Federation",
    "Found",
    "MeshError",
    "MeshOS",
    "Pricing",
    "Refused",
    "Task",
    "TaskKind",
    "Unreachable",
]
