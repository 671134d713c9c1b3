"""A node's folder: what lies in it, and how it is made.

====================  =======================================================================================================
``node.toml``         the configuration (``node/config.py``)
``genesis.json``      the mesh's genesis, once there is one
``keys``              the node's own key and its validator key, encrypted
``root.keys``         the organisation's root key, encrypted; only where the organisation was made; may be kept offline
``root.next.keys``    the coming root key where there is to be another, with ``root.next.pem``; ``root.old.keys``: the last
``passphrase``        what opens both (0600); MESH_PASSPHRASE goes before it
``org.json``          the organisation's entry for a genesis: public keys only
``certificate.pem``   the node's certificate, issued by the root key once the genesis is known, and the root's own behind it
``certificate.next.pem``  the same under the organisation's coming root, where there is to be one (``node/trusting.py``)
``revocations/``      revocation lists, ``*.crl``: what was put here, and what other nodes handed on (``<kind>.<name>.crl``)
``issued/``           the certificates that the root key signed; beside the root key, so that one can be revoked
``invitations.json``  which invitation was spent by which node; beside the root key
``api-keys.json``     hashes of the API's keys; ``api-key`` is the first of them, in plain (0600)
``data/``             LevelDB; ``agents/`` their folders; ``node.log``; ``fault.sock`` on a testnet
====================  =======================================================================================================

A node is made in two steps, because a certificate names the mesh, and a mesh is named by all its organisations' keys:
``make_org`` or ``make_joining`` makes keys; ``certify`` or ``install`` gives it genesis and certificate. All of it blocks.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import meshos
from meshos.crypto import certificates
from meshos.crypto.genesis_keys import Root, founding_roots, trust_in
from meshos.crypto.keys import PublicKey, SigningKey, multikey, node_id
from meshos.crypto.keystore import NODE_COST, ROOT_COST, Cost, FileKeyStore, Passphrase
from meshos.errors import BadInput, Broken, Failed, Refused
from meshos.genesis import MAX_BYTES as MAX_GENESIS_BYTES
from meshos.genesis import Genesis, Org, Validator, org_document, parse, parse_org, to_json
from meshos.ids import NodeId, OrgDid, parse_org_did
from meshos.node.api.keys import KeyRing
from meshos.node.config import FILE, NodeConfig
from meshos.node.config_text import to_toml
from meshos.storage.files import write_whole

NODE_KEY = "node"
VALIDATOR_KEY = "validator"
ROOT_KEY = "root"
ROOT_FILE = "root.keys"
ORG_FILE = "org.json"
API_KEY_FILE = "api-key"
SPENT_FILE = "invitations.json"
NEXT_CERTIFICATE = "certificate.next.pem"
ISSUED = "issued"
MAX_SMALL_BYTES = 1024 * 1024
"""Of a certificate, an organisation's entry, a list of spent invitations."""
PASSPHRASE_VARIABLE = "MESH_PASSPHRASE"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is: its keys, which never leave it, and the id that is made of one."""

    node: SigningKey
    validator: SigningKey

    @property
    def node_id(self) -> NodeId:
        """The node's id."""
        return node_id(self.node.public)


def template() -> Genesis:
    """The parameters of a new mesh, which ship with Mesh OS."""
    for folder in meshos.__path__:
        path = Path(folder) / "genesis.json"
        if path.is_file():
            return parse(path.read_bytes())
    raise Failed("not-installed", "genesis.json is missing from the installation", hint="install Mesh OS again")


def read_file(path: Path, max_bytes: int = MAX_SMALL_BYTES) -> bytes:
    """A file that a user named; raises BadInput ``cannot-read``."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BadInput("cannot-read", f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    if len(data) > max_bytes:
        raise BadInput("cannot-read", f"{path} has more than {max_bytes} bytes, so it is something else")
    return data


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a whole file or nothing, on disk when this returns; raises Failed ``cannot-write``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, mode)
    except OSError as error:
        raise Failed("cannot-write", f"{path} cannot be written: {error.strerror}") from error


def passphrase_of(config: NodeConfig) -> Passphrase:
    """What opens the node's key files; raises BadInput ``bad-passphrase`` or ``loose-permissions``."""
    if PASSPHRASE_VARIABLE in os.environ:
        return Passphrase.from_environment(PASSPHRASE_VARIABLE, os.environ)
    return Passphrase.from_file(config.passphrase_file)


def make_org(
    config: NodeConfig,
    *,
    now: float,
    allocation: int = 0,
    cost: Cost = NODE_COST,
    root_cost: Cost = ROOT_COST,
    root: SigningKey | None = None,
) -> Org:
    """A new organisation with its first node: keys, ``org.json``, ``node.toml``, an API key. Gives the entry for a genesis. ``root``: the
    root key that lies in the folder, or shall; None: that one, or a new one.

    Raises BadInput ``node-exists`` if there is one in the folder; a half-made one (interrupted before ``node.toml``) is made anew.
    """
    identity = _make(config, cost)
    is_there = (config.dir / ROOT_FILE).exists()
    root = root or (open_root(config) if is_there else SigningKey.generate())
    if not is_there:
        FileKeyStore.store(config.dir / ROOT_FILE, passphrase_of(config), {ROOT_KEY: root}, root_cost)
    certificate = certificates.new_root(root, config.org, now=now)
    validator = Validator(identity.node_id, multikey(identity.validator.public))
    org = Org(config.org, multikey(root.public), certificate, validator, allocation=allocation)
    write_org(config, org)
    write_config(config)
    return org


def make_joining(config: NodeConfig, *, cost: Cost = NODE_COST) -> Identity:
    """A further node of an organisation that exists: keys and ``node.toml``; raises as ``make_org``."""
    identity = _make(config, cost)
    write_config(config)
    return identity


def write_org(config: NodeConfig, org: Org) -> None:
    """Write the organisation's entry for a genesis."""
    write_file(config.dir / ORG_FILE, json.dumps(org_document(org), indent=2).encode() + b"\n")


def own_entry(config: NodeConfig) -> Org | None:
    """What ``write_org`` wrote, where an organisation was made in this folder; raises BadInput ``cannot-read`` or ``genesis-malformed``."""
    path = config.dir / ORG_FILE
    return parse_org(read_file(path)) if path.exists() else None


def write_config(config: NodeConfig) -> None:
    """Write ``node.toml``; done last, since a folder with it holds a whole node."""
    write_file(config.dir / FILE, to_toml(config).encode())


def open_identity(config: NodeConfig) -> Identity:
    """The node's keys; raises as ``FileKeyStore.open``, and Refused ``no-such-key``."""
    return _identity(FileKeyStore.open(config.keys, passphrase_of(config)))


def open_root(config: NodeConfig) -> SigningKey:
    """The organisation's root key, if it lies in this folder; raises BadInput ``root-key-not-here``."""
    path = config.dir / ROOT_FILE
    if not path.exists():
        raise BadInput("root-key-not-here", f"there is no root key in {config.dir}", hint="name the folder that has it with --dir")
    return exported(FileKeyStore.open(path, passphrase_of(config)), ROOT_KEY)


def read_genesis(path: Path) -> Genesis:
    """A genesis; raises BadInput ``cannot-read`` or ``genesis-malformed``."""
    return parse(read_file(path, MAX_GENESIS_BYTES))


def certify(
    config: NodeConfig, genesis: Genesis, *, now: float, root_in: NodeConfig | None = None, root: SigningKey | None = None
) -> Genesis:
    """Give the node of ``make_org`` the genesis and a certificate from the root key in its folder; a further node of that organisation from
    the one in the folder ``root_in``. An organisation that is not in the genesis waits for its admission with it. ``root``: that key, where
    it is open already.

    Raises BadInput ``root-key-not-here``, Refused ``wrong-org-root``.
    """
    at = root_in or config
    root = root or open_root(at)
    entry, own = genesis.org(config.org), own_root(at).get(config.org)
    rotated = own is not None and own.key == root.public
    if entry is not None and entry.root_key != multikey(root.public) and not rotated:
        raise Refused("wrong-org-root", f"the genesis has another root key of {config.org} than {at.dir}")
    identity = open_identity(config)
    certificate = certificates.issue(root, mesh_id=genesis.mesh_id, org=config.org, node=identity.node.public, now=now)
    remember_issued(at, certificate)
    install(config, genesis, [certificate, root_certificate(at, root, now=now)], now=now, root=root.public)
    return genesis


def install(config: NodeConfig, genesis: Genesis, chain: Sequence[bytes], *, now: float, root: PublicKey | None = None) -> None:
    """Put a genesis and the node's certificate (DER) into the folder, once it is clear that they fit the node's key. Behind it in ``chain``
    may stand its root's, which then counts for the node's own organisation: one that did not found the mesh, or has rotated its root.

    Anybody can make a root of that name. So it must be the one in the genesis, that of the certificate which is here already, or ``root``:
    what its organisation's invitation names, or a person. ``opening.py`` believes what lies in the folder.

    Raises Refused as ``verify_chain``, ``root-not-proven``, and ``wrong-node-key`` if the certificate is another node's.
    """
    founding, behind, org = founding_roots(genesis), _root_in(chain, config.org), config.org
    peer = certificates.verify_chain(chain, trust_in(genesis.mesh_id, founding | behind), now)
    if peer.org != org or peer.node != open_identity(config).node_id:
        raise Refused("wrong-node-key", f"this certificate is for the node {peer.node}, not for the one in {config.dir}")
    if behind and behind[org].key != root:
        known = (founding.get(org), own_root(config).get(org))
        if all(one is None or one.key != behind[org].key for one in known):
            raise _not_proven(org, multikey(behind[org].key))
    write_file(config.genesis, to_json(genesis))
    write_chain(config, chain)


def _not_proven(org: OrgDid, key: str) -> Refused:
    what = f"the certificate is of the root key {key}, which neither the genesis nor an invitation in this folder gives to {org}"
    hint = f"if `mesh ledger org {org}` at a node that you trust says the same, say so with --root {key}; else somebody pretends to be it"
    return Refused("root-not-proven", what, hint=hint)


def write_chain(config: NodeConfig, chain: Sequence[bytes]) -> None:
    """Write the node's certificate (DER), and its root's where that follows."""
    write_file(config.certificate, b"".join(map(certificates.pem, chain)))


def own_root(config: NodeConfig) -> dict[OrgDid, Root]:
    """The root of the node's organisation that came with its certificate; empty where none did.

    Raises Refused ``certificate-malformed`` or ``wrong-org-root``.
    """
    return _root_in(certificates.chain_from_pem(read_file(config.certificate)), config.org) if config.certificate.exists() else {}


def root_certificate(config: NodeConfig, root: SigningKey, *, now: float) -> bytes:
    """The certificate (DER) of the root key in this folder: that of ``org.json``, else one that it signs now, which is as good.

    Raises as ``own_entry``.
    """
    entry = own_entry(config)
    if entry is not None and entry.did == config.org and entry.root_key == multikey(root.public):
        return entry.root_certificate
    return certificates.new_root(root, config.org, now=now)


def _root_in(chain: Sequence[bytes], org: OrgDid) -> dict[OrgDid, Root]:
    return {org: Root(certificates.root_key(chain[1], org), chain[1])} if len(chain) > 1 else {}


def remember_issued(config: NodeConfig, certificate: bytes) -> None:
    """Keep a certificate (DER) that the root key has signed: its serial number is what a revocation names."""
    said = certificates.describe(certificate)
    write_file(config.dir / ISSUED / f"{said.peer.node}-{said.serial:x}.pem", certificates.pem(certificate))


def issued(config: NodeConfig) -> list[bytes]:
    """The certificates (DER) that are known here: those issued here, and the node's own; raises Refused ``certificate-malformed``."""
    paths = [*sorted((config.dir / ISSUED).glob("*.pem")), *([config.certificate] if config.certificate.exists() else [])]
    return list(dict.fromkeys(certificates.from_pem(read_file(path)) for path in paths))


def list_name(org: OrgDid) -> str:
    """The file of ``org``'s revocation list."""
    kind, name = parse_org_did(org)
    return f"{kind}.{name}.crl"


def spent(config: NodeConfig, now: float) -> dict[bytes, tuple[NodeId, int]]:
    """Invitations that were answered: for which node, and until when to remember; those that have ended are left out."""
    path = config.dir / SPENT_FILE
    if not path.exists():
        return {}
    try:
        rows = json.loads(read_file(path))
        found = {bytes.fromhex(row["nonce"]): (NodeId(str(row["node"])), int(row["forget_after"])) for row in rows["spent"]}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise BadInput("cannot-read", f"{path} is no list of spent invitations", hint="restore it from a copy") from error
    return {nonce: (node, until) for nonce, (node, until) in found.items() if until >= now}


def remember_spent(config: NodeConfig, answered: Mapping[bytes, tuple[NodeId, int]]) -> None:
    """Write down which invitations were answered; on disk when this returns."""
    rows = [{"nonce": nonce.hex(), "node": node, "forget_after": until} for nonce, (node, until) in answered.items()]
    write_file(config.dir / SPENT_FILE, json.dumps({"schema": "mesh.invitations/1", "spent": rows}, indent=1).encode(), 0o600)


def _make(config: NodeConfig, cost: Cost) -> Identity:
    if (config.dir / FILE).exists():
        raise BadInput("node-exists", f"there is a node in {config.dir} already", hint="choose another folder with --dir")
    try:
        config.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.dir.chmod(0o700)
        config.revocations.mkdir(exist_ok=True)
    except OSError as error:
        raise Failed("cannot-write", f"{config.dir} cannot be made: {error.strerror}") from error
    if PASSPHRASE_VARIABLE not in os.environ and not config.passphrase_file.exists():
        write_file(config.passphrase_file, secrets.token_urlsafe(32).encode() + b"\n", 0o600)
    if config.keys.exists():
        identity = open_identity(config)
    else:
        identity = _identity(FileKeyStore.create(config.keys, passphrase_of(config), (NODE_KEY, VALIDATOR_KEY), cost))
    ring = KeyRing()
    write_file(config.dir / API_KEY_FILE, ring.mint("admin", "admin").encode() + b"\n", 0o600)
    ring.save(config.api_keys)
    return identity


def _identity(store: FileKeyStore) -> Identity:
    return Identity(exported(store, NODE_KEY), exported(store, VALIDATOR_KEY))


def exported(store: FileKeyStore, name: str) -> SigningKey:
    """The key called ``name``; raises Refused ``no-such-key``.

    The key store's ``export`` waits for nothing when the keys are in a file, so it is run to its end here.
    """
    coroutine = store.export(name)
    try:
        coroutine.send(None)
    except StopIteration as done:
        key = done.value
        assert isinstance(key, SigningKey)
        return key
    raise Broken("internal", "a key file does not wait")
