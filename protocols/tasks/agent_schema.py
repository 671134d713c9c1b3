"""The agent file as a JSON Schema (draft 2020-12): for editors, OpenAPI and documentation.

The parser decides; the schema only describes. A test holds the two together: what the schema refuses the parser refuses.
"""

from meshos.protocols.tasks import agent_file as limits
from meshos.protocols.tasks.limits import MAX_CONCURRENCY


def _words(what: str) -> dict[str, object]:
    return {
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": limits.MAX_WORD},
        "maxItems": limits.MAX_WORDS,
        "uniqueItems": True,
        "description": what,
    }


def _closed(properties: dict[str, object], what: str, **more: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "additionalProperties": False, "description": what, **more}


def agent_schema() -> dict[str, object]:
    """The schema, made anew at each call so that nobody changes another's."""
    price: dict[str, object] = {
        "type": ["string", "number"],
        "pattern": r"^\s*\d+(\.\d{1,6}0*)?\s*(MESH)?\s*$",
        "minimum": 0,
        "description": 'an amount of MESH with at most 6 decimals, as in "10 MESH"',
    }
    url: dict[str, object] = {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://", "maxLength": limits.MAX_URL}
    started = _closed(
        {
            "command": {
                "type": "array",
                "items": {"type": ["string", "number", "boolean"], "maxLength": limits.MAX_ARGUMENT},
                "minItems": 1,
                "maxItems": limits.MAX_ARGUMENTS,
                "description": "the program and its arguments; `python` is the node's interpreter",
            },
            "env": {
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$", "not": {"enum": ["MESH_NODE", "MESH_API_KEY"]}},
                "additionalProperties": {"type": ["string", "number", "boolean"], "maxLength": limits.MAX_ARGUMENT},
                "maxProperties": limits.MAX_VARIABLES,
            },
        },
        "an MCP server on stdio that the node starts and watches",
        required=["command"],
    )
    elsewhere = _closed({"url": url}, "a server that already runs elsewhere", required=["url"])
    runtime = {
        "oneOf": [
            _closed({"mcp": {"oneOf": [started, elsewhere]}}, "an MCP server", required=["mcp"]),
            _closed({"a2a": elsewhere}, "an A2A agent", required=["a2a"]),
        ]
    }
    properties: dict[str, object] = {
        "name": {"type": "string", "minLength": 1, "maxLength": limits.MAX_NAME},
        "description": {"type": "string", "minLength": 1, "maxLength": limits.MAX_DESCRIPTION},
        "capabilities": _words("what it can do, as in image-analysis"),
        "specializations": _words("fields it knows best"),
        "models": _words("models it is built on; information only"),
        "certifications": _words("what it claims to be certified for; shown as a claim"),
        "pricing": _closed({"perQuery": price, "perHour": price}, "what a call and an hour cost"),
        "region": {"type": "string", "pattern": "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"},
        "runtime": runtime,
        "resources": _closed(
            {"cpu": {"type": ["string", "number"]}, "memory": {"type": ["string", "integer"]}},
            "what one replica may use: share of a processor (0.5, 500m), memory (256Mi)",
        ),
        "replicas": {"type": "integer", "minimum": 1, "maximum": limits.MAX_REPLICAS},
        "concurrency": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_CONCURRENCY,
            "description": "calls that one replica is given at once; the others wait, the most urgent first",
        },
        "requirements": _closed(
            {
                "residency": _words("where it may run"),
                "maxLatency": {"type": "integer", "minimum": 1, "maximum": 3_600_000, "description": "milliseconds"},
                "minTrust": {"type": "integer", "minimum": 0, "maximum": 100},
            },
            "of whom it works for, and where it may run",
        ),
    }
    schema = _closed(properties, "An agent, as its owner describes it.", required=["name", "description", "runtime"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Mesh OS agent file", **schema}
