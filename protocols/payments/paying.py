"""The machine "paying": what this node's calls cost, and how it pays for them.

Theory of operation. A call that may cost something is *promised* before it is sent (``Promise``): that is where the node's own limits hold,
and where the first call to an organisation opens a tab with it, by the machine "transactions" and without waiting. When the call has
ended it is *settled* once (``Settle``): what it costs is added to what is owed to that organisation. Neither waits for the disk. Whoever
delivers receipts asks for a voucher (``GetVoucher``): that is the one step that waits for a sync, which makes all that came
before it durable too, and then signs the sum. So

- no voucher is over less than an earlier one on its tab, or over more than was set aside there;
- each task counts once, since it is counted when its promise is taken away, in one batch, and its voucher is behind that batch;
- what a crash loses is the tail of promises and settlements for which nothing was signed. A promise that is left is asked after.

A voucher that is not acknowledged is sent again, with receipts or without. A tab is topped up when most of it is used, within the
limits, and closed after IDLE_MS without use. What the ledger shows decides in which state a tab is; a transaction's end is only a reason
to look.
"""

from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.tabs import PAIRS, TABS, CloseTab, OpenTab, Tab, TopUpTab, pair
from meshos.effects import Completed, Err, Ok, Outcome, Persist, Signed, Tell, Tick, WriteBack
from meshos.errors import MeshError, Refused, busy
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import OrgDid, Peer, TaskId
from meshos.protocols.ledger.port import Decided, LedgerView, Noticed
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import COMMITTED, UNKNOWN
from meshos.protocols.payments.budget import Budget
from meshos.protocols.payments.commands import (
    PAYING,
    Acknowledge,
    EndTab,
    GetVoucher,
    ListTabs,
    PayNow,
    Promise,
    Settle,
    TabStatus,
    TakeUnsettled,
)
from meshos.protocols.payments.limits import (
    ATTEMPT_MOST_S,
    ATTEMPT_S,
    DAY_MS,
    IDLE_MS,
    IDLE_S,
    LOOK_S,
    MAX_PROVIDERS,
    NUDGE_MOST_S,
    NUDGE_S,
    TOP_UP_DENOMINATOR,
    TOP_UP_NUMERATOR,
)
from meshos.protocols.payments.owing import CLOSING, NONE, OPEN, OPENING, TOPPING_UP, Owing, drop_call, read_owings
from meshos.protocols.payments.promises import Promises
from meshos.protocols.payments.signing import Vouchers
from meshos.protocols.rpc.timers import Timers
from meshos.protocols.tasks import amounts
from meshos.protocols.tasks.outbox import MACHINE as RECEIPTS
from meshos.protocols.tasks.outbox import Countersigned, PutReceipts
from meshos.storage.store import View

_Asker = tuple[str, int]

NUDGE, RETRY, IDLE = "nudge", "retry", "idle"


class Paying:
    """See the module's text. ``ledger`` is what this node knows of the ledger; ``wall_ms`` is the wall time at ``now``."""

    def __init__(self, me: Peer, genesis_hash: bytes, budget: Budget, ledger: LedgerView, view: View, *, now: float, wall_ms: int) -> None:
        self._me = me
        self._budget = budget
        self._ledger = ledger
        self._clock = (now, wall_ms)
        self._owings = {owing.provider: owing for owing in read_owings(view)}
        self._promises = Promises(view, now)
        self._vouchers = Vouchers(genesis_hash)
        self._sent: dict[int, OrgDid] = {}  # transactions under way
        self._ops = 0
        self._taker: _Asker | None = None
        self._began = False
        self._today = 0
        self._look_at = now
        self._timers: Timers[tuple[str, OrgDid]] = Timers()
        self._effects: list[object] = []

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
            if self._taker == (event.reply_to, event.op):
                self._taker = None
        elif isinstance(event, Signed):
            self._effects += self._vouchers.signed(event)
        elif isinstance(event, Completed):
            self._concluded(now, event)
        elif not isinstance(event, Decided | Noticed | Tick):
            raise TypeError(f"Paying has no use for {event!r}")
        if isinstance(event, Decided) and now >= self._look_at:
            self._look_at = now + LOOK_S
            for owing in self._owings.values():
                self._look(now, owing)
        if isinstance(event, Tick):
            self._tick(now)
        self._give_unsettled(now)
        return self._effects

    def deadline(self) -> float | None:
        """The earliest thing to be tried again, asked after or closed; at once after the start."""
        if not self._began:
            return self._clock[0]
        due = self._timers.deadline()
        unsettled = self._promises.next() if self._taker is not None else None
        if due is None or unsettled is None:
            return unsettled if due is None else due
        return min(due, unsettled)

    def statistics(self) -> dict[str, int]:
        """Tabs, calls that are not settled, and those of which nobody could say how they ended; millionths of a MESH owed without a
        voucher."""
        open_ = sum(owing.tab != b"" for owing in self._owings.values())
        unsigned = sum(owing.owed - owing.signed for owing in self._owings.values())
        return {"tabs": open_, "promised": len(self._promises), "forgotten": self._promises.forgotten, "unsigned_micro": unsigned}

    # -- being asked -------------------------------------------------------------------------------------------------

    def _perform(self, now: float, asker: _Asker, command: object) -> None:
        if isinstance(command, GetVoucher):
            self._effects += self._vouchers.ask(asker, self._owings.get(command.provider))
            return
        if isinstance(command, TakeUnsettled):
            self._taker = asker
            return
        try:
            self._answer([asker], Ok(self._carry_out(now, command)))
        except MeshError as error:
            self._answer([asker], Err(error))

    def _carry_out(self, now: float, command: object) -> object:
        if isinstance(command, Promise):
            return self._promise(now, command)
        if isinstance(command, Settle):
            self._settle(now, command)
        elif isinstance(command, Acknowledge):
            self._acknowledge(command)
        elif isinstance(command, PayNow):
            owing = self._owings.get(command.provider)
            if owing is not None and owing.nudging and not owing.nudges:
                self._nudge(now, owing)
        elif isinstance(command, EndTab):
            self._end(command.provider)
        elif isinstance(command, ListTabs):
            return tuple(self._status(owing) for owing in self._owings.values())
        else:
            raise Refused("unknown-command", f"paying has no command {type(command).__name__}")
        return None

    def _answer(self, askers: list[_Asker], outcome: Outcome[object]) -> None:
        self._effects += [Tell(machine, Completed(op, outcome)) for machine, op in askers]

    def _status(self, owing: Owing) -> TabStatus:
        money = (owing.reserved, owing.owed, owing.signed, owing.acked, self._promises.by_provider[owing.provider], owing.spent)
        return TabStatus(owing.provider, owing.state, owing.tab, *money)

    # -- calls -------------------------------------------------------------------------------------------------------

    def _promise(self, now: float, promise: Promise) -> int:
        owing = self._owing(now, promise.provider)
        self._begin_day(now)
        left = min(
            self._budget.per_provider_micro - owing.spent - self._promises.by_provider[owing.provider],
            self._budget.in_all_micro - sum(each.spent for each in self._owings.values()) - self._promises.total,
        )
        most = left if promise.most_micro is None else promise.most_micro
        if most > left or left <= 0:
            what = f"{amounts.mesh(max(0, left))} MESH are left of what this node spends a day"
            hint = "it begins anew at midnight UTC; [payments] in node.toml sets the limits, for one provider and for all"
            raise Refused("over-limit", f"the call may cost {amounts.mesh(max(most, 1))} MESH, and {what}", hint=hint)
        self._check_funds(owing, 0 if promise.most_micro is None else most)
        writes = self._promises.add(now, promise, most, self._wall_ms(now))
        if writes:
            self._effects.append(WriteBack(writes))
        if promise.most_micro is not None:
            owing.price = max(promise.most_micro, owing.price * 7 // 8)
        self._provide(now, owing)
        return most

    def _settle(self, now: float, command: Settle) -> None:
        call = self._promises.settle(command.task)
        if call is None:
            return
        owing = self._owing(now, call.provider)
        self._begin_day(now)
        micro = min(command.micro, call.most)
        if micro:
            owing.owed += micro
            owing.spent += micro
            owing.used_ms = self._wall_ms(now)
            owing.node = command.node or owing.node
            self._look_out(now, owing)
        self._effects.append(WriteBack((drop_call(call.task), owing.write())))

    def _owing(self, now: float, provider: OrgDid) -> Owing:
        owing = self._owings.get(provider)
        if owing is None:
            if len(self._owings) >= MAX_PROVIDERS:
                raise busy("the list of organisations that this node has paid")
            owing = self._owings[provider] = Owing(provider, day=self._today)
            self._timers.set((IDLE, provider), now + IDLE_S)
        return owing

    def _give_unsettled(self, now: float) -> None:
        due = self._promises.next() if self._taker is not None else None
        if self._taker is None or due is None or due > now:
            return
        calls, writes = self._promises.take(now, self._wall_ms(now))
        if writes:
            self._effects.append(WriteBack(writes))
        if calls:
            taker, self._taker = self._taker, None
            self._answer([taker], Ok(calls))

    # -- limits ------------------------------------------------------------------------------------------------------

    def _wall_ms(self, now: float) -> int:
        since, wall_ms = self._clock
        return wall_ms + round((now - since) * 1000)

    def _begin_day(self, now: float) -> None:
        today = self._wall_ms(now) // DAY_MS
        if today != self._today:
            self._today = today
            for owing in self._owings.values():
                if owing.day != today:
                    owing.day, owing.spent = today, 0

    def _check_funds(self, owing: Owing, most: int) -> None:
        """Raise Refused ``insufficient-funds`` where the ledger shows that the organisation cannot pay for the call."""
        balance, under_way = self._balance(), self._promises.by_provider[owing.provider]
        free = max(0, owing.reserved - owing.owed - under_way)
        if balance is not None and not owing.under_way and free + balance < most:
            what = f"the call may cost {amounts.mesh(most)} MESH, and {self._me.org} has {amounts.mesh(balance)} left"
            raise Refused("insufficient-funds", what, hint="`mesh wallet` shows it; somebody must transfer MESH to it first")

    def _balance(self) -> int | None:
        account = ACCOUNTS.read(self._ledger, self._me.org)
        return None if account is None else account.balance

    # -- the tab -----------------------------------------------------------------------------------------------------

    def _provide(self, now: float, owing: Owing) -> None:
        """Open the tab or top it up where that is needed."""
        if owing.under_way or owing.resting or owing.state not in (NONE, OPEN):
            return
        self._begin_day(now)
        promised = self._promises.by_provider[owing.provider]
        used = owing.owed + promised
        if not used or used * TOP_UP_DENOMINATOR < owing.reserved * TOP_UP_NUMERATOR:
            return
        amount = self._budget.reserve(owing, self._owings.values(), promised=promised, balance=self._balance())
        if amount:
            self._act(owing, "open" if owing.state == NONE else "top-up", amount)

    def _act(self, owing: Owing, what: str, amount: int = 0) -> None:
        """Begin a transaction about the tab: durable before it is sent, so that after a crash it is the same one."""
        owing.move(what)
        owing.amount, owing.under_way = amount, True
        owing.attempt += 1
        self._effects.append(Persist((owing.write(),)))
        self._send(owing)

    def _send(self, owing: Owing) -> None:
        bodies: dict[str, Body] = {
            OPENING: OpenTab(owing.provider, owing.amount),
            TOPPING_UP: TopUpTab(owing.tab, owing.amount),
            CLOSING: CloseTab(owing.tab),
        }
        self._ops += 1
        owing.op = self._ops
        self._sent[owing.op] = owing.provider
        operation = Propose[object](Send(owing.ref(), bodies[owing.state]), to=TRANSACTIONS)
        self._effects.append(Tell(TRANSACTIONS, Perform(owing.op, operation, None, PAYING)))

    def _concluded(self, now: float, event: Completed) -> None:
        """A transaction about a tab has ended, one way or the other: look at what the ledger shows."""
        provider = self._sent.pop(event.op, None)
        owing = None if provider is None else self._owings[provider]
        if owing is None or owing.op != event.op or not owing.under_way:
            return  # the outbox has taken a nudge, or the ledger showed it before
        owing.under_way = False
        was = owing.state
        self._see(owing)
        if was == owing.state == OPENING or (was == owing.state == CLOSING and not self._closes_ms(owing)):
            owing.move("failed")
        elif owing.state == TOPPING_UP:
            owing.move("ended")
        done = isinstance(event.outcome, Ok) and getattr(event.outcome.value, "outcome", "") in (COMMITTED, UNKNOWN)
        if done and owing.state != NONE:
            owing.failures = 0
        else:
            owing.failures, owing.resting = min(owing.failures + 1, 8), True
            self._timers.set((RETRY, owing.provider), now + min(ATTEMPT_MOST_S, ATTEMPT_S * 2 ** (owing.failures - 1)))
        self._effects.append(WriteBack((owing.write(),)))
        self._provide(now, owing)
        self._look_out(now, owing)

    def _resume(self, now: float) -> None:
        """What an earlier life of this node began goes on."""
        for owing in self._owings.values():
            self._timers.set((IDLE, owing.provider), now + IDLE_S)
            owing.price = self._promises.dearest(owing.provider)
            if owing.under_way:
                self._send(owing)
            self._look(now, owing)

    def _look(self, now: float, owing: Owing) -> None:
        """Take in what the ledger shows of the tab, and do what follows."""
        self._see(owing)
        self._provide(now, owing)
        self._look_out(now, owing)

    def _see(self, owing: Owing) -> None:
        if self._ledger.height < owing.height:
            return  # older than what was seen
        found = PAIRS.read(self._ledger, pair(self._me.node, owing.provider))
        if owing.tab and found != owing.tab:
            self._gone(owing)
        tab = None if found is None else TABS.read(self._ledger, found)
        if found is not None and tab is not None:
            self._found(owing, found, tab)

    def _found(self, owing: Owing, id_: bytes, tab: Tab) -> None:
        if not owing.tab:
            owing.move("found")
            owing.tab, owing.under_way = id_, False
            owing.owed += tab.redeemed  # 0 but where this node's own memory is gone
            owing.signed, owing.acked, owing.height = tab.redeemed, tab.redeemed, self._ledger.height
            self._effects.append(Persist((owing.write(),)))
        owing.reserved, owing.redeemed = tab.reserved, tab.redeemed
        owing.acked = max(owing.acked, tab.redeemed)
        if tab.closes_ms and owing.state != CLOSING:
            owing.move("closes")

    def _gone(self, owing: Owing) -> None:
        """The tab was closed. What was signed on it is paid, redeemed or not; the rest is owed on the next."""
        owing.move("gone")
        owing.owed -= owing.signed
        owing.tab, owing.signed, owing.reserved, owing.redeemed, owing.acked = b"", 0, 0, 0, 0
        owing.under_way = False
        self._calm(owing)
        self._effects.append(Persist((owing.write(),)))

    def _closes_ms(self, owing: Owing) -> int:
        tab = TABS.read(self._ledger, owing.tab)
        return tab.closes_ms if tab is not None else 0

    def _end(self, provider: OrgDid) -> None:
        owing = self._owings.get(provider)
        if owing is None or owing.state != OPEN or owing.under_way:
            raise Refused("tab-not-open", f"there is no open tab with {provider} that could be closed now")
        if not self._is_settled(owing):
            what = f"calls to {provider} are under way, or it has not redeemed the voucher for all of them yet"
            raise Refused("tab-in-use", what, hint="try again in a minute; it is closed by itself when it is not used for a week")
        self._act(owing, "close")

    def _is_settled(self, owing: Owing) -> bool:
        """Whether the provider has got all that it is owed, on the ledger: then nothing is lost with the tab."""
        return owing.redeemed == owing.owed and not self._promises.by_provider[owing.provider]

    # -- vouchers ----------------------------------------------------------------------------------------------------

    def _acknowledge(self, command: Acknowledge) -> None:
        owing = self._owings.get(command.provider)
        if owing is None or owing.tab != command.tab:
            return
        owing.acked = max(owing.acked, min(command.micro, owing.signed))
        owing.nudges = 0
        if owing.acked >= owing.payable:
            self._calm(owing)

    def _look_out(self, now: float, owing: Owing) -> None:
        """See to it that the provider gets what may be signed for."""
        if not owing.nudging and owing.payable > owing.acked:
            owing.nudging, owing.nudges = True, 0
            self._timers.set((NUDGE, owing.provider), now + NUDGE_S)

    def _calm(self, owing: Owing) -> None:
        owing.nudging = False
        self._timers.cancel((NUDGE, owing.provider))

    def _tick(self, now: float) -> None:
        for what, provider in list(self._timers.due(now)):
            owing = self._owings[provider]
            if what == NUDGE:
                self._nudge(now, owing)
            elif what == RETRY:
                owing.resting = False
                self._provide(now, owing)
            else:
                self._timers.set((IDLE, provider), now + IDLE_S)
                unused = self._wall_ms(now) - owing.used_ms > IDLE_MS and self._is_settled(owing)
                if unused and owing.state == OPEN and not owing.under_way:
                    self._act(owing, "close")

    def _nudge(self, now: float, owing: Owing) -> None:
        """Have the voucher sent by itself."""
        owing.nudging = owing.payable > owing.acked and owing.node is not None
        if owing.node is None or not owing.nudging:
            return
        owing.nudges = min(owing.nudges + 1, 16)
        self._timers.set((NUDGE, owing.provider), now + min(NUDGE_MOST_S, NUDGE_S * 2**owing.nudges))
        self._ops += 1
        alone = Countersigned(owing.node, owing.provider, TaskId(""), b"")
        self._effects.append(Tell(RECEIPTS, Perform(self._ops, Propose[object](PutReceipts((alone,)), to=RECEIPTS), None, PAYING)))
