"""Lines of a publication: agents that run elsewhere, in three forms, to profiles and the addresses they are called at.

One JSON object a line: the fields of the agent file (CONTRACT.md), ``runtime`` only if it is known; a ``server.json`` of an MCP registry
(github.com/modelcontextprotocol/registry, 2025-07-09 and later), told by ``$schema``, ``packages`` or ``remotes``; an A2A agent card
(a2a-protocol.org, 0.3), told by ``skills``. A bad line is refused with its number and a name, the others are taken.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from meshos import cbor
from meshos.errors import BadInput, MeshError, Refused
from meshos.protocols.directory import limits
from meshos.protocols.directory.profile import Profile, bad_record, checked
from meshos.protocols.tasks.agent_file import AgentFile, parse_mapping
from meshos.protocols.tasks.tools import Tool

Json: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True, slots=True)
class Card:
    """A line that makes sense. ``file`` is what would be deployed, None where the card names no address that can be called."""

    line: int
    profile: Profile
    file: AgentFile | None


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that does not, counted from 1."""

    line: int
    error: MeshError


def read_lines(lines: Sequence[str]) -> tuple[list[Card], list[RefusedLine]]:
    """The cards of all good lines and the refusals of the others; empty lines are passed over. Raises BadInput ``too-many-lines``."""
    if len(lines) > limits.LINES:
        raise BadInput("too-many-lines", f"{len(lines)} lines, at most {limits.LINES} are read at once", hint="split the file")
    cards: list[Card] = []
    refused: list[RefusedLine] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            profile, file = read_card(line)
            cards.append(Card(number, profile, file))
        except MeshError as error:
            refused.append(RefusedLine(number, error))
    return cards, refused


def read_card(line: str) -> tuple[Profile, AgentFile | None]:
    """One card. Raises BadInput ``bad-line``, what the agent file raises, or Refused ``bad-record``."""
    if len(line) > limits.LINE_CHARS:
        raise BadInput("bad-line", f"the line has {len(line)} characters, at most {limits.LINE_CHARS} are read")
    try:
        card = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput("bad-line", "the line is no JSON object", hint="one object a line, without line ends in it") from error
    if not isinstance(card, dict):
        raise BadInput("bad-line", "the line is JSON, but no object", hint="one object a line")
    inner = card.get("server")
    if isinstance(inner, dict):  # a registry's list wraps each server
        card = inner
    if "skills" in card:
        return from_a2a(card)
    if "$schema" in card or "packages" in card or "remotes" in card:
        return from_mcp(card)
    if "runtime" not in card:  # it is only described: its other keys are read as those of any agent file
        return from_agent_file(parse_mapping({**card, "runtime": _NOWHERE})), None
    file = parse_mapping(card)
    return from_agent_file(file), file


_NOWHERE = {"mcp": {"url": "https://nowhere.invalid"}}
"""RFC 6761, 6.4: a name that is nobody's."""


def from_agent_file(file: AgentFile, tasks: Sequence[Tool] = ()) -> Profile:
    """The profile of an agent file, with the tasks that its server listed; raises Refused ``bad-record``."""
    return checked(
        Profile(
            file.name,
            file.description,
            file.capabilities,
            file.specializations,
            file.models,
            file.certifications,
            file.pricing.per_query,
            file.pricing.per_hour,
            file.region,
            tuple(tasks),
        )
    )


def from_mcp(card: Json) -> tuple[Profile, AgentFile | None]:
    """A server of the MCP registry; it can be called if it has a streamable HTTP remote."""
    profile = checked(Profile(_text(card, "name"), _text(card, "description")))
    for remote in _objects(card.get("remotes")):
        if remote.get("type", remote.get("transport_type")) in ("streamable-http", "streamable"):
            return profile, _elsewhere(profile, {"mcp": {"url": remote.get("url")}})
    return profile, None


def from_a2a(card: Json) -> tuple[Profile, AgentFile | None]:
    """An A2A agent card: its skills become tasks, and their tags capabilities."""
    skills = _objects(card.get("skills"))
    tags = [tag for skill in skills for tag in _words(skill.get("tags"))]
    tasks = tuple(Tool(_text(skill, "id"), _described(skill), _ANY) for skill in skills)
    profile = checked(Profile(_text(card, "name"), _text(card, "description"), tuple(dict.fromkeys(tags))[: limits.WORDS], tasks=tasks))
    url = card.get("url")
    if url is None:
        url = next((entry.get("url") for entry in _objects(card.get("supportedInterfaces"))), None)
    return profile, None if url is None else _elsewhere(profile, {"a2a": {"url": url}})


_ANY = cbor.encode({"type": "object"})
"""The schema of a skill: A2A takes messages, not arguments."""


def _elsewhere(profile: Profile, runtime: object) -> AgentFile:
    """The agent file of an agent that runs elsewhere; its name is cut to what an agent file allows."""
    return parse_mapping(
        {
            "name": profile.name[:64].strip(),
            "description": profile.description,
            "capabilities": list(profile.capabilities),
            "runtime": runtime,
        }
    )


def _described(skill: Json) -> str:
    name, text = skill.get("name"), skill.get("description")
    return f"{name if isinstance(name, str) else ''}: {text if isinstance(text, str) else ''}"[: limits.TASK_DESCRIPTION_CHARS]


def _text(card: Json, key: str) -> str:
    value = card.get(key)
    if not isinstance(value, str):
        raise bad_record(f"it has no {key}" if value is None else f"its {key} is no text")
    return value.strip()


def _objects(value: object) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise bad_record("a list of objects holds something else")
    if len(value) > limits.TASKS:
        raise bad_record(f"a list has {len(value)} entries, at most {limits.TASKS} are read")
    return value


def _words(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise Refused("bad-record", "this record is not taken: the tags of a skill are no list of words")
    return [entry[: limits.WORD_CHARS].strip() for entry in value if entry.strip()]
