"""What a genesis holds, as frozen values, and how it is written; ``genesis.py`` is the way in."""

import base64
import hashlib
import ipaddress
import json
import re
from dataclasses import dataclass, field

from meshos import cbor
from meshos.ids import NodeId, OrgDid
from meshos.times import time_text

SCHEMA = "mesh.genesis/1"
TIMINGS = ("lan", "wan", "local", "fast")
MESH = 1_000_000
"""Millionths in one MESH. All amounts are integers of millionths."""

MAX_BYTES = 4 * 1024 * 1024
"""Of a genesis file: 1,024 organisations of about 2 KiB each, and the same again to spare."""
MAX_ORGS = 1_024
MAX_HUMAN_KEYS = 64
"""Of one organisation."""
MAX_CHAMBERS = 8
MAX_SEATS = 256
MAX_CERTIFICATE_BYTES = 2_048
MAX_SAFE_INTEGER = 2**53 - 1
"""The largest number that every JSON parser reads exactly (RFC 8259, section 6)."""

assert MAX_ORGS * 2_048 * 2 <= MAX_BYTES

MULTIKEY = re.compile(r"z6Mk[1-9A-HJ-NP-Za-km-z]{44}")
NODE_ID = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")
MESH_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAX_BOOTSTRAP = 32
MULTIADDR = re.compile(
    r"/(?:ip4/[0-9.]{7,15}|ip6/[0-9a-fA-F:.]{2,45}|dns[46]?/[A-Za-z0-9.-]{1,253})"
    r"/(?:tcp/[0-9]{1,5}|udp/[0-9]{1,5}/quic-v1)/p2p/12D3KooW[1-9A-HJ-NP-Za-km-z]{44}"
)
"""Where a node's square is, with the node that has to answer there. ``is_place`` also looks at what the numbers are."""


def is_place(text: str) -> bool:
    """Whether ``text`` is a MULTIADDR of an address and a port that there are."""
    if MULTIADDR.fullmatch(text) is None:
        return False
    _, kind, host, _, port, *_ = text.split("/")
    try:
        return 0 < int(port) < 65_536 and (kind.startswith("dns") or ipaddress.ip_address(host).version == int(kind[2:]))
    except ValueError:
        return False


TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True)
class Embedding:
    """How records become vectors: the sentence model, its dimension, and that of a record (model and hashed words)."""

    model: str
    dimension: int
    record_dimension: int


@dataclass(frozen=True, slots=True)
class Directory:
    """How agent records are kept: on how many nodes, for how long, and how many of them."""

    replicas: int
    one_cell_below: int
    """With fewer records than this in all, one cell on all nodes holds everything."""
    record_ttl_ms: int
    max_records: int
    max_records_per_org: int


@dataclass(frozen=True, slots=True)
class TrustWeights:
    """What an organisation's trust score is made of, in percent."""

    credentials: int
    history: int
    attestations: int
    compliance: int
    uptime: int


@dataclass(frozen=True, slots=True)
class Chamber:
    """A group that votes together for ``points`` of the 100. ``weighting`` is by seat or by token."""

    name: str
    human: bool
    weighting: str
    points: int


@dataclass(frozen=True, slots=True)
class Seat:
    """One seat in a chamber that votes by seat: who holds it and the key it votes with."""

    chamber: str
    name: str
    org: OrgDid
    key: str


@dataclass(frozen=True, slots=True)
class Governance:
    """How orgs and people decide together (DESIGN.md, Readings)."""

    chambers: tuple[Chamber, ...]
    seats: tuple[Seat, ...]
    pass_percent: int
    critical_pass_percent: int
    override_percent: int
    quorum_percent: int
    min_human_chambers: int
    min_approvals: int
    """Meta-coordinator organisations that must approve a risky autonomous decision, at least."""
    approval_timeout_ms: int
    voting_period_ms: int
    timelock_ms: int
    pause_ms: int
    """How long a human key may pause autonomy within ``pause_window_ms``."""
    pause_window_ms: int


@dataclass(frozen=True, slots=True)
class Validator:
    """The node that votes for its organisation, and the key it votes with (Multikey)."""

    node: NodeId
    key: str


@dataclass(frozen=True, slots=True)
class HumanKey:
    """A person whom an organisation lets speak (Multikey). No node ever holds it."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Org:
    """A founding organisation. ``root_certificate`` is DER; ``allocation`` is its tokens in millionths."""

    did: OrgDid
    root_key: str
    root_certificate: bytes
    validator: Validator | None
    human_keys: tuple[HumanKey, ...] = ()
    allocation: int = 0


@dataclass(frozen=True, slots=True)
class Genesis:
    """See the module's text. ``time_ms`` is the ledger's time at height 0, in milliseconds since 1970 UTC."""

    mesh: str
    testnet: bool
    time_ms: int
    timing: str
    placement_seed: bytes
    embedding: Embedding
    directory: Directory
    trust_weights: TrustWeights
    governance: Governance
    supply: int
    meta_coordinators: tuple[OrgDid, ...]
    orgs: tuple[Org, ...]
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs at which strangers and newcomers meet the mesh first; whoever answers there is believed no more than anybody else."""
    hash: bytes = field(init=False, compare=False, repr=False)
    """32 bytes: SHA-256 over the canonical CBOR of ``to_document``, in a domain of its own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "orgs", tuple(sorted(self.orgs, key=lambda org: org.did)))
        object.__setattr__(self, "meta_coordinators", tuple(sorted(self.meta_coordinators)))
        object.__setattr__(self, "hash", hashlib.sha256(b"meshos/genesis/1\0" + cbor.encode(to_document(self))).digest())

    @property
    def mesh_id(self) -> str:
        """The mesh in the names of certificates: the first half of the hash, as 32 hex digits."""
        return self.hash[:16].hex()

    @property
    def validators(self) -> tuple[Validator, ...]:
        """The voting nodes, in the order of their organisations' DIDs."""
        return tuple(org.validator for org in self.orgs if org.validator is not None)

    def org(self, did: OrgDid) -> Org | None:
        """The founding organisation with this DID, if it is one."""
        return next((org for org in self.orgs if org.did == did), None)


def to_json(genesis: Genesis) -> bytes:
    """The file: indented, one line end at its end."""
    return json.dumps(to_document(genesis), indent=2, ensure_ascii=False).encode() + b"\n"


def to_document(genesis: Genesis) -> dict[str, object]:
    """The JSON document, in the order in which a reader wants it."""
    embedding, directory, trust = genesis.embedding, genesis.directory, genesis.trust_weights
    document: dict[str, object] = {
        "schema": SCHEMA,
        "mesh": genesis.mesh,
        "testnet": genesis.testnet,
        "time": time_text(genesis.time_ms),
        "timing": genesis.timing,
        "placementSeed": genesis.placement_seed.hex(),
        "embedding": {"model": embedding.model, "dimension": embedding.dimension, "recordDimension": embedding.record_dimension},
        "directory": {
            "replicas": directory.replicas,
            "oneCellBelow": directory.one_cell_below,
            "recordTtl_ms": directory.record_ttl_ms,
            "maxRecords": directory.max_records,
            "maxRecordsPerOrg": directory.max_records_per_org,
        },
        "trustWeights": {
            "credentials": trust.credentials,
            "history": trust.history,
            "attestations": trust.attestations,
            "compliance": trust.compliance,
            "uptime": trust.uptime,
        },
        "governance": _governance_document(genesis.governance),
        "supplyMillionths": genesis.supply,
        "metaCoordinators": list(genesis.meta_coordinators),
        "orgs": [org_document(org) for org in genesis.orgs],
    }
    if genesis.bootstrap:  # one form of a genesis without: the key is not there, so that the hash of those before it is what it was
        document["bootstrap"] = list(genesis.bootstrap)
    return document


def org_document(org: Org) -> dict[str, object]:
    """One organisation's entry; also the file by which it hands its public keys to whoever writes the genesis."""
    return {
        "did": org.did,
        "rootKey": org.root_key,
        "rootCertificate": base64.b64encode(org.root_certificate).decode(),
        "validator": None if org.validator is None else {"node": org.validator.node, "key": org.validator.key},
        "humanKeys": [{"name": human.name, "key": human.key} for human in org.human_keys],
        "allocationMillionths": org.allocation,
    }


def _governance_document(governance: Governance) -> dict[str, object]:
    return {
        "chambers": [
            {"name": chamber.name, "human": chamber.human, "weighting": chamber.weighting, "points": chamber.points}
            for chamber in governance.chambers
        ],
        "seats": [{"chamber": seat.chamber, "name": seat.name, "org": seat.org, "key": seat.key} for seat in governance.seats],
        "passPercent": governance.pass_percent,
        "criticalPassPercent": governance.critical_pass_percent,
        "overridePercent": governance.override_percent,
        "quorumPercent": governance.quorum_percent,
        "minHumanChambers": governance.min_human_chambers,
        "minApprovals": governance.min_approvals,
        "approvalTimeout_ms": governance.approval_timeout_ms,
        "votingPeriod_ms": governance.voting_period_ms,
        "timelock_ms": governance.timelock_ms,
        "pause_ms": governance.pause_ms,
        "pauseWindow_ms": governance.pause_window_ms,
    }
