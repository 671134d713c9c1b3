"""A state that is on its way to this node: written piece by piece beside the one in place, which it then takes the place of.

Each chunk is on disk before it is answered, and with it how far the transfer is, so that it goes on after a restart. What lies under the
new state's prefix means nothing until one small write says that it is this node's state (``Replica``). A chunk that does not fit the
chain, or that belongs to another state, begins anew; what is left of the old attempt is deleted by the way.
"""

from dataclasses import dataclass, replace

from meshos import cbor
from meshos.consensus.raft.entries import bad_message, is_number
from meshos.consensus.raft.keys import PARTIAL, generation_prefix
from meshos.consensus.raft.limits import MAX_CHUNK_BYTES, MAX_STATE_VALUE_BYTES
from meshos.consensus.raft.messages import Chunk
from meshos.consensus.raft.sending import CHAIN, link
from meshos.effects import Put, Write
from meshos.errors import Broken
from meshos.storage.limits import MAX_KEY_BYTES
from meshos.storage.store import View


@dataclass(frozen=True, slots=True)
class Partial:
    """How far a state has come: it is written as ``generation``, ``number`` chunks of it are there. ``key`` and ``value`` begin an
    item that the next chunk goes on with."""

    generation: int
    index: int
    at_term: int
    number: int = 0
    chain: bytes = CHAIN
    done: bool = False
    key: bytes = b""
    value: bytes = b""


class Receiver:
    """The transfer to this node, if there is one."""

    def __init__(self, view: View) -> None:
        """Where the last one stopped."""
        self.partial = _read_partial(view)

    def expects(self, chunk: Chunk) -> bool:
        """Whether ``chunk`` belongs to the state that is being received."""
        partial = self.partial
        return partial is not None and (partial.index, partial.at_term) == (chunk.index, chunk.at_term)

    def begin(self, chunk: Chunk, generation: int) -> None:
        """Receive the state of ``chunk``, as ``generation``."""
        self.partial = Partial(generation, chunk.index, chunk.at_term)

    def take(self, chunk: Chunk) -> list[Write]:
        """What has to be written for ``chunk``: nothing if it is not the next one.

        Raises Refused ``too-large``, ``bad-encoding`` or ``bad-raft-message`` for one that is not what its leader sent; then all begins
        anew.
        """
        partial = self.partial
        assert partial is not None
        if partial.done or chunk.number != partial.number:
            return []
        if link(partial.chain, chunk.data) != chunk.chain:
            raise bad_message("a chunk that does not fit the chain before it")
        prefix = generation_prefix(partial.generation)
        writes: list[Write] = []
        key, held = partial.key, partial.value
        for name, piece, more in _items(chunk.data):
            if held and name != key:
                raise bad_message("a chunk that does not go on with the value before it")
            key, held = name, held + piece
            if len(held) > MAX_STATE_VALUE_BYTES:
                raise bad_message("a value")
            if not more:
                writes.append(Put(prefix + name, held))
                key, held = b"", b""
        self.partial = replace(partial, number=partial.number + 1, chain=chunk.chain, done=chunk.done and not held, key=key, value=held)
        return [*writes, _write_partial(self.partial)]


def _items(data: bytes) -> list[tuple[bytes, bytes, bool]]:
    value = cbor.decode(data, max_bytes=MAX_CHUNK_BYTES, max_depth=2)
    if type(value) is not list:
        raise bad_message("a chunk")
    items = []
    for item in value:
        if type(item) is not list or len(item) != 3:
            raise bad_message("a chunk")
        name, piece, more = item
        if type(name) is not bytes or len(name) > MAX_KEY_BYTES or type(piece) is not bytes or type(more) is not bool:
            raise bad_message("a chunk")
        items.append((name, piece, more))
    return items


def _write_partial(partial: Partial) -> Put:
    head = [partial.generation, partial.index, partial.at_term, partial.number, partial.chain, partial.done]
    return Put(PARTIAL, cbor.encode([*head, partial.key, partial.value]))


def _read_partial(view: View) -> Partial | None:
    raw = view.get(PARTIAL)
    if raw is None:
        return None
    value = cbor.decode(raw, max_bytes=2 * MAX_STATE_VALUE_BYTES, max_depth=1)
    if type(value) is list and len(value) == 8 and all(is_number(number) for number in value[:4]):
        return Partial(*value)  # type: ignore[arg-type]
    raise Broken("raft-log-broken", "what is known of a state that was being received cannot be read")
