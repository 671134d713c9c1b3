"""The machine "earning": what callers owe this organisation, their vouchers, and how these become money on the ledger.

Theory of operation. What is owed is counted by the organisation's state, with the outcomes (``books.py``). Here is counted what vouchers
cover, so the difference is what callers owe without security; a call that would make it larger than the credit is refused as ``unpaid``
before it runs (``credit.py``). Only the highest voucher of a tab is kept, and it counts once it is on disk.

A voucher is redeemed, with the Merkle root of the receipts that came since the last redemption, when REDEEM_SHARE of what is left on its
tab is used, when its time has come, when there are many receipts, or as soon as the ledger shows that the tab is closing. One redemption
of a tab is under way at a time; it is durable before it is sent, and the same one after a restart. If its end is unknown, the ledger's
state tells: what it says is redeemed is ours. A second redemption of the same voucher is refused by the ledger, so nothing is paid twice.

Without a quorum nothing can be redeemed, and calls go on: a voucher on a tab that the ledger showed is as good as money until the tab
closes.
"""

from collections import deque

from meshos.consensus.ledger.tabs import PAIRS, TABS, Tab, pair
from meshos.effects import Completed, Delete, Err, Ok, Outcome, Persist, Tell, Tick, Write, WriteBack
from meshos.errors import MeshError, Refused, busy
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import OrgDid, Peer
from meshos.protocols.ledger.port import Decided, LedgerView, Noticed
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import COMMITTED
from meshos.protocols.payments.books import Books
from meshos.protocols.payments.commands import EARNING, Accept, Accepted, Admit, Earning, ListEarnings, Release, TakeOver
from meshos.protocols.payments.credit import Account, Waiter
from meshos.protocols.payments.limits import (
    ATTEMPT_MOST_S,
    ATTEMPT_S,
    CREDIT_MICRO,
    CREDIT_WAIT_S,
    KEPT_REDEMPTIONS,
    LEAVES,
    LOOK_S,
    MAX_CALLERS,
    MAX_CREDIT_WAITERS,
    MAX_LEAVES,
    MAX_LEAVES_IN_ALL,
    MAX_TABS_KNOWN,
    REDEEM_DENOMINATOR,
    REDEEM_NUMERATOR,
    REDEEM_S,
    WRITE_OFF_MS,
)
from meshos.protocols.payments.till import (
    Leaves,
    Redemption,
    Till,
    caller_write,
    read_leaves,
    read_paid,
    read_tills,
    redeemed_key,
    redeemed_write,
)
from meshos.protocols.payments.voucher import Voucher
from meshos.protocols.rpc.timers import Timers
from meshos.storage.store import View

_Asker = tuple[str, int]

WAITERS, WRITE_OFF = "waiters", "write-off"


class Earnings:
    """See the module's text. ``credit_micro`` is what one organisation may owe, ``redeem_s`` how long a voucher is kept unredeemed."""

    def __init__(
        self,
        me: Peer,
        ledger: LedgerView,
        books: Books,
        view: View,
        *,
        now: float,
        credit_micro: int = CREDIT_MICRO,
        redeem_s: float = REDEEM_S,
    ) -> None:
        self._me = me
        self._ledger = ledger
        self._books = books
        self._credit = credit_micro
        self._redeem_s = redeem_s
        self._tills = {till.tab: till for till in read_tills(view)}
        self._leaves = read_leaves(view)
        self._accounts: dict[OrgDid, Account] = {}
        self._numbers = deque(int.from_bytes(key[-8:], "big") for key, _ in view.scan(b"redeemed/"))
        self._timers: Timers[tuple[str, OrgDid]] = Timers()
        self._redemptions: Timers[bytes] = Timers()
        self._sent: dict[int, Till] = {}
        self._ops = 0
        self._began_at = now
        self._began = False
        self._look_at = now
        self.lost = 0
        """Covered by vouchers of tabs that closed before they were redeemed."""
        self.written_off = 0
        self._effects: list[object] = []
        for org, paid in read_paid(view).items():
            self._open(now, org, paid)

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._effects = []
        if not self._began:
            self._began = True
            self._resume(now)
        if isinstance(event, Perform):
            assert isinstance(event.operation, Propose)
            self._perform(now, (event.reply_to, event.op), event.operation.command)
        elif isinstance(event, Abandon):
            assert isinstance(event.operation, Propose)
            self._abandon((event.reply_to, event.op), event.operation.command)
        elif isinstance(event, Completed):
            till = self._sent.pop(event.op, None)
            if till is not None and till.op == event.op:
                self._concluded(now, till, event.outcome)
        elif isinstance(event, Decided):
            if now >= self._look_at:
                self._look_at = now + LOOK_S
                for till in list(self._tills.values()):
                    self._look(now, till)
        elif isinstance(event, Tick):
            self._tick(now)
        elif not isinstance(event, Noticed):
            raise TypeError(f"Earnings has no use for {event!r}")
        return self._effects

    def deadline(self) -> float | None:
        """When a voucher is to be redeemed, a call has waited long enough, or old debts are looked at; at once after the start."""
        if not self._began:
            return self._began_at
        return min((at for at in (self._timers.deadline(), self._redemptions.deadline()) if at is not None), default=None)

    def statistics(self) -> dict[str, int]:
        """Tabs, and calls that wait for credit; millionths of a MESH to be redeemed, lost with a closed tab, and written off."""
        return {
            "tabs": len(self._tills),
            "waiting": sum(len(account.waiters) for account in self._accounts.values()),
            "unredeemed_micro": sum(till.unredeemed for till in self._tills.values()),
            "lost_micro": self.lost,
            "written_off_micro": self.written_off,
        }

    # -- being asked -------------------------------------------------------------------------------------------------

    def _perform(self, now: float, asker: _Asker, command: object) -> None:
        try:
            if isinstance(command, Admit):
                self._admit(now, asker, command)
                return
            self._answer(asker, Ok(self._carry_out(now, command)))
        except MeshError as error:
            self._answer(asker, Err(error))

    def _carry_out(self, now: float, command: object) -> object:
        if isinstance(command, Accept):
            return self._accept(now, command)
        if isinstance(command, Release):
            account = self._accounts.get(command.caller)
            if account is not None:
                account.release(command.task)
                self._let_in(now, account)
        elif isinstance(command, TakeOver):
            for account in self._accounts.values():
                account.paid = max(account.paid, self._books.owed_micro(account.org))
            self._effects.append(Persist(tuple(caller_write(account.org, account.paid) for account in self._accounts.values())))
        elif isinstance(command, ListEarnings):
            return tuple(self._earning(account) for account in self._accounts.values())
        else:
            raise Refused("unknown-command", f"earning has no command {type(command).__name__}")
        return None

    def _abandon(self, asker: _Asker, command: object) -> None:
        account = self._accounts.get(command.caller.org) if isinstance(command, Admit) else None
        if account is not None and isinstance(command, Admit):
            account.waiters = deque(waiter for waiter in account.waiters if waiter.asker != asker)
            account.release(command.task)

    def _answer(self, asker: _Asker, outcome: Outcome[object]) -> None:
        self._effects.append(Tell(asker[0], Completed(asker[1], outcome)))

    def _earning(self, account: Account) -> Earning:
        unredeemed = sum(till.unredeemed for till in self._tills.values() if till.org == account.org)
        return Earning(account.org, self._books.owed_micro(account.org), account.unpaid(self._books), unredeemed)

    # -- credit ------------------------------------------------------------------------------------------------------

    def _open(self, now: float, org: OrgDid, paid: int) -> Account:
        account = self._accounts[org] = Account(org, paid, now, max(0, self._books.owed_micro(org) - paid))
        self._timers.set((WRITE_OFF, org), now + WRITE_OFF_MS / 1000)
        return account

    def _account(self, now: float, org: OrgDid) -> Account:
        account = self._accounts.get(org)
        if account is None:
            if len(self._accounts) >= MAX_CALLERS:
                raise busy("the list of organisations that owe something here")
            account = self._open(now, org, self._books.owed_micro(org))  # whatever was owed before there were vouchers
            self._effects.append(Persist((caller_write(org, account.paid),)))
        return account

    def _admit(self, now: float, asker: _Asker, admit: Admit) -> None:
        account = self._account(now, admit.caller.org)
        if not account.waiters and account.takes(admit, self._credit, self._books):
            self._answer(asker, Ok(None))
        elif self._secured(account, admit) and len(account.waiters) < MAX_CREDIT_WAITERS:
            account.waiters.append(Waiter(asker, admit, now + CREDIT_WAIT_S))
            self._timers.set((WAITERS, account.org), account.waiters[0].until)
        else:
            raise account.refusal(self._credit, self._books)

    def _secured(self, account: Account, admit: Admit) -> bool:
        """Whether the caller's tab holds enough for all that it owes and this call."""
        id_ = PAIRS.read(self._ledger, pair(admit.caller.node, self._me.org))
        tab = None if id_ is None else TABS.read(self._ledger, id_)
        if id_ is None or tab is None or tab.closes_ms:
            return False
        covered = max(self._tills[id_].micro if id_ in self._tills else 0, tab.redeemed)
        return tab.reserved - covered >= account.unpaid(self._books) + account.held_micro + admit.micro

    def _let_in(self, now: float, account: Account) -> None:
        """Admit those that wait, in their order, as far as the credit goes."""
        while account.waiters and account.takes(account.waiters[0].admit, self._credit, self._books):
            self._answer(account.waiters.popleft().asker, Ok(None))
        for waiter in account.expired(now):
            self._answer(waiter.asker, Err(account.refusal(self._credit, self._books)))
        if account.waiters:
            self._timers.set((WAITERS, account.org), account.waiters[0].until)

    # -- vouchers and receipts ---------------------------------------------------------------------------------------

    def _accept(self, now: float, accept: Accept) -> Accepted:
        account = self._account(now, accept.caller.org)
        writes = self._keep_receipts(accept)
        accepted = Accepted(0)
        if accept.voucher is not None:
            try:
                accepted = Accepted(self._keep_voucher(now, account, accept.caller, accept.voucher, writes))
            except Refused as refusal:
                accepted = Accepted(0, refusal.name)
        if writes:
            self._effects.append(Persist(tuple(writes)))
        account.look(self._books)
        self._let_in(now, account)
        return accepted

    def _keep_receipts(self, accept: Accept) -> list[Write]:
        leaves = self._leaves.get(accept.caller.node)
        if leaves is None:
            leaves = self._leaves[accept.caller.node] = Leaves(accept.caller.node)
        room = min(MAX_LEAVES - len(leaves.tasks), MAX_LEAVES_IN_ALL - sum(len(each.tasks) for each in self._leaves.values()))
        new = [(task, leaf) for task, leaf in accept.leaves if task not in leaves.tasks]
        return [leaves.add(task, leaf) for task, leaf in new[: max(0, room)]]

    def _keep_voucher(self, now: float, account: Account, caller: Peer, voucher: Voucher, writes: list[Write]) -> int:
        """Count it, if it is higher than what is here; gives what is covered on its tab. Raises Refused with what the ledger says."""
        tab = TABS.read(self._ledger, voucher.tab)
        if tab is None:
            raise Refused("tab-not-open", "this node's ledger shows no such tab, or not yet")
        if (tab.caller, tab.org, tab.provider) != (caller.node, caller.org, self._me.org):
            raise Refused("not-your-tab", f"that tab is of {tab.caller} for {tab.provider}")
        if voucher.micro > tab.reserved:
            raise Refused("voucher-above-reserve", f"the voucher is over {voucher.micro} millionths, the tab over {tab.reserved}")
        till = self._tills.get(voucher.tab)
        known = max(tab.redeemed, 0 if till is None else till.micro)
        if voucher.micro <= known:
            return known
        if till is None:
            if len(self._tills) >= MAX_TABS_KNOWN:
                raise busy("the list of tabs")
            till = self._tills[voucher.tab] = Till(voucher.tab, caller.node, caller.org, voucher.micro, b"", tab.redeemed)
        if till.micro <= till.redeemed or not till.signature:
            till.since = now
        till.micro, till.signature = voucher.micro, voucher.signature
        account.paid += voucher.micro - known
        self._take_in(till, tab)
        writes += [till.write(), caller_write(account.org, account.paid)]
        self._redeem_in_time(now, till)
        return voucher.micro

    # -- redeeming ---------------------------------------------------------------------------------------------------

    def _take_in(self, till: Till, tab: Tab) -> None:
        till.reserved, till.closes_ms = tab.reserved, tab.closes_ms
        till.redeemed = max(till.redeemed, tab.redeemed)
        till.height = max(till.height, self._ledger.height)

    def _redeem_in_time(self, now: float, till: Till) -> None:
        """Redeem, or set a timer for it."""
        if till.op or till.unredeemed <= 0:
            self._redemptions.cancel(till.tab)
            return
        leaves = self._leaves.get(till.caller)
        share = till.unredeemed * REDEEM_DENOMINATOR >= (till.reserved - till.redeemed) * REDEEM_NUMERATOR
        at_once = share or till.closes_ms > 0 or (leaves is not None and len(leaves.tasks) >= LEAVES)
        at = max(till.not_before, now if at_once else till.since + self._redeem_s)
        if at <= now:
            self._redeem(till)
        else:
            self._redemptions.set(till.tab, at)

    def _redeem(self, till: Till) -> None:
        root, last = self._leaves.get(till.caller, Leaves(till.caller)).root()
        till.attempt += 1
        till.redemption = Redemption(till.micro, till.signature, root, last)
        self._effects.append(Persist((till.write(),)))
        self._send(till, till.redemption)

    def _send(self, till: Till, redemption: Redemption) -> None:
        self._redemptions.cancel(till.tab)
        self._ops += 1
        till.op = self._ops
        self._sent[till.op] = till
        operation = Propose[object](Send(till.ref(), till.body(redemption)), to=TRANSACTIONS)
        self._effects.append(Tell(TRANSACTIONS, Perform(till.op, operation, None, EARNING)))

    def _concluded(self, now: float, till: Till, outcome: Outcome[object]) -> None:
        """A redemption has ended: it was done if it says so, or the ledger shows it."""
        redemption, till.redemption, till.op = till.redemption, None, 0
        assert redemption is not None
        tab = TABS.read(self._ledger, till.tab) if self._ledger.height >= till.height else None
        if tab is not None:
            self._take_in(till, tab)
        if isinstance(outcome, Ok) and getattr(outcome.value, "outcome", "") == COMMITTED:
            till.redeemed = max(till.redeemed, redemption.micro)
        writes: list[Write] = []
        if till.redeemed >= redemption.micro:
            till.since, till.failures, till.not_before = now, 0, now
            writes += self._file(till, redemption)
        else:
            till.failures = min(till.failures + 1, 8)
            till.not_before = now + min(ATTEMPT_MOST_S, ATTEMPT_S * 2 ** (till.failures - 1))
        self._effects.append(WriteBack((*writes, till.write())))
        self._redeem_in_time(now, till)

    def _file(self, till: Till, redemption: Redemption) -> list[Write]:
        """Its receipts are not waiting any more, and are kept under its root."""
        leaves = self._leaves.get(till.caller)
        if leaves is None or redemption.last < 0:
            return []
        taken, writes = leaves.take(redemption.last)
        number = self._numbers[-1] + 1 if self._numbers else 0
        self._numbers.append(number)
        writes.append(redeemed_write(number, till, redemption, taken))
        if len(self._numbers) > KEPT_REDEMPTIONS:
            writes.append(Delete(redeemed_key(self._numbers.popleft())))
        return writes

    def _look(self, now: float, till: Till) -> None:
        """Take in what the ledger shows of a tab."""
        if self._ledger.height < till.height:
            return  # older than what was seen
        tab = TABS.read(self._ledger, till.tab)
        if tab is None:
            self._gone(till)
            return
        self._take_in(till, tab)
        self._redeem_in_time(now, till)

    def _gone(self, till: Till) -> None:
        """The tab was closed: what was not redeemed by then is lost (unless the redemption under way was the last thing on it)."""
        if till.op:
            return  # its end will tell
        self.lost += max(0, till.unredeemed)
        self._redemptions.cancel(till.tab)
        del self._tills[till.tab]
        self._effects.append(WriteBack((till.drop(),)))

    def _resume(self, now: float) -> None:
        """What an earlier life of this node began goes on."""
        for till in list(self._tills.values()):
            till.since = now
            if till.redemption is not None:
                self._send(till, till.redemption)
            self._look(now, till)

    def _tick(self, now: float) -> None:
        for tab in list(self._redemptions.due(now)):
            self._redeem_in_time(now, self._tills[tab])
        for what, org in list(self._timers.due(now)):
            if what == WAITERS:
                self._let_in(now, self._accounts[org])
            else:
                self._write_off(now, self._accounts[org])

    def _write_off(self, now: float, account: Account) -> None:
        lost = account.write_off(now, self._books)
        self._timers.set((WRITE_OFF, account.org), now + WRITE_OFF_MS / 1000)
        if lost:
            self.written_off += lost
            self._effects.append(Persist((caller_write(account.org, account.paid),)))
            self._let_in(now, account)
