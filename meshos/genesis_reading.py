"""Reading a genesis: from the bytes of a file, which anybody may have written, to a ``Genesis`` or a list of problems.

Every field must be there, and no other: what is hashed is what is written, without defaults that a later version could
change. Size is checked before parsing; a file with very many faults is described by the first of them.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from meshos import genesis_content as g
from meshos.errors import BadInput
from meshos.ids import NodeId, OrgDid, parse_org_did

MAX_PROBLEMS = 50
"""What is said of one file: nobody mends more at once."""

_MAX_DURATION_MS = 366 * 24 * 3_600_000
_MAX_RECORD_TTL_MS = 30 * 24 * 3_600_000
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]{1,64}")  # no control, direction or half characters
_HEX_32 = re.compile(r"[0-9a-f]{64}")
_MISSING = object()
_BASE64 = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, in one sentence, and where (a JSON path). A ``note`` is worth knowing, and no reason to refuse."""

    path: str
    sentence: str
    note: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}"


def parse(data: bytes) -> g.Genesis:
    """The genesis in ``data`` if its shape is right (``genesis_check.check`` says whether it also makes sense).

    Raises BadInput ``genesis-malformed`` with the first problem.
    """
    genesis, problems = read(data)
    if genesis is None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BadInput("genesis-malformed", f"genesis: {problems[0]}{more}", hint="`mesh genesis check FILE` lists everything")
    return genesis


def read(data: bytes) -> tuple[g.Genesis | None, list[Problem]]:
    """The genesis in ``data``, or None and what is wrong with its shape."""
    document, problem = load(data)
    if problem is not None:
        return None, [problem]
    reader = _Reader()
    genesis = _genesis(reader, document)
    if reader.problems:
        return None, reader.problems
    return genesis, []


def parse_problems(data: bytes) -> list[Problem]:
    """What is wrong with the shape of ``data`` alone; empty if ``parse`` would read it."""
    return read(data)[1]


def parse_org(data: bytes) -> g.Org:
    """One organisation's entry (``genesis.org_document``) from a file of its own; raises BadInput ``genesis-malformed``."""
    document, problem = load(data)
    reader = _Reader()
    org = _org(reader, document, "$") if problem is None else None
    problems = reader.problems if problem is None else [problem]
    if org is None or problems:
        raise BadInput("genesis-malformed", f"organisation: {problems[0]}", hint="`mesh init` writes this file anew")
    return org


def load(data: bytes) -> tuple[object, Problem | None]:
    """The JSON in ``data``: no repeated keys, no fractions, no NaN."""
    if len(data) > g.MAX_BYTES:
        return None, Problem("$", f"the file has {len(data)} bytes, at most {g.MAX_BYTES} are read")
    try:
        text = data.decode()
        return json.loads(text, object_pairs_hook=_object, parse_float=_no_fraction, parse_constant=_no_fraction), None
    except UnicodeDecodeError:
        return None, Problem("$", "the file is not UTF-8 text")
    except json.JSONDecodeError as error:
        return None, Problem("$", f"the file is not JSON: {error.msg} in line {error.lineno}, column {error.colno}")
    except RecursionError:
        return None, Problem("$", "the file is nested too deep")
    except ValueError as error:
        return None, Problem("$", str(error))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_shown(twice)} stands twice in one object")
    return found


def _no_fraction(text: str) -> object:
    raise ValueError(f"{text[:20]} is no whole number, and a genesis holds no others")


def _shown(value: object) -> str:
    """What was found, short and without control characters: it goes to a terminal."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Reader:
    """Takes a document apart and remembers what was wrong; what it gives back then is a stand-in that nobody sees."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def say(self, path: str, sentence: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(path, sentence))

    def fields(self, value: object, path: str, keys: str, optional: str = "") -> dict[str, object]:
        """The object's fields, exactly ``keys`` (blank-separated), perhaps ``optional``; those that are missing are said and left out."""
        wanted = keys.split()
        if value is _MISSING:
            return {}  # whoever read the object around it has said so
        if not isinstance(value, dict):
            self.say(path, f"is {_shown(value)}, and must be an object with {', '.join(wanted)}")
            return {}
        for key in wanted:
            if key not in value:
                self.say(f"{path}.{key}", "is missing")
        for key in value:
            if key not in wanted and key != optional:
                self.say(path, f"has a field {_shown(key)} that nobody knows")
        return value

    def text(self, fields: dict[str, object], key: str, path: str, pattern: re.Pattern[str], what: str) -> str:
        if key not in fields:
            return ""
        value = fields[key]
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            self.say(f"{path}.{key}", f"is {_shown(value)}, and must be {what}")
            return ""
        return value

    def integer(self, fields: dict[str, object], key: str, path: str, low: int, high: int) -> int:
        if key not in fields:
            return low
        value = fields[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.say(f"{path}.{key}", f"is {_shown(value)}, and must be a whole number from {low} to {high}")
            return low
        return value

    def boolean(self, fields: dict[str, object], key: str, path: str) -> bool:
        value = fields.get(key, False)
        if not isinstance(value, bool):
            self.say(f"{path}.{key}", f"is {_shown(value)}, and must be true or false")
            return False
        return value

    def choice(self, fields: dict[str, object], key: str, path: str, choices: tuple[str, ...]) -> str:
        value = fields.get(key, choices[0])
        if not isinstance(value, str) or value not in choices:
            self.say(f"{path}.{key}", f"is {_shown(value)}, and must be one of {', '.join(choices)}")
            return choices[0]
        return value

    def items(self, fields: dict[str, object], key: str, path: str, most: int) -> Iterator[tuple[str, object]]:
        value = fields.get(key, [])
        where = f"{path}.{key}"
        if not isinstance(value, list):
            self.say(where, f"is {_shown(value)}, and must be a list")
        elif len(value) > most:
            self.say(where, f"has {len(value)} entries, and may have {most}")
        else:
            for index, item in enumerate(value):
                yield f"{where}[{index}]", item

    def did(self, value: object, path: str) -> OrgDid:
        if not isinstance(value, str):
            self.say(path, f"is {_shown(value)}, and must be did:mesh:<kind>:<name>")
            return OrgDid("")
        try:
            parse_org_did(value)
        except ValueError as error:
            self.say(path, str(error))
        return OrgDid(value)

    def key(self, fields: dict[str, object], key: str, path: str) -> str:
        return self.text(fields, key, path, g.MULTIKEY, "a public key as Multikey, z6Mk… with 48 characters")


def _genesis(reader: _Reader, document: object) -> g.Genesis | None:
    path = "$"
    top = reader.fields(
        document,
        path,
        "schema mesh testnet time timing placementSeed embedding directory trustWeights governance supplyMillionths metaCoordinators orgs",
        "bootstrap",
    )
    reader.choice(top, "schema", path, (g.SCHEMA,))
    seed = reader.text(top, "placementSeed", path, _HEX_32, "64 lower-case hex digits")
    fields = {
        "mesh": reader.text(top, "mesh", path, g.MESH_NAME, "1 to 63 lower-case letters, digits or inner dashes"),
        "testnet": reader.boolean(top, "testnet", path),
        "time_ms": _time(reader, top, path),
        "timing": reader.choice(top, "timing", path, g.TIMINGS),
        "embedding": _embedding(reader, top.get("embedding", _MISSING), f"{path}.embedding"),
        "directory": _directory(reader, top.get("directory", _MISSING), f"{path}.directory"),
        "trust_weights": _trust_weights(reader, top.get("trustWeights", _MISSING), f"{path}.trustWeights"),
        "governance": _governance(reader, top.get("governance", _MISSING), f"{path}.governance"),
        "supply": reader.integer(top, "supplyMillionths", path, 0, g.MAX_SAFE_INTEGER),
        "meta_coordinators": tuple(reader.did(item, where) for where, item in reader.items(top, "metaCoordinators", path, g.MAX_ORGS)),
        "orgs": tuple(_org(reader, item, where) for where, item in reader.items(top, "orgs", path, g.MAX_ORGS)),
        "bootstrap": _bootstrap(reader, top, path),
    }
    if not reader.problems:
        _ordered(reader, [item["did"] for item in top["orgs"]], f"{path}.orgs[{{}}].did")  # type: ignore[attr-defined]
        _ordered(reader, top["metaCoordinators"], f"{path}.metaCoordinators[{{}}]")  # type: ignore[arg-type]
    if reader.problems:
        return None
    return g.Genesis(placement_seed=bytes.fromhex(seed), **fields)  # type: ignore[arg-type]


def _bootstrap(reader: _Reader, top: dict[str, object], path: str) -> tuple[str, ...]:
    if "bootstrap" not in top:
        return ()
    found = tuple(reader.items(top, "bootstrap", path, g.MAX_BOOTSTRAP))
    if top["bootstrap"] == []:
        reader.say(f"{path}.bootstrap", "is empty, and is left out then")
    for where, item in found:
        if not (isinstance(item, str) and g.is_place(item)):
            reader.say(where, f"is {_shown(item)}, and must be a multiaddr over TCP or QUIC with its node id, /ip4/…/tcp/…/p2p/12D3KooW…")
    return tuple(str(item) for _, item in found)


def _ordered(reader: _Reader, dids: list[str], path: str) -> None:
    """One order for all, so that an index means the same in the file, in a message and in a node."""
    for index in range(1, len(dids)):
        if dids[index] < dids[index - 1]:
            reader.say(path.format(index), f"must stand before {dids[index - 1]}: organisations are in the order of their DIDs")


def _time(reader: _Reader, fields: dict[str, object], path: str) -> int:
    text = reader.text(fields, "time", path, g.TIME, "a time in UTC like 2026-01-31T12:00:00Z")
    if not text:
        return 0
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * 1_000
    except ValueError:
        reader.say(f"{path}.time", f"is {_shown(text)}, which no calendar has")
        return 0


def _embedding(reader: _Reader, value: object, path: str) -> g.Embedding:
    fields = reader.fields(value, path, "model dimension recordDimension")
    return g.Embedding(
        reader.text(fields, "model", path, _MODEL, "the id of a model, up to 128 letters, digits, . _ / or -"),
        reader.integer(fields, "dimension", path, 1, 4_096),
        reader.integer(fields, "recordDimension", path, 1, 4_096),
    )


def _directory(reader: _Reader, value: object, path: str) -> g.Directory:
    fields = reader.fields(value, path, "replicas oneCellBelow recordTtl_ms maxRecords maxRecordsPerOrg")
    return g.Directory(
        reader.integer(fields, "replicas", path, 1, 16),
        reader.integer(fields, "oneCellBelow", path, 0, 1_000_000),
        reader.integer(fields, "recordTtl_ms", path, 600_000, _MAX_RECORD_TTL_MS),
        reader.integer(fields, "maxRecords", path, 1, 10_000_000),
        reader.integer(fields, "maxRecordsPerOrg", path, 1, 10_000_000),
    )


def _trust_weights(reader: _Reader, value: object, path: str) -> g.TrustWeights:
    names = ("credentials", "history", "attestations", "compliance", "uptime")
    fields = reader.fields(value, path, " ".join(names))
    return g.TrustWeights(*(reader.integer(fields, name, path, 0, 100) for name in names))


def _governance(reader: _Reader, value: object, path: str) -> g.Governance:
    numbers = {
        "passPercent": (1, 100),
        "criticalPassPercent": (1, 100),
        "overridePercent": (1, 100),
        "quorumPercent": (0, 100),
        "minHumanChambers": (0, g.MAX_CHAMBERS),
        "minApprovals": (3, g.MAX_ORGS),  # DESIGN.md, "Approvals": max(3, f_c + 1)
        "approvalTimeout_ms": (1_000, _MAX_DURATION_MS),
        "votingPeriod_ms": (1_000, _MAX_DURATION_MS),
        "timelock_ms": (0, _MAX_DURATION_MS),
        "pause_ms": (0, _MAX_DURATION_MS),
        "pauseWindow_ms": (1_000, _MAX_DURATION_MS),
    }
    fields = reader.fields(value, path, "chambers seats " + " ".join(numbers))
    return g.Governance(
        tuple(_chamber(reader, item, where) for where, item in reader.items(fields, "chambers", path, g.MAX_CHAMBERS)),
        tuple(_seat(reader, item, where) for where, item in reader.items(fields, "seats", path, g.MAX_SEATS)),
        *(reader.integer(fields, name, path, low, high) for name, (low, high) in numbers.items()),
    )


def _chamber(reader: _Reader, value: object, path: str) -> g.Chamber:
    fields = reader.fields(value, path, "name human weighting points")
    return g.Chamber(
        reader.text(fields, "name", path, g.MESH_NAME, "1 to 63 lower-case letters, digits or inner dashes"),
        reader.boolean(fields, "human", path),
        reader.choice(fields, "weighting", path, ("seat", "token")),
        reader.integer(fields, "points", path, 0, 100),
    )


def _seat(reader: _Reader, value: object, path: str) -> g.Seat:
    fields = reader.fields(value, path, "chamber name org key")
    return g.Seat(
        reader.text(fields, "chamber", path, g.MESH_NAME, "the name of a chamber"),
        reader.text(fields, "name", path, _NAME, "a name of 1 to 64 characters"),
        reader.did(fields["org"], f"{path}.org") if "org" in fields else OrgDid(""),
        reader.key(fields, "key", path),
    )


def _org(reader: _Reader, value: object, path: str) -> g.Org:
    fields = reader.fields(value, path, "did rootKey rootCertificate validator humanKeys allocationMillionths")
    return g.Org(
        reader.did(fields["did"], f"{path}.did") if "did" in fields else OrgDid(""),
        reader.key(fields, "rootKey", path),
        _certificate(reader, fields, path),
        _validator(reader, fields.get("validator"), f"{path}.validator"),
        tuple(_human(reader, item, where) for where, item in reader.items(fields, "humanKeys", path, g.MAX_HUMAN_KEYS)),
        reader.integer(fields, "allocationMillionths", path, 0, g.MAX_SAFE_INTEGER),
    )


def _validator(reader: _Reader, value: object, path: str) -> g.Validator | None:
    if value is None:
        return None
    fields = reader.fields(value, path, "node key")
    node = reader.text(fields, "node", path, g.NODE_ID, "a node id, 12D3KooW… with 52 characters")
    return g.Validator(NodeId(node), reader.key(fields, "key", path))


def _human(reader: _Reader, value: object, path: str) -> g.HumanKey:
    fields = reader.fields(value, path, "name key")
    return g.HumanKey(reader.text(fields, "name", path, _NAME, "a name of 1 to 64 characters"), reader.key(fields, "key", path))


def _certificate(reader: _Reader, fields: dict[str, object], path: str) -> bytes:
    text = reader.text(fields, "rootCertificate", path, _BASE64, "a certificate, base64 of its DER form")
    if not text:
        return b""
    try:
        der = base64.b64decode(text, validate=True)
    except binascii.Error:
        der = b""
    if not der.startswith(b"\x30") or len(der) > g.MAX_CERTIFICATE_BYTES or base64.b64encode(der).decode() != text:
        reader.say(f"{path}.rootCertificate", f"is not the base64 of a certificate of at most {g.MAX_CERTIFICATE_BYTES} bytes")
        return b""
    return der
