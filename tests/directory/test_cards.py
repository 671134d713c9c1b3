"""Lines of a publication in their three forms, and what is wrong with bad ones."""

import json
import os
from pathlib import Path

import pytest

from meshos.errors import BadInput
from meshos.protocols.directory import limits
from meshos.protocols.directory.cards import read_lines
from meshos.protocols.tasks.agent_file import A2aUrl, McpUrl

AGENT = {
    "name": "MedDx AI",
    "description": "Medical diagnosis assistant",
    "capabilities": ["image-analysis"],
    "certifications": ["HIPAA"],
    "pricing": {"perQuery": "10 MESH"},
    "region": "us-east-1",
    "runtime": {"mcp": {"url": "https://example.org/mcp"}},
}
SERVER = {
    "$schema": "https://static.modelcontextprotocol.io/schemas/2025-09-29/server.schema.json",
    "name": "io.github.acme/weather",
    "description": "Weather for any place",
    "version": "1.0.0",
    "packages": [{"registryType": "pypi", "identifier": "weather-mcp", "version": "1.0.0", "transport": {"type": "stdio"}}],
    "remotes": [{"type": "sse", "url": "https://example.org/sse"}, {"type": "streamable-http", "url": "https://example.org/mcp"}],
}
A2A = {
    "protocolVersion": "0.3.0",
    "name": "Recipe agent",
    "description": "Helps with cooking",
    "url": "https://example.org/a2a",
    "skills": [{"id": "find", "name": "Find a recipe", "description": "By ingredients", "tags": ["cooking", "search"]}],
}


def test_the_agent_files_fields() -> None:
    (card,), refused = read_lines([json.dumps(AGENT)])
    assert not refused and card.file is not None and card.file.runtime == McpUrl("https://example.org/mcp")
    assert (card.profile.name, card.profile.per_query, card.profile.region) == ("MedDx AI", 10_000_000, "us-east-1")
    assert card.profile.certifications == ("HIPAA",)


def test_an_agent_that_is_only_described_needs_no_runtime() -> None:
    described = {key: value for key, value in AGENT.items() if key != "runtime"}
    (card,), refused = read_lines([json.dumps(described)])
    (deployable,), _ = read_lines([json.dumps(AGENT)])
    assert not refused and card.file is None and card.profile == deployable.profile
    _, refused = read_lines([json.dumps({**described, "runtime": None}), json.dumps({**described, "region": "U S"})])
    assert [bad.error.name for bad in refused] == ["bad-runtime", "bad-value"]
    assert "$.region" in refused[1].error.detail


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_server_of_the_mcp_registry(wrapped: bool) -> None:
    (card,), refused = read_lines([json.dumps({"server": SERVER} if wrapped else SERVER)])
    assert not refused and card.profile.name == "io.github.acme/weather"
    assert card.file is not None and card.file.runtime == McpUrl("https://example.org/mcp")


def test_a_server_without_a_remote_is_found_but_has_nowhere_to_be_called() -> None:
    (card,), _ = read_lines([json.dumps({**SERVER, "remotes": None})])
    assert card.file is None and card.profile.description == "Weather for any place"


def test_an_a2a_card() -> None:
    (card,), refused = read_lines([json.dumps(A2A)])
    assert not refused and card.profile.capabilities == ("cooking", "search")
    assert card.profile.tasks[0].description == "Find a recipe: By ingredients"
    assert card.file is not None and card.file.runtime == A2aUrl("https://example.org/a2a")


BAD = [
    ("{", "bad-line"),
    ("[1]", "bad-line"),
    ('"x"', "bad-line"),
    ("[" * 100_000, "bad-line"),
    (" " + "x" * limits.LINE_CHARS, "bad-line"),
    (json.dumps({**AGENT, "nmae": "x"}), "unknown-key"),
    (json.dumps({key: AGENT[key] for key in AGENT if key != "name"}), "missing-key"),
    (json.dumps({**SERVER, "name": 7}), "bad-record"),
    (json.dumps({**SERVER, "name": "x" * 200}), "bad-record"),
    (json.dumps({**SERVER, "description": None}), "bad-record"),
    (json.dumps({**SERVER, "remotes": "here"}), "bad-record"),
    (json.dumps({**SERVER, "remotes": [{"type": "streamable-http", "url": "ftp://x"}]}), "bad-runtime"),
    (json.dumps({**A2A, "skills": [{"id": 1}]}), "bad-record"),
    (json.dumps({**A2A, "skills": [{"id": "x", "tags": "y"}]}), "bad-record"),
    (json.dumps({**A2A, "skills": [{"id": "x"}] * 300}), "bad-record"),
    (json.dumps({**A2A, "description": "bell \a"}), "bad-record"),
]


@pytest.mark.parametrize(("line", "name"), BAD, ids=[f"{number}-{name}" for number, (_, name) in enumerate(BAD)])
def test_a_bad_line_is_refused_by_number_and_name_and_the_others_are_taken(line: str, name: str) -> None:
    cards, refused = read_lines([json.dumps(AGENT), "", line, json.dumps(A2A)])
    assert [card.line for card in cards] == [1, 4]
    assert [(bad.line, bad.error.name) for bad in refused] == [(3, name)]


def test_too_many_lines_are_refused_at_once() -> None:
    with pytest.raises(BadInput, match="too-many-lines"):
        read_lines(["{}"] * (limits.LINES + 1))


def test_the_real_registrys_servers_are_read() -> None:
    folder = Path(os.environ.get("MESHOS_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    seed = folder / "agents" / "mcp_registry_seed_2025_05_16.json"
    if not seed.is_file():
        pytest.skip("the registry's servers are not here; MESHOS_DATA names the folder that holds agents/")
    servers = json.loads(seed.read_text(encoding="utf-8"))
    cards, refused = read_lines([json.dumps(server) for server in servers])
    assert len(cards) >= 0.9 * len(servers)
    assert {bad.error.name for bad in refused} <= {"bad-record", "missing-key", "unknown-key", "bad-runtime"}
