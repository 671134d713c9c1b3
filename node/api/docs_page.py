"""The page at /docs: the API in one plain page made from its OpenAPI document. It loads nothing from anywhere."""

import html
from collections.abc import Mapping
from typing import cast

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
h2{font:600 1rem ui-monospace,monospace;margin:2rem 0 .2rem;border-top:1px solid #ccc;padding-top:1rem}
pre{background:#f4f4f4;padding:.6rem;overflow:auto;font-size:.85rem}code{background:#f4f4f4}
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}pre,code{background:#262626}h2{border-color:#444}}
"""


def page(openapi: Mapping[str, object]) -> str:
    """HTML of ``openapi``."""
    info = cast("Mapping[str, str]", openapi["info"])
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1><p>{html.escape(info.get('description', ''))}</p>",
        "<p>For programs: <a href='/openapi.json'>/openapi.json</a></p>",
    ]
    paths = cast("Mapping[str, Mapping[str, Mapping[str, object]]]", openapi["paths"])
    schemas = _schemas(openapi)
    for path, operations in paths.items():
        for method, operation in operations.items():
            parts.append(f"<h2>{html.escape(method.upper())} {html.escape(path)}</h2>")
            parts.append(f"<p>{html.escape(str(operation.get('description') or operation.get('summary', '')))}</p>")
            parts.extend(_body(operation, schemas))
    parts.append("</body></html>")
    return "".join(parts)


def _schemas(openapi: Mapping[str, object]) -> Mapping[str, Mapping[str, object]]:
    components = cast("Mapping[str, object]", openapi.get("components", {}))
    return cast("Mapping[str, Mapping[str, object]]", components.get("schemas", {}))


def _body(operation: Mapping[str, object], schemas: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The members of the JSON body, one a line."""
    request = cast("Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]] | None", operation.get("requestBody"))
    if request is None:
        return []
    reference = request["content"]["application/json"]["schema"].get("$ref", "")
    schema = schemas.get(reference.rpartition("/")[2], {})
    required = cast("list[str]", schema.get("required", []))
    properties = cast("Mapping[str, Mapping[str, object]]", schema.get("properties", {}))
    lines = [
        f"{name}{'' if name in required else '?'}: {member.get('type', 'see openapi.json')}  {member.get('description', '')}"
        for name, member in properties.items()
    ]
    return [f"<pre>{html.escape(chr(10).join(lines))}</pre>"]
