"""Which connection a datagram is for: connection ids as they are given out, and forgotten as they are retired."""

from collections import defaultdict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

ID_BYTES: Final = 8
"""Of the connection ids that we choose, so that a short header can be read."""

_Of = TypeVar("_Of", bound=Hashable)


class Identifiers(Generic[_Of]):
    """Connections by their ids. aioquic gives out a new id for each that a peer retires, so an id is kept until then and no longer."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, _Of] = {}
        self._of: defaultdict[_Of, set[bytes]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, identifier: bytes) -> _Of | None:
        """Whose id it is."""
        return self._by_id.get(identifier)

    def issued(self, identifier: bytes, to: _Of) -> None:
        """Datagrams with this id are for ``to``."""
        self._by_id[identifier] = to
        self._of[to].add(identifier)

    def retired(self, identifier: bytes) -> None:
        """No longer."""
        if (of := self._by_id.pop(identifier, None)) is not None:
            self._of[of].discard(identifier)

    def forget(self, of: _Of) -> None:
        """None of its ids leads anywhere."""
        for identifier in self._of.pop(of, ()):
            self._by_id.pop(identifier, None)


def destination(data: bytes) -> bytes:
    """The destination's connection id: where a short header has it, or where a long one says."""
    if data and data[0] & 0x80:
        return data[6 : 6 + data[5]] if len(data) > 6 and data[5] <= 20 else b""
    return data[1 : 1 + ID_BYTES]
