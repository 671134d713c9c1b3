"""A tool of an agent, as the agent's own server lists it: what the agent record's ``tasks`` are made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tool:
    """``schema`` is the JSON Schema of the arguments, as canonical CBOR.

    ``read_only`` and ``idempotent`` are the server's own claims (MCP annotations); a crash in the middle of a tool with
    neither ends as ``outcome_unknown``.
    """

    name: str
    description: str
    schema: bytes
    read_only: bool = False
    idempotent: bool = False
