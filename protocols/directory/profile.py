"""What an owner says of an agent: the fields of a record that the owner writes and signs, checked and bounded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshos import cbor
from meshos.cbor import Value
from meshos.errors import Refused
from meshos.protocols.directory import limits
from meshos.protocols.tasks.tools import Tool


@dataclass(frozen=True, slots=True)
class Profile:
    """The owner's words. Prices are millionths of a MESH; an empty ``region`` is anywhere."""

    name: str
    description: str
    capabilities: tuple[str, ...] = ()
    specializations: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    certifications: tuple[str, ...] = ()
    per_query: int = 0
    per_hour: int = 0
    region: str = ""
    tasks: tuple[Tool, ...] = ()

    def text(self) -> str:
        """What is searched, and what the vector is made of: the most telling first, since the model reads 256 tokens.

        The description goes before the name, whose punctuation and "mcp-server" would colour the whole sentence.
        """
        parts = [f"{self.description} {_UNSPOKEN.sub(' ', self.name).strip()}"]
        if self.capabilities or self.specializations:
            parts.append(", ".join((*self.capabilities, *self.specializations)))
        parts += (f"{task.name}: {task.description}" for task in self.tasks)
        return "\n".join(parts)[: limits.TEXT_CHARS]

    def fields(self) -> dict[str, Value]:
        """As they are signed."""
        return {
            "name": self.name,
            "description": self.description,
            "capabilities": list(self.capabilities),
            "specializations": list(self.specializations),
            "models": list(self.models),
            "certifications": list(self.certifications),
            "perQuery": self.per_query,
            "perHour": self.per_hour,
            "region": self.region,
            "tasks": [_task_fields(task) for task in self.tasks],
        }


_UNSPOKEN = re.compile(r"[\W_]+")

PROFILE_FIELDS = frozenset(Profile("", "").fields())


def checked(profile: Profile) -> Profile:
    """``profile`` if every field is within its bounds; raises Refused ``bad-record``."""
    _text(profile.name, "name", limits.NAME_CHARS, empty=False)
    if profile.name != profile.name.strip():
        raise bad_record("its name begins or ends with a space")
    _text(profile.description, "description", limits.DESCRIPTION_CHARS, lines=True)
    for what in ("capabilities", "specializations", "models", "certifications"):
        entries: tuple[str, ...] = getattr(profile, what)
        if len(entries) > limits.WORDS:
            raise bad_record(f"{what} has {len(entries)} entries, at most {limits.WORDS} are kept")
        for entry in entries:
            _text(entry, f"an entry of {what}", limits.WORD_CHARS, empty=False)
    _text(profile.region, "region", limits.WORD_CHARS)
    for price in (profile.per_query, profile.per_hour):
        if not 0 <= price <= limits.MAX_NUMBER:
            raise bad_record("a price is below zero or above every supply")
    if len(profile.tasks) > limits.TASKS:
        raise bad_record(f"it has {len(profile.tasks)} tasks, at most {limits.TASKS} are kept")
    for task in profile.tasks:
        _text(task.name, "a task's name", limits.NAME_CHARS, empty=False)
        _text(task.description, "a task's description", limits.TASK_DESCRIPTION_CHARS, lines=True)
        if not isinstance(cbor.decode(task.schema, max_bytes=limits.SCHEMA_BYTES), dict):
            raise bad_record(f"the input schema of {task.name[:40]!r} is no JSON object")
    return profile


def read_profile(fields: Mapping[str, Value]) -> Profile:
    """The profile in decoded ``fields``; raises Refused ``bad-record``."""
    try:
        profile = Profile(
            name=_as_text(fields["name"]),
            description=_as_text(fields["description"]),
            capabilities=_as_texts(fields["capabilities"]),
            specializations=_as_texts(fields["specializations"]),
            models=_as_texts(fields["models"]),
            certifications=_as_texts(fields["certifications"]),
            region=_as_text(fields["region"]),
            per_query=_as_number(fields["perQuery"]),
            per_hour=_as_number(fields["perHour"]),
            tasks=tuple(_read_task(entry) for entry in _as_list(fields["tasks"])),
        )
    except KeyError as error:
        raise bad_record(f"it has no {error.args[0]}") from error
    return checked(profile)


def bad_record(why: str) -> Refused:
    """What a record is refused with that breaks the rules."""
    return Refused("bad-record", f"this record is not taken: {why}")


def _task_fields(task: Tool) -> list[Value]:
    return [task.name, task.description, task.schema, task.read_only, task.idempotent]


def _read_task(entry: Value) -> Tool:
    if not isinstance(entry, list) or len(entry) != 5:
        raise bad_record("a task has not five parts")
    name, description, schema, read_only, idempotent = entry
    if not isinstance(schema, bytes) or not isinstance(read_only, bool) or not isinstance(idempotent, bool):
        raise bad_record("a part of a task has a wrong type")
    return Tool(_as_text(name), _as_text(description), schema, read_only, idempotent)


def _text(value: str, what: str, most: int, *, lines: bool = False, empty: bool = True) -> None:
    if len(value) > most:
        raise bad_record(f"{what} has {len(value)} characters, at most {most} are kept")
    if not empty and not value.strip():
        raise bad_record(f"{what} is empty")
    if any(not (c.isprintable() or (lines and c in "\n\t\r")) for c in value):
        raise bad_record(f"{what} holds a control character")


def _as_text(value: Value) -> str:
    if not isinstance(value, str):
        raise bad_record("a field that is text holds something else")
    return value


def _as_list(value: Value) -> Sequence[Value]:
    if not isinstance(value, list):
        raise bad_record("a field that is a list holds something else")
    return value


def _as_texts(value: Value) -> tuple[str, ...]:
    return tuple(_as_text(entry) for entry in _as_list(value))


def _as_number(value: Value) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_record("a field that is a number holds something else")
    return value
