"""What lies on a node's disk once it has ended, for ``mesh bench soak``: the ledger's blocks and state, read and counted without it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from meshos.consensus.ledger import conservation, tree
from meshos.consensus.ledger.accounts import ACCOUNTS, Transfer
from meshos.consensus.ledger.keys import KEYS
from meshos.consensus.ledger.kinds import Order, read
from meshos.consensus.ledger.results import COMMITTED, decode_result
from meshos.consensus.ledger.tabs import TABS, OpenTab, RedeemTab, tab_id
from meshos.consensus.pbft.block import decode_certified
from meshos.consensus.pbft.records import HEAD, SETS, block_key, decode_head, decode_place, request_key
from meshos.errors import Failed
from meshos.protocols.ledger.port import LEDGER
from meshos.storage.level import LevelStore
from meshos.storage.store import View

Moved = tuple[str, str, int]
"""A transfer: from an organisation, to another, so many millionths."""


@dataclass(slots=True)
class Tabbed:
    """A tab: whose key pays whom, and the amounts of the vouchers that were redeemed on it, in the order of their blocks."""

    caller: str
    org: str
    provider: str
    redeemed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Books:
    """One replica. ``blocks`` are their names by height, from ``base`` on: a state that was taken as a whole has none before it.

    ``moved`` and ``committed`` count the transfers and the ids of what was committed in them; ``wealth`` is what each organisation has in
    its account and set aside on its tabs, as the state says, and ``faults`` what does not hold in it.
    """

    name: str
    height: int
    root: str
    base: int = 1
    blocks: dict[int, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    moved: Counter[Moved] = field(default_factory=Counter)
    committed: Counter[str] = field(default_factory=Counter)
    tabs: dict[bytes, Tabbed] = field(default_factory=dict)
    wealth: Counter[str] = field(default_factory=Counter)


def read_books(name: str, data: Path) -> Books:
    """The books of the node whose database lies in ``data``; raises what a damaged store does."""
    level = LevelStore(data)
    try:
        return books_of(name, level.prefixed(LEDGER))
    finally:
        level.close()


def books_of(name: str, view: View) -> Books:
    """The books in the store of a ledger's replica; raises Failed ``bench-command-failed`` where there is none."""
    head, sets = view.get(HEAD), view.get(SETS)
    if head is None or sets is None:
        raise Failed("bench-command-failed", f"{name} has no ledger on its disk")
    at, state = decode_head(head, sets), tree.State(view)
    books = Books(name, at.height, at.root.hex(), at.base, faults=conservation.faults(state))
    if tree.root(view) != at.root:
        books.faults.append("the state's root is not the one that its newest block led to")
    for height in range(at.base, at.height + 1):
        _read_block(books, view, height)
    for key, value in state.scan(ACCOUNTS.prefix):
        books.wealth[key.removeprefix(ACCOUNTS.prefix).decode()] += ACCOUNTS.decode(value).balance
    for _, value in state.scan(TABS.prefix):
        tab = TABS.decode(value)
        books.wealth[tab.org] += tab.reserved - tab.redeemed
    return books


def _read_block(books: Books, view: View, height: int) -> None:
    data = view.get(block_key(height))
    if data is None:
        books.faults.append(f"block {height} is missing")
        return
    block = decode_certified(data).block
    before = books.blocks.get(height - 1)
    if before is not None and block.header.parent.hex() != before:
        books.faults.append(f"block {height} does not follow block {height - 1}")
    books.blocks[height] = block.hash.hex()
    for request, name in zip(block.requests, block.request_hashes, strict=True):
        place = view.get(request_key(name))
        order = read(request)
        if place is None:
            books.faults.append(f"nothing is recorded of a request in block {height}")
        elif isinstance(order, Order) and decode_result(decode_place(place)[2]).outcome == COMMITTED:
            _read_order(books, view, order)


def _read_order(books: Books, view: View, order: Order) -> None:
    body, tx = order.body, order.transaction
    books.committed[tx.id.hex()] += 1
    key = KEYS.read(tree.State(view), tx.key)
    org = "" if key is None else key.org
    match body:
        case Transfer():
            books.moved[org, body.to, body.micro] += 1
        case OpenTab():
            books.tabs[tab_id(tx.id)] = Tabbed(tx.key, org, body.provider)
        case RedeemTab() if body.tab in books.tabs:  # else it was opened in a block that is not kept here
            books.tabs[body.tab].redeemed.append(body.micro)
        case _:
            pass  # the load makes no others that move MESH
