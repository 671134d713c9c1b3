"""What every kind of transaction is: a body that can be read, written, and done."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from meshos.consensus.ledger.draft import Draft, Sender
from meshos.crypto.signing import Claim


class Body(Protocol):
    """What a transaction says, and does. Its class has a ``read`` that takes the CBOR value back."""

    __slots__ = ()

    KIND: ClassVar[str]

    def fields(self) -> list[object]:
        """Its CBOR value."""
        ...

    def claims(self, genesis_hash: bytes) -> Sequence[Claim]:
        """The signatures of others that it holds: what must be verified, beside the sender's, before it counts."""
        return ()

    def apply(self, draft: Draft, by: Sender) -> None:
        """Do it, at the draft's time and height; raises Refused with the reason, and what was written then is taken back."""
        ...
