"""What one command changes of an organisation's state, as it is applied: ``state.py`` makes it, and each rule writes into it."""

from dataclasses import replace

from meshos.consensus.org.commands import AuditEntry
from meshos.consensus.org.entries import META, Meta, audit_key, caller_key, read_caller, read_meta, write_audit, write_caller, write_meta
from meshos.consensus.org.limits import MAX_AUDIT
from meshos.effects import Delete, Put, Write
from meshos.errors import BadInput
from meshos.ids import OrgDid
from meshos.storage.overlay import Overlay
from meshos.storage.store import View


class Change:
    """The writes of one command, visible to its own later reads; the counters are written once, at the end."""

    def __init__(self, view: View, at_ms: int) -> None:
        meta = read_meta(view)
        self.at_ms = max(at_ms, meta.at_ms)
        self.tasks, self.open, self.kept, self.audited = meta.tasks, meta.open, meta.kept, meta.audit
        self._view = Overlay(view)
        self._writes: list[Write] = []
        self._shown = 0  # of them, those that the view shows

    @property
    def view(self) -> View:
        """The state with all that was written so far."""
        if self._shown < len(self._writes):
            self._view.lay(self._writes[self._shown :])
            self._shown = len(self._writes)
        return self._view

    def put(self, key: bytes, value: bytes) -> None:
        """``key`` has ``value`` from now on."""
        self._writes.append(Put(key, value))

    def delete(self, key: bytes) -> None:
        """``key`` is gone from now on."""
        self._writes.append(Delete(key))

    def audit(self, by: str, what: str, subject: str) -> None:
        """Note who did what to what; the oldest note makes room."""
        number = self.audited
        self.put(audit_key(number), write_audit(AuditEntry(number, self.at_ms, by, what, subject)))
        if number >= MAX_AUDIT:
            self.delete(audit_key(number - MAX_AUDIT))
        self.audited = number + 1

    def count(self, caller: OrgDid, *, tasks: int = 0, opened: int = 0, owed_micro: int = 0) -> None:
        """So many tasks more that ``caller`` has here, of them open, and what it owes more."""
        old = read_caller(self.view, caller)
        now = replace(old, tasks=old.tasks + tasks, open=old.open + opened, owed_micro=old.owed_micro + owed_micro)
        self.put(caller_key(caller), write_caller(now))
        self.tasks += tasks
        self.open += opened

    def done(self) -> tuple[Write, ...]:
        """All writes; none if nothing was changed (a repeated call costs no disk)."""
        if not self._writes:
            return ()
        return (*self._writes, Put(META, write_meta(Meta(self.at_ms, self.tasks, self.open, self.kept, self.audited))))


def check(holds: bool, otherwise: str) -> None:
    """Raise BadInput ``bad-command`` where it does not hold."""
    if not holds:
        raise BadInput("bad-command", f"the command is outside its bounds: {otherwise}")
