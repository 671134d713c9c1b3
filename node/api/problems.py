"""Errors as RFC 9457 problem documents, and the HTTP status that fits each."""

import json

from meshos.errors import BadInput, Failed, MeshError, Refused, Unreachable

STATUS: dict[str, int] = {
    "agent-not-here": 409,
    "bad-request": 400,
    "body-timeout": 408,
    "budget-exceeded": 402,
    "busy": 503,
    "conflict": 409,
    "deadline-exceeded": 504,
    "foreign-origin": 403,
    "idempotency-conflict": 409,
    "method-not-allowed": 405,
    "no-key": 401,
    "not-json": 415,
    "not-ready": 503,
    "not-yet": 501,
    "nothing-to-explain": 404,
    "rate-limited": 429,
    "result-too-large": 422,
    "too-large": 413,
    "unknown-api-key": 401,
    "wrong-host": 421,
}
"""Names whose status says more than that of their class."""

TITLES = {
    "Failed": "It was tried and the answer is no",
    "BadInput": "The request makes no sense as it stands",
    "Unreachable": "Nobody answered in time",
    "Refused": "Refused",
    "Broken": "A bug of ours",
}


def status_of(error: MeshError) -> int:
    """The HTTP status of ``error``."""
    known = STATUS.get(error.name)
    if known is not None:
        return known
    if error.name.startswith("no-such-"):
        return 404
    if isinstance(error, BadInput):
        return 400
    if isinstance(error, Refused):
        return 403
    if isinstance(error, Failed):
        return 422
    if isinstance(error, Unreachable):
        return 503
    return 500


def document(error: MeshError, request_id: str) -> dict[str, object]:
    """The problem document: RFC 9457's members, and name, hint, outcome, exit (the code a command ends with)."""
    return {
        "type": f"https://mesh.invalid/errors/{error.name}",
        "title": TITLES.get(type(error).__name__, "Error"),
        "status": status_of(error),
        "detail": error.detail,
        "name": error.name,
        "hint": error.hint,
        "outcome": error.outcome,
        "exit": error.exit_code,
        "requestId": request_id,
    }


def body(error: MeshError, request_id: str) -> bytes:
    """``document`` as JSON."""
    return json.dumps(document(error, request_id), separators=(",", ":")).encode()
