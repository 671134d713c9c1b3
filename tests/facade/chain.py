"""A ledger that all desks of a test share, and the way to it, without nodes."""

from typing import Any, cast

from meshos.consensus.ledger.body import Body
from meshos.ids import NodeId
from meshos.node.facade.deciding import DecisionDesk
from meshos.node.facade.ledger import LedgerDesk
from meshos.node.facade.moving import MotionDesk
from meshos.protocols.ledger.slots import Concluded
from tests.ledger.books import Books


class Chain:
    """A chain that all desks of a test share: the ledger of ``books`` as a node sees it, and the way to it."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.sent: dict[str, Concluded] = {}
        self.get, self.scan = books.state.get, books.state.scan

    @property
    def height(self) -> int:
        return self.books.height

    @property
    def time_ms(self) -> int:
        return self.books.time_ms

    def desk(self, name: str) -> DecisionDesk:
        """The decisions as this node shows them."""
        return DecisionDesk(NodeId(name), cast(Any, self), self.way(name), self.books.genesis.hash)

    def moving(self, name: str) -> MotionDesk:
        """The motions as this node shows them."""
        return MotionDesk(NodeId(name), cast(Any, self), self.way(name), self.books.genesis.hash)

    def way(self, name: str) -> LedgerDesk:
        """How this node's transactions come to the ledger."""
        chain = self

        class Way:
            async def knows(self, key: str) -> bool:
                return f"{name} {key}" in chain.sent

            async def send(self, body: Body, key: str, timeout_s: float) -> Concluded:
                if not await self.knows(key):
                    done = Concluded(b"", chain.books.do(name, body), "committed", "", chain.books.height)
                    chain.sent[f"{name} {key}"] = done
                return chain.sent[f"{name} {key}"]

            def name_of(self, node: NodeId) -> str:
                return node

        return cast(LedgerDesk, Way())
