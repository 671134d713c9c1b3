"""What ``mesh org seat`` does: the organisation's vote on the ledger goes to another of its nodes, or is given up, by its root key.

The ledger counts the moves of a seat, and each names its number, so that a statement of nodes is used once; the root key's is read from the
ledger. What is asked for and is so already is not sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meshos.consensus.ledger.seats import Seat
from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL
from meshos.crypto import certificates
from meshos.errors import BadInput
from meshos.genesis_content import NODE_ID
from meshos.ids import NodeId
from meshos.node import folder
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import number, rows_of, table_of
from meshos.node.cli.registering import send_by_root
from meshos.node.cli.revoking import MIN_PREFIX
from meshos.node.config import NodeConfig
from meshos.node.meant import only


def in_force(height: int) -> int:
    """The checkpoint with which seats are in force that a block at ``height`` has set: of one at a checkpoint itself the next."""
    return (height // CHECKPOINT_INTERVAL + 1) * CHECKPOINT_INTERVAL


@dataclass(frozen=True, slots=True)
class Moved:
    """``node`` has the seat of ``org`` now; None: nobody has. ``changed`` is False where it was so before."""

    org: str
    node: NodeId | None
    before: NodeId | None
    changed: bool
    height: int = 0
    suspended: bool = False

    @property
    def from_height(self) -> int:
        """The checkpoint from which on it votes."""
        return in_force(self.height)


def move(config: NodeConfig, name: str | None, target: Target) -> Moved:
    """The seat goes to the node that ``name`` means; None: it is given up.

    Raises BadInput ``root-key-not-here``, ``no-such-node`` or ``ambiguous-id``, and as ``signing.send``.
    """
    with Client(target) as client:
        known = client.get("v1", "ledger", "orgs", config.org)
        node = None if name is None else _meant(name, _registered(known), config.org, "`mesh ledger org`")
        had = table_of(known.get("seat")).get("node_id")
        before, suspended = None if had is None else NodeId(str(had)), bool(known.get("suspended"))
        if node == before:
            return Moved(config.org, node, before, changed=False, suspended=suspended)
        moves = int(number(known.get("moves")) or 0)
        height = send_by_root(client, config, Seat(config.org, node, moves))
    return Moved(config.org, node, before, changed=True, height=height, suspended=suspended)


def statement(config: NodeConfig, name: str | None, moves: int) -> Seat:
    """What is to be signed where no node can be asked: ``name`` is a whole id, or the beginning of one whose certificate is known here.

    Raises BadInput ``no-such-node`` or ``ambiguous-id``.
    """
    if name is None or NODE_ID.fullmatch(name):
        return Seat(config.org, name, moves)
    issued = [certificates.describe(der).peer for der in folder.issued(config)]
    known = {peer.node: "" for peer in issued if peer.org == config.org}
    return Seat(config.org, _meant(name, known, config.org, "`mesh ledger org`, and write the whole id"), moves)


def _registered(known: Mapping[str, object]) -> dict[NodeId, str]:
    return {NodeId(str(row.get("node_id"))): str(row.get("name") or "") for row in rows_of(known.get("nodes"))}


def _meant(text: str, names: Mapping[NodeId, str], org: str, look: str) -> NodeId:
    fits = [node for node, name in names.items() if (text and text in (node, name)) or (len(text) >= MIN_PREFIX and node.startswith(text))]
    return NodeId(only(text, fits, BadInput("no-such-node", f"no registered node of {org} is called {text[:80]!r}", hint=f"see {look}")))
