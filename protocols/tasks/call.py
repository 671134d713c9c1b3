"""The caller's side of a task: one request to the provider's node, its receipt checked and countersigned.

The request may be repeated by rpc (same request id) and by the caller (same idempotency key); the provider owns deduplication. If nobody
answers after the request may have arrived, nobody here knows whether the task was done, and the result says so:
``outcome_unknown``. A repeated call with the same key then gets the recorded outcome.

How a task ended is the provider's to say, also of one that its caller cancels or whose time is over. So a Flow "call" that was cancelled
(it can await nothing any more) is followed by the Flow "call-off": it has the provider end the task, and gives the recorded outcome,
be it that the task was completed meanwhile. Without an answer within WORD_S the outcome is unknown. A provider that does not know the
task promises not to begin it any more. A repetition (same key) of a call that goes on ends nothing when it is called off, and its outcome
is unknown too, until it is repeated once more.

Nothing the provider says of itself is believed without proof. What it says of the task's id counts only where the caller chose a key: then
the recorded outcome may be of an earlier task. A completed result stands on the provider's signed receipt, which must hold and cost no
more than the caller agreed to; without one it is ``receipt-invalid``, whatever the reason. A provider that could not sign has recorded
the outcome all the same, so a repeated call runs nothing again. Any other end owes nothing and needs no receipt.

Where the node pays (``protocols/payments``), a call that may cost something is promised before it is sent and settled when it is certain
what it costs. What cannot be settled here (nobody said how it ended, the Flow was cancelled) is settled later by ``settle``.

No call goes to what is in quarantine (``protocols/ledger/quarantine.py``). To be told how one ended that was made before is no call.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from meshos.consensus.org.commands import Problem, Status
from meshos.consensus.org.limits import MAX_TIMEOUT_MS
from meshos.crypto.signing import Verifier
from meshos.errors import BadInput, MeshError, Refused, Unreachable
from meshos.flow import Port, Propose
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.protocols.leader.reaching import ask_any
from meshos.protocols.ledger.quarantine import Barred, nobody, quarantined
from meshos.protocols.payments.commands import PAYING, PayNow, Promise, Promised, Settle
from meshos.protocols.tasks import amounts
from meshos.protocols.tasks.hashing import sha256
from meshos.protocols.tasks.limits import GRACE_S, MAX_DEPTH, MAX_NAME_CHARS, PRIORITY, WORD_S
from meshos.protocols.tasks.outbox import MACHINE, Countersigned, PutReceipts
from meshos.protocols.tasks.ports import SignBytes
from meshos.protocols.tasks.receipt import (
    Receipt,
    SignedReceipt,
    caller_domain,
    check_receipt,
    decode_receipt,
    provider_domain,
    receipt_invalid,
    request_hash,
)
from meshos.protocols.tasks.wire import (
    CALL_OFF,
    TASK,
    TaskCallOff,
    TaskReply,
    TaskRequest,
    decode_reply,
    encode_call_off,
    encode_request,
    large,
)


@dataclass(frozen=True, slots=True)
class CallRequest:
    """Run ``tool`` of ``agent`` with ``arguments`` (canonical CBOR of a map).

    ``task`` is a new id (``t-`` and 32 random hex digits). ``providers`` are nodes of ``provider_org``, tried in this order until one takes
    it, again while they choose who leads (protocols/leader/reaching.py). ``key`` is the caller's idempotency key, or empty. ``timeout_s``
    is the task's; the call takes at most GRACE_S longer.
    ``depth`` is how many calls may follow it. ``price_micro`` is the price of one call as the caller saw it, ``budget_micro`` what the
    caller gives at most (both in millionths of a MESH, None: not known, not checked): the lower one is the most that is agreed to.
    """

    task: TaskId
    agent: AgentId
    providers: tuple[NodeId, ...]
    provider_org: OrgDid
    tool: str
    arguments: bytes
    timeout_s: float
    key: str = ""
    priority: int = PRIORITY
    budget_micro: int | None = None
    depth: int = MAX_DEPTH - 1
    price_micro: int | None = None

    @property
    def most_micro(self) -> int | None:
        """The most that the call may cost, or None if the caller set no bound."""
        return min((bound for bound in (self.price_micro, self.budget_micro) if bound is not None), default=None)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ended. ``task`` is the id of the first call with this key, ``replayed`` says that this was another one than this call.
    ``result`` is canonical CBOR; times are the provider's. ``heard``: the provider has said so; otherwise it is what this node concludes
    from hearing nothing, and whether anything is owed is not known.
    """

    task: TaskId
    agent: AgentId
    status: Status
    result: bytes | None
    problem: Problem | None
    receipt: SignedReceipt | None
    started_ms: int
    ended_ms: int
    replayed: bool
    replica: str
    heard: bool = True


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a receipt must answer to; ``hash`` is the request's. A repetition is of a call with this ``key``."""

    task: TaskId
    agent: AgentId
    provider: OrgDid
    hash: bytes
    key: str
    most: int | None


class Calls:
    """The caller's Flows of one node. ``org_of`` knows of which organisation a node is (None: not a known member); ``pays`` says that this
    node has the machine "paying"; ``barred`` knows who is in quarantine.
    """

    def __init__(
        self,
        me: Peer,
        *,
        genesis_hash: bytes,
        verifier: Verifier,
        org_of: Callable[[NodeId], OrgDid | None],
        pays: bool = False,
        barred: Barred = nobody,
    ) -> None:
        self._me = me
        self._genesis_hash = genesis_hash
        self._verifier = verifier
        self._org_of = org_of
        self._pays = pays
        self._barred = barred

    async def call(self, request: CallRequest) -> TaskResult:
        """The Flow "call". Raises what was refused (nothing was done; ``quarantined`` before anything was promised), Unreachable if nobody
        was reached, Refused ``receipt-invalid`` or ``result-not-kept`` (it was done). Every other end is a TaskResult.
        """
        timeout_ms = _checked(request)
        providers = self._callable(request)
        asked = await self._promised(await _asked(request), request.timeout_s)
        body = encode_request(
            TaskRequest(
                request.task,
                request.agent,
                request.tool,
                request.arguments,
                request.key,
                timeout_ms,
                request.priority,
                asked.most,  # so that an honest provider whose price has risen refuses before it runs anything
                depth=request.depth,
            )
        )
        try:
            answered = await self._ask(asked, providers, TASK, body, request.timeout_s + GRACE_S)
        except Unreachable as error:
            if error.outcome != "unknown":
                await self._settle(asked, 0)
                raise
            if error.name == "deadline-exceeded":
                return await self._called_off(asked, request.providers)
            return _unheard(asked, error)
        except MeshError as error:
            if error.outcome != "unknown":
                await self._settle(asked, 0)
            raise
        return await self._answered(asked, answered)

    async def call_off(self, request: CallRequest) -> TaskResult:
        """The Flow "call-off": nobody waits for ``request`` any more. Ends the task and gives how it ended, if the provider says so within
        WORD_S. Raises Refused ``receipt-invalid``.
        """
        return await self._called_off(await _asked(request), request.providers)

    async def settle(self, call: Promised, providers: tuple[NodeId, ...]) -> TaskResult:
        """A Flow: learn what a call costs that nobody waits for; as ``call_off``. Not heard: it is still to be settled."""
        asked = _Asked(call.task, call.agent, call.provider, call.asked, call.key, call.most)
        return await self._called_off(asked, providers)

    async def _called_off(self, asked: _Asked, providers: tuple[NodeId, ...]) -> TaskResult:
        body = encode_call_off(TaskCallOff(asked.task, asked.agent, asked.key))
        try:
            answered = await self._ask(asked, providers, CALL_OFF, body, WORD_S)
        except MeshError as error:
            if error.name in ("task-unknown", "task-repeats"):  # it was not begun, and will not be
                await self._settle(asked, 0)
            if isinstance(error, Refused) and error.name == "task-unknown":
                return _ended_as(asked, "cancelled", None)
            return _unheard(asked, error)
        return await self._answered(asked, answered, called_off=True)

    async def _answered(self, asked: _Asked, answered: bytes, *, called_off: bool = False) -> TaskResult:
        """What the provider answered, once it is checked; and the call settled by it."""
        try:
            reply = await large(len(answered), lambda: decode_reply(answered))
            replayed = _is_replayed(asked, reply)
            if reply.gone and not called_off:
                raise _not_kept(reply)
            if reply.gone:  # completed before it could be called off, and its result was in an answer that nobody took
                result = _ended_as(asked, reply.status, Problem.of(_not_kept(reply)))
                await self._settle(asked, 0)
                return result
            return await self._believed(asked, reply, replayed)
        except MeshError:  # nothing is signed for it, and nothing paid
            await self._settle(asked, 0)
            raise

    async def _believed(self, asked: _Asked, reply: TaskReply, replayed: bool) -> TaskResult:
        if reply.status == "completed" and not reply.receipt:
            raise receipt_invalid("it sent none, and says that the task is completed")
        receipt = await self._countersign(asked, reply, replayed) if reply.receipt else None
        if replayed:
            await self._settle(asked, 0)
        if receipt is None or reply.status != "completed":
            await self._settle(replace(asked, task=reply.task), 0)
        if reply.problem is not None and reply.problem.name == "unpaid" and self._pays:
            await Propose[None](PayNow(asked.provider), to=PAYING)
        return TaskResult(
            reply.task,
            asked.agent,
            reply.status,
            reply.result,
            reply.problem,
            receipt,
            reply.started_ms,
            reply.ended_ms,
            replayed,
            reply.replica,
        )

    # -- paying ------------------------------------------------------------------------------------------------------

    async def _promised(self, asked: _Asked, timeout_s: float) -> _Asked:
        """Promise the call, where it may cost something. Raises what the node's own limits say."""
        if not self._costs(asked):
            return asked
        promise = Promise(asked.task, asked.agent, asked.provider, asked.hash, asked.key, asked.most, timeout_s)
        return replace(asked, most=await Propose[int](promise, to=PAYING))

    async def _settle(self, asked: _Asked, micro: int, node: NodeId | None = None) -> None:
        if self._costs(asked):
            await Propose[None](Settle(asked.task, micro, node), to=PAYING)

    def _costs(self, asked: _Asked) -> bool:
        return self._pays and asked.most != 0 and asked.provider != self._me.org

    # -- parts -------------------------------------------------------------------------------------------------------

    def _callable(self, request: CallRequest) -> tuple[NodeId, ...]:
        """The nodes of ``request.providers`` that may be called. Raises Refused ``quarantined`` where there is none."""
        found = self._barred(request.agent, request.provider_org)
        if found is not None:
            raise quarantined(found, "no call goes to it")
        found = self._barred(self._me.org, self._me.node)
        if found is not None:
            raise quarantined(found, "it calls nobody")
        providers = tuple(node for node in request.providers if self._barred(node) is None)
        if request.providers and not providers:
            raise quarantined(request.providers[0], f"no other node of {request.provider_org} can be reached")
        return providers

    async def _ask(self, asked: _Asked, providers: tuple[NodeId, ...], protocol: str, body: bytes, timeout_s: float) -> bytes:
        """The reply of the first provider that takes it."""
        return await ask_any(asked.provider, lambda: providers, protocol, body, timeout_s)

    async def _countersign(self, asked: _Asked, reply: TaskReply, replayed: bool) -> SignedReceipt:
        """Check the provider's receipt, sign it, owe what it says, and have it sent back. Raises Refused ``receipt-invalid``; nothing is
        signed or owed then.
        """
        result = reply.result or b""
        receipt = decode_receipt(reply.receipt)
        provider = receipt.provider.node
        expected = Receipt(
            reply.task,
            self._me if not replayed else Peer(receipt.caller.node, self._me.org),
            Peer(provider, asked.provider),
            asked.agent,
            asked.hash,
            reply.status,
            await sha256(result),
            len(result),
            receipt.price_micro,
            receipt.at_ms,
        )
        check_receipt(receipt, expected)
        most = asked.most if reply.status == "completed" else 0
        if most is not None and receipt.price_micro > most:
            price, agreed = amounts.mesh(receipt.price_micro), amounts.mesh(most)
            raise receipt_invalid(f"its price of {price} MESH is above the {agreed} MESH that were agreed to")
        org = self._me.org if provider == self._me.node else self._org_of(provider)
        if org != asked.provider:
            raise receipt_invalid(f"{provider} is no node of {asked.provider}")
        try:
            self._verifier.verify(provider, provider_domain(self._genesis_hash), reply.receipt, reply.signature)
        except MeshError as error:
            raise receipt_invalid(error.detail) from error
        if receipt.caller != self._me:  # another node of ours called first, and signed
            return SignedReceipt(reply.receipt, reply.signature)
        signature = await Port[bytes](SignBytes(caller_domain(self._genesis_hash), reply.receipt))
        if reply.status == "completed":
            await self._settle(replace(asked, task=reply.task), receipt.price_micro, provider)
        await Propose[None](PutReceipts((Countersigned(provider, asked.provider, reply.task, signature),)), to=MACHINE)
        return SignedReceipt(reply.receipt, reply.signature, signature)


async def _asked(request: CallRequest) -> _Asked:
    digest = request_hash(request.agent, request.tool, await sha256(request.arguments))
    return _Asked(request.task, request.agent, request.provider_org, digest, request.key, request.most_micro)


def _unheard(asked: _Asked, error: MeshError) -> TaskResult:
    """Nobody said how the task ended."""
    problem = Problem(
        "Unreachable",
        "outcome-unknown",
        f"{asked.provider} did not say how the task ended: {error.detail}",
        "repeat the call with its idempotency key to hear it; what it may have cost stays charged",
        "unknown",
    )
    return _ended_as(asked, "outcome_unknown", problem, heard=False)


def _ended_as(asked: _Asked, status: Status, problem: Problem | None, *, heard: bool = True) -> TaskResult:
    return TaskResult(asked.task, asked.agent, status, None, problem, None, 0, 0, False, "", heard)


def _is_replayed(asked: _Asked, reply: TaskReply) -> bool:
    """Whether the answer is of an earlier task with this key; raises Refused ``receipt-invalid`` if it may not be."""
    replayed = reply.task != asked.task
    if replayed and not (reply.replayed and asked.key):
        raise receipt_invalid(f"the answer is of {reply.task}, which is another task")
    return replayed


def _not_kept(reply: TaskReply) -> Refused:
    return Refused(
        "result-not-kept",
        f"{reply.task} was done before, and its result was too large to be recorded",
        hint="call again with a new key if the tool may run twice",
        outcome="done",
    )


def _checked(request: CallRequest) -> int:
    """The timeout in ms; raises BadInput ``bad-call``."""
    timeout_ms = round(request.timeout_s * 1000)
    if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
        raise BadInput("bad-call", f"a timeout is above 0 and at most {MAX_TIMEOUT_MS // 1000} s, not {request.timeout_s:g} s")
    if not 0 <= request.priority <= 9:
        raise BadInput("bad-call", f"a priority is 0 to 9, not {request.priority}")
    for name, text in (("task", request.task), ("agent", request.agent), ("type", request.tool), ("idempotency key", request.key)):
        if len(text) > MAX_NAME_CHARS or (not text and name != "idempotency key"):
            raise BadInput("bad-call", f"the {name} has {len(text)} characters, 1 to {MAX_NAME_CHARS} are allowed")
    if (request.most_micro or 0) < 0:
        raise BadInput("bad-call", "a price and a budget are not below zero")
    if not 0 <= request.depth < MAX_DEPTH:
        raise BadInput("bad-call", f"a depth is 0 to {MAX_DEPTH - 1}, not {request.depth}")
    return timeout_ms
