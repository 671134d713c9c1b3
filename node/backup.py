"""A node's folder in one file, and a folder from that file: made so that it cannot lead to two votes where one is allowed.

**The validator key is not in it.** Each validator key exists once (DESIGN.md, Validators): a copy that came back from a backup would have
forgotten what it signed after, and could sign something else in its place. So a restored node has a new validator key, and votes only
once its organisation has moved its seat to that key, which begins an epoch in which nothing is forgotten. Whoever only moves a
folder to another disk needs no backup; what an old copy of a whole disk may do is decided in ``consensus/pbft/witness.py``.

Everything else that makes the node is in it, the node's own key and the passphrase included: whoever has the file is the node. It is
written for its owner only (0600). Left out are the agents' private folders, logs, sockets and locks.

A backup is taken while the node stands still: its database is locked meanwhile. It is written beside its place and takes its name
when it is whole; a folder likewise takes its name when all of it was there, hashed as it was, and could be opened. Nothing is ever
written over. All of it blocks.
"""

import os
import secrets
import shutil
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from meshos.consensus.ledger.scrub import scrub
from meshos.consensus.org.machine import MACHINE as ORG
from meshos.consensus.pbft.records import RESTORING
from meshos.consensus.raft.applying import configuration_on
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.keystore import NODE_COST, Cost, FileKeyStore
from meshos.errors import BadInput, Failed, Refused
from meshos.node import agreeing, folder
from meshos.node.backup_file import Reader, Writer
from meshos.node.config import NodeConfig, load
from meshos.node.founding import BEGUN
from meshos.protocols.ledger.port import LEDGER
from meshos.storage.folder import lock_folder
from meshos.storage.level import LevelStore
from meshos.storage.limits import SCHEMA
from meshos.storage.store import Store

_AGENTS = "agents"
_LOCKS = frozenset({"in-use.lock", "LOCK"})
_TEXTS = ("made", "genesis", "mesh", "org", "name", "node", "validator")


@dataclass(frozen=True, slots=True)
class Backup:
    """Of which node a file is."""

    made: str
    """When, RFC 3339."""
    genesis: str
    """The genesis hash, in hex digits."""
    mesh: str
    org: str
    name: str
    node: str
    validator: str
    """The validator key (Multikey) that the node had, and that is not in the file."""
    files: int
    size_bytes: int
    outside: tuple[str, ...] = ()
    """Files that belong to the node and do not lie in its folder, so not in the backup either."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back, where, and the validator key that the node has now.

    ``agreement``: by which its organisation registers that key (``agreeing.py``); empty where the genesis of the mesh is not at hand.
    """

    backup: Backup
    dir: Path
    validator: str
    agreement: str


# -- making -------------------------------------------------------------------------------------------------------------


def make(config: NodeConfig, file: Path, *, made: str, cost: Cost = NODE_COST) -> Backup:
    """Write the backup of the node in ``config.dir`` to ``file``, which must not exist.

    Raises BadInput ``file-exists`` or ``outside-of-folder``, Refused ``folder-in-use``, Failed ``cannot-write``, and what reading the
    folder raises.
    """
    for path in (config.keys, config.data):
        if not _lies_in(config.dir, path):
            hint = "move it into the folder and try again"
            raise BadInput("outside-of-folder", f"{path} lies outside of the node's folder, or leads out of it", hint=hint)
    if os.path.lexists(file):
        raise _file_exists(file)
    try:
        lock = lock_folder(config.data)
    except OSError as error:
        raise Failed("cannot-write", f"{config.data} cannot be locked: {error.strerror}") from error
    try:
        return _make(config, file, made, cost)
    finally:
        os.close(lock)


def _make(config: NodeConfig, file: Path, made: str, cost: Cost) -> Backup:
    genesis, identity = folder.read_genesis(config.genesis), folder.open_identity(config)
    header: dict[str, object] = {
        "made": made,
        "genesis": genesis.hash.hex(),
        "mesh": genesis.mesh,
        "org": config.org,
        "name": config.name,
        "node": identity.node_id,
        "validator": multikey(identity.validator.public),
        "schema": SCHEMA,
    }
    fresh, keys = _beside(file), _beside(config.keys)
    try:
        FileKeyStore.store(keys, folder.passphrase_of(config), {folder.NODE_KEY: identity.node}, cost)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            writer, count = Writer(out, header), 0
            for path in _files(config.dir):
                writer.add(path.relative_to(config.dir).as_posix(), keys if path == config.keys else path)
                count += 1
            size = writer.end()
        os.link(fresh, file)
        _sync(file.absolute().parent)
    except FileExistsError as error:
        raise _file_exists(file) from error
    except OSError as error:
        raise Failed("cannot-write", f"{file} cannot be written: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
        keys.unlink(missing_ok=True)
    return _backup(header, count, size, _outside(config))


def _files(top: Path) -> Iterator[Path]:
    """The regular files that make the node, in the order of their paths."""
    for parent, folders, names in os.walk(top):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if here != top or name != _AGENTS)
        for name in sorted(names):
            passing = name in _LOCKS or name.startswith(".") or (here == top and name.endswith(".log"))
            if not passing and stat.S_ISREG((here / name).lstat().st_mode):
                yield here / name


def _outside(config: NodeConfig) -> tuple[str, ...]:
    named = (config.genesis, config.passphrase_file, config.certificate, config.revocations, config.api_keys)
    tls = tuple(path for path in (config.api_tls_certificate, config.api_tls_key) if path is not None)
    links = [path for path in sorted(config.dir.iterdir()) if path.is_symlink()]
    paths = dict.fromkeys(path for path in (*named, *tls, *links) if path.exists() and not _lies_in(config.dir, path))
    return tuple(map(str, paths))


def _lies_in(directory: Path, path: Path) -> bool:
    return not path.is_symlink() and path.resolve().is_relative_to(directory.resolve())


# -- restoring ----------------------------------------------------------------------------------------------------------


def restore(file: Path, directory: Path, genesis_hash: bytes | None = None) -> Restored:
    """Make the node of ``file`` in ``directory``, which must not exist or be empty, with a new validator key.

    ``genesis_hash``: of the mesh that it must belong to. Raises BadInput ``cannot-read`` or ``folder-not-empty``, Failed ``cannot-write``,
    Refused ``not-a-backup``, ``backup-damaged``, ``wrong-genesis``, ``schema-too-new`` or ``other-nodes-decide``, Failed
    ``state-corrupt``, and what opening a folder raises; then nothing was made.
    """
    directory = directory.absolute()
    fresh = _beside(directory)
    try:
        source = file.open("rb")
    except OSError as error:
        raise BadInput("cannot-read", f"{file} cannot be read: {error.strerror}", hint="check the path") from error
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise BadInput("folder-not-empty", f"there is something in {directory}", hint="choose a new folder with --dir")
        with source:
            reader = Reader(source, file)
            _check_header(reader, genesis_hash)
            fresh.mkdir(mode=0o700, parents=True)
            backup = _backup(reader.header, reader.extract(fresh), source.tell(), ())
        validator, agreement = _renew(fresh, backup, reader)
        _sync_all(fresh)
        os.rename(fresh, directory)
        _sync(directory.parent)
    except OSError as error:
        raise Failed("cannot-write", f"{directory} cannot be made: {error.strerror}") from error
    finally:
        source.close()
        shutil.rmtree(fresh, ignore_errors=True)
    return Restored(backup, directory, validator, agreement)


def _check_header(reader: Reader, genesis_hash: bytes | None) -> None:
    header = reader.header
    schema = header.get("schema")
    if not all(isinstance(header.get(name), str) for name in _TEXTS) or not isinstance(schema, int):
        raise reader.damaged("its header cannot be read")
    if genesis_hash is not None and header["genesis"] != genesis_hash.hex():
        what = f"this is a backup of a node of the mesh {str(header['genesis'])[:16]}, not of {genesis_hash.hex()[:16]}"
        raise Refused("wrong-genesis", what, hint="name another backup, or another genesis")
    if schema > SCHEMA:
        what = f"the backup is of layout {schema}, this program reads up to {SCHEMA}"
        raise Refused("schema-too-new", what, hint="restore it with the newer version of Mesh OS that wrote it")


def _renew(fresh: Path, backup: Backup, reader: Reader) -> tuple[str, str]:
    """See that what came back is the node of the header and can be opened; give it a new validator key, and make its agreement."""
    config = load(fresh)
    if not _lies_in(fresh, config.keys):
        raise reader.damaged("its node.toml names keys outside of the folder")
    if _lies_in(fresh, config.genesis) and folder.read_genesis(config.genesis).hash.hex() != backup.genesis:
        raise reader.damaged("the genesis in it is not that of its header")
    keys = FileKeyStore.open(config.keys, folder.passphrase_of(config))
    if keys.names() != (folder.NODE_KEY,):
        raise reader.damaged("it holds other keys than a node's own")
    validator = SigningKey.generate()
    keys.add(folder.VALIDATOR_KEY, validator)
    identity = folder.open_identity(config)
    if identity.node_id != backup.node:
        raise reader.damaged("the key in it is not that of the node in its header")
    if config.data.exists():
        store = LevelStore(config.data)
        try:
            _check_alone(store, (fresh / BEGUN).exists(), backup)
            _check_ledger(store.prefixed(LEDGER))
        finally:
            store.close()
    at_hand = config.genesis.exists() and folder.read_genesis(config.genesis).hash.hex() == backup.genesis
    agreement = agreeing.of_node(identity, bytes.fromhex(backup.genesis), config.org) if at_hand else ""
    return multikey(validator.public), agreement


def _check_ledger(ledger: Store) -> None:
    """Read the whole state again; raises Failed ``state-corrupt`` unless it adds up; one that was being fetched is fetched on."""
    if ledger.get(RESTORING) is None:
        deque(scrub(ledger), maxlen=0)


def _check_alone(store: LevelStore, begun: bool, backup: Backup) -> None:
    """Raise Refused ``other-nodes-decide`` unless the node is all of its organisation's Raft group, or never had a part in it.

    Among others it has forgotten whom it voted for and what it acknowledged, and could help to elect a leader that lacks it (Raft, section
    5.2). That it was alone then does not say that it is alone now.
    """
    group = configuration_on(store.prefixed(ORG))
    if begun and (group is None or group.members != {backup.node}):
        what = f"{backup.name} decided for {backup.org} together with others, and has forgotten what it promised them"
        hint = "on one of the others: `mesh org remove` it, then `mesh org invite` a new node, which loses nothing"
        raise Refused("other-nodes-decide", what, hint=hint)


def _backup(header: Mapping[str, object], files: int, size: int, outside: tuple[str, ...]) -> Backup:
    return Backup(**{name: str(header[name]) for name in _TEXTS}, files=files, size_bytes=size, outside=outside)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")


def _file_exists(file: Path) -> BadInput:
    return BadInput("file-exists", f"{file} exists", hint="choose another name: backups are never written over")


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_all(top: Path) -> None:
    """What was extracted is on disk before it takes its name."""
    for parent, _, names in os.walk(top):
        for name in names:
            with (Path(parent) / name).open("rb") as file:
                os.fsync(file.fileno())
        _sync(Path(parent))
