"""The OpenAPI document: FastAPI's own, with the bodies that our handlers read, the bearer scheme and the problem document."""

from typing import cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from meshos.node.api import bodies
from meshos.node.api.routes import ROUTES

_BODIES: dict[str, type[bodies.Body]] = {
    "deploy": bodies.DeployBody,
    "discover": bodies.DiscoverBody,
    "explain_score": bodies.ScoreBody,
    "call": bodies.TaskBody,
    "publish": bodies.PublishBody,
    "transact": bodies.TransactionBody,
    "rent": bodies.RentBody,
    "propose": bodies.ProposalBody,
    "approve": bodies.JudgementBody,
    "reject": bodies.JudgementBody,
    "move": bodies.MotionBody,
    "vote": bodies.VoteBody,
    "make_key": bodies.KeyBody,
}
_REFERENCE = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem document; mesh explain NAME says more.",
    "required": ["type", "title", "status", "detail", "name", "hint", "outcome", "exit", "requestId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "name": {"type": "string"},
        "hint": {"type": "string"},
        "outcome": {"enum": ["done", "not_done", "unknown"]},
        "exit": {"type": "integer"},
        "requestId": {"type": "string"},
    },
}


def document(app: FastAPI) -> dict[str, object]:
    """The whole document."""
    found = get_openapi(
        title="Mesh OS",
        version="1",
        description="The API of one node. Amounts of MESH are decimal strings, times RFC 3339, timeout seconds, *Latency milliseconds.",
        routes=app.routes,
    )
    _, definitions = models_json_schema([(kind, "validation") for kind in dict.fromkeys(_BODIES.values())], ref_template=_REFERENCE)
    schemas: dict[str, object] = {"Problem": _PROBLEM, **definitions.get("$defs", {})}
    found["components"] = {
        "schemas": schemas,
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key, mk_<id>_<secret>."}},
    }
    for route in ROUTES:
        operation = found["paths"][route.path][route.method.lower()]
        operation["responses"] = {
            "default": {
                "description": "What went wrong",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
            "200": {"description": "Done"},
        }
        if "{" in route.path:
            name = route.path.partition("{")[2].partition("}")[0]
            operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}]
        if route.right is not None:
            operation["security"] = [{"key": []}]
            operation["x-right"] = route.right
        body = _BODIES.get(route.handler)
        if body is not None:
            reference = {"$ref": f"#/components/schemas/{body.__name__}"}
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    return cast("dict[str, object]", found)
