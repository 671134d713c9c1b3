"""``node.toml``: what one node needs to know before it starts. ``mesh init`` writes it, people may change it, ``mesh run`` reads it.

Paths in the file are relative to its folder. Every mistake is said at once with where it stands, and nothing unknown is
passed over: a misspelt key would otherwise silently mean the default.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshos.adapters.onprem.egress_policy import EgressPolicy
from meshos.consensus.pbft.config import TRANSFER_BLOCKS
from meshos.errors import BadInput
from meshos.ids import NodeId, OrgDid, parse_org_did
from meshos.node.address import Address as Address
from meshos.node.address import parse_address as parse_address
from meshos.node.api.amounts import micro
from meshos.presets import PRESETS
from meshos.protocols.payments.limits import CREDIT_MICRO, IN_ALL_MICRO, PER_PROVIDER_MICRO
from meshos.protocols.relay.limits import LEAST_BYTES_PER_S, MOST_BYTES_PER_S
from meshos.protocols.relay.policy import USUAL, Policy
from meshos.protocols.tasks.amounts import mesh

FILE = "node.toml"
MAX_BYTES = 256 * 1024
"""Of the file: 64 seeds of about 200 bytes, and a lot of comments."""
MAX_SEEDS = 64
"""More would only be asked in vain: one that answers knows the rest."""
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,63})")
_NODE_ID = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")

OFF, SQUARE_AFTER = "off", 100
"""What ``square.listen`` says where there is to be none; and the ports between the links' and the square's, where it says nothing."""

MAX_EGRESS = 64
"""Networks and hosts that are allowed one by one; an owner with more of them names the network that they are in."""

assert MAX_SEEDS * 512 < MAX_BYTES


@dataclass(frozen=True, slots=True)
class Seed:
    """A node that is asked first: its id (which is its key), where it hears gossip, and where it takes links."""

    node: NodeId
    gossip: Address
    link: Address


@dataclass(frozen=True, slots=True)
class Payments:
    """In millionths of a MESH: what the node spends a day (UTC) with one organisation, and with all; what an organisation may owe it
    without a voucher.
    """

    per_provider: int = PER_PROVIDER_MICRO
    in_all: int = IN_ALL_MICRO
    credit: int = CREDIT_MICRO


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node's configuration; all paths absolute. See ``node/folder.py`` for what lies in the folder."""

    dir: Path
    """The node's folder; LevelDB, agents and the fault hook's socket are in it."""
    name: str
    """Unique in the organisation, as in ``alpha-1``."""
    org: OrgDid
    api: Address
    gossip: Address
    link: Address
    quic: bool = True
    """Whether links also go over QUIC: on UDP, at the port number of ``link``, so that no further address has to be told."""
    square: Address | None = None
    """Where strangers ask (node/runtime/square), over TCP and QUIC; None: nowhere."""
    region: str = "local"
    advertise: str = ""
    """The host that others reach this node at; empty: the hosts it listens on."""
    timing: str = ""
    """A preset of ``meshos/presets.py``; empty: the genesis says."""
    genesis: Path = field(default=Path("genesis.json"))
    keys: Path = field(default=Path("keys"))
    """The key file with ``node`` and ``validator``."""
    passphrase_file: Path = field(default=Path("passphrase"))
    """What opens ``keys``; the environment variable MESH_PASSPHRASE goes before it."""
    certificate: Path = field(default=Path("certificate.pem"))
    """The node's own certificate, issued by the organisation's root key."""
    revocations: Path = field(default=Path("revocations"))
    """A folder of revocation lists, ``*.crl`` in DER."""
    api_keys: Path = field(default=Path("api-keys.json"))
    api_tls_certificate: Path | None = None
    api_tls_key: Path | None = None
    """PEM files; without them the API only listens on loopback."""
    egress_allow: tuple[str, ...] = ()
    """Private networks and hosts that agents of other machines may be at, as ``EgressPolicy.of`` reads them."""
    payments: Payments = Payments()
    relaying: Policy = USUAL
    """Whose links go through this node, and how many bytes of them."""
    seeds: tuple[Seed, ...] = ()
    keep_blocks: int | None = None
    """Blocks of the ledger that are kept below the newest checkpoint; None: all, as an archive for others."""
    leaf: bool = False
    """Whether nobody can dial this node: it keeps links to some of the others, and is reached over these."""
    recorder: bool = False
    """Whether what the machines are given is kept in a ring of 64 MiB, for ``mesh sim replay --node`` (node/recording.py)."""

    def __post_init__(self) -> None:
        for name in ("genesis", "keys", "passphrase_file", "certificate", "revocations", "api_keys", "api_tls_certificate", "api_tls_key"):
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, self.dir / path)

    @property
    def fault_socket(self) -> Path:
        """Where a testnet's node is told whom it must not hear (``node/runtime/fault_hook.py``)."""
        return self.dir / "fault.sock"

    @property
    def links_on_quic(self) -> bool:
        """Whether there is a UDP port for it: gossip may have taken the one of that number, and any port is found by nobody."""
        return self.quic and self.link.port not in (0, self.gossip.port)

    @property
    def data(self) -> Path:
        """The LevelDB folder."""
        return self.dir / "data"

    @property
    def advertised_gossip(self) -> Address:
        """Where others send datagrams."""
        return Address(self.advertise or self.gossip.host, self.gossip.port)

    @property
    def advertised_link(self) -> Address:
        """Where others open links."""
        return Address(self.advertise or self.link.host, self.link.port)


def square_beside(link: Address) -> Address:
    """Where the square is by default: SQUARE_AFTER ports after that of the links."""
    return Address(link.host, link.port + SQUARE_AFTER if 0 < link.port <= 65535 - SQUARE_AFTER else 0)


def load(folder: Path) -> NodeConfig:
    """The configuration in ``folder``; raises BadInput ``no-node`` or ``bad-config``."""
    folder = folder.absolute()
    path = folder / FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise BadInput("no-node", f"there is no node in {folder}", hint="`mesh init --org NAME --dir DIR` makes one") from error
    except OSError as error:
        raise BadInput("no-node", f"{path} cannot be read: {error.strerror}") from error
    return parse(data, folder)


def parse(data: bytes, folder: Path) -> NodeConfig:
    """The configuration that ``data`` holds for a node in ``folder``; raises BadInput ``bad-config`` with everything that is wrong."""
    where = folder / FILE
    if len(data) > MAX_BYTES:
        raise BadInput("bad-config", f"{where} has more than {MAX_BYTES} bytes")
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad-config", f"{where}: not TOML: {error}") from error
    reader = _Reader(document, text)
    config = reader.config(folder)
    if reader.problems:
        raise BadInput("bad-config", f"{where}: {'; '.join(reader.problems[:10])}", hint="mend the file and run again")
    return config


KEYS: Mapping[str, tuple[str, ...]] = {
    "": (
        "name",
        "org",
        "region",
        "advertise",
        "timing",
        "genesis",
        "leaf",
        "recorder",
        "api",
        "gossip",
        "link",
        "square",
        "keys",
        "egress",
        "payments",
        "relay",
        "ledger",
        "seed",
    ),
    "api": ("listen", "keys", "tls_certificate", "tls_key"),
    "gossip": ("listen",),
    "link": ("listen", "quic"),
    "square": ("listen",),
    "keys": ("file", "passphrase_file", "certificate", "revocations"),
    "egress": ("allow",),
    "payments": ("per_provider", "in_all", "credit"),
    "relay": ("serve", "own_only", "bytes_per_s", "punch"),
    "ledger": ("keep_blocks",),
    "seed": ("node", "gossip", "link"),
}


class _Reader:
    """Takes the document apart and remembers what was wrong."""

    def __init__(self, document: Mapping[str, object], text: str) -> None:
        self.problems: list[str] = []
        self._text_lines = text.splitlines()
        self._document = document
        self._unknown_keys("", document)

    def config(self, folder: Path) -> NodeConfig:
        """What the document says; a stand-in where there are problems."""
        top = self._document
        tables = {name: self._table(name) for name in ("api", "gossip", "link", "square", "keys", "egress", "payments", "relay", "ledger")}
        api, keys = tables["api"], tables["keys"]
        listens = {name: self._address(f"{name}.listen", tables[name].get("listen")) for name in ("api", "gossip", "link")}
        tls = [self._path("api." + key, api.get(key)) for key in ("tls_certificate", "tls_key")]
        if (tls[0] is None) != (tls[1] is None):
            self.problems.append("api.tls_certificate and api.tls_key go together")
        timing = self._text("timing", top.get("timing", ""))
        if timing and timing not in PRESETS:
            self.problems.append(f"timing is {timing!r}, and must be one of {', '.join(PRESETS)}")
        return NodeConfig(
            dir=folder,
            name=self._matching("name", top.get("name"), NAME, "1 to 63 lower-case letters, digits or inner dashes"),
            org=self._org(top.get("org")),
            region=self._matching("region", top.get("region", "local"), REGION, "letters, digits, dots and dashes"),
            advertise=self._text("advertise", top.get("advertise", "")),
            timing=timing,
            **listens,
            square=self._square(tables["square"], listens["link"]),
            quic=self._bool("link.quic", tables["link"].get("quic", True)),
            genesis=self._path("genesis", top.get("genesis", "genesis.json")) or Path(),
            keys=self._path("keys.file", keys.get("file", "keys")) or Path(),
            passphrase_file=self._path("keys.passphrase_file", keys.get("passphrase_file", "passphrase")) or Path(),
            certificate=self._path("keys.certificate", keys.get("certificate", "certificate.pem")) or Path(),
            revocations=self._path("keys.revocations", keys.get("revocations", "revocations")) or Path(),
            api_keys=self._path("api.keys", api.get("keys", "api-keys.json")) or Path(),
            api_tls_certificate=tls[0],
            api_tls_key=tls[1],
            egress_allow=self._egress(tables["egress"].get("allow", [])),
            payments=self._payments(tables["payments"]),
            relaying=self._relaying(tables["relay"]),
            keep_blocks=self._keep_blocks(tables["ledger"].get("keep_blocks")),
            seeds=self._seeds(top.get("seed", [])),
            leaf=self._leaf(top),
            recorder=self._bool("recorder", top.get("recorder", False)),
        )

    def _leaf(self, top: Mapping[str, object]) -> bool:
        leaf = self._bool("leaf", top.get("leaf", False))
        if leaf and top.get("advertise"):
            self.problems.append("a leaf is reached at no address: either leaf = true or advertise")
        if leaf and not top.get("seed"):
            self.problems.append("a leaf needs a [[seed]]: nobody else can find it")
        return leaf

    def _unknown_keys(self, name: str, table: Mapping[str, object]) -> None:
        for key in table:
            if key not in KEYS[name]:
                close = difflib.get_close_matches(key, KEYS[name], 1)
                meant = f", did you mean {close[0]}?" if close else ""
                self.problems.append(f"{name + '.' if name else ''}{key} is no key of this file{meant}")

    def _table(self, name: str) -> Mapping[str, object]:
        table = self._document.get(name, {})
        if not isinstance(table, dict):
            self.problems.append(f"{name} must be a table, [{name}]")
            return {}
        self._unknown_keys(name, table)
        return table

    def _text(self, where: str, value: object) -> str:
        if isinstance(value, str) and len(value) <= 255 and value.isprintable():
            return value
        self.problems.append(f"{where} is missing" if value is None else f"{where} must be a short text")
        return ""

    def _matching(self, where: str, value: object, pattern: re.Pattern[str], rule: str) -> str:
        text = self._text(where, value)
        if text and not pattern.fullmatch(text):
            self.problems.append(f"{where} is {text!r}, and takes {rule}")
        return text

    def _org(self, value: object) -> OrgDid:
        text = self._text("org", value)
        try:
            parse_org_did(text)
        except ValueError as error:
            if text:
                self.problems.append(f"org: {error}")
        return OrgDid(text)

    def _address(self, where: str, value: object) -> Address:
        text = self._text(where, value)
        try:
            return parse_address(text)
        except ValueError as error:
            if text:
                self.problems.append(f"{where}: {error}")
            return Address("", 0)

    def _square(self, table: Mapping[str, object], link: Address) -> Address | None:
        """``listen = "off"``: None. A file that says nothing of it has the square beside its links."""
        if table.get("listen", "") == "":
            return square_beside(link)
        return None if table["listen"] == OFF else self._address("square.listen", table["listen"])

    def _bool(self, where: str, value: object) -> bool:
        if isinstance(value, bool):
            return value
        self.problems.append(f"{where} must be true or false")
        return False

    def _path(self, where: str, value: object) -> Path | None:
        if value is None:
            return None
        if isinstance(value, str) and value and len(value) <= 4_096 and "\0" not in value:
            return Path(value)
        self.problems.append(f"{where} must be a path")
        return None

    def _egress(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > MAX_EGRESS:
            self.problems.append(f"egress.allow must be a list of at most {MAX_EGRESS} networks or hosts")
            return ()
        allowed = []
        for item in value:
            try:
                EgressPolicy.of([item] if isinstance(item, str) else [repr(item)])
            except BadInput as error:
                self.problems.append(f"egress.allow{self._line_of(item)}: {error.detail}; {error.hint}")
            else:
                allowed.append(str(item))
        return tuple(allowed)

    def _payments(self, table: Mapping[str, object]) -> Payments:
        names, usual = KEYS["payments"], Payments()
        found = Payments(*(self._amount(f"payments.{name}", table.get(name, mesh(getattr(usual, name)))) for name in names))
        if found.per_provider > found.in_all:
            self.problems.append("payments.per_provider is above payments.in_all")
        return found

    def _relaying(self, table: Mapping[str, object]) -> Policy:
        usual = USUAL
        rate = table.get("bytes_per_s", usual.bytes_per_s)
        if type(rate) is not int or not LEAST_BYTES_PER_S <= rate <= MOST_BYTES_PER_S:
            self.problems.append(f"relay.bytes_per_s must be a number from {LEAST_BYTES_PER_S} to {MOST_BYTES_PER_S}")
            rate = usual.bytes_per_s
        serve, own_only, punch = (self._bool(f"relay.{key}", table.get(key, getattr(usual, key))) for key in ("serve", "own_only", "punch"))
        return Policy(serve, own_only, rate, punch)

    def _keep_blocks(self, value: object) -> int | None:
        if value is None or (type(value) is int and value >= TRANSFER_BLOCKS):
            return value
        self.problems.append(f"ledger.keep_blocks must be a number of {TRANSFER_BLOCKS} or more, or be left out to keep all")
        return None

    def _amount(self, where: str, value: object) -> int:
        try:
            return micro(value if isinstance(value, str) else repr(value))
        except BadInput:
            self.problems.append(f'{where} is {str(value)[:40]!r}, and takes an amount as in "100 MESH"')
            return 0

    def _line_of(self, value: object) -> str:
        """Where ``value`` is first written out; TOML's reader does not say."""
        for number, line in enumerate(self._text_lines, 1):
            if isinstance(value, str) and (json.dumps(value) in line or f"'{value}'" in line):
                return f", line {number}"
        return ""

    def _seeds(self, value: object) -> tuple[Seed, ...]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.problems.append("seeds are tables, [[seed]]")
            return ()
        if len(value) > MAX_SEEDS:
            self.problems.append(f"{len(value)} seeds, at most {MAX_SEEDS} are of use")
            return ()
        found = []
        for number, item in enumerate(value, 1):
            self._unknown_keys("seed", item)
            node = self._matching(f"seed {number}.node", item.get("node"), _NODE_ID, "a node id, 12D3KooW...")
            gossip, link = (self._address(f"seed {number}.{key}", item.get(key)) for key in ("gossip", "link"))
            found.append(Seed(NodeId(node), gossip, link))
        return tuple(found)
