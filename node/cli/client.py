"""The commands that ask a node: deploy, undeploy, agents, publish, discover, call, members, status, explain, top.

They talk HTTP to one node and never load the node itself, so that they start at once. What each does stands in
client_agents.py, client_discover.py, client_tasks.py and client_mesh.py, and is imported when it is called.
"""

from pathlib import Path
from typing import Annotated

import typer

from meshos.node.cli.client_options import AgentId, QuietOption, RelatedOption, SubstituteOption, Where, asking
from meshos.node.cli.output import JsonFlag

MinTrust = Annotated[float | None, typer.Option(metavar="N", min=0, max=100, help="A trust score of at least N.")]
Certifications = Annotated[list[str] | None, typer.Option(metavar="C", help="Certified for C; may be given several times.")]
MaxLatency = Annotated[float | None, typer.Option(metavar="MS", min=0, help="An average latency of at most MS milliseconds.")]
MaxPrice = Annotated[str | None, typer.Option(metavar="MESH", help="A price per query of at most so much.")]
Region = Annotated[str | None, typer.Option(help="Running in this region.")]
Capabilities = Annotated[list[str] | None, typer.Option(metavar="C", help="With the capability C; may be given several times.")]
ExcludeCapabilities = Annotated[list[str] | None, typer.Option(metavar="C", help="Without the capability C; may be given several times.")]
ExcludeCertifications = Annotated[list[str] | None, typer.Option(metavar="C", help="Not certified for C; may be given several times.")]
ExcludeRegions = Annotated[list[str] | None, typer.Option(metavar="R", help="Not in the region R; may be given several times.")]
ExcludeOrgs = Annotated[list[str] | None, typer.Option(metavar="DID", help="Not of this organisation; may be given several times.")]
WeighTrust = Annotated[float, typer.Option(metavar="0..1", min=0, max=1, help="How much trust counts beside how well it fits.")]
WeighLatency = Annotated[float, typer.Option(metavar="0..1", min=0, max=1, help="How much quick answers count.")]
WeighPrice = Annotated[float, typer.Option(metavar="0..1", min=0, max=1, help="How much a low price counts.")]
EXPLAINED = "An error's name, an agent's, task's, decision's or motion's id, or a node's id or name."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: mesh deploy --agent examples/time/agent.yaml --org alpha")(asking(deploy))
    app.command(epilog="Example: mesh undeploy a-7f3a12cd")(asking(undeploy))
    app.command(epilog="Example: mesh agents")(asking(agents))
    app.command(epilog="Example: mesh publish agents.jsonl")(asking(publish))
    app.command(epilog='Example: mesh discover "what time is it in another city" --org beta --limit 3 --weigh-trust 0.5')(asking(discover))
    app.command(epilog='Example: mesh call a-7f3a12cd get_current_time --data \'{"timezone": "Europe/Vienna"}\'')(asking(call))
    app.command(epilog="Example: mesh members")(asking(members))
    app.command(epilog="Example: mesh status --org gamma")(asking(status))
    app.command(epilog='Example: mesh explain budget-exceeded, or: mesh explain a-7f3a12cd --query "read a chest x-ray"')(asking(explain))
    app.command(epilog="Example: mesh top --once")(asking(top))


def deploy(
    where: Where,
    agent: Annotated[Path, typer.Option("--agent", metavar="FILE", help="The agent file.")],
    region: Annotated[str | None, typer.Option(help="Run it there, whatever the file says.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=64, help="So many, whatever the file says.")] = None,
    quiet: QuietOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Deploy an agent on its organisation's node, and publish it to the mesh; prints its id."""
    from meshos.node.cli import client_agents

    client_agents.deploy(where.target(), agent, region, replicas, quiet=quiet, as_json=as_json)


def undeploy(
    where: Where,
    agent_id: AgentId,
    as_json: JsonFlag = False,
) -> None:
    """End an agent of the node's organisation."""
    from meshos.node.cli import client_agents

    client_agents.undeploy(where.target(), agent_id, as_json=as_json)


def agents(
    where: Where,
    quiet: QuietOption = False,
    as_json: JsonFlag = False,
) -> None:
    """List the agents of the node's organisation, and how they do."""
    from meshos.node.cli import client_agents

    client_agents.agents(where.target(), quiet=quiet, as_json=as_json)


def publish(
    where: Where,
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="One agent a line: an agent file's fields as JSON; - for stdin.")],
    as_json: JsonFlag = False,
) -> int:
    """Publish the records of agents that run elsewhere, so that they are found; a bad line is named and left out.

    A line: {"name": "MedDx AI", "description": "reads chest x-rays", "capabilities": ["image-analysis"], "region": "us-east-1"}

    A published agent is not served to others: calling it is refused as `agent-not-served`. To make it callable, deploy it with an agent
    file whose runtime is its address (`mcp: {url: ...}`). Exits 1 if not one line was taken.
    """
    from meshos.node.cli import client_agents

    return client_agents.publish(where.target(), file, as_json=as_json)


def discover(
    where: Where,
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="What you need, in plain words.")] = None,
    related: RelatedOption = None,
    substitute: SubstituteOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 10,
    min_trust: MinTrust = None,
    certification: Certifications = None,
    max_latency: MaxLatency = None,
    max_price: MaxPrice = None,
    region: Region = None,
    capability: Capabilities = None,
    exclude_capability: ExcludeCapabilities = None,
    exclude_certification: ExcludeCertifications = None,
    exclude_region: ExcludeRegions = None,
    exclude_org: ExcludeOrgs = None,
    weigh_trust: WeighTrust = 0.0,
    weigh_latency: WeighLatency = 0.0,
    weigh_price: WeighPrice = 0.0,
    facets: Annotated[bool, typer.Option("--facets", help="Count what all that fulfil the filters have.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show each of an organisation's agents that say nearly the same.")] = False,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="The next page; what the answer before said.")] = None,
    quiet: QuietOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Find agents of all organisations by what they can do, or agents that are like one."""
    from meshos.node.cli import client_discover

    filters: dict[str, object] = {
        "trustScore": None if min_trust is None else {"min": min_trust},
        "certifications": certification,
        "maxLatency": max_latency,
        "maxPrice": max_price,
        "region": region,
        "capabilities": capability,
    }
    exclude = {
        "capabilities": exclude_capability,
        "certifications": exclude_certification,
        "regions": exclude_region,
        "organisations": exclude_org,
    }
    weigh = {"trust": weigh_trust, "latency": weigh_latency, "price": weigh_price}
    asked = client_discover.Asked(query, related, substitute, limit, filters, exclude, weigh, facets, cursor, every)
    client_discover.discover(where.target(), asked, quiet=quiet, as_json=as_json)


def call(
    where: Where,
    agent_id: AgentId,
    task: Annotated[str, typer.Argument(metavar="TASK", help="One of the agent's tasks.")],
    data: Annotated[str, typer.Option(metavar="JSON|@FILE", help="The task's arguments; @- reads them from stdin.")] = "{}",
    file: Annotated[list[str] | None, typer.Option(metavar="NAME=PATH", help="Send a file along as the argument NAME.")] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, max=3600)] = 30.0,
    priority: Annotated[int, typer.Option(min=0, max=9, help="9 is the most urgent.")] = 5,
    budget: Annotated[str | None, typer.Option(metavar="MESH", help="The most that it may cost.")] = None,
    quiet: QuietOption = False,
    as_json: JsonFlag = False,
) -> int:
    """Run a task; its result alone goes to stdout. Exits 1 if the task failed, 3 if its outcome is unknown."""
    from meshos.node.cli import client_tasks

    asked = client_tasks.Asked(agent_id, task, data, tuple(file or ()), timeout, priority, budget)
    return client_tasks.call(where.target(), asked, quiet=quiet, as_json=as_json)


def members(
    where: Where,
    quiet: QuietOption = False,
    as_json: JsonFlag = False,
) -> None:
    """List the nodes of the mesh, the dead included, as one node sees them."""
    from meshos.node.cli import client_mesh

    client_mesh.members(where.target(), quiet=quiet, as_json=as_json)


def status(where: Where, as_json: JsonFlag = False) -> int:
    """How a node does. Exits 1 if it is not well."""
    from meshos.node.cli import client_mesh

    return client_mesh.status(where.target(), as_json=as_json)


def explain(
    where: Where,
    subject: Annotated[str | None, typer.Argument(metavar="ID|NAME", help=EXPLAINED)] = None,
    listed: Annotated[bool, typer.Option("--list", help="List all error names.")] = False,
    query: Annotated[str | None, typer.Option(metavar="QUERY", help="Why the agent has its score for this question.")] = None,
    min_trust: MinTrust = None,
    certification: Certifications = None,
    max_latency: MaxLatency = None,
    max_price: MaxPrice = None,
    region: Region = None,
    capability: Capabilities = None,
    exclude_capability: ExcludeCapabilities = None,
    exclude_certification: ExcludeCertifications = None,
    exclude_region: ExcludeRegions = None,
    exclude_org: ExcludeOrgs = None,
    weigh_trust: WeighTrust = 0.0,
    weigh_latency: WeighLatency = 0.0,
    weigh_price: WeighPrice = 0.0,
    as_json: JsonFlag = False,
) -> None:
    """Why: what an error means and what to do about it, or why an agent, a task, a node, a decision or a motion is as it is.

    With --query: why an agent has the score that it has for a question asked with these conditions and weights, and why it is found or not.
    """
    from meshos.node.cli import client_mesh, client_score

    asked = client_score.Asked(
        query,
        {
            "trustScore": None if min_trust is None else {"min": min_trust},
            "certifications": certification,
            "maxLatency": max_latency,
            "maxPrice": max_price,
            "region": region,
            "capabilities": capability,
        },
        {
            "capabilities": exclude_capability,
            "certifications": exclude_certification,
            "regions": exclude_region,
            "organisations": exclude_org,
        },
        {"trust": weigh_trust, "latency": weigh_latency, "price": weigh_price},
    )
    question = asked.body(subject)
    if listed or subject is None:
        client_mesh.list_errors(as_json=as_json)
    elif question is not None or not client_mesh.explain_error(subject, as_json=as_json):
        client_mesh.explain(where.target(), subject, question, as_json=as_json)


def top(
    where: Where,
    once: Annotated[bool, typer.Option("--once", help="Print one plain frame and end, as where there is no terminal.")] = False,
    width: Annotated[int | None, typer.Option(min=20, max=400, help="Columns of the frame; the terminal's if not given.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Watch the mesh live in the terminal."""
    from meshos.node.cli import top_command

    top_command.top(where.target(), once=once, width=width, as_json=as_json)
