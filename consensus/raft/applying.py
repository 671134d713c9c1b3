"""The replicated state of one node: the machine's keys, which proposals are in it, and up to which entry it goes.

It lies under one prefix of the Store (``keys.py``). All that a batch of entries changes, how far it goes included, is one ``WriteBack``:
a crash may lose it, and then the entries are applied again.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from meshos import cbor
from meshos.consensus.raft.batch import Proposed, decode_batch
from meshos.consensus.raft.draft import Draft, Within
from meshos.consensus.raft.entries import CONFIGURATION, Entry, is_number
from meshos.consensus.raft.keys import GENERATION_BYTES, META, STATE, USER, generation_prefix
from meshos.consensus.raft.log import write_base
from meshos.consensus.raft.membership import Configuration, decode_configuration, encode_configuration
from meshos.consensus.raft.sessions import Sessions
from meshos.consensus.raft.state_machine import StateMachine
from meshos.effects import Delete, Err, Ok, Outcome, Put, Write
from meshos.errors import Broken, MeshError
from meshos.ids import NodeId
from meshos.storage.disk import DiskFailed
from meshos.storage.store import View

FOUNDED = 1
"""A group begins with a state at this index and term, as if it had a log that was cut there. Who joins has nothing, and so is always
sent a state, in which it finds who belongs to the group."""

Settled: TypeAlias = Callable[[NodeId, int, int, Outcome[object]], None]
"""Hears how each proposal ended that this state took: its node, session, number, and what the machine said."""


class State:
    """The state in ``view``, and the machine that it is a state of."""

    def __init__(self, view: View, machine: StateMachine) -> None:
        """Raises Broken ``raft-log-broken``."""
        self._view = view
        self._machine = machine
        self.generation = read_generation(view)
        self.index = self.term = self.at_ms = 0
        self.configuration = Configuration()
        self.load(self.generation)

    def load(self, generation: int) -> None:
        """This node's state is ``generation`` from now on."""
        self.generation = generation
        self._prefix = generation_prefix(generation)
        raw = self._view.get(self._prefix + META)
        if raw is not None:
            self.index, self.term, self.at_ms, self.configuration = read_meta(raw)
        self._sessions = Sessions(Within(self._view, self._prefix))

    def view(self) -> View:
        """What the machine's questions read."""
        return Within(self._view, self._prefix + USER)

    def applied(self, node: NodeId, session: int, number: int) -> bool:
        """See ``Sessions.applied``."""
        return self._sessions.applied(node, session, number)

    def apply(self, entries: Sequence[Entry], settled: Settled) -> list[Write]:
        """Apply ``entries``, which follow what was applied before; what has to be written for that."""
        draft = Draft(self._view, self._prefix + USER)
        for entry in entries:
            assert entry.index == self.index + 1
            if entry.kind == CONFIGURATION:
                self.configuration = decode_configuration(entry.data)
            elif entry.data:
                at_ms, batch = decode_batch(entry.data)
                self.at_ms = max(self.at_ms, at_ms)
                for proposed in batch:
                    self._apply(draft, entry.index, proposed, settled)
            self.index, self.term = entry.index, entry.term
        meta = Put(self._prefix + META, write_meta(self.index, self.term, self.at_ms, self.configuration))
        sessions = [_under(self._prefix, write) for write in self._sessions.take_writes()]
        return [*draft.writes(), *sessions, meta]

    def _apply(self, draft: Draft, index: int, proposed: Proposed, settled: Settled) -> None:
        sessions, machine = self._sessions, self._machine
        node, session = proposed.node, proposed.session
        sessions.begin(node, session, proposed.floor, index)
        for number, command in proposed.commands:
            if sessions.applied(node, session, number):
                continue
            sessions.apply(node, number)
            outcome: Outcome[object]
            try:
                result, writes = machine.apply(draft, machine.decode(command), self.at_ms)
            except DiskFailed:
                raise  # of this node alone: taken for an answer, it would part its state from the others'
            except MeshError as error:
                outcome = Err(error)
            else:
                draft.write(writes)
                outcome = Ok(result)
            settled(node, session, number, outcome)


def _under(prefix: bytes, write: Write) -> Write:
    return Put(prefix + write.key, write.value) if type(write) is Put else Delete(prefix + write.key)


def founding(voters: Sequence[NodeId]) -> tuple[Write, ...]:
    """What is written into the empty Store of each first voter, so that they are a group."""
    configuration = Configuration(frozenset(voters))
    meta = write_meta(FOUNDED, FOUNDED, 0, configuration)
    return (Put(generation_prefix(0) + META, meta), write_generation(0), write_base(FOUNDED, FOUNDED))


def write_meta(index: int, term: int, at_ms: int, configuration: Configuration) -> bytes:
    """What a state is."""
    return cbor.encode([index, term, at_ms, encode_configuration(configuration)])


def read_meta(raw: bytes) -> tuple[int, int, int, Configuration]:
    """Index, term, time and configuration of a state; raises Broken ``raft-log-broken``."""
    value = cbor.decode(raw, max_bytes=64 << 10, max_depth=1)
    if type(value) is list and len(value) == 4 and all(is_number(number) for number in value[:3]) and type(value[3]) is bytes:
        index, term, at_ms, configuration = value
        return index, term, at_ms, decode_configuration(configuration)  # type: ignore[return-value,arg-type]
    raise Broken("raft-log-broken", "what this node's state is cannot be read")


def configuration_on(view: View) -> Configuration | None:
    """The configuration of the state in ``view``; None where none was ever applied."""
    raw = view.get(generation_prefix(read_generation(view)) + META)
    return None if raw is None else read_meta(raw)[3]


def write_generation(number: int) -> Put:
    """Which state is this node's."""
    return Put(STATE, number.to_bytes(GENERATION_BYTES, "big"))


def read_generation(view: View) -> int:
    """Which state is this node's; the first where there is none yet."""
    return int.from_bytes(view.get(STATE) or b"", "big")
