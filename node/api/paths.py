"""The parts of a request's path: what a client quoted stays one part, so that an id with a slash in it reaches no other route.

ASGI's ``path`` is unquoted, and there ``a%2Fb`` and ``a/b`` are the same (RFC 3986, 2.2, says that they are not). So it is made
again of what was sent, with the slashes and percent signs of each part quoted; a part is unquoted where a handler is given it.
"""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor


class _Part(Convertor[str]):
    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return _quoted(value)


register_url_convertor("part", _Part())


def keep_parts(scope: MutableMapping[str, Any]) -> None:
    """Make the path of a request one in which each part is what its client meant by it."""
    raw = scope.get("raw_path") or b""
    if b"%" in raw:
        scope["path"] = "/".join(_quoted(unquote(part)) for part in raw.decode("ascii", "replace").split("/"))


def pattern(path: str) -> str:
    """``path`` of routes.py as Starlette is to match it: ``/v1/agents/{id}`` becomes ``/v1/agents/{id:part}``."""
    return path.replace("}", ":part}")


def _quoted(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")
