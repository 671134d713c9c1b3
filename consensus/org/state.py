"""What a command does to an organisation's state: ``apply``, a pure function of the state, the command and its time.

It gives the result and the writes; nothing is changed if it raises. Run over the same commands at the same times, every copy of
the state is the same, byte for byte: that is what Raft will rely on.

The rules stand in ``tasks.py``, ``agents.py`` and ``leading.py``; each writes into the one ``Change`` of its command.
"""

from meshos.consensus.org import agents, leading, tasks
from meshos.consensus.org.change import Change, check
from meshos.consensus.org.commands import (
    Agent,
    Begun,
    CallOff,
    Command,
    DeployAgent,
    Ended,
    NotBegun,
    PlaceAgent,
    RecordIntent,
    RecordLead,
    RecordOutcome,
    RecordReceipts,
    RemoveNode,
    Running,
    SetConfig,
    WithdrawAgent,
)
from meshos.consensus.org.entries import config_key
from meshos.consensus.org.limits import MAX_CONFIG_BYTES, MAX_CONFIG_ENTRIES, MAX_NAME_CHARS
from meshos.effects import Write
from meshos.errors import busy
from meshos.storage.store import View

Result = Agent | Begun | Running | Ended | NotBegun | int | None


def apply(view: View, command: Command, at_ms: int) -> tuple[Result, tuple[Write, ...]]:
    """What ``command`` gives at ``at_ms``, and what is to be written; raises MeshError and then changes nothing."""
    change = Change(view, at_ms)
    result: Result
    if isinstance(command, RecordIntent):
        result = tasks.record_intent(change, command)
    elif isinstance(command, RecordOutcome):
        result = tasks.record_outcome(change, command)
    elif isinstance(command, RecordReceipts):
        result = tasks.record_receipts(change, command)
    elif isinstance(command, DeployAgent):
        result = agents.deploy(change, command)
    elif isinstance(command, WithdrawAgent):
        result = agents.withdraw(change, command)
    elif isinstance(command, PlaceAgent):
        agents.place(change, command)
        result = None
    elif isinstance(command, CallOff):
        result = tasks.call_off(change, command)
    elif isinstance(command, RecordLead):
        leading.record_lead(change, command)
        result = None
    elif isinstance(command, RemoveNode):
        result = leading.remove_node(change, command)
    else:
        _set_config(change, command)
        result = None
    return result, change.done()


def _set_config(change: Change, command: SetConfig) -> None:
    check(0 < len(command.name) <= MAX_NAME_CHARS, "its name is too long")
    key = config_key(command.name)
    if command.value is None:
        change.delete(key)
    else:
        check(len(command.value) <= MAX_CONFIG_BYTES, "its value is too large")
        if change.view.get(key) is None and sum(1 for _ in change.view.scan(b"config/")) >= MAX_CONFIG_ENTRIES:
            raise busy("the configuration")
        change.put(key, command.value)
    change.audit(command.by, "config", command.name)
