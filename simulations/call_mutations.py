"""How calls may be broken, one function at a time: each of these must be found by the scenario ``calls``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from meshos import flow_machine
from meshos.consensus.org import tasks
from meshos.consensus.org.change import Change
from meshos.consensus.org.commands import Ended, Intent, ListOrphans, RecordOutcome
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.protocols.rpc import asking
from meshos.protocols.tasks import serve
from meshos.protocols.tasks.wire import decode_request
from meshos.simulations.mutations import Mutation, replaced


@contextmanager
def cancelled_means_not_done() -> Iterator[None]:
    """Whoever cancels a call is told that nothing was done."""
    give_up = flow_machine.Flows._give_up

    def broken(self: flow_machine.Flows, root: flow_machine._Root, error: Exception) -> None:
        give_up(self, root, Refused("cancelled", "it was cancelled"))

    with replaced(flow_machine.Flows, "_give_up", broken):
        yield


@contextmanager
def called_off_tasks_run_on() -> Iterator[None]:
    """The organisation's state takes every task that is called off for one that has not come yet."""
    with replaced(tasks, "call_off", tasks.keep_from_beginning):
        yield


@contextmanager
def the_last_outcome_counts() -> Iterator[None]:
    """A task that has ended is recovered again, and ends once more, otherwise."""
    record = tasks.record_outcome
    recover = serve.TaskServices.recover

    def broken(change: Change, command: RecordOutcome) -> Ended:
        return replace(record(change, command), status=command.status)

    async def twice(self: serve.TaskServices, argument: object) -> int:
        orphans = await Propose[tuple[Intent, ...]](ListOrphans())
        count = await recover(self, argument)
        for intent in orphans:
            await self._end(intent, "expired")
        return count

    with replaced(tasks, "record_outcome", broken), replaced(serve.TaskServices, "recover", twice):
        yield


@contextmanager
def a_lost_link_means_not_done() -> Iterator[None]:
    """rpc takes what went out before a link broke for not arrived."""
    with replaced(asking._Asked, "outcome", property(lambda self: "not_done")):
        yield


@contextmanager
def keys_are_forgotten() -> Iterator[None]:
    """The provider takes each repeated call for a new one."""
    with replaced(serve, "decode_request", lambda body: replace(decode_request(body), key="")):
        yield


MUTATIONS = (
    Mutation(
        "cancelled-means-not-done", "a cancelled call counts as not done", cancelled_means_not_done, "safety", "said not to be done", 4
    ),
    Mutation("called-off-tasks-run-on", "a task that is called off is not ended", called_off_tasks_run_on, "safety", "", 4),
    Mutation("the-last-outcome-counts", "a task ends twice, otherwise", the_last_outcome_counts, "safety", "ends again", 4),
    Mutation(
        "a-lost-link-means-not-done", "what a broken link carried counts as lost", a_lost_link_means_not_done, "safety", "not to be done", 4
    ),
    Mutation("keys-are-forgotten", "a call that is repeated runs again", keys_are_forgotten, "safety", "must not run twice", 4),
)
