"""The API's handlers of the ledger, of decisions and of motions (``routes.py`` names them)."""

import base64
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from meshos.consensus.ledger.limits import MAX_KEY_CHARS, MAX_NAME_CHARS
from meshos.consensus.ledger.tree_limits import MAX_KEY_BYTES
from meshos.errors import BadInput, MeshError, Refused
from meshos.node.api import bodies, json_text, limits, render
from meshos.node.api.amounts import micro, text
from meshos.node.api.answers import JsonAnswer
from meshos.node.api.bodies import Body
from meshos.node.api.handling import Handling, caller, name_of
from meshos.node.api.replays import Answer
from meshos.node.api.shapes import Json


class LedgerHandlers(Handling):
    """See the module's text."""

    # -- the ledger --------------------------------------------------------------------------------------------------

    async def ledger_head(self, request: Request) -> Response:
        """The newest block that this node has."""
        return JsonAnswer(render.ledger_head(await self._soon(self._service.ledger.head)))

    async def ledger_block(self, request: Request) -> Response:
        """A block, who signed it, and what became of its transactions."""
        height = str(request.path_params["height"])
        if not height.isdecimal() or not height.isascii() or len(height) > 15:
            raise BadInput("bad-request", "a height is a number")
        return JsonAnswer(render.ledger_block(await self._soon(partial(self._service.ledger.block, int(height)))))

    async def account(self, request: Request) -> Response:
        """An organisation's balance and tabs."""
        return JsonAnswer(render.account(await self._soon(partial(self._service.ledger.account, str(request.path_params["did"])))))

    async def transact(self, request: Request) -> Response:
        """A transfer, or a transaction that was signed elsewhere; 200 once it is committed."""
        body = await self._body(request, bodies.TransactionBody, limits.BODY_BYTES)
        signed = body.signed()

        async def work() -> Answer:
            if signed is None:
                assert body.transfer is not None
                done = await self._transfer(request, body, body.transfer.to, micro(body.transfer.amount, "above zero"))
            else:
                asked = partial(self._service.ledger.submit, signed, body.timeout)
                done = await self._within(body.timeout + limits.TIMEOUT_GRACE_S, asked)
            return Answer(200, json_text.dumps(done))

        return await self._once(request, body, work)

    async def _transfer(self, request: Request, body: bodies.TransactionBody, to: str, amount: int) -> Json:
        key = _key(request, body)
        asked = partial(self._service.ledger.transfer, to, amount, key, body.timeout)
        return await self._spending(request, key, amount, body.timeout, asked)

    async def _spending(self, request: Request, key: str, amount: int, timeout_s: float, asked: Callable[[], Awaitable[Json]]) -> Json:
        """Out of the API key's own budget, from which it is gone unless it is certain that nothing was moved. What was asked for before
        has been taken from it then.
        """
        purse = caller(request).purse
        held = spent = 0 if await self._soon(partial(self._service.ledger.knows, key)) else amount
        purse.hold(held)
        try:
            return await self._within(timeout_s + limits.TIMEOUT_GRACE_S, asked)
        except MeshError as error:
            spent = 0 if error.outcome == "not_done" else held
            raise
        finally:
            purse.settle(held, spent)

    async def transaction(self, request: Request) -> Response:
        """What became of a transaction."""
        work = partial(self._service.ledger.transaction, str(request.path_params["id"]))
        return JsonAnswer(render.ledger_transaction(await self._soon(work)))

    async def proof(self, request: Request) -> Response:
        """What proves the value of a key of the ledger, for `mesh ledger verify`."""
        key = f"{request.path_params['table']}/{request.path_params['name']}"
        if len(key) > MAX_KEY_BYTES or not key.isascii():
            raise BadInput("bad-request", f"a key of the ledger is at most {MAX_KEY_BYTES} characters of ASCII")
        found = await self._soon(partial(self._service.ledger.proof, key))
        return JsonAnswer({"key": key, "proof": base64.b64encode(found).decode()})

    async def ledger_key(self, request: Request) -> Response:
        """Whose a key is, what it may do, and the nonce of its next transaction: for whoever signs elsewhere."""
        name = str(request.path_params["name"])
        if len(name) > MAX_KEY_CHARS or not name.isascii():
            raise BadInput("bad-request", f"a key has at most {MAX_KEY_CHARS} characters of ASCII")
        return JsonAnswer(render.dated(await self._soon(partial(self._service.ledger.key, name)), "time_ms", "time"))

    async def ledger_org(self, request: Request) -> Response:
        """What the ledger knows of an organisation, and what the next move of its seat must name."""
        return JsonAnswer(render.ledger_org(await self._soon(partial(self._service.ledger.org, str(request.path_params["did"])))))

    async def close_tab(self, request: Request) -> Response:
        """Begin to close a tab that this node pays on: 200 once the ledger has it; again changes nothing."""
        return JsonAnswer(render.tab(await self._soon(partial(self._service.ledger.close_tab, str(request.path_params["id"])))))

    # -- room in the directory ---------------------------------------------------------------------------------------

    async def room(self, request: Request) -> Response:
        """For how many records an organisation has room, until when, and what more costs."""
        return JsonAnswer(render.room(await self._soon(partial(self._service.rooms.room, str(request.path_params["did"])))))

    async def rent(self, request: Request) -> Response:
        """Rent room in the name of this node's organisation, for what is not paid for yet; 200 once it is committed."""
        body = await self._body(request, bodies.RentBody, limits.BODY_BYTES)
        most = None if body.atMost is None else micro(body.atMost)

        async def work() -> Answer:
            quote, key = await self._soon(partial(self._service.rooms.quote, body.records, body.days)), _key(request, body)
            if most is not None and quote.micro > most:
                raise Refused("rent-dearer", f"it costs {text(quote.micro)} MESH, and at most {text(most)} were to be paid")
            asked = partial(self._service.rooms.rent, quote, key, body.timeout)
            done = await self._spending(request, key, quote.micro, body.timeout, asked)
            return Answer(200, json_text.dumps(render.rent(done)))

        return await self._once(request, body, work)

    # -- decisions ---------------------------------------------------------------------------------------------------

    async def approvals(self, request: Request) -> Response:
        """Autonomous decisions: those that wait; without ``state=open`` also those that ended within a day."""
        work = partial(self._service.decisions.approvals, open_only=_open_only(request))
        return JsonAnswer(render.approvals(await self._soon(work)))

    async def approval(self, request: Request) -> Response:
        """A decision by its id, or how that begins: who approved and rejected it, why, and what became of it."""
        work = partial(self._service.decisions.approval, str(request.path_params["id"]))
        return JsonAnswer(render.approval(await self._soon(work)))

    async def quarantine(self, request: Request) -> Response:
        """Who is in quarantine, in the order of their ids, those after `after`."""
        after = request.query_params.get("after", "")
        if len(after) > MAX_NAME_CHARS or not after.isascii():
            raise BadInput("bad-request", f"an id has at most {MAX_NAME_CHARS} characters of ASCII")
        return JsonAnswer(render.quarantine(await self._soon(partial(self._service.decisions.quarantine, after))))

    async def propose(self, request: Request) -> Response:
        """Propose a decision in the name of this node's org; 200 once it stands on the ledger, executed at once if its risk is small."""
        body = await self._body(request, bodies.ProposalBody, limits.BODY_BYTES)
        action = body.action_fields()

        async def work() -> Answer:
            key = _key(request, body)
            asked = partial(self._service.decisions.propose, action, body.reason, key, body.timeout)
            done = await self._within(body.timeout + limits.TIMEOUT_GRACE_S, asked)
            return Answer(200, json_text.dumps(render.approval(done)))

        return await self._once(request, body, work)

    async def approve(self, request: Request) -> Response:
        """Approve a decision in the name of this node's org."""
        return await self._judge(request, "approve")

    async def reject(self, request: Request) -> Response:
        """Reject a decision in the name of this node's org."""
        return await self._judge(request, "reject")

    async def _judge(self, request: Request, act: str) -> Response:
        body = await self._body(request, bodies.JudgementBody, limits.BODY_BYTES)

        async def work() -> Answer:
            key = _key(request, body)
            asked = partial(self._service.decisions.judge, str(request.path_params["id"]), act, body.reason, key, body.timeout)
            done = await self._within(body.timeout + limits.TIMEOUT_GRACE_S, asked)
            return Answer(200, json_text.dumps(render.approval(done)))

        return await self._once(request, body, work)

    # -- motions -----------------------------------------------------------------------------------------------------

    async def proposals(self, request: Request) -> Response:
        """Motions: those that wait for votes; without ``state=open`` also those that have ended, as far as the audit trail tells."""
        work = partial(self._service.proposals.proposals, open_only=_open_only(request))
        return JsonAnswer(render.proposals(await self._soon(work)))

    async def proposal(self, request: Request) -> Response:
        """A motion by its id, or how that begins: who voted how, who has not yet, and what became of it."""
        work = partial(self._service.proposals.proposal, str(request.path_params["id"]))
        return JsonAnswer(render.proposal(await self._soon(work)))

    async def move(self, request: Request) -> Response:
        """Move something in the name of this node's org, which is for it; 200 once it stands on the ledger."""
        body = await self._body(request, bodies.MotionBody, limits.BODY_BYTES)
        kind, what = body.subject()
        asked = partial(self._service.proposals.move, kind, what, _key(request, body), body.timeout)
        return await self._proposed(request, body, body.timeout, asked)

    async def vote(self, request: Request) -> Response:
        """Vote on a motion in the name of this node's org."""
        body = await self._body(request, bodies.VoteBody, limits.BODY_BYTES)
        id_, key = str(request.path_params["id"]), _key(request, body)
        asked = partial(self._service.proposals.vote, id_, body.choice, key, body.timeout)
        return await self._proposed(request, body, body.timeout, asked)

    async def _proposed(self, request: Request, body: Body, timeout_s: float, asked: Callable[[], Awaitable[Json]]) -> Response:
        async def work() -> Answer:
            done = await self._within(timeout_s + limits.TIMEOUT_GRACE_S, asked)
            return Answer(200, json_text.dumps(render.proposal(done)))

        return await self._once(request, body, work)


def _open_only(request: Request) -> bool:
    state = request.query_params.get("state", "all")
    if state not in ("open", "all"):
        raise BadInput("bad-request", "`state` is `open` or `all`")
    return state == "open"


def _key(request: Request, body: Body) -> str:
    """By which the node knows a repetition, also after a restart: of one API key, for one path."""
    return secrets.token_hex(16) if body.idempotencyKey is None else " ".join(name_of(request, body))
