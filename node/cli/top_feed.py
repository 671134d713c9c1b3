"""Where ``mesh top`` gets what it shows: the API of one node, asked every two seconds, and its events as they come."""

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import httpx

from meshos.errors import MeshError
from meshos.node.cli.client_connection import Client, Target, error_of
from meshos.node.cli.client_text import rows_of
from meshos.node.cli.top_frame import Snapshot

EVENTS = 200
"""Events kept for the pane; a screen shows far fewer."""
RECENT_S = 0.5
"""How long ``--once`` listens for the events that are already there."""
MAX_EVENT = 64 * 1024
_FROM_THE_OLDEST = {"Last-Event-ID": "top-0"}
"""An id of no run of any node: all events that are still kept."""


def once(target: Target) -> Snapshot:
    """One snapshot; raises what the node raises."""
    with Client(target) as client:
        status, members = client.get("v1", "status"), client.get("v1", "members")
        agents = client.get("v1", "agents")
    rows = rows_of(members.get("members"))
    return Snapshot(target.name, status, rows, rows_of(agents.get("agents")), tuple(_recent(target)))


def _recent(target: Target) -> list[Mapping[str, object]]:
    """The events that the node still keeps: what comes before its stream falls silent."""
    found: deque[Mapping[str, object]] = deque(maxlen=EVENTS)
    headers = {**_headers(target), **_FROM_THE_OLDEST}
    try:
        with (
            httpx.Client(timeout=httpx.Timeout(5.0, read=RECENT_S), trust_env=False) as client,
            client.stream("GET", f"{target.url.geturl()}/v1/events", headers=headers) as answer,
        ):
            for line in answer.iter_lines():
                event = _event(line)
                if event is not None:
                    found.append(event)
    except httpx.ReadTimeout:
        return list(found)
    except httpx.HTTPError:
        return list(found)
    return list(found)


class Feed:
    """The live feed, for asyncio: call ``refresh`` now and then, and run ``listen`` beside it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http = httpx.AsyncClient(base_url=target.url.geturl(), headers=_headers(target), timeout=5.0, trust_env=False)
        self._events: deque[Mapping[str, object]] = deque(maxlen=EVENTS)
        self._last_event = _FROM_THE_OLDEST["Last-Event-ID"]
        self.snapshot = Snapshot(target.name, {}, (), ())

    async def refresh(self) -> Snapshot:
        """Ask again. A node that does not answer leaves what was last known, and since when."""
        try:
            status, members, agents = [await self._get(path) for path in ("status", "members", "agents")]
        except (httpx.HTTPError, ValueError, MeshError):
            old = self.snapshot
            since = old.lost or datetime.now().strftime("%H:%M:%S")
            self.snapshot = Snapshot(old.node, old.status, old.members, old.agents, tuple(self._events), since)
            return self.snapshot
        rows = rows_of(members.get("members"))
        self.snapshot = Snapshot(self._target.name, status, rows, rows_of(agents.get("agents")), tuple(self._events))
        return self.snapshot

    async def _get(self, path: str) -> dict[str, object]:
        answer = await self._http.get(f"/v1/{path}")
        value = answer.json()
        if not isinstance(value, dict):
            raise ValueError("no object")
        if answer.status_code >= 400:
            raise error_of(value)
        return value

    async def listen(self) -> None:
        """Take in events until the stream ends; call it again after a while. Raises nothing that the network does."""
        try:
            async for event in self._stream():
                self._events.append(event)
                self._last_event = str(event.get("id") or self._last_event)
        except httpx.HTTPError:
            return

    async def _stream(self) -> AsyncIterator[Mapping[str, object]]:
        patient = httpx.Timeout(5.0, read=60.0)
        async with self._http.stream("GET", "/v1/events", headers={"Last-Event-ID": self._last_event}, timeout=patient) as answer:
            async for line in answer.aiter_lines():
                event = _event(line)
                if event is not None:
                    yield event

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _headers(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.key}"} if target.key else {}


def _event(line: str) -> Mapping[str, object] | None:
    """The event in a line of the stream; None for all other lines, and for what is none."""
    if not line.startswith("data: ") or len(line) > MAX_EVENT:
        return None
    try:
        value = json.loads(line[6:])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
