"""What ``mesh org register|unregister`` do: keys of an organisation on the ledger, by a transaction of its root key where that key lies."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import HUMAN, NODE, ROOT
from meshos.consensus.ledger.limits import MAX_LIFETIME_MS
from meshos.consensus.ledger.orgs import AddHuman, AddNode, RemoveHuman, RemoveNode, RotateValidator
from meshos.crypto.keys import SigningKey
from meshos.errors import BadInput, MeshError, Refused
from meshos.genesis_content import NODE_ID
from meshos.ids import NodeId
from meshos.node import agreeing, folder
from meshos.node.cli.client_connection import Client, Target, find
from meshos.node.cli.signing import send, signed
from meshos.node.config import NodeConfig

SENT_S = 30.0
OFFLINE_MS = MAX_LIFETIME_MS // 2
"""How long what was signed offline can be sent: the ledger takes a day, and the clock there may be wrong."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A key as the ledger has it now. ``changed`` is False where it was so before; ``height``: of the block, then 0."""

    key: str
    role: str
    org: str
    changed: bool
    height: int
    moved: bool = False
    """Whether the node's seat goes to a new validator key, which it does at the next checkpoint."""


def agreement_in(text: str) -> str | None:
    """The agreement among the words of a joining node's request, or the only word that there is; None where there is none."""
    return next((word for word in text.split() if word.startswith(agreeing.MARK)), None)


def own_agreement(config: NodeConfig) -> str:
    """That of the node in this folder; raises as ``folder.open_identity`` and ``folder.read_genesis``."""
    return agreeing.of_node(folder.open_identity(config), folder.read_genesis(config.genesis).hash, config.org)


def register(config: NodeConfig, text: str, target: Target, *, node: NodeId | None = None, root: SigningKey | None = None) -> Registered:
    """Register the key of an agreement. Again for the same key changes nothing; a node that is registered with another validator key
    (it was restored) votes with this one from now on. ``node``: only if it is that of this very node. ``root``: as ``send_by_root``.

    Raises as ``registration``, BadInput ``root-key-not-here``, and as ``signing.send``.
    """
    body = registration(config, text)
    if node is not None and not (isinstance(body, AddNode) and body.node == node):
        raise Refused("wrong-agreement", f"this is not the agreement of {node}")
    key, role = (body.node, NODE) if isinstance(body, AddNode) else (body.key, HUMAN)
    with Client(target) as client:
        known = _known(client, key)
        if known is None or (known.get("role"), known.get("org")) != (role, config.org):
            return Registered(key, role, config.org, changed=True, height=send_by_root(client, config, body, root))
        if isinstance(body, AddNode) and known.get("validator") not in (None, body.validator):
            rotation = RotateValidator(body.org, body.node, body.validator, body.validator_agrees)
            return Registered(key, role, config.org, changed=True, height=send_by_root(client, config, rotation, root), moved=True)
        return Registered(key, role, config.org, changed=False, height=0)


def unregister(config: NodeConfig, key: str, target: Target) -> Registered:
    """The key of a person or a node counts no longer; raises BadInput ``root-key-not-here``, and as ``signing.send``."""
    body = removal(key)
    role = NODE if isinstance(body, RemoveNode) else HUMAN
    with Client(target) as client:
        return Registered(key, role, config.org, changed=True, height=send_by_root(client, config, body))


def registration(config: NodeConfig, text: str) -> AddHuman | AddNode:
    """What is to be signed for an agreement; raises Refused ``agreement-malformed`` or ``wrong-agreement``."""
    found = agreement_in(text)
    if found is None:
        raise Refused("agreement-malformed", "there is no agreement in it", hint="`mesh key agree` and `mesh init --join` make them")
    return agreeing.read(found, folder.read_genesis(config.genesis).hash, config.org)


def removal(key: str) -> RemoveHuman | RemoveNode:
    """What is to be signed so that a key counts no longer: a node id is a node's, a Multikey a person's."""
    return RemoveNode(key) if NODE_ID.fullmatch(key) else RemoveHuman(key)


def signed_offline(config: NodeConfig, body: Body, nonce: int) -> str:
    """The transaction for ``mesh ledger send``, made where no node can be asked; raises BadInput ``root-key-not-here``."""
    expires_ms = int(time.time() * 1000) + OFFLINE_MS
    return signed(folder.open_root(config), body, folder.read_genesis(config.genesis).hash, nonce, expires_ms)


def send_by_root(client: Client, config: NodeConfig, body: Body, root: SigningKey | None = None) -> int:
    """Have ``body`` done, signed by the root key of the folder (``root``, where it is open already): the height of its block. Raises as
    ``signing.send``, BadInput ``root-key-not-here``.
    """
    mesh = folder.read_genesis(config.genesis).hash
    height = send(client, root or folder.open_root(config), ROOT, body, SENT_S, mesh=mesh).get("height")
    return height if isinstance(height, int) else 0


def target_of(config: NodeConfig, node: str | None, api_key: str | None) -> Target:
    """The node that is asked: the one that is named, else that of the folder itself; raises as ``find``."""
    if node is None and "MESH_NODE" not in os.environ:
        return own_node(config, api_key)
    return find(node, api_key, None, None)


def own_node(config: NodeConfig, api_key: str | None = None) -> Target:
    """The node of the folder; raises as ``find``, and BadInput ``no-node-named`` if its API key is not there."""
    return find(f"http://{config.api}", api_key or _api_key(config.dir), None, None)


def _api_key(directory: Path) -> str:
    file = directory / folder.API_KEY_FILE
    if not file.exists():
        raise BadInput("no-node-named", f"{directory} has no API key of its node", hint="name a node with --node and --api-key")
    return folder.read_file(file).decode("ascii", "replace").strip()


def _known(client: Client, key: str) -> dict[str, object] | None:
    try:
        return client.get("v1", "ledger", "keys", key)
    except MeshError as error:
        if error.name != "no-such-ledger-key":
            raise
        return None
