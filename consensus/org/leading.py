"""Who leads an organisation, and who belongs to it no more: the fence that every word of a leader passes."""

from meshos.consensus.org.change import Change, check
from meshos.consensus.org.commands import RecordLead, RemoveNode
from meshos.consensus.org.entries import LEAD, REMOVED, lead_term, removed_key, write_lead
from meshos.consensus.org.limits import MAX_NAME_CHARS, MAX_REMOVED
from meshos.errors import Refused, busy


def must_lead(change: Change, term: int) -> None:
    """The fence: raise ``stale-term`` for what comes in the name of a lead that is over."""
    newest = lead_term(change.view)
    if term < newest:
        raise Refused("stale-term", f"this is the word of the leader of term {term}, and that of term {newest} has taken over since")


def record_lead(change: Change, command: RecordLead) -> None:
    """See ``commands.RecordLead``."""
    check(len(command.node) <= MAX_NAME_CHARS and command.term >= 0, "its node or term is none")
    must_lead(change, command.term)
    if command.term > lead_term(change.view):
        change.put(LEAD, write_lead(command.node, command.term))
        change.audit(command.node, "lead", str(command.term))


def remove_node(change: Change, command: RemoveNode) -> bool:
    """See ``commands.RemoveNode``."""
    check(0 < len(command.node) <= MAX_NAME_CHARS, "its node is none")
    key = removed_key(command.node)
    if change.view.get(key) is not None:
        return False
    if sum(1 for _ in change.view.scan(REMOVED)) >= MAX_REMOVED:
        raise busy("the table of nodes that were removed")
    change.put(key, b"")
    change.audit(command.by, "remove-node", command.node)
    return True
