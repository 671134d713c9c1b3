"""What ``mesh org rotate-root`` and ``mesh org reissue`` do: another root key for an organisation, whose nodes go on without a break.

Theory of operation. A node is believed because the root key that the ledger has for its organisation signed its certificate. So the nodes
get certificates under the coming root before the ledger has it, and swap by themselves when it does. In the folder:

    root.next.keys        the coming root key, encrypted as the root key is; there is a rotation under way while it is there
    root.next.pem         its certificate, as the ledger will have it; taken away as the last thing
    certificate.next.pem  the certificate of this folder's node under it; those of other nodes are printed by ``reissue``
    root.old.keys         the root key before the last rotation
    revocations/next.*    whom the root that is has revoked, signed by the coming one: a node that has it when the ledger takes that root
                          lets none of them in, with whatever certificate they were given under it

Every step is one file that is written whole or one rename, in an order from which the command goes on when it is run again, wherever it
was killed: the keys, the certificate, the node's certificate; the transaction; a copy of the old keys, the rename of the next keys over
them, what else names the root (``org.json``, the revocation list), and ``next.*`` and ``root.next.pem`` taken away. Before
the rename the ledger is asked which root it has: the old one, then the transaction is sent, or the next one, then it was committed before.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from meshos.consensus.ledger.orgs import RotateRoot
from meshos.crypto import certificates
from meshos.crypto.certificates import RevocationList, Trust
from meshos.crypto.keys import PublicKey, SigningKey, multikey
from meshos.crypto.keystore import ROOT_COST, Cost, FileKeyStore
from meshos.errors import BadInput, Failed, MeshError, Refused
from meshos.ids import NodeId
from meshos.node import agreeing, folder
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import rows_of
from meshos.node.cli.registering import send_by_root
from meshos.node.cli.revoking import certificates_of
from meshos.node.config import NodeConfig

NEXT_ROOT = "root.next.keys"
NEXT_ROOT_CERTIFICATE = "root.next.pem"
OLD_ROOT = "root.old.keys"


@dataclass(frozen=True, slots=True)
class Coming:
    """A rotation under way: the root that is, the one that comes, and that one's certificate (DER)."""

    root: SigningKey
    next: SigningKey
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A registered node of the organisation for which no certificate under the coming root was issued in this folder."""

    node: NodeId
    name: str


def prepare(config: NodeConfig, cost: Cost = ROOT_COST) -> Coming:
    """Begin a rotation, or go on with the one that was begun: keys, certificate, and the certificate of this folder's node.

    Raises BadInput ``root-key-not-here``, and as ``reissue``.
    """
    root, now = folder.open_root(config), time.time()
    path = config.dir / NEXT_ROOT
    if not path.exists():
        FileKeyStore.store(path, folder.passphrase_of(config), {folder.ROOT_KEY: SigningKey.generate()}, cost)
    coming = _coming(config, root, now)
    own = folder.open_identity(config).node_id
    written = config.dir / folder.NEXT_CERTIFICATE
    pem = b"".join(map(certificates.pem, _issued(config, coming, own, None, now)))
    if not written.exists() or folder.read_file(written) != pem:
        folder.write_file(written, pem)
    return coming


def under_way(config: NodeConfig) -> Coming:
    """The rotation that was begun in this folder; raises BadInput ``no-rotation`` or ``root-key-not-here``."""
    if not (config.dir / NEXT_ROOT).exists():
        hint = f"mesh org rotate-root --dir {config.dir} begins one"
        raise BadInput("no-rotation", f"no rotation of the root key is under way in {config.dir}", hint=hint)
    return _coming(config, folder.open_root(config), time.time())


def reissue(config: NodeConfig, name: str, certificate: Path | None) -> tuple[NodeId, str]:
    """The node ``name`` (its id, or how that begins), and its certificate under the coming root with the root's own behind it, as PEM: the
    same one again for the same node. ``certificate``: the file with the one that it has, if it was not issued in this folder.

    Raises BadInput ``no-rotation``, ``no-such-certificate``, ``ambiguous-id`` or ``root-key-not-here``, and Refused as ``verify_chain``,
    such as ``certificate-revoked``.
    """
    coming = under_way(config)
    chain = _issued(config, coming, name, certificate, time.time())
    return certificates.describe(chain[0]).peer.node, b"".join(map(certificates.pem, chain)).decode()


def waiting(config: NodeConfig, coming: Coming, target: Target) -> list[Waiting]:
    """Which of the organisation's registered nodes would be left behind, but for those that are revoked; raises as ``Client.get``."""
    with Client(target) as client:
        known = client.get("v1", "ledger", "orgs", config.org)
    have = {said.peer.node for said in map(certificates.describe, _under(config, coming.next.public))}
    have |= _revoked(config, coming.root.public)
    rows = [(NodeId(str(row.get("node_id"))), str(row.get("name") or "")) for row in rows_of(known.get("nodes"))]
    return [Waiting(node, name) for node, name in rows if node not in have]


def known(config: NodeConfig, coming: Coming) -> list[Waiting]:
    """The same of the nodes that got their certificates in this folder, for where no node can be asked."""
    have = {said.peer.node for said in map(certificates.describe, _under(config, coming.next.public))}
    issued = {said.peer.node for said in map(certificates.describe, _under(config, coming.root.public))}
    return [Waiting(node, "") for node in sorted(issued - have)]


def list_ahead(config: NodeConfig, coming: Coming) -> Path | None:
    """The file with the list of the coming root, as new as that of the root that is; None where that one has revoked nobody."""
    held, ahead, now = _newest_list(config, coming.root.public), _newest_list(config, coming.next.public), time.time()
    if held is None or not held.serials:
        return None
    path = config.revocations / f"next.{folder.list_name(config.org)}"
    if ahead is None or not ahead.serials >= held.serials:
        number = max(int(now), 0 if ahead is None else ahead.number + 1)
        folder.write_file(path, certificates.revoke(coming.next, config.org, held.serials, number=number, now=now))
    return path


def commit(config: NodeConfig, coming: Coming, target: Target) -> int:
    """Have the ledger take the next root, unless it has: the height of the block, 0 if it had. Raises Refused ``other-root``, and as
    ``signing.send``."""
    with Client(target) as client:
        root = client.get("v1", "ledger", "orgs", config.org).get("root")
        if root == multikey(coming.next.public):
            return 0
        if root != multikey(coming.root.public):
            what = f"the ledger has the root key {root} for {config.org}, which is neither the one in {config.dir} nor the one that comes"
            raise Refused("other-root", what, hint="another folder has rotated it: use the root key that is there")
        return send_by_root(client, config, transaction(config, coming))


def transaction(config: NodeConfig, coming: Coming) -> RotateRoot:
    """What the old root signs; the coming one agrees in it."""
    return agreeing.of_root(coming.next, folder.read_genesis(config.genesis).hash, config.org, coming.certificate)


def take_over(config: NodeConfig, coming: Coming) -> None:
    """The coming root is the root key of this folder from now on, since the ledger has it. Raises Failed ``cannot-write``."""
    path = config.dir / folder.ROOT_FILE
    folder.write_file(config.dir / OLD_ROOT, folder.read_file(path), 0o600)
    _rename(config.dir / NEXT_ROOT, path)
    finish(config)


def finish(config: NodeConfig) -> bool:
    """Do what a kill after the rename left undone; whether there was anything. Raises as ``open_root``."""
    path = config.dir / NEXT_ROOT_CERTIFICATE
    if (config.dir / NEXT_ROOT).exists() or not path.exists():
        return False
    root, der = folder.open_root(config), certificates.from_pem(folder.read_file(path))
    if not _is_of(der, config, root.public):
        return False  # of a rotation whose keys were taken away
    entry = folder.own_entry(config)
    if entry is not None:
        folder.write_org(config, replace(entry, root_key=multikey(root.public), root_certificate=der))
    old = folder.exported(FileKeyStore.open(config.dir / OLD_ROOT, folder.passphrase_of(config)), folder.ROOT_KEY)
    ahead = list_ahead(config, Coming(old, root, der))  # who was revoked meanwhile stays revoked
    if ahead is not None:
        newest = _newest_list(config, root.public)
        assert newest is not None
        folder.write_file(config.revocations / folder.list_name(config.org), newest.der)
        _remove(ahead)
    _remove(path)
    return True


# -- parts -----------------------------------------------------------------------------------------------------------


def _coming(config: NodeConfig, root: SigningKey, now: float) -> Coming:
    """The next root, and its certificate: written here if it is not there, or of another key."""
    after = folder.exported(FileKeyStore.open(config.dir / NEXT_ROOT, folder.passphrase_of(config)), folder.ROOT_KEY)
    path = config.dir / NEXT_ROOT_CERTIFICATE
    der = certificates.from_pem(folder.read_file(path)) if path.exists() else b""
    if not der or not _is_of(der, config, after.public):
        der = certificates.new_root(after, config.org, now=now)
        folder.write_file(path, certificates.pem(der))
    return Coming(root, after, der)


def _is_of(der: bytes, config: NodeConfig, root: PublicKey) -> bool:
    try:
        certificates.verify_root(der, config.org, root)
    except Refused:
        return False
    return True


def _issued(config: NodeConfig, coming: Coming, name: str, file: Path | None, now: float) -> tuple[bytes, bytes]:
    known = folder.issued(config)
    if file is not None:
        known.append(certificates.from_pem(folder.read_file(file)))
    node, _ = certificates_of(config.org, name, [certificates.describe(der) for der in known])
    own = [der for der in known if certificates.describe(der).peer.node == node]
    for der in own:
        if _vouched(config, der, coming.next.public, now):
            return der, coming.certificate
    refusal = _refusal(config, own, coming.root.public, now)
    if refusal is not None:
        raise refusal
    mesh_id, key = folder.read_genesis(config.genesis).mesh_id, certificates.describe(own[0]).key
    made = certificates.issue(coming.next, mesh_id=mesh_id, org=config.org, node=key, now=now)
    folder.remember_issued(config, made)
    return made, coming.certificate


def _under(config: NodeConfig, root: PublicKey) -> Iterator[bytes]:
    now = time.time()
    return (der for der in folder.issued(config) if _vouched(config, der, root, now))


def _revoked(config: NodeConfig, root: PublicKey) -> set[NodeId]:
    """The nodes that have been revoked, of those that got their certificates in this folder."""
    held = _newest_list(config, root)
    listed = frozenset[int]() if held is None else held.serials
    issued = [certificates.describe(der) for der in folder.issued(config)]
    return {said.peer.node for said in issued if said.serial in listed} - {said.peer.node for said in issued if said.serial not in listed}


def _vouched(config: NodeConfig, der: bytes, root: PublicKey, now: float) -> bool:
    return _refusal(config, [der], root, now) is None


def _refusal(config: NodeConfig, ders: list[bytes], root: PublicKey, now: float) -> MeshError | None:
    """Why none of these is a good certificate of a node under this root."""
    held = _newest_list(config, root)
    trust = Trust(folder.read_genesis(config.genesis).mesh_id, {config.org: root}, {} if held is None else {config.org: held})
    refusal: MeshError | None = None
    for der in ders:
        try:
            certificates.verify_chain([der], trust, now)
            return None
        except MeshError as error:
            if refusal is None or error.name != "wrong-org-root":  # those of an earlier root say least
                refusal = error
    return refusal


def _newest_list(config: NodeConfig, root: PublicKey) -> RevocationList | None:
    found = []
    for path in config.revocations.glob("*.crl"):
        try:
            found.append(certificates.read_revocations(folder.read_file(path), config.org, root))
        except Refused:
            continue  # of another organisation, or of another root of this one
    return max(found, key=lambda listed: listed.number, default=None)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Failed("cannot-write", f"{path} cannot be removed: {error.strerror}") from error


def _rename(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Failed("cannot-write", f"{source} cannot become {target}: {error.strerror}") from error
