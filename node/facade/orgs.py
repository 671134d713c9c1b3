"""What the API says of an organisation: its keys, its seat, and what a transaction about them must name."""

from meshos.consensus.ledger import queries, tree
from meshos.consensus.ledger.keys import KEYS
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid
from meshos.node.api import shapes
from meshos.node.facade.views import NameOf
from meshos.protocols.ledger.port import ReplicaLedger


def org_view(window: ReplicaLedger, voting: ValidatorSet, did: OrgDid, name_of: NameOf) -> shapes.Json:
    """``voting``: who decides the next block; raises Refused ``no-such-org`` or ``state-incomplete``.

    ``seat`` is what the ledger says, ``votes`` the node that votes until the next checkpoint: after a move they differ for a while.
    """
    if window.restoring:
        raise tree.incomplete()
    org = queries.org(window, did)
    if org is None:
        raise no_such_org(did)
    seat = next((entry for entry in queries.seats(window).entries if entry.org == did), None)
    votes = next((entry.node for entry in voting.entries if entry.org == did), None)
    people = [(key, KEYS.read(window, key)) for key in org.humans]
    return {
        "did": did,
        "root": org.root,
        "nodes": [{"node_id": node, "name": name_of(NodeId(node)) or None} for node in org.nodes],
        "people": [{"key": key, "name": None if found is None else found.label} for key, found in people],
        "seat": None if seat is None else {"node_id": seat.node, "validator": seat.key},
        "votes": votes,
        "moves": org.moves,
        "suspended": org.suspended,
        "tabs": org.tabs,
        "joined_ms": org.joined_ms or None,
        "left_ms": org.left_ms or None,
        "height": window.height,
        "time_ms": window.time_ms,
    }


def no_such_org(did: OrgDid) -> Refused:
    """What is said of an organisation that the ledger does not have."""
    return Refused("no-such-org", f"the ledger has no organisation {did}", hint="`mesh members --json` has their DIDs")
