"""The HTTP API of a node: which request asks the service for what.

Handlers are plain functions of a Starlette request. All are FastAPI routes and so stand in OpenAPI; the two that must
be fast are also found by the gate's table directly, past FastAPI's own layers (some 0.3 ms of CPU a request).
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, cast

import trio
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from meshos.errors import BadInput, MeshError, Refused, Unreachable
from meshos.ids import AgentId, TaskId
from meshos.node.api import bodies, docs_page, json_text, limits, paths, render
from meshos.node.api.amounts import micro
from meshos.node.api.answers import EventAnswer, JsonAnswer, TaskAnswer
from meshos.node.api.gate import Application, Asked, Gate, Problem, Receive, Scope, Send, Settings, bug
from meshos.node.api.handling import caller, digest_of, name_of, replayed
from meshos.node.api.keys import KeyRing
from meshos.node.api.ledger_handlers import LedgerHandlers
from meshos.node.api.measures import Measures
from meshos.node.api.openapi import document
from meshos.node.api.replays import Answer
from meshos.node.api.routes import HOT, NOT_YET, ROUTES, need
from meshos.node.api.service import NodeService
from meshos.node.api.shapes import CallRequest

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


def build(
    service: NodeService, keys: KeyRing, *, settings: Settings | None = None, save_keys: Callable[[], None] | None = None
) -> Application:
    """The ASGI application. ``save_keys`` writes the key ring (blocking) after keys were made or revoked."""
    settings = settings or Settings()
    measures = Measures()
    api = Api(service, keys, measures, settings, save_keys)
    return Gate(api, keys, need, measures, settings)


class Api(LedgerHandlers):
    """The handlers, and the application inside the gate."""

    def __init__(
        self, service: NodeService, keys: KeyRing, measures: Measures, settings: Settings, save_keys: Callable[[], None] | None
    ) -> None:
        super().__init__(service, settings)
        self._keys, self._measures, self._save_keys = keys, measures, save_keys
        self._fastapi = FastAPI(title="Mesh OS", version="1", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        for route in ROUTES:
            self._fastapi.add_api_route(
                paths.pattern(route.path),
                cast(Handler, getattr(self, route.handler)),
                methods=[route.method],
                summary=route.summary,
                response_model=None,
                operation_id=route.handler,
            )
        for path, methods, feature in NOT_YET:
            self._fastapi.add_api_route(
                paths.pattern(path), partial(_not_yet, feature), methods=methods, include_in_schema=False, response_model=None
            )
        self._fastapi.add_exception_handler(MeshError, _on_error)
        self._fastapi.add_exception_handler(HTTPException, _on_http_error)
        self._fastapi.add_exception_handler(Exception, _on_bug)
        self._hot: dict[tuple[str, str], Handler] = {(method, path): getattr(self, handler) for method, path, handler in HOT}
        self._openapi = document(self._fastapi)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._hot.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if handler is None:
            await self._fastapi(scope, receive, send)
            return
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    # -- agents ------------------------------------------------------------------------------------------------------

    async def deploy(self, request: Request) -> Response:
        """Start an agent from its agent file; (org, name) again raises its version."""
        body = await self._body(request, bodies.DeployBody, limits.BODY_BYTES)

        async def work() -> Answer:
            done = await self._within(limits.DEPLOY_S, partial(self._service.deploy, body.shape(), caller(request)))
            return Answer(201, json_text.dumps(render.deployed(done)))

        return await self._once(request, body, work)

    async def undeploy(self, request: Request) -> Response:
        """End an agent of this node's org, and bury its record."""
        work = partial(self._service.undeploy, AgentId(request.path_params["id"]), caller(request))
        return JsonAnswer(render.undeployed(await self._within(limits.DEPLOY_S, work)))

    async def agents(self, request: Request) -> Response:
        """The agents of this node's org, and how they do."""
        return JsonAnswer(render.hosted(await self._soon(partial(self._service.agents, caller(request)))))

    async def agent(self, request: Request) -> Response:
        """The record of any org's agent."""
        work = partial(self._service.agent, AgentId(request.path_params["id"]), caller(request))
        return JsonAnswer(render.agent(await self._soon(work)))

    async def publish(self, request: Request) -> Response:
        """Publish agents that run elsewhere; a bad line is refused with its number, the others are taken."""
        body = await self._body(request, bodies.PublishBody, limits.PUBLISH_BODY_BYTES)

        async def work() -> Answer:
            done = await self._within(limits.DEPLOY_S, partial(self._service.publish, body.lines, caller(request)))
            return Answer(200, json_text.dumps(render.published(done)))

        return await self._once(request, body, work)

    # -- discovery and tasks -----------------------------------------------------------------------------------------

    async def discover(self, request: Request) -> Response:
        """The agents of all orgs that fit a question in plain words best."""
        body = await self._body(request, bodies.DiscoverBody, limits.BODY_BYTES)

        async def work() -> Answer:
            found = await self._soon(partial(self._service.discover, body.shape(), caller(request)))
            return Answer(200, json_text.dumps(render.discovered(found)))

        return await self._once(request, body, work)

    async def call(self, request: Request) -> Response:
        """Run a task on an agent. A task that failed is a 200 with its status; leaving early cancels it."""
        body = await self._body(request, bodies.TaskBody, limits.TASK_BODY_BYTES)
        shape = body.shape()
        if body.idempotencyKey is None:
            return await self._run(request, shape)
        name, digest = name_of(request, body), digest_of(body)
        recorded = await self._replays.begin(name, digest)
        if recorded is not None:
            return replayed(recorded)
        try:
            response = await self._run(request, shape)
        except BaseException:
            self._replays.drop(name)
            raise
        final = isinstance(response, JsonAnswer) and response.final
        self._replays.end(name, Answer(response.status_code, bytes(response.body)) if final else None)
        return response

    async def _run(self, request: Request, shape: CallRequest) -> Response:
        work = partial(self._service.call, shape, caller(request))
        view = await _while_wanted(request, work, shape.timeout_s + limits.TIMEOUT_GRACE_S)
        return await TaskAnswer.of(view)

    async def task(self, request: Request) -> Response:
        """A task, running or ended."""
        work = partial(self._service.task, TaskId(request.path_params["id"]), caller(request))
        return await TaskAnswer.of(await self._soon(work), asked_again=True)

    async def cancel(self, request: Request) -> Response:
        """Stop a task that runs; one that has ended stays as it ended."""
        work = partial(self._service.cancel, TaskId(request.path_params["id"]), caller(request))
        return await TaskAnswer.of(await self._soon(work), asked_again=True)

    # -- the organisation's nodes --------------------------------------------------------------------------------------

    async def org_nodes(self, request: Request) -> Response:
        """The nodes of this node's org, as its leader sees them: who votes, who leads, who lacks how much."""
        return JsonAnswer(render.org_nodes(await self._soon(self._service.org_nodes)))

    async def remove_node(self, request: Request) -> Response:
        """Remove a node of this node's org for good; again for the same node changes nothing."""
        node = str(request.path_params["id"])
        if len(node) > limits.TEXT_CHARS:
            raise BadInput("bad-request", "the id is too long")
        return JsonAnswer(render.node_removed(await self._soon(partial(self._service.remove_node, node, caller(request)))))

    # -- the mesh ----------------------------------------------------------------------------------------------------

    async def members(self, request: Request) -> Response:
        """All nodes as this one sees them, the dead included."""
        return JsonAnswer(render.members(await self._soon(self._service.members)))

    async def status(self, request: Request) -> Response:
        """How this node does."""
        return JsonAnswer(render.status(await self._soon(self._service.status)))

    async def explain(self, request: Request) -> Response:
        """Why: of an agent, a task or a node, by its id."""
        subject = str(request.path_params["id"])
        if len(subject) > limits.TEXT_CHARS:
            raise BadInput("bad-request", "the id is too long")
        return JsonAnswer(render.explanation(await self._soon(partial(self._service.explain, subject, caller(request)))))

    async def explain_score(self, request: Request) -> Response:
        """Why an agent has the score that it has for a question, and whether it is found by it."""
        body, agent = await self._body(request, bodies.ScoreBody, limits.BODY_BYTES), AgentId(request.path_params["id"])
        if len(agent) > limits.TEXT_CHARS:
            raise BadInput("bad-request", "the id is too long")

        async def work() -> Answer:
            told = await self._soon(partial(self._service.explain_score, agent, body.shape(), caller(request)))
            return Answer(200, json_text.dumps(render.explanation(told)))

        return await self._once(request, body, work)

    async def did_document(self, request: Request) -> Response:
        """The W3C DID document of an org (DID resolution)."""
        document = await self._soon(partial(self._service.did_document, str(request.path_params["did"])))
        return JsonAnswer(
            {
                "@context": "https://w3id.org/did-resolution/v1",
                "didDocument": document,
                "didResolutionMetadata": {"contentType": "application/did+ld+json"},
                "didDocumentMetadata": {},
            }
        )

    async def agent_card(self, request: Request) -> Response:
        """The A2A card of this node."""
        return JsonAnswer(dict(await self._soon(self._service.agent_card)))

    # -- keys --------------------------------------------------------------------------------------------------------

    async def keys(self, request: Request) -> Response:
        """The API keys of this node, without what opens them."""
        return JsonAnswer({"keys": [render.key(key) for key in self._keys.all_keys()]})

    async def make_key(self, request: Request) -> Response:
        """Make an API key; its text is in the answer and nowhere else."""
        body = await self._body(request, bodies.KeyBody, limits.BODY_BYTES)

        async def work() -> Answer:
            token = self._keys.mint(body.name, body.role, budget_micro=micro(body.budget) if body.budget is not None else None)
            await self._keep_keys()
            made = self._keys.find(token)
            assert made is not None
            return Answer(201, json_text.dumps({**render.key(made), "key": token}))

        return await self._once(request, body, work)

    async def revoke_key(self, request: Request) -> Response:
        """The key opens nothing any more."""
        identity = str(request.path_params["id"])
        if not self._keys.revoke(identity):
            raise Refused("no-such-api-key", "there is no API key with this id", hint="GET /v1/keys lists them")
        await self._keep_keys()
        return JsonAnswer({"id": identity})

    async def _keep_keys(self) -> None:
        if self._save_keys is not None:
            await trio.to_thread.run_sync(self._save_keys)

    # -- watching ----------------------------------------------------------------------------------------------------

    async def events(self, request: Request) -> Response:
        """What happens on this node, as server-sent events; Last-Event-ID takes up where a reader left off."""
        since = request.headers.get("last-event-id") or request.query_params.get("since")
        return EventAnswer(self._service.events(since[:100] if since else None))

    async def metrics(self, request: Request) -> Response:
        """Prometheus text format."""
        text = self._service.metrics() + self._measures.text()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def healthz(self, request: Request) -> Response:
        """200 while the process should go on, else 503."""
        health = self._service.healthy()
        return JsonAnswer(render.health(health), 200 if health.ok else 503)

    async def readyz(self, request: Request) -> Response:
        """200 while the node can serve its users, else 503."""
        health = self._service.ready()
        return JsonAnswer(render.health(health), 200 if health.ok else 503)

    async def openapi(self, request: Request) -> Response:
        """This API for programs."""
        return JsonAnswer(self._openapi)

    async def docs(self, request: Request) -> Response:
        """This API for people."""
        return HTMLResponse(
            docs_page.page(self._openapi), headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )


async def _while_wanted(request: Request, work: Callable[[], Awaitable[T]], seconds: float) -> T:
    """The value of ``work``, which is cancelled when its client leaves or ``seconds`` are over."""
    gone = False
    value: T | None = None
    error: MeshError | None = None

    async def watch(whole: trio.CancelScope) -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        whole.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, nursery.cancel_scope)
        with trio.move_on_after(seconds) as clock:
            try:
                value = await work()
            except MeshError as raised:
                error = raised
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
    if gone and value is None:
        raise Refused("client-gone", "the client left before the task had ended", outcome="unknown")
    if clock.cancelled_caught or value is None:
        raise Unreachable("deadline-exceeded", f"the task gave no answer within {seconds:g} s", hint="mesh explain its id, or repeat it")
    return value


async def _not_yet(feature: str, request: Request) -> Response:
    raise Refused("not-yet", f"this waits for {feature}, which this version does not have", hint="see what works in the README")


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MeshError)
    return cast(Response, Problem(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return cast(Response, Problem(BadInput("method-not-allowed", "this path is not used with this method", hint="see /docs")))
    return cast(Response, Problem(Refused("no-such-route", "there is nothing at this path", hint="see /docs")))


async def _on_bug(request: Request, error: Exception) -> Response:
    asked: Asked = request.scope["asked"]
    return cast(Response, Problem(bug(error, asked.request_id)))
