"""Founding: the first node of an organisation begins its Raft group, once.

The organisation's validator in genesis is its first node (an organisation without one: the node that starts). Whoever founds a group
leads it alone until others are added, so this must not happen a second time, on a node that lost its disk: the others would go on without
it, and there would be two groups. The file ``founded`` in the node's folder remembers it beside the disk.
"""

from meshos.consensus.raft.applying import founding
from meshos.errors import Refused
from meshos.node.opening import Folder
from meshos.storage.files import write_whole
from meshos.storage.store import Store

FOUNDED = "founded"


def found(opened: Folder, store: Store) -> None:
    """Begin the group in the empty ``store`` of a first node; nothing for any other node, and for a group that was begun.

    Raises Refused ``state-lost`` where the group was begun before, and the store is empty.
    """
    entry = opened.genesis.org(opened.me.org)
    first = entry is not None and (entry.validator is None or entry.validator.node == opened.me.node)
    mark = opened.config.dir / FOUNDED
    if next(store.scan(b""), None) is not None:
        if first and not mark.exists():  # the node ended between the two writes below
            write_whole(mark, b"", 0o600)
        return
    if not first:
        return
    if mark.exists():
        raise Refused(
            "state-lost",
            f"this node has founded its organisation's group before, and its state in {opened.config.data} is gone",
            hint="bring it back with `mesh restore`, or replace the node by a new one from `mesh org invite --node`",
        )
    store.write(founding([opened.me.node]))
    write_whole(mark, b"", 0o600)
