"""MCP messages into our values, checked on the way: an agent's server is a stranger.

Source: Model Context Protocol, revisions 2024-11-05 to 2025-11-25 (lifecycle, tools), JSON-RPC 2.0.
"""

import math
from collections.abc import Mapping
from typing import TypeAlias, cast

from meshos import cbor, cbor_pieces
from meshos.adapters.onprem import limits
from meshos.errors import BadInput, Failed, Refused
from meshos.protocols.tasks.tools import Tool

PROTOCOL = "2025-11-25"
"""What is offered; a server answers with the revision that it speaks."""
KNOWN_PROTOCOLS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Message: TypeAlias = dict[str, Json]


def garbage(what: str) -> Failed:
    """The agent said something that is no MCP."""
    return Failed("agent-garbage", what, hint="look at the agent's log", outcome="unknown")


def check_plain(value: Json, depth: int = cbor.MAX_DEPTH) -> None:
    """Raises Failed ``agent-garbage`` where canonical CBOR has no such value: it is nested too deep, or holds an infinite number or a
    larger integer.
    """
    if isinstance(value, dict | list):
        if depth == 0:
            raise garbage(f"its answer is nested more than {cbor.MAX_DEPTH} deep")
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list | int | float):
                check_plain(inner, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise garbage("its answer holds a number beyond all measure")
    elif isinstance(value, int) and not cbor.MIN_INT <= value <= cbor.MAX_INT:
        raise garbage("its answer holds an integer of more than 64 bits")


def tool_result(result: Json, *, large: bool = False) -> tuple[bytes, bool]:
    """``(value, failed)`` of a tools/call result: structured content, else text, else the content list, as canonical CBOR.

    ``large``: it is made in a worker thread, in steps that leave the others their turn. Raises Failed ``agent-garbage``, Refused
    ``result-too-large``.
    """
    if not isinstance(result, dict):
        raise garbage("its answer to a call is no object")
    failed = result.get("isError", False)
    content = result.get("content", [])
    if not isinstance(failed, bool) or not isinstance(content, list):
        raise garbage("its answer to a call has a wrong shape")
    value: Json = result.get("structuredContent")
    if value is None:
        texts = [_text_of(item) for item in content]
        plain = [text for text in texts if text is not None]
        value = "\n".join(plain) if plain and len(plain) == len(texts) else content
    check_plain(value)
    try:
        data = cbor_pieces.encode(value) if large else cbor.encode(value)
    except (ValueError, OverflowError) as error:
        raise garbage("its answer holds text or numbers that cannot be passed on") from error
    if len(data) > limits.MAX_RESULT_BYTES:
        raise too_large(len(data))
    return data, failed


def too_large(size: int) -> Refused:
    """A result beyond the bound; the tool ran, its answer was dropped."""
    most = limits.MAX_RESULT_BYTES >> 20
    detail = f"the tool's answer has {size >> 20} MiB, at most {most} are passed on"
    return Refused("result-too-large", detail, hint="have the tool return a part, or a place to fetch it from", outcome="done")


def _text_of(item: Json) -> str | None:
    if isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str):
        return cast(str, item["text"])
    return None


def tools_of(page: Json) -> tuple[list[Tool], str]:
    """The tools of one page of tools/list, and the cursor of the next page or an empty text; raises Failed ``agent-garbage``."""
    if not isinstance(page, dict) or not isinstance(page.get("tools"), list):
        raise garbage("its list of tools has a wrong shape")
    cursor = page.get("nextCursor")
    if cursor is not None and not (isinstance(cursor, str) and len(cursor) <= 1024):
        raise garbage("its list of tools has a wrong cursor")
    return [_tool(item) for item in cast("list[Json]", page["tools"])], cursor or ""


def _tool(item: Json) -> Tool:
    if not isinstance(item, dict):
        raise garbage("a tool in its list is no object")
    name, description, schema = item.get("name"), item.get("description"), item.get("inputSchema")
    notes = item.get("annotations")
    if not isinstance(name, str) or not 0 < len(name) <= limits.MAX_TOOL_NAME or not name.isprintable():
        raise garbage("a tool in its list has no proper name")
    if not isinstance(schema, dict) or not (description is None or isinstance(description, str)):
        raise garbage(f"its tool {name!r} has no proper description or schema")
    check_plain(schema)
    encoded = cbor.encode(schema)
    if len(encoded) > limits.MAX_TOOL_SCHEMA_BYTES:
        raise garbage(f"the schema of its tool {name!r} has {len(encoded)} bytes, at most {limits.MAX_TOOL_SCHEMA_BYTES}")
    notes = notes if isinstance(notes, dict) else {}
    return Tool(
        name=name,
        description=(description or "")[: limits.MAX_TOOL_DESCRIPTION],
        schema=encoded,
        read_only=notes.get("readOnlyHint") is True,
        idempotent=notes.get("idempotentHint") is True,
    )


def arguments_of(data: bytes) -> dict[str, cbor.Value]:
    """The map that ``CallTool.arguments`` holds; raises BadInput ``bad-arguments``, Refused ``bad-encoding`` or ``too-large``."""
    value = cbor.decode(data, max_bytes=limits.MAX_REQUEST_BYTES)
    if not isinstance(value, dict):
        raise BadInput("bad-arguments", "the data of a task is a mapping of the tool's arguments", hint='as in {"city": "Oslo"}')
    return value


def check_arguments(arguments: Mapping[str, cbor.Value]) -> None:
    """Raises BadInput ``bad-arguments`` where a value cannot be said in JSON."""
    stack: list[cbor.Value] = list(arguments.values())
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
            raise BadInput("bad-arguments", "an argument holds bytes or an infinite number, which MCP cannot carry")
