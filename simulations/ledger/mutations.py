"""How the ledger's rules, and nodes' use of them, may be broken, one function at a time: the scenario ``ledger`` must find each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from meshos.consensus.ledger import accounts, actions, approvals, members, parameters, tabs
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.draft import Sender as By
from meshos.errors import Refused
from meshos.protocols.ledger import sender
from meshos.protocols.ledger.slots import EXPIRED, Slot
from meshos.protocols.tasks.call import Calls
from meshos.protocols.tasks.serve import TaskServices
from meshos.simulations.mutations import Mutation, replaced


@contextmanager
def two_approvals_suffice() -> Iterator[None]:
    """One approval less than it takes."""
    with replaced(approvals, "approvals_needed", lambda least, registered: 2):
        yield


@contextmanager
def whoever_approves_twice_counts_twice() -> Iterator[None]:
    """A coordinator's second approval counts as another one's, and its own proposal too."""
    needed = approvals._settle

    def settle(draft: Draft, id_: bytes, decision: approvals.Decision) -> None:
        if len(decision.approved) > 1:
            approvals._execute(draft, id_, decision, "coordinators")
        else:
            needed(draft, id_, decision)

    with replaced(approvals, "_settle", settle):
        yield


@contextmanager
def an_executed_decision_may_be_judged() -> Iterator[None]:
    """What has ended is rejected all the same."""
    judged, transitions = approvals._judged_by_coordinator, approvals.TRANSITIONS

    def broken(draft: Draft, decision: approvals.Decision, by: By, act: str) -> approvals.Decision:
        return judged(draft, replace(decision, status=approvals.OPEN, expires_ms=2**62), by, act)

    with (
        replaced(approvals, "_judged_by_coordinator", broken),
        replaced(approvals, "TRANSITIONS", transitions | {(approvals.OPEN, approvals.OPEN)}),
    ):
        yield


@contextmanager
def risk_is_measured_step_by_step() -> Iterator[None]:
    """Of many small steps each is a small risk, wherever they lead."""

    def risk(self: actions.Tune, draft: Draft) -> int:
        now = parameters.parameters(draft)
        return sum(actions._distance(now[name], new) * parameters.SPECS[name].sensitivity for name, new in self.changes) // 100

    with replaced(actions.Tune, "risk", risk):
        yield


@contextmanager
def each_quarantine_is_a_small_one() -> Iterator[None]:
    """What one coordinator has put under quarantine before adds nothing to the risk of the next."""
    with replaced(actions, "unsettled", lambda draft: {}):
        yield


@contextmanager
def those_in_quarantine_decide_too() -> Iterator[None]:
    """All coordinators judge."""
    with replaced(approvals, "judging", lambda draft: set(members.coordinators(draft))):
        yield


@contextmanager
def what_people_reject_goes_on() -> Iterator[None]:
    """Their word is written down, and the decision waits for the coordinators as before."""
    overrule = approvals._overrule

    def broken(draft: Draft, id_: bytes, decision: approvals.Decision, act: str) -> None:
        if act == approvals.REJECT:
            draft.write(approvals.DECISIONS, id_, decision)
        else:
            overrule(draft, id_, decision, act)

    with replaced(approvals, "_overrule", broken):
        yield


@contextmanager
def one_person_is_enough() -> Iterator[None]:
    """Whoever has a seat overrules."""
    with replaced(approvals, "overrule", lambda draft, keys: bool(keys)):
        yield


@contextmanager
def a_pause_is_words_only() -> Iterator[None]:
    """What is approved is executed at once."""
    with replaced(approvals, "paused", lambda draft: False):
        yield


@contextmanager
def a_quarantine_is_words_only() -> Iterator[None]:
    """No node looks at it when it is called."""
    with (
        replaced(TaskServices, "_quarantined", lambda self, caller, agent: None),
        replaced(Calls, "_callable", lambda self, request: request.providers),
    ):
        yield


@contextmanager
def a_transfer_costs_nothing() -> Iterator[None]:
    """Who transfers keeps what it gives."""

    def apply(self: accounts.Transfer, draft: Draft, by: By) -> None:
        accounts.give(draft, self.to, self.micro)

    with replaced(accounts.Transfer, "apply", apply):
        yield


@contextmanager
def each_voucher_is_paid_whole() -> Iterator[None]:
    """What was redeemed before is paid again with the next voucher."""

    def apply(self: tabs.RedeemTab, draft: Draft, by: By) -> None:
        tab = tabs._open_tab(draft, self.tab)
        if self.micro <= tab.redeemed or tab.redeemed + self.micro > tab.reserved:
            raise Refused("voucher-redeemed", "as before")
        accounts.move_to_tabs(draft, -self.micro)
        accounts.give(draft, tab.provider, self.micro)
        draft.write(tabs.TABS, self.tab, replace(tab, redeemed=tab.redeemed + self.micro, receipts=self.receipts))

    with replaced(tabs.RedeemTab, "apply", apply):
        yield


@contextmanager
def a_name_is_forgotten() -> Iterator[None]:
    """What is asked for again under its name is sent again."""
    perform = sender.Sender._perform

    def broken(self: sender.Sender, asked: Any) -> None:
        self._done.clear()
        perform(self, asked)

    with replaced(sender.Sender, "_perform", broken):
        yield


@contextmanager
def silence_is_taken_for_the_end() -> Iterator[None]:
    """A transaction that has to be submitted again is said to have expired."""
    submit = sender.Sender._submit

    def broken(self: sender.Sender, now: float, slot: Slot) -> None:
        submit(self, now, slot)
        if slot.tries > 1 and slot.first is not None:
            first = slot.first
            self._conclude(slot, EXPIRED)
            slot.first = first

    with replaced(sender.Sender, "_submit", broken):
        yield


MUTATIONS = (
    Mutation("one-approval-less", "two approvals suffice", two_approvals_suffice, "safety", "is executed, approved by"),
    Mutation(
        "approvals-not-counted", "the second approval decides", whoever_approves_twice_counts_twice, "safety", "is executed, approved by"
    ),
    Mutation("judged-after-the-end", "decisions that have ended are judged", an_executed_decision_may_be_judged, "safety"),
    Mutation("risk-in-steps", "small steps lead anywhere", risk_is_measured_step_by_step, "safety", "on nobody's word"),
    Mutation(
        "quarantines-in-steps", "many small quarantines", each_quarantine_is_a_small_one, "safety", "on nobody's word but single ones"
    ),
    Mutation("judged-from-quarantine", "they let themselves out", those_in_quarantine_decide_too, "safety", "while they are in quarantine"),
    Mutation("rejected-and-executed", "what people reject goes on", what_people_reject_goes_on, "safety", "people have rejected it"),
    Mutation("one-person-overrules", "one person is enough", one_person_is_enough, "safety"),
    Mutation("pause-not-obeyed", "a pause is words only", a_pause_is_words_only, "safety", "while autonomy is paused"),
    Mutation("quarantine-not-obeyed", "what is in quarantine is called", a_quarantine_is_words_only, "safety", "is in quarantine"),
    Mutation("transfer-for-nothing", "who transfers keeps it", a_transfer_costs_nothing, "safety", "tokens are not conserved"),
    Mutation("voucher-paid-whole", "a voucher is paid whole each time", each_voucher_is_paid_whole, "safety"),
    Mutation("name-forgotten", "what is asked for again is done again", a_name_is_forgotten, "safety", "more than one transaction"),
    Mutation(
        "silence-is-the-end", "a transaction that takes long has expired", silence_is_taken_for_the_end, "safety", "is said to be expired"
    ),
)
