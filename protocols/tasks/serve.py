"""The provider's side of a task: the services ``/meshos/task/1``, ``/meshos/task-call-off/1`` and ``/meshos/receipt/1``, and the
recovery at start.

Theory of operation (DESIGN.md, 'A task, exactly'). A call that is allowed is recorded before its tool runs (``RecordIntent``), and
how it ended before anybody is told (``RecordOutcome``, with the signed receipt). A repeated call gets the recorded outcome, or
waits for the one that runs. While the tool runs, the Flow holds the task (``HoldTask``), so that a cancelled Flow, which can do
nothing any more, still ends it. A caller that calls the task off ends it in the record; the hold then ends, and with it the tool,
and both of the caller's requests are answered by what was recorded first. A task whose node died in between is found open at the
next start: a tool that may run again is run again, any other task ends as ``outcome_unknown``.

Tasks run on the node that leads the organisation; another of its nodes passes a call on to it, and says for whom. Where the lead has
gone to another node meanwhile, a task that nobody runs any more is found open there, and ended likewise.
"""

from collections.abc import Callable
from dataclasses import replace

from meshos import cbor
from meshos.consensus.org.commands import (
    AwaitOutcome,
    Begun,
    CallOff,
    Ended,
    GetArguments,
    GetTask,
    HoldTask,
    Intent,
    ListOrphans,
    Problem,
    RecordIntent,
    RecordOutcome,
    RecordReceipts,
    Running,
    Status,
)
from meshos.consensus.org.limits import MAX_RECORDED_ARGUMENTS_BYTES
from meshos.consensus.org.machine import Lead, leads_not
from meshos.crypto.merkle import leaf_hash
from meshos.crypto.signing import Claim, Verifier
from meshos.effects import Err, Ok
from meshos.errors import Failed, MeshError, Refused, Unreachable
from meshos.flow import Ask, Compute, Gather, Port, Propose, Sleep
from meshos.flow_machine import ABANDONED
from meshos.ids import AgentId, Peer, TaskId
from meshos.protocols.leader.reaching import RETRIED
from meshos.protocols.ledger.quarantine import Barred, nobody, quarantined
from meshos.protocols.payments.commands import Accepted
from meshos.protocols.rpc.events import Inbound
from meshos.protocols.rpc.limits import BODY_BYTES
from meshos.protocols.tasks import receipt as receipts
from meshos.protocols.tasks.hashing import sha256
from meshos.protocols.tasks.limits import (
    GRACE_S,
    INLINE_BYTES,
    MAX_ARGUMENTS_BYTES,
    MAX_DEPTH,
    MAX_RESULT_BYTES,
    PRIORITY,
    RECOVER_S,
    RECOVERED_AT_ONCE,
    REPLY_MARGIN_S,
    WORD_S,
)
from meshos.protocols.tasks.outbox import Received, decode_receipts, encode_receipts, encode_received
from meshos.protocols.tasks.payments import Payments
from meshos.protocols.tasks.ports import CallTool, SignBytes, ToolResult
from meshos.protocols.tasks.receipt import Receipt, caller_domain, provider_domain, request_hash
from meshos.protocols.tasks.wire import (
    CALL_OFF,
    TASK,
    TaskRequest,
    decode_call_off,
    decode_request,
    encode_call_off,
    encode_reply,
    encode_request,
    large,
    result_too_large,
)

Policy = Callable[[Peer, AgentId, str], MeshError | None]
"""Why this caller may not use this tool of this agent, or None."""


def allow_all(caller: Peer, agent: AgentId, tool: str) -> MeshError | None:
    """The policy of an organisation without one: whoever is a member of the mesh may call."""
    return None


class TaskServices:
    """The services of one node. ``me`` is this node, ``office`` knows who leads its organisation, ``serves`` whether an agent is not still
    to be started by a node that has just come to lead, ``barred`` who is in quarantine.
    """

    def __init__(
        self,
        me: Peer,
        *,
        office: Lead,
        genesis_hash: bytes,
        verifier: Verifier,
        payments: Payments,
        policy: Policy = allow_all,
        serves: Callable[[AgentId], bool] = lambda agent: True,
        barred: Barred = nobody,
    ) -> None:
        self._me = me
        self._office = office
        self._genesis_hash = genesis_hash
        self._verifier = verifier
        self._payments = payments
        self._policy = policy
        self._serves = serves
        self._barred = barred
        self._recovering: set[TaskId] = set()
        self.unsigned = 0
        """Outcomes that could not be signed, for the node's metrics."""

    # -- /meshos/task/1 ----------------------------------------------------------------------------------------------

    async def task(self, inbound: Inbound) -> bytes:
        """The service ``/meshos/task/1``: run the task once, or say how it ended."""
        request = await large(len(inbound.body), lambda: decode_request(inbound.body))
        caller = self._caller(inbound.peer, request.behalf)
        if self._office.lead is None:
            return await self._forward(
                TASK, encode_request(replace(request, behalf=caller)), request.timeout_ms / 1000 + GRACE_S, request.behalf
            )
        if not self._serves(request.agent):
            starting = "the node that leads since a moment ago still starts its organisation's agents; nothing was done"
            raise Unreachable("agent-starting", starting, hint="try again in a moment", outcome="not_done")
        barred = self._quarantined(caller, request.agent)
        if barred is not None:
            return await self._begun_before(request.task, caller, barred)
        refusal = self._policy(caller, request.agent, request.tool)
        if refusal is not None:
            raise refusal
        await _check_arguments(request.arguments)
        found = await Propose[Begun | Running | Ended](
            RecordIntent(
                request.task,
                caller,
                request.agent,
                request.tool,
                request.key or request.task,
                bool(request.key),
                request_hash(request.agent, request.tool, await sha256(request.arguments)),
                request.arguments if len(request.arguments) <= MAX_RECORDED_ARGUMENTS_BYTES else None,
                request.timeout_ms,
                inbound.trace,
            )
        )
        if isinstance(found, Running):
            return await _reply(await Propose[Ended](AwaitOutcome(found.task)), replayed=True)
        if isinstance(found, Ended):
            return await _reply(found, replayed=True)
        # Nothing may be awaited between the intent and the hold: a cancel would leave the task open.
        hold = Propose[Ended](HoldTask(request.task, inbound.deadline))
        held, ran = await Gather(hold, self._to_an_end(request, found, inbound.deadline), need=1)
        ended = held if ran is ABANDONED else ran  # called off: whoever did that has recorded the end
        if isinstance(ended, Err):
            raise ended.error
        assert isinstance(ended, Ok)
        return await _reply(ended.value, replayed=False)

    def _quarantined(self, caller: Peer, agent: AgentId) -> Refused | None:
        found = self._barred(agent, self._me.org, self._me.node)
        if found is not None:
            return quarantined(found, "calls of it are refused")
        found = self._barred(caller.org, caller.node)
        return None if found is None else quarantined(found, "its calls are refused")

    async def _begun_before(self, task: TaskId, caller: Peer, barred: Refused) -> bytes:
        """How a task ended that was begun before the quarantine, and is asked for again; raises ``barred`` for any other."""
        try:
            found = await Propose[Running | Ended](GetTask(task))
        except Refused:
            raise barred from None
        ended = found if isinstance(found, Ended) else await Propose[Ended](AwaitOutcome(task))
        if ended.intent.caller.org != caller.org:
            raise barred
        return await _reply(ended, replayed=True)

    async def call_off(self, inbound: Inbound) -> bytes:
        """The service ``/meshos/task-call-off/1``: end the task if it has not ended; gives how it ended, as ``task`` does."""
        asked = decode_call_off(inbound.body)
        caller = self._caller(inbound.peer, asked.behalf)
        if self._office.lead is None:
            return await self._forward(CALL_OFF, encode_call_off(replace(asked, behalf=caller)), WORD_S, asked.behalf)
        return await _reply(await Propose[Ended](CallOff(asked.task, caller, asked.agent, asked.key)), replayed=False)

    async def _to_an_end(self, request: TaskRequest, begun: Begun, deadline: float) -> Ended:
        """``_begin``; a bug of ours on the way must not look as if the caller had cancelled."""
        try:
            return await self._begin(request, begun, deadline)
        except Exception:
            await Propose[Ended](RecordOutcome(request.task, "outcome_unknown"))
            raise

    async def _begin(self, request: TaskRequest, begun: Begun, deadline: float) -> Ended:
        """Run a task whose intent is recorded, unless there is neither money nor time for it."""
        intent = begun.intent
        left_s = deadline - begun.now
        timeout_s = min(request.timeout_ms / 1000, left_s - min(REPLY_MARGIN_S, left_s / 10))
        try:
            await self._payments.admit(intent, request.budget_micro)
            if timeout_s <= 0:
                raise Unreachable("deadline-exceeded", "no time was left to run the task", outcome="not_done")
        except MeshError as error:
            return await self._end(intent, _status_of(error, intent), problem=Problem.of(error), forget=True)
        return await self._run(intent, request.arguments, timeout_s, request.depth, request.priority)

    async def _run(self, intent: Intent, arguments: bytes, timeout_s: float, depth: int, priority: int) -> Ended:
        """Call the tool and record how it ended."""
        tool = CallTool(intent.agent, intent.task, intent.tool, arguments, timeout_s, intent.trace, depth, priority, intent.caller.org)
        try:
            given = await Port[ToolResult](tool)
        except MeshError as error:
            # A refusal came before anything was tried: the key is free for another try.
            forget = error.outcome == "not_done" and not isinstance(error, Failed)
            return await self._end(intent, _status_of(error, intent), problem=Problem.of(error), forget=forget)
        if len(given.value) > MAX_RESULT_BYTES:
            problem = Problem.of(result_too_large(len(given.value)))
            return await self._end(intent, "failed", problem=problem, replica=given.replica)
        if given.failed:
            problem = Problem("Failed", "tool-failed", f"the tool {intent.tool} says that it failed", "its result says why", "done")
            return await self._end(intent, "failed", value=given.value, problem=problem, replica=given.replica)
        return await self._end(intent, "completed", value=given.value, replica=given.replica)

    async def _end(
        self,
        intent: Intent,
        status: Status,
        *,
        value: bytes | None = None,
        problem: Problem | None = None,
        replica: str = "",
        forget: bool = False,
    ) -> Ended:
        """Sign the receipt and record the outcome."""
        digest = await sha256(value or b"")
        owed_micro = self._payments.due(intent, status)
        payload = Receipt(
            intent.task,
            intent.caller,
            self._me,
            intent.agent,
            intent.body_hash,
            status,
            digest,
            len(value or b""),
            owed_micro,
            intent.at_ms,
        ).payload()
        try:
            signature = await Port[bytes](SignBytes(provider_domain(self._genesis_hash), payload))
        except MeshError:
            # The tool has run, and must not run again: an outcome without a receipt is worth more than none. Nothing is owed for it,
            # and a caller does not take it for completed.
            payload, signature, owed_micro = b"", b"", 0
            self.unsigned += 1
        ended = await Propose[Ended](
            RecordOutcome(intent.task, status, value, digest, problem, payload, signature, owed_micro, replica, forget)
        )
        await self._payments.ended(intent)
        return ended

    # -- recovery ----------------------------------------------------------------------------------------------------

    async def recover(self, _: object) -> int:
        """A Flow for a node that has come to lead, once its agents run: end every task that a crash or the leader before it left
        open; gives how many. Those that another such Flow is ending are left to it.

        One that cannot be ended keeps no other from it: the first such error is raised when all have been tried.
        """
        orphans = await Propose[tuple[Intent, ...]](ListOrphans())
        errors: list[MeshError] = []
        for start in range(0, len(orphans), RECOVERED_AT_ONCE):
            some = orphans[start : start + RECOVERED_AT_ONCE]
            outcomes = await Gather(*(self._recover(intent) for intent in some), each=True)
            errors += [outcome.error for outcome in outcomes if isinstance(outcome, Err)]
        if errors:
            raise errors[0]
        return len(orphans)

    async def keep_recovering(self, _: object) -> None:
        """The Flow that ends open tasks which nobody runs, for as long as the node lives: what ``recover`` could not end, and what was
        recorded here while this node led no more, and leads again.
        """
        while True:
            await Sleep(RECOVER_S)
            if self._office.lead is not None:
                try:
                    await self.recover(None)
                except MeshError:
                    continue  # it is tried again

    async def _recover(self, intent: Intent) -> None:
        """End one task, unless another such Flow does."""
        if intent.task in self._recovering:
            return
        self._recovering.add(intent.task)
        try:
            await self._recover_alone(intent)
        finally:
            self._recovering.discard(intent.task)

    async def _recover_alone(self, intent: Intent) -> Ended:
        arguments = await Propose[bytes | None](GetArguments(intent.task)) if intent.rerun else None
        if arguments is not None:
            return await self._run(intent, arguments, intent.timeout_ms / 1000, MAX_DEPTH - 1, PRIORITY)
        problem = Problem(
            "Unreachable",
            "outcome-unknown",
            "the node ended while the task ran, and its tool does not say that it may run twice",
            "find out from the agent's side whether it was done before you call again",
            "unknown",
        )
        return await self._end(intent, "outcome_unknown", problem=problem)

    # -- /meshos/receipt/1 -------------------------------------------------------------------------------------------

    async def receipt(self, inbound: Inbound) -> bytes:
        """The service ``/meshos/receipt/1``: record the caller's signatures, and take its voucher; gives ``Received``."""
        behalf, signatures, voucher = decode_receipts(inbound.body)
        caller = self._caller(inbound.peer, behalf)
        if self._office.lead is None:
            body = encode_receipts(signatures, behalf=caller, voucher=voucher)
            return await self._forward(receipts.PROTOCOL, body, GRACE_S, behalf)
        claims = [] if voucher is None else [voucher.claim(self._genesis_hash, caller.node)]
        known: list[tuple[TaskId, bytes]] = []
        leaves: list[tuple[TaskId, bytes]] = []
        for task, signature in signatures:
            try:
                found = await Propose[Running | Ended](GetTask(task))
            except Refused:
                continue  # forgotten meanwhile
            if isinstance(found, Running) or not found.receipt or found.intent.caller.org != caller.org:
                raise Refused("task-unknown", f"{caller.org} has no receipt of a task {task[:80]!r} here")
            known.append((task, signature))
            if found.owed_micro and not found.countersignature:
                leaves.append((task, leaf_hash(found.receipt)))
            claims.append(Claim(found.intent.caller.node, caller_domain(self._genesis_hash), found.receipt, signature))
        if not all(await Compute(lambda: self._verifier.verify_many(claims), cost_s=0.0001 * len(claims))):
            raise Refused("bad-signature", "a receipt or voucher is not signed by the node that called")
        accepted = await self._payments.accept(caller, voucher, tuple(leaves)) if voucher is not None or leaves else Accepted(0)
        recorded = await Propose[int](RecordReceipts(tuple(known))) if known else 0
        return encode_received(Received(recorded, accepted.micro, accepted.refused))

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _caller(self, peer: Peer, behalf: Peer | None) -> Peer:
        """Who is answered for: the peer, or whom a node of our own organisation speaks for."""
        if behalf is None:
            return peer
        if peer.org != self._me.org:
            raise Refused("not-on-behalf", f"{peer.node} may not speak for {behalf.node}: only nodes of one organisation pass calls on")
        return behalf

    async def _forward(self, protocol: str, body: bytes, timeout_s: float, behalf: Peer | None) -> bytes:
        """Pass it on to the leader, once. One that cannot be reached may be gone, and another be chosen: the caller tries again."""
        leader = self._office.leader
        if behalf is not None or leader is None or leader == self._me.node:
            raise leads_not()
        try:
            return await Ask(leader, protocol, body, timeout_s, lane="work" if len(body) <= BODY_BYTES["work"] else "bulk")
        except Unreachable as error:
            if error.outcome == "not_done" and error.name not in RETRIED:
                raise leads_not() from error
            raise


def _status_of(error: MeshError, intent: Intent) -> Status:
    """How a task ended whose tool gave ``error`` instead of a result."""
    if error.name == "deadline-exceeded":
        return "expired"
    if error.name == "cancelled":
        return "cancelled"
    return "outcome_unknown" if error.outcome == "unknown" and not intent.rerun else "failed"


async def _reply(ended: Ended, *, replayed: bool) -> bytes:
    return await large(len(ended.result or b""), lambda: encode_reply(ended, replayed=replayed))


async def _check_arguments(arguments: bytes) -> None:
    """A map in canonical CBOR; raises Refused ``bad-encoding`` or ``bad-message``."""

    def check() -> bool:
        return isinstance(cbor.decode(arguments, max_bytes=MAX_ARGUMENTS_BYTES), dict)

    is_map = check() if len(arguments) <= INLINE_BYTES else await Compute(check, cost_s=0.02)
    if not is_map:
        raise Refused("bad-message", "a task's data is not a map of the tool's arguments")
