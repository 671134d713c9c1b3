"""How entries of the state are written: canonical CBOR lists. What is read was written here, so it is not checked again."""

from typing import Any

import cbor2

from meshos import cbor
from meshos.errors import Broken


def pack(*fields: object) -> bytes:
    """The value of an entry."""
    return cbor.encode(fields)


def unpack(value: bytes) -> list[Any]:
    """The fields of an entry. Not ``cbor.decode``, which encodes again to refuse what a stranger may send, and takes twice as long."""
    try:
        found = cbor2.loads(value)
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise Broken("ledger-broken", "an entry of the ledger's state cannot be read") from error
    if not isinstance(found, list):
        raise Broken("ledger-broken", f"an entry of the ledger's state is of the type {type(found).__name__}")
    return found
