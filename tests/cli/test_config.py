"""node.toml: what is written is what is read; every mistake is named, and nothing unknown passes."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.errors import BadInput
from meshos.ids import NodeId, OrgDid
from meshos.node.config import (
    FILE,
    MAX_BYTES,
    MAX_EGRESS,
    MAX_SEEDS,
    Address,
    NodeConfig,
    Payments,
    Seed,
    load,
    parse,
    parse_address,
)
from meshos.node.config_text import to_toml
from meshos.protocols.relay.policy import Policy

NODE = NodeId("12D3KooWHQR1hWE46uNwYYky6oRYiDesU6v8abcLtrc4LU4UJ7Aa")
SEED = Seed(NODE, Address("127.0.0.1", 8201), Address("::1", 8301))
CONFIG = NodeConfig(
    dir=Path("/somewhere"),
    name="alpha-1",
    org=OrgDid("did:mesh:enterprise:alpha"),
    api=Address("127.0.0.1", 8101),
    gossip=Address("0.0.0.0", 8201),
    link=Address("::", 8301),
    region="eu-west-1",
    advertise="node.example",
    timing="fast",
    api_tls_certificate=Path("/etc/tls/cert.pem"),
    api_tls_key=Path("tls/key.pem"),
    payments=Payments(1_500_000, 20_000_000, 0),
    keep_blocks=2_048,
    quic=False,
    relaying=Policy(serve=True, own_only=True, bytes_per_s=1_000_000, punch=False),
    egress_allow=("10.0.0.0/8", "agents.internal:8443", "[::1]:9000"),
    seeds=(SEED, replace(SEED, gossip=Address("host.example", 1))),
)
TOML = to_toml(CONFIG)


def test_what_is_written_is_what_is_read() -> None:
    assert parse(TOML.encode(), CONFIG.dir) == CONFIG


def test_paths_are_relative_to_the_folder_so_it_can_be_moved() -> None:
    moved = parse(TOML.encode(), Path("/elsewhere"))
    assert moved.keys == Path("/elsewhere/keys") and moved.api_tls_certificate == Path("/etc/tls/cert.pem")
    assert moved.fault_socket == Path("/elsewhere/fault.sock")


def test_a_minimal_file_has_defaults() -> None:
    least = (
        'name = "a"\norg = "did:mesh:hospital:a"\napi.listen = "127.0.0.1:0"\ngossip.listen = "127.0.0.1:0"\nlink.listen = "127.0.0.1:0"\n'
    )
    config = parse(least.encode(), Path("/x"))
    assert (config.region, config.timing, config.seeds, config.advertised_link) == ("local", "", (), Address("127.0.0.1", 0))


@pytest.mark.parametrize(
    ("line", "square"),
    [
        ("", Address("::", 8401)),
        ('square.listen = "off"', None),
        ('square.listen = "192.0.2.1:4001"', Address("192.0.2.1", 4001)),
    ],
)
def test_the_square_is_beside_the_links_or_where_it_is_said_to_be_or_nowhere(line: str, square: Address | None) -> None:
    text = TOML.replace('[square]\nlisten = "off"\n', "")
    assert "square" not in text
    config = parse(f"{line}\n{text}".encode(), CONFIG.dir)
    assert config.square == square and parse(to_toml(config).encode(), CONFIG.dir) == config


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('[square]\nlisten = "off"', "[square]\nlisten = 7", "square.listen must be a short text"),
        ('[square]\nlisten = "off"', '[square]\nlisten = "on"', "square.listen: 'on' is not host:port"),
        ('name = "alpha-1"', 'name = "Alpha 1"', "name is 'Alpha 1'"),
        ('name = "alpha-1"', "name = 7", "name must be a short text"),
        ('name = "alpha-1"\n', "", "name is missing"),
        ('region = "eu', 'regoin = "eu', "regoin is no key of this file, did you mean region?"),
        ("did:mesh:enterprise:alpha", "did:mesh:nonsense:alpha", "'nonsense' is not a kind"),
        ("did:mesh:enterprise:alpha", "did:web:example", "did:web:example"),
        ('"1.5 MESH"', '"1.5 EUR"', "payments.per_provider is '1.5 EUR', and takes an amount"),
        ('"1.5 MESH"', "true", "payments.per_provider is 'True', and takes an amount"),
        ('"1.5 MESH"', '"21 MESH"', "payments.per_provider is above payments.in_all"),
        ("keep_blocks = 2048", "keep_blocks = 12", "ledger.keep_blocks must be a number of 1024 or more"),
        ("bytes_per_s = 1000000", "bytes_per_s = 16000", "relay.bytes_per_s must be a number from 16384"),
        ("bytes_per_s = 1000000", "bytes_per_s = true", "relay.bytes_per_s must be a number"),
        ("own_only = true", "own_only = 1", "relay.own_only must be true or false"),
        ("own_only = true", "only_own = true", "relay.only_own is no key of this file"),
        ("keep_blocks = 2048", "keep_blocks = true", "ledger.keep_blocks must be a number"),
        ("127.0.0.1:8101", "127.0.0.1", "api.listen"),
        ("127.0.0.1:8101", "127.0.0.1:99999", "no port"),
        ('timing = "fast"', 'timing = "quick"', "timing is 'quick'"),
        (NODE, "12D3KooWshort", "seed 1.node"),
        ("[[seed]]", "[seed]", "not TOML"),
        ("[link]\nlisten", "[link]\nlisten_to", "link.listen_to"),
        ("tls_key =", "# tls_key =", "go together"),
        ("listen", "\0listen", "not TOML"),
        ("[gossip]", "gossip = 3\n[gossip2]", "gossip"),
        ('file = "keys"', "file = 3", "keys.file must be a path"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, said: str) -> None:
    assert old in TOML
    with pytest.raises(BadInput) as caught:
        parse(TOML.replace(old, new, 1).encode(), CONFIG.dir)
    assert caught.value.name == "bad-config" and said in caught.value.detail and str(CONFIG.dir / FILE) in caught.value.detail


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        parse(b'name = "A"\norg = "x"\n', CONFIG.dir)
    assert caught.value.detail.count(";") == 4


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * (MAX_BYTES + 1), b"[" * 5_000, b"a = 1\n" * 3, TOML.encode()[: len(TOML) // 2 + 5]])
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        parse(data, CONFIG.dir)
    assert caught.value.name == "bad-config"


def test_too_many_seeds_are_refused() -> None:
    with pytest.raises(BadInput, match="seeds, at most"):
        parse(to_toml(replace(CONFIG, seeds=(SEED,) * (MAX_SEEDS + 1))).encode(), CONFIG.dir)
    assert len(parse(to_toml(replace(CONFIG, seeds=(SEED,) * MAX_SEEDS)).encode(), CONFIG.dir).seeds) == MAX_SEEDS


def test_too_many_ways_out_are_refused() -> None:
    with pytest.raises(BadInput, match="at most 64 networks"):
        parse(to_toml(replace(CONFIG, egress_allow=("10.0.0.0/8",) * (MAX_EGRESS + 1))).encode(), CONFIG.dir)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    try:
        parse(data, Path("/x"))
    except BadInput as error:
        assert error.name == "bad-config"


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_no_address(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address


def test_a_folder_without_a_node_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path)
    assert caught.value.name == "no-node" and "mesh init" in caught.value.hint
    (tmp_path / FILE).mkdir()
    with pytest.raises(BadInput) as caught:
        load(tmp_path)
    assert caught.value.name == "no-node"
