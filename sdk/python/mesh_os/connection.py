"""HTTP to one node, sync and async: where it is, what is sent, what an answer means, what is tried again."""

import ipaddress
import os
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from mesh_os.errors import BadInput, MeshError, Outcome, Unreachable, of_problem
from mesh_os.operations import Operation, Request
from mesh_os.records import Json, bad_answer

T = TypeVar("T")

TRIES = 2
"""A request that was cut off is sent once more: a GET changes nothing, and a POST has its idempotency key."""


def options(api_key: str | None, node: str | None, timeout: float) -> dict[str, Any]:
    """What both httpx clients are made with; raises BadInput ``no-node-named``, ``no-key`` or ``bad-node``."""
    address = node or os.environ.get("MESH_NODE", "")
    key = api_key or os.environ.get("MESH_API_KEY", "")
    if not address:
        raise BadInput("no-node-named", "no node is named", hint='pass node="http://127.0.0.1:8101" or set MESH_NODE')
    if not key:
        raise BadInput("no-key", "there is no API key", hint='pass api_key="mk_…" or set MESH_API_KEY')
    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        named = (url.scheme in ("http", "https") and bool(url.hostname) and url.port is not None) or url.scheme == "https"
    except ValueError:
        named = False
    if not named or not key.isascii() or not key.isprintable():
        raise BadInput("bad-node", f"{address[:80]!r} is not a node's address", hint="write it like http://127.0.0.1:8101")
    if url.scheme == "http" and not _is_loopback(url.hostname or ""):
        raise BadInput("bad-node", f"the key would go to {url.hostname} unencrypted", hint="use https, or a tunnel to its loopback address")
    headers = {"Authorization": f"Bearer {key}"}
    return {"base_url": url.geturl(), "headers": headers, "timeout": timeout, "trust_env": url.scheme == "https", "follow_redirects": False}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(client: httpx.Client, operation: Operation[T]) -> T:
    """Carry out ``operation``."""
    try:
        request = next(operation)
        while True:
            request = operation.send(_send(client, request))
    except StopIteration as end:
        return cast(T, end.value)


async def run_async(client: httpx.AsyncClient, operation: Operation[T]) -> T:
    """Carry out ``operation``; cancelling it closes the connection, and the node cancels the task."""
    try:
        request = next(operation)
        while True:
            request = operation.send(await _send_async(client, request))
    except StopIteration as end:
        return cast(T, end.value)


def _send(client: httpx.Client, request: Request) -> Json:
    for left in reversed(range(TRIES)):
        try:
            return _answer(client.request(request.method, request.path, **_sent(request)))
        except httpx.HTTPError as error:
            if not (left and _again(error)):
                raise _trouble(error, request, client.base_url) from error
    raise AssertionError("the last try returns or raises")


async def _send_async(client: httpx.AsyncClient, request: Request) -> Json:
    for left in reversed(range(TRIES)):
        try:
            return _answer(await client.request(request.method, request.path, **_sent(request)))
        except httpx.HTTPError as error:
            if not (left and _again(error)):
                raise _trouble(error, request, client.base_url) from error
    raise AssertionError("the last try returns or raises")


def _sent(request: Request) -> dict[str, Any]:
    sent: dict[str, Any] = {} if request.body is None else {"json": request.body}
    return sent if request.wait_s is None else {**sent, "timeout": request.wait_s}


def _again(error: httpx.HTTPError) -> bool:
    """Whether the connection was cut, as a kept one is when the node restarts; never after a time that is over."""
    return isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError | httpx.CloseError)


def _trouble(error: httpx.HTTPError, request: Request, url: httpx.URL) -> MeshError:
    where = f"{url.host}:{url.port or 443}"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Unreachable("unreachable", f"no node answers at {where}", hint="run `mesh testnet up`, or pass node=", outcome="not_done")
    outcome: Outcome = "not_done" if request.method == "GET" else "unknown"
    if isinstance(error, httpx.TimeoutException):
        return Unreachable("no-answer", f"{where} did not answer in time", hint="look before you repeat it", outcome=outcome)
    return Unreachable("no-answer", f"{where} broke off before it answered", hint="look before you repeat it", outcome=outcome)


def _answer(response: httpx.Response) -> Json:
    try:
        value = response.json()
    except (ValueError, RecursionError) as error:
        raise bad_answer() from error
    if not isinstance(value, dict):
        raise bad_answer()
    if response.status_code >= 400:
        raise of_problem(value, response.status_code)
    return value
