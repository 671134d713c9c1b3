"""A node's folder, opened: everything that is looked at, and may be refused, before anything starts."""

from dataclasses import dataclass

from meshos.crypto import certificates
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.keystore import FileKeyStore
from meshos.errors import BadInput, Refused
from meshos.genesis import Genesis
from meshos.ids import Peer
from meshos.node import folder
from meshos.node.config import NodeConfig
from meshos.node.trust import TrustBook


@dataclass(frozen=True, slots=True)
class Folder:
    """What a node's folder holds, read and checked."""

    config: NodeConfig
    genesis: Genesis
    keys: FileKeyStore
    node: SigningKey
    validator_key: str
    """The name (Multikey) of the key that this node votes with, where it is a validator."""
    me: Peer
    certificate: bytes
    trust: TrustBook


async def open_folder(config: NodeConfig) -> Folder:
    """Everything that is looked at before anything starts; raises MeshError."""
    genesis = folder.read_genesis(config.genesis)
    entry = genesis.org(config.org)
    if entry is None:
        raise BadInput("org-not-in-genesis", f"{config.org} is not in {config.genesis}", hint="give the node the genesis of its mesh")
    keys = FileKeyStore.open(config.keys, folder.passphrase_of(config))
    node = await keys.export(folder.NODE_KEY)
    trust = TrustBook(genesis, config.revocations)
    certificate = certificates.from_pem(folder.read_file(config.certificate))
    me = trust.check(certificate)
    if me.org != config.org or me.node != node_id(node.public):
        raise Refused("wrong-node-key", f"the certificate in {config.certificate} is for {me.node} of {me.org}, not for this node")
    validator = multikey((await keys.export(folder.VALIDATOR_KEY)).public)
    return Folder(config, genesis, keys, node, validator, me, certificate, trust)
