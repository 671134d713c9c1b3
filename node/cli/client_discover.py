"""discover."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshos.errors import BadInput
from meshos.node.cli.client_answer import for_program
from meshos.node.cli.client_connection import Client, Target, full_id
from meshos.node.cli.client_text import duration, mesh, number, org_name, plural, rows_of, short, table_of, texts_of
from meshos.node.cli.output import note, say, table, warn

KINDS = (("capabilities", "capability"), ("certifications", "certification"), ("regions", "region"))
"""The parts of an answer's facets, and what one of each is called."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for: exactly one of ``query``, ``related`` and ``substitute`` (an agent's id, or the beginning of one)."""

    query: str | None
    related: str | None
    substitute: str | None
    limit: int
    filters: Mapping[str, object] = field(default_factory=dict)
    exclude: Mapping[str, list[str] | None] = field(default_factory=dict)
    weigh: Mapping[str, float] = field(default_factory=dict)
    facets: bool = False
    cursor: str | None = None
    every: bool = False

    def check(self) -> None:
        """Return if one thing is asked for; raises BadInput ``usage``."""
        given = [value for value in (self.query, self.related, self.substitute) if value is not None]
        if len(given) > 1:
            raise BadInput("usage", "a question, --related and --substitute are different searches", hint="give one of them")
        if not given or not given[0].strip():
            raise BadInput("usage", "the query is empty", hint="say in plain words what you need, as in mesh discover 'convert units'")


def discover(target: Target, asked: Asked, *, quiet: bool, as_json: bool) -> None:
    """See ``client.discover``."""
    asked.check()
    with Client(target) as client:
        answer = client.post("v1", "discover", body=_body(client, asked))
    if for_program("discover", answer, as_json=as_json):
        return
    rows = rows_of(answer.get("agents"))
    if quiet:
        for row in rows:
            say(str(row.get("agentId")))
    else:
        columns = ("SCORE", "TRUST", "PRICE", "LATENCY", "ID", "NAME", "ORG", "WHY")
        table(columns, [_found(row) for row in rows], right=("SCORE", "TRUST", "PRICE", "LATENCY"))
        if asked.facets:
            _show_facets(table_of(answer.get("facets")))
    if answer.get("complete") is not True:
        warn(f"partial: {_partly(int(number(answer.get('cellsAsked')) or 0), int(number(answer.get('cellsMissing')) or 0))}")
    if not quiet:
        note(_next(rows, target))
    if not quiet and any(_stands_for(row) for row in rows):
        note("Agents of an organisation that say nearly the same are shown as one: the same command with --all shows each")
    if answer.get("cursor") is not None:
        note(f"There are more: the same command with --cursor {answer['cursor']}")


def _body(client: Client, asked: Asked) -> dict[str, object]:
    filters = {name: value for name, value in asked.filters.items() if value is not None and value != []}
    exclude = {name: value for name, value in asked.exclude.items() if value}
    body: dict[str, object] = {"limit": asked.limit}
    if asked.query is not None:
        body["query"] = asked.query
    elif asked.related is not None:
        body["related"] = full_id(client, asked.related)
    else:
        body["related"], capabilities = _to_replace(client, str(asked.substitute))
        filters["capabilities"] = list(dict.fromkeys([*texts_of(filters.get("capabilities")), *capabilities]))
    if exclude:
        filters["exclude"] = exclude
    body["filters"] = filters
    weigh = {name: weight for name, weight in asked.weigh.items() if weight}
    if weigh:
        body["weigh"] = weigh
    if asked.facets:
        body["facets"] = True
    if asked.every:
        body["collapse"] = False
    if asked.cursor is not None:
        body["cursor"] = asked.cursor
    return body


def _to_replace(client: Client, prefix: str) -> tuple[str, list[str]]:
    """The id of the agent that others are to stand in for, and what it can do."""
    record = client.get("v1", "agents", prefix)
    capabilities = texts_of(record.get("capabilities"))
    if not capabilities:
        warn(f"{record.get('name')} names no capabilities: what is found is like it, and may not do the same")
    return str(record.get("agentId")), list(capabilities)


def _show_facets(facets: Mapping[str, object]) -> None:
    """How many of all that fulfil the filters have what."""
    shown = [(kind, row.get("value"), row.get("agents")) for part, kind in KINDS for row in rows_of(facets.get(part))]
    if shown:
        say()
        table(("FACET", "VALUE", "AGENTS"), shown, right=("AGENTS",))
    note(f"Counted over {plural(int(number(facets.get('agents')) or 0), 'agent')} that fulfil the filters")


def _partly(asked: int, missing: int) -> str:
    """Why an answer is not complete."""
    if asked == missing == 1:
        return "this node has not compared what it has with the others since it started"
    return f"{asked - missing} of {asked} cells answered; of the others this is what the node has itself"


def _found(row: Mapping[str, object]) -> tuple[object, ...]:
    price, seen = table_of(row.get("pricing")), table_of(row.get("availability"))
    score, trust, latency = number(row.get("score")), number(row.get("trustScore")), number(seen.get("avgLatency"))
    return (
        "-" if score is None else f"{score:.2f}",
        "-" if trust is None else f"{trust:.0f}",
        mesh(price.get("perQuery")),
        "-" if latency is None else duration(latency),
        short(row.get("agentId")),
        row.get("name"),
        org_name(row.get("meshId")),
        ", ".join([*texts_of(row.get("matched")), *_stands_for(row)]),
    )


def _stands_for(row: Mapping[str, object]) -> list[str]:
    """How many others say nearly the same; nothing if none."""
    count = int(number(row.get("alikeCount")) or 0)
    return [f"+{count} alike"] if count else []


def _next(rows: list[Mapping[str, object]], target: Target) -> str:
    if not rows:
        return "No agent fits. Ask in other words, or with fewer conditions"
    agent, tasks = short(rows[0].get("agentId")), rows_of(rows[0].get("tasks"))
    if not tasks:  # it is only described here
        return f"Next mesh explain {agent}{target.options}"
    return f"Next mesh call {agent} {tasks[0].get('name')} --data JSON{target.options}"
