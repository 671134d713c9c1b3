"""The agent file: what somebody writes to deploy an agent, parsed into frozen dataclasses.

Two ways in, one set of rules: ``parse_yaml`` (a file; errors carry line, column and caret) and ``parse_mapping`` (a JSON
body; errors carry the path). Everything is refused that has no meaning here, since a key that is silently ignored is a
promise that is silently broken. The format stands in CONTRACT.md, and for editors in ``agent_schema``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from meshos import cbor
from meshos.errors import Refused
from meshos.protocols.tasks import amounts
from meshos.protocols.tasks.limits import MAX_CONCURRENCY
from meshos.protocols.tasks.located import FileError, Located, Sequence, Table, Text, from_plain, from_yaml, nearest, quoted

T = TypeVar("T")

MAX_NAME = 64
MAX_DESCRIPTION = 4_096
MAX_WORD = 64
MAX_WORDS = 64
MAX_ARGUMENT = 4_096
MAX_ARGUMENTS = 64
MAX_VARIABLES = 64
MAX_URL = 2_048
MAX_REPLICAS = 64
MAX_CANONICAL_BYTES = 512 * 1024
"""Of ``canonical``; above everything the bounds here allow together with the 64 KiB of text."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_URL = re.compile(
    r"(?i:https?)://(?P<user>[^/?#@\s]*@)?(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9.])?)"
    r"(?::(?P<port>\d{1,5}))?(?:[/?][^\s#]*)?"
)
"""RFC 3986 as far as http uses it, without a fragment; an international name is written in its ASCII form."""
_GIVEN_BY_NODE = ("MESH_NODE", "MESH_API_KEY")
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class McpCommand:
    """An MCP server on stdio that the node starts: program and arguments, and variables beyond the clean environment."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # people put keys into it


@dataclass(frozen=True, slots=True)
class McpUrl:
    """An MCP server (streamable HTTP) that runs elsewhere."""

    url: str


@dataclass(frozen=True, slots=True)
class A2aUrl:
    """An A2A agent that runs elsewhere."""

    url: str


Runtime: TypeAlias = McpCommand | McpUrl | A2aUrl


@dataclass(frozen=True, slots=True)
class Pricing:
    """What a call and an hour cost, in millionths of a MESH."""

    per_query: int = 0
    per_hour: int = 0


@dataclass(frozen=True, slots=True)
class Resources:
    """What one replica may use: thousandths of a processor, bytes of memory."""

    cpu_millis: int = 500
    memory_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Requirements:
    """Of whom it works for and where it may run. None is "no matter"."""

    residency: tuple[str, ...] = ()
    max_latency_ms: int | None = None
    min_trust: int | None = None


@dataclass(frozen=True, slots=True)
class AgentFile:
    """An agent as its owner describes it. ``(org, name)`` is its identity."""

    name: str
    description: str
    runtime: Runtime
    capabilities: tuple[str, ...] = ()
    specializations: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    certifications: tuple[str, ...] = ()
    pricing: Pricing = Pricing()
    region: str = ""
    resources: Resources = Resources()
    replicas: int = 1
    concurrency: int = 0  # calls that one replica is given at once; 0: as many as the node gives any
    requirements: Requirements = Requirements()

    def canonical(self) -> bytes:
        """The canonical CBOR of ``to_mapping``: what the organisation's state keeps and hashes."""
        return cbor.encode(to_mapping(self))


# -- in and out ------------------------------------------------------------------------------------------------------


def parse_yaml(text: str, file: str = "agent.yaml") -> AgentFile:
    """The agent that the YAML ``text`` describes; ``file`` is only named in errors.

    Raises FileError (a BadInput): ``bad-yaml``, ``unknown-key``, ``missing-key``, ``bad-value``, ``bad-price``, ``bad-runtime``.
    """
    return _agent(from_yaml(text, file))


def parse_mapping(body: object, root: str = "$") -> AgentFile:
    """The agent that a decoded JSON ``body`` describes; errors as ``parse_yaml``, with a path in place of a line."""
    return _agent(from_plain(body, root))


def parse_canonical(data: bytes) -> AgentFile:
    """The inverse of ``AgentFile.canonical``; raises Refused ``bad-encoding`` or ``too-large``, or FileError."""
    agent = parse_mapping(cbor.decode(data, max_bytes=MAX_CANONICAL_BYTES))
    if agent.canonical() != data:
        raise Refused("bad-encoding", "this agent decodes, but not from its canonical form")
    return agent


def to_mapping(agent: AgentFile) -> dict[str, object]:
    """The file's fields with every default written out; amounts as text, so that ``parse_mapping`` gives the same back."""
    requirements: dict[str, object] = {"residency": list(agent.requirements.residency)}
    if agent.requirements.max_latency_ms is not None:
        requirements["maxLatency"] = agent.requirements.max_latency_ms
    if agent.requirements.min_trust is not None:
        requirements["minTrust"] = agent.requirements.min_trust
    concurrency = {"concurrency": agent.concurrency} if agent.concurrency else {}  # so that older canonical forms stay canonical
    return {
        **concurrency,
        "name": agent.name,
        "description": agent.description,
        "capabilities": list(agent.capabilities),
        "specializations": list(agent.specializations),
        "models": list(agent.models),
        "certifications": list(agent.certifications),
        "pricing": {
            "perQuery": f"{amounts.mesh(agent.pricing.per_query)} MESH",
            "perHour": f"{amounts.mesh(agent.pricing.per_hour)} MESH",
        },
        "region": agent.region,
        "runtime": _runtime_mapping(agent.runtime),
        "resources": {"cpu": f"{agent.resources.cpu_millis}m", "memory": agent.resources.memory_bytes},
        "replicas": agent.replicas,
        "requirements": requirements,
    }


def _runtime_mapping(runtime: Runtime) -> dict[str, object]:
    if isinstance(runtime, McpCommand):
        return {"mcp": {"command": list(runtime.command), "env": dict(runtime.env)}}
    return {"mcp" if isinstance(runtime, McpUrl) else "a2a": {"url": runtime.url}}


# -- the fields ------------------------------------------------------------------------------------------------------


def _agent(tree: Located) -> AgentFile:
    fields = _Fields(tree, "an agent file", _KEYS, required=("name", "description", "runtime"))
    return AgentFile(
        name=fields.get("name", _name, ""),
        description=fields.get("description", lambda v: _text(v, "description", MAX_DESCRIPTION, lines=True), ""),
        runtime=fields.must("runtime", _runtime),
        capabilities=fields.get("capabilities", lambda v: _words(v, "capabilities"), ()),
        specializations=fields.get("specializations", lambda v: _words(v, "specializations"), ()),
        models=fields.get("models", lambda v: _words(v, "models"), ()),
        certifications=fields.get("certifications", lambda v: _words(v, "certifications"), ()),
        pricing=fields.get("pricing", _pricing, Pricing()),
        region=fields.get("region", _region, ""),
        resources=fields.get("resources", _resources, Resources()),
        replicas=fields.get("replicas", lambda v: _integer(v, "replicas", 1, MAX_REPLICAS), 1),
        concurrency=fields.get("concurrency", lambda v: _integer(v, "concurrency", 1, MAX_CONCURRENCY), 0),
        requirements=fields.get("requirements", _requirements, Requirements()),
    )


_KEYS = (
    *("name", "description", "capabilities", "specializations", "models", "certifications"),
    *("pricing", "region", "runtime", "resources", "replicas", "concurrency", "requirements"),
)


class _Fields:
    """The entries of a mapping, checked for unknown and missing keys."""

    def __init__(self, tree: Located, what: str, known: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
        if not isinstance(tree, Table):
            raise tree.place.error("bad-value", f"{what} is a mapping of keys to values", hint=f"its keys are {', '.join(known)}")
        self._entries: dict[str, Located] = {}
        self._what, self._place = what, tree.place
        for key, value in tree:
            if key.text not in known:
                meant = nearest(key.text, known)
                hint = f'did you mean "{meant}"?' if meant else f"it knows {', '.join(known)}"
                raise key.place.error("unknown-key", f"{what} has no key {quoted(key.text)}", hint=hint)
            self._entries[key.text] = value
        for name in required:
            if name not in self._entries:
                raise self._missing(name)

    def _missing(self, name: str) -> FileError:
        return self._place.error(
            "missing-key", f'{self._what} needs the key "{name}"', hint="`mesh explain missing-key` shows a whole file"
        )

    def get(self, name: str, parse: Callable[[Located], T], default: T) -> T:
        """The parsed value, or ``default`` where the key is absent."""
        value = self._entries.get(name)
        return default if value is None else parse(value)

    def must(self, name: str, parse: Callable[[Located], T]) -> T:
        """The parsed value of a key that has to be there."""
        value = self._entries.get(name)
        if value is None:
            raise self._missing(name)
        return parse(value)


def _text(value: Located, what: str, limit: int, *, lines: bool = False, empty: bool = False) -> str:
    """Text without control characters, at most ``limit`` characters; ``lines`` allows line ends."""
    if not isinstance(value, Text) or value.kind == "null":
        raise value.place.error("bad-value", f"{what} is text", hint="put it in double quotes")
    if len(value.text) > limit:
        raise value.place.error("bad-value", f"{what} has {len(value.text)} characters, at most {limit} are allowed")
    if not empty and not value.text.strip():
        raise value.place.error("bad-value", f"{what} is empty")
    for c in value.text:
        if not (c.isprintable() or (lines and c in "\n\t")):
            raise value.place.error("bad-value", f"{what} holds the control character U+{ord(c):04X}", hint="remove it")
    return value.text


def _name(value: Located) -> str:
    name = _text(value, "name", MAX_NAME)
    if name != " ".join(name.split(" ")).strip():
        raise value.place.error("bad-value", "name begins or ends with a space", hint=f"write {quoted(name.strip())}")
    return name


def _words(value: Located, what: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence):
        shown = value.text if isinstance(value, Text) else "one, two"
        raise value.place.error("bad-value", f"{what} is a list", hint=f"write [{shown[:60]}]")
    if len(value.items) > MAX_WORDS:
        raise value.place.error("bad-value", f"{what} has {len(value.items)} entries, at most {MAX_WORDS} are allowed")
    words: list[str] = []
    for item in value.items:
        word = _text(item, f"an entry of {what}", MAX_WORD)
        if word in words:
            raise item.place.error("bad-value", f"{quoted(word)} stands in {what} twice", hint="remove one")
        words.append(word)
    return tuple(words)


def _integer(value: Located, what: str, low: int, high: int) -> int:
    if not isinstance(value, Text) or value.kind == "bool" or not re.fullmatch(r"-?\d{1,12}", value.text):
        raise value.place.error("bad-value", f"{what} is a whole number from {low} to {high}", hint=f"write it as in {max(low, 1)}")
    number = int(value.text)
    if not low <= number <= high:
        raise value.place.error("bad-value", f"{what} is {number}, not from {low} to {high}")
    return number


def _scalar(parse: Callable[[Text], T], what: str) -> Callable[[Located], T]:
    def parse_scalar(value: Located) -> T:
        if not isinstance(value, Text):
            raise value.place.error("bad-value", f"{what} is one value, not a list or mapping")
        return parse(value)

    return parse_scalar


def _pricing(value: Located) -> Pricing:
    fields = _Fields(value, "pricing", ("perQuery", "perHour"))
    amount = _scalar(amounts.price, "a price")
    return Pricing(fields.get("perQuery", amount, 0), fields.get("perHour", amount, 0))


def _region(value: Located) -> str:
    region = _text(value, "region", MAX_WORD, empty=True)
    if region and not _REGION.fullmatch(region):
        raise value.place.error(
            "bad-value", f"region {quoted(region)} is not lower-case letters, digits and dashes", hint='write it as in "us-east-1"'
        )
    return region


def _resources(value: Located) -> Resources:
    fields = _Fields(value, "resources", ("cpu", "memory"))
    default = Resources()
    return Resources(
        fields.get("cpu", _scalar(amounts.cpu, "cpu"), default.cpu_millis),
        fields.get("memory", _scalar(amounts.memory, "memory"), default.memory_bytes),
    )


def _requirements(value: Located) -> Requirements:
    fields = _Fields(value, "requirements", ("residency", "maxLatency", "minTrust"))
    return Requirements(
        fields.get("residency", lambda v: _words(v, "residency"), ()),
        fields.get("maxLatency", lambda v: _integer(v, "maxLatency (milliseconds)", 1, 3_600_000), None),
        fields.get("minTrust", lambda v: _integer(v, "minTrust", 0, 100), None),
    )


# -- the runtime -----------------------------------------------------------------------------------------------------


def _runtime(value: Located) -> Runtime:
    if not isinstance(value, Table) or len(value.entries) != 1:
        raise value.place.error(
            "bad-runtime", "runtime holds exactly one of mcp and a2a", hint="as in `mcp: {command: [python, server.py]}`"
        )
    fields = _Fields(value, "runtime", ("mcp", "a2a"))
    (key, inner) = value.entries[0]
    if key.text == "a2a":
        return A2aUrl(_Fields(inner, "a2a", ("url",), required=("url",)).must("url", _url))
    fields = _Fields(inner, "mcp", ("command", "env", "url"))
    assert isinstance(inner, Table)
    names = {entry.text for entry, _ in inner}
    if ("command" in names) == ("url" in names):
        raise inner.place.error("bad-runtime", "mcp holds either command (the node starts it) or url (it runs elsewhere)")
    if "url" in names:
        if "env" in names:
            raise inner.place.error("bad-runtime", "env belongs to a command; what runs elsewhere has its own", hint="remove env")
        return McpUrl(fields.must("url", _url))
    return McpCommand(fields.must("command", _command), fields.get("env", _env, ()))


def _command(value: Located) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or not value.items:
        words = value.text.split() if isinstance(value, Text) else []
        hint = f"write [{', '.join(words)[:80]}]" if words else "as in [python, server.py]"
        raise value.place.error("bad-runtime", "command is a list of the program and its arguments", hint=hint)
    if len(value.items) > MAX_ARGUMENTS:
        raise value.place.error("bad-runtime", f"command has {len(value.items)} words, at most {MAX_ARGUMENTS} are allowed")
    return tuple(
        _text(item, "the program" if index == 0 else "an argument", MAX_ARGUMENT, lines=index > 0, empty=index > 0)
        for index, item in enumerate(value.items)
    )


def _env(value: Located) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Table) or len(value.entries) > MAX_VARIABLES:
        raise value.place.error("bad-runtime", f"env is a mapping of at most {MAX_VARIABLES} variables to text")
    variables: list[tuple[str, str]] = []
    for key, inner in value:
        if not _VARIABLE.fullmatch(key.text):
            raise key.place.error("bad-runtime", f"{quoted(key.text)} is no name of a variable", hint="letters, digits and _ only")
        if key.text in _GIVEN_BY_NODE:
            raise key.place.error("bad-runtime", f"{key.text} is given by the node to each agent", hint="remove it")
        variables.append((key.text, _text(inner, key.text, MAX_ARGUMENT, lines=True, empty=True)))
    return tuple(sorted(variables))


def _url(value: Located) -> str:
    text = _text(value, "url", MAX_URL)
    match = _URL.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 1) < 65_536:
        raise value.place.error("bad-runtime", f"url {quoted(text)} is no http or https address", hint='as in "https://example.org/mcp"')
    if match["user"] is not None:
        raise value.place.error("bad-runtime", "url carries a user name or password, which every node would see", hint="remove it")
    return text
