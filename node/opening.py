"""A node's folder, opened: everything that is looked at, and may be refused, before anything starts."""

from dataclasses import dataclass

from meshos.crypto import certificates
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.keystore import FileKeyStore
from meshos.errors import BadInput, Refused
from meshos.genesis import Genesis
from meshos.ids import NodeId, Peer
from meshos.node import folder
from meshos.node.config import FILE, NodeConfig
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

    def check_own(self, peer: Peer) -> None:
        """Raise Refused ``wrong-node-key`` unless a certificate for ``peer`` is one for this node."""
        _check_own(self.config, node_id(self.node.public), peer)


async def open_folder(config: NodeConfig) -> Folder:
    """Everything that is looked at before anything starts; raises MeshError."""
    genesis = folder.read_genesis(config.genesis)
    own = folder.own_root(config)
    if genesis.org(config.org) is None and not own:
        hint = f"give it the genesis of its mesh; if it is to be admitted to this one: mesh init --dir {config.dir} --genesis genesis.json"
        raise BadInput("org-not-in-genesis", f"{config.org} is not in {config.genesis}", hint=hint)
    keys = FileKeyStore.open(config.keys, folder.passphrase_of(config))
    node = await keys.export(folder.NODE_KEY)
    trust = TrustBook(genesis, config.revocations, own=own)
    certificate = certificates.from_pem(folder.read_file(config.certificate))
    me = trust.check(certificate)
    _check_own(config, node_id(node.public), me)
    founder = genesis.org(config.org)
    if config.leaf and founder is not None and founder.validator is not None and founder.validator.node == me.node:
        told = f"{config.name} votes for {config.org} in this mesh, and as a leaf (leaf = true in {FILE}) nobody could dial it"
        raise Refused("leaf-no-seat", told, hint="take leaf = true out, and give it an address that others reach")
    validator = multikey((await keys.export(folder.VALIDATOR_KEY)).public)
    return Folder(config, genesis, keys, node, validator, me, certificate, trust)


def _check_own(config: NodeConfig, node: NodeId, peer: Peer) -> None:
    if peer.org != config.org or peer.node != node:
        raise Refused("wrong-node-key", f"the certificate in {config.dir} is for {peer.node} of {peer.org}, not for this node")
