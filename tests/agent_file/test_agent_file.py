"""What an agent file may say, what is refused, and that each refusal points at its place."""

import json
from collections.abc import Callable

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import catalogue, cbor
from meshos.errors import BadInput, MeshError, Refused
from meshos.protocols.tasks.agent_file import (
    MAX_REPLICAS,
    A2aUrl,
    AgentFile,
    McpCommand,
    McpUrl,
    Pricing,
    Requirements,
    Resources,
    parse_canonical,
    parse_mapping,
    parse_yaml,
    to_mapping,
)
from meshos.protocols.tasks.agent_schema import agent_schema
from meshos.protocols.tasks.located import FileError

WHOLE = """\
name: MedDx AI
description: Medical diagnosis assistant specializing in radiology
capabilities: [image-analysis, medical-diagnosis, report-generation]
specializations: [radiology, oncology]
models: [gpt-4-vision]
certifications: [HIPAA]
pricing: {perQuery: 10 MESH, perHour: 100.5 MESH}
region: us-east-1
runtime:
  mcp: {command: [python, -m, my_server], env: {KEY: value}}
resources: {cpu: 0.5, memory: 256Mi}
replicas: 1
requirements: {residency: [EU], maxLatency: 200, minTrust: 60}
"""
VALIDATOR = jsonschema.Draft202012Validator(agent_schema())
LEAST = {"name": "a", "description": "b", "runtime": {"mcp": {"command": ["python"]}}}


def test_the_file_of_the_contract_means_what_it_says() -> None:
    assert parse_yaml(WHOLE) == AgentFile(
        name="MedDx AI",
        description="Medical diagnosis assistant specializing in radiology",
        runtime=McpCommand(("python", "-m", "my_server"), (("KEY", "value"),)),
        capabilities=("image-analysis", "medical-diagnosis", "report-generation"),
        specializations=("radiology", "oncology"),
        models=("gpt-4-vision",),
        certifications=("HIPAA",),
        pricing=Pricing(10_000_000, 100_500_000),
        region="us-east-1",
        resources=Resources(500, 256 << 20),
        replicas=1,
        requirements=Requirements(("EU",), 200, 60),
    )


def test_the_least_file_takes_the_defaults() -> None:
    agent = parse_mapping(LEAST)
    assert agent.pricing == Pricing(0, 0) and agent.replicas == 1 and agent.resources == Resources(500, 256 << 20)


def test_runtimes_that_run_elsewhere() -> None:
    assert parse_mapping(LEAST | {"runtime": {"mcp": {"url": "https://x.org/mcp"}}}).runtime == McpUrl("https://x.org/mcp")
    assert parse_mapping(LEAST | {"runtime": {"a2a": {"url": "http://[::1]:80/"}}}).runtime == A2aUrl("http://[::1]:80/")


def test_an_error_points_at_its_place_and_says_what_to_write() -> None:
    with pytest.raises(FileError) as caught:
        parse_yaml(WHOLE.replace("10 MESH", "10 MSH", 1), "meddx.yaml")
    assert str(caught.value) == 'meddx.yaml:7:21: price "10 MSH" has no known unit; write "10 MESH" [bad-price]'
    line, caret = caught.value.excerpt.split("\n")
    assert line[caret.index("^") :].startswith("10 MSH")
    assert isinstance(caught.value, BadInput) and caught.value.exit_code == 2


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(FileError, match=r'a.yaml:2:1: .*"desciption"; did you mean "description"\? \[unknown-key\]'):
        parse_yaml(WHOLE.replace("description:", "desciption:", 1), "a.yaml")
    with pytest.raises(FileError, match=r'\$\.pricing\.perquery: .*did you mean "perQuery"'):
        parse_mapping(LEAST | {"pricing": {"perquery": 1}})


@pytest.mark.parametrize(
    ("name", "at", "edit"),
    [
        ("bad-price", "7:21", lambda t: t.replace("10 MESH", "-1 MESH", 1)),
        ("bad-price", "7:21", lambda t: t.replace("10 MESH", "0.0000001 MESH", 1)),
        ("bad-price", "7:21", lambda t: t.replace("10 MESH", "1e30 MESH", 1)),
        ("bad-price", "7:21", lambda t: t.replace("10 MESH", "true", 1)),
        ("bad-value", "7:21", lambda t: t.replace("10 MESH", "[10]", 1)),
        ("bad-value", "4:18", lambda t: t.replace("[radiology, oncology]", "radiology")),
        ("bad-value", "4:30", lambda t: t.replace("[radiology, oncology]", "[radiology, radiology]")),
        ("bad-value", "8:9", lambda t: t.replace("us-east-1", "US East")),
        ("bad-value", "11:31", lambda t: t.replace("256Mi", "256XB")),
        ("bad-value", "11:31", lambda t: t.replace("256Mi", "1Ki")),
        ("bad-value", "11:18", lambda t: t.replace("cpu: 0.5", "cpu: lots")),
        ("bad-value", "12:11", lambda t: t.replace("replicas: 1", "replicas: 0")),
        ("bad-value", "12:11", lambda t: t.replace("replicas: 1", "replicas: 1.5")),
        ("bad-value", "13:60", lambda t: t.replace("minTrust: 60", "minTrust: 101")),
        ("bad-value", "1:7", lambda t: t.replace("MedDx AI", '"a\\u001b[31mb"')),
        ("bad-value", "1:7", lambda t: t.replace("MedDx AI", "x" * 65)),
        ("bad-runtime", "10:18", lambda t: t.replace("[python, -m, my_server]", "python -m my_server")),
        ("bad-runtime", "10:49", lambda t: t.replace("KEY", "MESH_API_KEY")),
        ("bad-runtime", "10:49", lambda t: t.replace("KEY", "a-b")),
        ("bad-runtime", "10:8", lambda t: t.replace("env: {KEY: value}", "url: http://x/")),
        ("bad-runtime", "10:14", lambda t: t.replace("command: [python, -m, my_server], env: {KEY: value}", "url: ftp://x/")),
        ("bad-runtime", "10:14", lambda t: t.replace("command: [python, -m, my_server], env: {KEY: value}", "url: http://u:p@x/")),
        ("missing-key", "1:1", lambda t: t.replace("name: MedDx AI\n", "")),
        ("bad-yaml", "15:1", lambda t: t + "a: [\n"),
        ("bad-yaml", "14:1", lambda t: t + "name: again\n"),
        ("bad-yaml", "14:1", lambda t: t + "---\nname: second\n"),
        ("bad-yaml", "14:4", lambda t: t + "x: !!python/object/apply:os.system [id]\n"),
        ("bad-yaml", "14:5", lambda t: t + "<<: *nowhere\n"),
    ],
)
def test_bad_files_are_refused_by_name_and_place(name: str, at: str, edit: Callable[[str], str]) -> None:
    with pytest.raises(FileError) as caught:
        parse_yaml(edit(WHOLE), "f.yaml")
    assert caught.value.name == name
    assert caught.value.detail.startswith(f"f.yaml:{at}:"), caught.value.detail


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(6)
)


@pytest.mark.parametrize(
    "text",
    ["", "   \n", "- a\n", "text", "\x00", "a: \ud800", "[" * 60_000, "{" * 5_000, "x" * 70_000, LAUGHS, "a: &a [*a]", "a: 1\n" * 9_000],
)
def test_hostile_text_costs_little_and_is_refused(text: str) -> None:
    with pytest.raises(FileError):
        parse_yaml(text)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        7,
        {},
        {1: 2},
        LEAST | {"replicas": MAX_REPLICAS + 1},
        LEAST | {"replicas": True},
        LEAST | {"replicas": 10**100},
        LEAST | {"description": None},
        LEAST | {"description": "x" * 100_000},
        LEAST | {"pricing": {"perQuery": float("nan")}},
        LEAST | {"pricing": {"perQuery": float("inf")}},
        LEAST | {"capabilities": ["x"] * 5_000},
        LEAST | {"runtime": {"mcp": {"command": [b"python"]}}},
        LEAST | {"runtime": {"mcp": {"command": []}}},
        LEAST | {"runtime": {"mcp": {"command": ["a"]}, "a2a": {"url": "http://x/"}}},
    ],
)
def test_bad_bodies_are_refused_with_a_path(body: object) -> None:
    with pytest.raises(FileError) as caught:
        parse_mapping(body)
    assert caught.value.detail.startswith("$") and caught.value.excerpt == ""


_word = st.text("abcdefghij-xyz é", min_size=1, max_size=20).filter(lambda t: t == t.strip())
_words = st.lists(_word, unique=True, max_size=4).map(tuple)
_agents = st.builds(
    AgentFile,
    name=_word,
    description=st.text("ab\n\tc.", min_size=1).filter(lambda t: bool(t.strip())),
    runtime=st.one_of(
        st.builds(
            McpCommand,
            st.lists(_word, min_size=1, max_size=4).map(tuple),
            st.dictionaries(st.from_regex("[A-Z]{1,8}", fullmatch=True), _word, max_size=3).map(lambda d: tuple(sorted(d.items()))),
        ),
        st.builds(McpUrl, st.just("https://example.org/mcp")),
        st.builds(A2aUrl, st.just("http://127.0.0.1:9000/a2a")),
    ),
    capabilities=_words,
    models=_words,
    pricing=st.builds(Pricing, st.integers(0, 10**18), st.integers(0, 10**18)),
    region=st.sampled_from(["", "eu-west-1", "x"]),
    resources=st.builds(Resources, st.integers(1, 1_024_000), st.integers(16 << 20, 1 << 42)),
    replicas=st.integers(1, MAX_REPLICAS),
    requirements=st.builds(Requirements, _words, st.none() | st.integers(1, 10_000), st.none() | st.integers(0, 100)),
)


@settings(max_examples=30, deadline=None)
@given(_agents)
def test_canonical_bytes_come_back_as_the_same_agent(agent: AgentFile) -> None:
    assert parse_canonical(agent.canonical()) == agent
    assert parse_mapping(json.loads(json.dumps(to_mapping(agent)))) == agent
    VALIDATOR.validate(to_mapping(agent))


@pytest.mark.parametrize(
    ("change", "place", "what"),
    [
        ({"description": "x" * 100_000}, "$.description: ", "64 KiB"),
        ({"k" * 70_000: 1}, "$." + "k" * 80, "64 KiB"),
        ({"capabilities": ["x"] * 5_000}, "$.capabilities[", "more than 4000 values"),
        ({"runtime": [[[[[[[[[]]]]]]]]]}, "$.runtime[0][0]", "nested more than 8 deep"),
    ],
)
def test_what_is_too_much_of_a_body_is_named(change: dict[str, object], place: str, what: str) -> None:
    with pytest.raises(FileError) as refused:
        parse_mapping({**LEAST, **change})
    assert refused.value.name == "bad-value" and refused.value.detail.startswith(place) and what in refused.value.detail
    with pytest.raises(FileError) as first:
        parse_mapping({**change, **{key: value for key, value in LEAST.items() if key not in change}})
    assert first.value.detail.startswith(place), "whatever comes after it"


def test_other_bytes_of_the_same_agent_are_refused() -> None:
    agent = parse_mapping(LEAST)
    with pytest.raises(Refused) as caught:
        parse_canonical(cbor.encode(LEAST))
    assert caught.value.name == "bad-encoding"
    with pytest.raises(MeshError):
        parse_canonical(agent.canonical()[:-1])


def test_what_the_schema_refuses_the_parser_refuses() -> None:
    validator = jsonschema.Draft202012Validator(agent_schema())
    validator.check_schema(agent_schema())
    changes: list[dict[str, object]] = [
        {"extra": 1},
        {"name": ""},
        {"name": 7.5e300, "replicas": 0},
        {"pricing": {"perQuery": "10 MSH"}},
        {"pricing": {"perQuery": -1}},
        {"runtime": {}},
        {"runtime": {"mcp": {}}},
        {"runtime": {"mcp": {"url": "http://x/", "command": ["a"]}}},
        {"runtime": {"mcp": {"command": ["a"], "env": {"MESH_NODE": "x"}}}},
        {"region": "A B"},
        {"requirements": {"minTrust": 200}},
        {"capabilities": ["a", "a"]},
    ]
    for change in changes:
        assert not validator.is_valid(LEAST | change), change
        with pytest.raises(FileError):
            parse_mapping(LEAST | change)
    assert validator.is_valid(LEAST)


def test_the_file_that_explain_shows_is_a_whole_one() -> None:
    assert parse_yaml(catalogue.explain("missing-key").example, "example").name == "Unit Converter"
