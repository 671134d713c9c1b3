"""What happens when ledger time passes: deadlines, and what is forgotten.

Two lists in the order of time, each behind an entry that says when to look at it:

    due/<time><what>/<id>      something happens: a tab closes, a motion or a decision expires. Idle blocks come for these
    prune/<time><what>/<id>    something that has ended is forgotten, with whatever block comes

``agenda`` holds the time of the first entry of each list, or an earlier one (0: the list is empty), so that a block in which nothing is
due reads one entry.
"""

from meshos.consensus.ledger.draft import Draft, Table
from meshos.consensus.ledger.packing import pack, unpack
from meshos.storage.store import View
from meshos.values import frozen


@frozen
class Agenda:
    """The earliest times, or 0."""

    due_ms: int = 0
    prune_ms: int = 0


@frozen
class Item:
    """``what`` (one word) is to happen to ``id`` at ``at_ms``."""

    at_ms: int
    what: str
    id: bytes


AGENDA = Table(b"agenda", lambda agenda: pack(agenda.due_ms, agenda.prune_ms), lambda value: Agenda(*unpack(value)))
DUE = Table(b"due/", lambda _: b"\1", lambda _: True)
PRUNE = Table(b"prune/", lambda _: b"\1", lambda _: True)


def schedule(draft: Draft, table: Table[bool], item: Item) -> None:
    """Put ``item`` on a list. Its time is after the block's."""
    draft.write(table, _name(item), True)
    agenda = draft.read(AGENDA, b"") or Agenda()
    earliest = agenda.due_ms if table is DUE else agenda.prune_ms
    if not earliest or item.at_ms < earliest:
        _set(draft, table, item.at_ms)


def cancel(draft: Draft, table: Table[bool], item: Item) -> None:
    """Take ``item`` off its list, if it is there."""
    if draft.read(table, _name(item)) is not None:
        draft.write(table, _name(item), None)


def take_due(draft: Draft, table: Table[bool], limit: int) -> list[Item]:
    """Take up to ``limit`` items whose time has come off a list; before anything else of the block is done, since what the block itself
    schedules is not looked at here."""
    agenda = draft.read(AGENDA, b"") or Agenda()
    earliest = agenda.due_ms if table is DUE else agenda.prune_ms
    if not earliest or earliest > draft.time_ms:
        return []
    items: list[Item] = []
    following = 0
    for key, _ in draft.view.scan(table.prefix):
        item = _item(key.removeprefix(table.prefix))
        if item.at_ms > draft.time_ms or len(items) == limit:
            following = item.at_ms
            break
        items.append(item)
    for item in items:
        draft.write(table, _name(item), None)
    _set(draft, table, following)
    return items


def pending_deadline(view: View) -> int | None:
    """The ledger time at which something happens by itself, at the earliest: what idle blocks are made for."""
    agenda = AGENDA.read(view, b"")
    return agenda.due_ms if agenda is not None and agenda.due_ms else None


def _set(draft: Draft, table: Table[bool], at_ms: int) -> None:
    agenda = draft.read(AGENDA, b"") or Agenda()
    draft.write(AGENDA, b"", Agenda(at_ms, agenda.prune_ms) if table is DUE else Agenda(agenda.due_ms, at_ms))


def _name(item: Item) -> bytes:
    return item.at_ms.to_bytes(8, "big") + item.what.encode() + b"/" + item.id


def _item(name: bytes) -> Item:
    what, _, id_ = name[8:].partition(b"/")
    return Item(int.from_bytes(name[:8], "big"), what.decode(), id_)
