"""What an agent is before it is deployed: the agent file, as Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from mesh_os.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """The fields of an agent file (CONTRACT.md). ``model`` is short for ``models=[model]``: it says what the agent uses, it runs nothing.

    ``runtime`` is what runs: ``{"mcp": {"command": ["python", "-m", "my_server"]}}``, ``{"mcp": {"url": "https://…/mcp"}}``,
    ``{"a2a": {"url": "https://…"}}`` or ``{"model": {"url": "https://…/v1"}}`` as far as the node knows them. ``folder`` is where a command
    runs; it has to lie on the node's machine.
    """

    name: str
    description: str = ""
    model: str | None = None
    models: Sequence[str] = ()
    capabilities: Sequence[str] = ()
    specializations: Sequence[str] = ()
    certifications: Sequence[str] = ()
    pricing: Mapping[str, str] | None = None
    region: str | None = None
    runtime: Mapping[str, Any] | None = None
    resources: Mapping[str, Any] | None = None
    replicas: int | None = None
    requirements: Mapping[str, Any] | None = None
    folder: str | PathLike[str] | None = None

    def agent_file(self) -> dict[str, Any]:
        """The agent file's mapping; raises BadInput ``no-runtime``."""
        if self.runtime is None:
            raise BadInput(
                "no-runtime",
                f"the agent {self.name!r} has no runtime, so there is nothing to run",
                hint='give AgentConfig runtime={"mcp": {"command": [...]}} or {"mcp": {"url": ...}}; a model\'s name alone is only a label',
            )
        models = [*([self.model] if self.model is not None else []), *(one for one in self.models if one != self.model)]
        whole: dict[str, Any] = {
            "name": self.name,
            "description": self.description or _described(self.name, self.capabilities),
            "capabilities": list(self.capabilities),
            "specializations": list(self.specializations),
            "models": models,
            "certifications": list(self.certifications),
            "pricing": self.pricing,
            "region": self.region,
            "runtime": self.runtime,
            "resources": self.resources,
            "replicas": self.replicas,
            "requirements": self.requirements,
        }
        return {name: value for name, value in whole.items() if value not in (None, [])}


def _described(name: str, capabilities: Sequence[str]) -> str:
    """A description for one who gives none: what the agent is found by."""
    return f"{name}: {', '.join(one.replace('-', ' ') for one in capabilities)}" if capabilities else name
