"""Beginning: a node founds its organisation's Raft group or joins it, once, and is never mistaken for one that lost its disk.

The organisation's validator in genesis is its first node (an organisation without one: the node that starts); of one that did not found
the mesh it is the node that was made with the organisation. It founds the group, and leads it alone until others are added.
Every other node begins with nothing, and is taken up by the leader.

Neither may happen twice. A founder that lost its disk would begin a second group, and the others would go on without it. Any other node
that lost its disk has forgotten its vote and what it acknowledged, and under its old name could help to elect a leader that lacks it
(Raft, section 5.2: votes are persistent). So each begins with a first write, and the file ``begun`` in its folder remembers it beside the
disk.
"""

from meshos.consensus.ledger.people import CONSTITUTION
from meshos.consensus.ledger.tree import State
from meshos.consensus.raft.applying import founding, write_generation
from meshos.errors import Refused
from meshos.node import folder
from meshos.node.opening import Folder
from meshos.storage.files import write_whole
from meshos.storage.store import Store, View

BEGUN = "begun"


def begin(opened: Folder, store: Store) -> None:
    """Found or join in the empty ``store`` of a node that is new; nothing for one that has begun.

    Raises Refused ``state-lost`` where it began before, and the store is empty.
    """
    mark = opened.config.dir / BEGUN
    if next(store.scan(b""), None) is None:
        if mark.exists():
            raise Refused(
                "state-lost",
                f"this node had its part of its organisation's state before, and what it had in {opened.config.data} is gone",
                hint="bring it back with `mesh restore`, or remove it (`mesh org remove`) and let a new node take its place",
            )
        store.write(founding([opened.me.node]) if _is_first(opened) else (write_generation(0),))
    if not mark.exists():  # also where the node ended between the two writes
        write_whole(mark, b"", 0o600)


def check_mesh(opened: Folder, ledger: View) -> None:
    """Raise Refused ``wrong-genesis`` where the ledger on this disk is that of another mesh: votes would be signed for this one on top of
    that one's blocks. A state that is still being fetched says nothing.
    """
    found = CONSTITUTION.read(State(ledger), b"")
    if found is not None and found.genesis_hash != opened.genesis.hash:
        what = f"the ledger in {opened.config.data} is of the mesh {found.genesis_hash.hex()[:16]}, {opened.config.genesis} of another"
        raise Refused("wrong-genesis", what, hint="give the node the genesis that it began with, or make a new node with `mesh init`")


def _is_first(opened: Folder) -> bool:
    entry = opened.genesis.org(opened.me.org) or folder.own_entry(opened.config)
    return entry is not None and (entry.validator is None or entry.validator.node == opened.me.node)
