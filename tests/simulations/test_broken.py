"""The checkers can fail: with one function of the product broken, a seed within a bound finds it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from meshos import flow_machine
from meshos.consensus.org import state
from meshos.consensus.org.machine import OrgMachine
from meshos.errors import Refused
from meshos.protocols.rpc import asking
from meshos.protocols.tasks import serve
from meshos.simulations.run import run
from meshos.simulations.scenarios import scenario_named

SEEDS = range(1, 21)

Break = Callable[[pytest.MonkeyPatch], None]


def cancelled_means_not_done(patch: pytest.MonkeyPatch) -> None:
    """Whoever cancels a call is told that nothing was done."""
    give_up = flow_machine.Flows._give_up

    def broken(self: flow_machine.Flows, root: flow_machine._Root, error: Exception) -> None:
        give_up(self, root, Refused("cancelled", "it was cancelled"))

    patch.setattr(flow_machine.Flows, "_give_up", broken)


def abandoned_tasks_stay_open(patch: pytest.MonkeyPatch) -> None:
    """The organisation's state forgets to end a task whose Flow was cancelled."""
    patch.setattr(OrgMachine, "_give_up", lambda self, now, task, deadline: None)


def the_last_outcome_counts(patch: pytest.MonkeyPatch) -> None:
    """A task that has ended is recovered again, and ends once more, otherwise."""
    record = state._record_outcome

    def broken(change: state._Change, command: state.RecordOutcome) -> state.Ended:
        ended = record(change, command)
        return replace(ended, status=command.status)

    patch.setattr(state, "_record_outcome", broken)
    recover = serve.TaskServices.recover

    async def twice(self: serve.TaskServices, argument: object) -> int:
        orphans = await serve.Propose(serve.ListOrphans())
        count = await recover(self, argument)
        for intent in orphans:
            await self._end(intent, "expired")
        return count

    patch.setattr(serve.TaskServices, "recover", twice)


def a_lost_link_means_not_done(patch: pytest.MonkeyPatch) -> None:
    """rpc takes what went out before a link broke for not arrived."""
    patch.setattr(asking._Asked, "outcome", property(lambda self: "not_done"))


def keys_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The provider takes each repeated call for a new one."""
    decode = serve.decode_request
    patch.setattr(serve, "decode_request", lambda body: replace(decode(body), key=""))


@pytest.mark.parametrize(
    ("break_it", "verdict", "words"),
    [
        (cancelled_means_not_done, "safety", "said not to be done"),
        (abandoned_tasks_stay_open, "stuck", "tasks open"),
        (the_last_outcome_counts, "safety", "ends again"),
        (a_lost_link_means_not_done, "safety", "said not to be done"),
        (keys_are_forgotten, "safety", "must not run twice"),
    ],
)
def test_a_broken_product_is_found(break_it: Break, verdict: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    found = []
    for seed in SEEDS:
        report = run(scenario_named("calls"), seed, nodes=4)
        if report.verdict == verdict and words in report.message:
            return
        found.append((seed, report.verdict, report.message))
    pytest.fail(f"no seed finds it: {found}")
