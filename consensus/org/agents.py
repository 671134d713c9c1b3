"""What commands do to the agents of an organisation: deployed, withdrawn, and where each runs."""

from dataclasses import replace

from meshos.consensus.org import leading
from meshos.consensus.org.change import Change, check
from meshos.consensus.org.commands import Agent, DeployAgent, PlaceAgent, Placement, WithdrawAgent
from meshos.consensus.org.entries import (
    agent_key,
    oldest_withdrawn,
    placed_key,
    read_agent,
    read_placement,
    write_agent,
    write_placement,
)
from meshos.consensus.org.limits import (
    MAX_AGENT_FILE_BYTES,
    MAX_AGENTS,
    MAX_NAME_CHARS,
    MAX_PATH_CHARS,
    MAX_RECORD_BYTES,
    MAX_TOOLS,
    WITHDRAWN_MS,
)
from meshos.errors import Refused, busy
from meshos.ids import AgentId, NodeId
from meshos.storage.store import View


def runnable(view: View, agent: AgentId) -> Agent:
    """The agent; raises Refused ``agent-unknown`` if it is not there or was withdrawn."""
    found = read_agent(view, agent) if len(agent) <= MAX_NAME_CHARS else None
    if found is None or found.withdrawn:
        raise Refused("agent-unknown", f"no agent {agent[:80]!r} runs here", hint="look it up again with `mesh discover`")
    return found


def deploy(change: Change, command: DeployAgent) -> Agent:
    """See ``commands.DeployAgent``."""
    check(0 < len(command.name) <= MAX_NAME_CHARS and len(command.agent) <= MAX_NAME_CHARS, "its name is too long")
    check(len(command.agent_file) <= MAX_AGENT_FILE_BYTES, "its agent file is too large")
    check(len(command.record) <= MAX_RECORD_BYTES, "its record is too large")
    check(len(command.folder) <= MAX_PATH_CHARS, "its folder's path is too long")
    check(len(command.tools) <= MAX_TOOLS and all(len(tool.name) <= MAX_NAME_CHARS for tool in command.tools), "too many tools")
    check(command.price_micro >= 0, "its price is below zero")
    check(len(command.node) <= MAX_NAME_CHARS and command.term >= 0, "its node or term is none")
    leading.must_lead(change, command.term)
    old = read_agent(change.view, command.agent)
    _next_version(old, command.version)
    if old is None and sum(1 for _ in change.view.scan(b"agent/")) >= MAX_AGENTS:
        _forget_withdrawn(change)
    agent = Agent(
        command.agent,
        command.name,
        command.version,
        command.agent_file,
        command.folder,
        command.record,
        command.tools,
        command.price_micro,
        change.at_ms,
        False,
    )
    change.put(agent_key(agent.agent), write_agent(agent))
    _put_placement(change, agent.agent, command.node, command.term)
    change.audit(command.by, "deploy", agent.agent)
    return agent


def _forget_withdrawn(change: Change) -> None:
    """Make room for one: its version is known to the ledger, and whoever deploys it again takes a higher one."""
    gone = oldest_withdrawn(change.view, change.at_ms - WITHDRAWN_MS)
    if gone is None:
        raise busy("the table of agents")
    change.delete(agent_key(gone))
    change.delete(placed_key(gone))


def withdraw(change: Change, command: WithdrawAgent) -> Agent:
    """See ``commands.WithdrawAgent``."""
    check(len(command.record) <= MAX_RECORD_BYTES, "its record is too large")
    leading.must_lead(change, command.term)
    old = runnable(change.view, command.agent)
    _next_version(old, command.version)
    agent = replace(old, version=command.version, record=command.record, at_ms=change.at_ms, withdrawn=True)
    change.put(agent_key(agent.agent), write_agent(agent))
    change.audit(command.by, "withdraw", agent.agent)
    return agent


def place(change: Change, command: PlaceAgent) -> None:
    """See ``commands.PlaceAgent``."""
    check(len(command.node) <= MAX_NAME_CHARS and command.term >= 0, "its node or term is none")
    leading.must_lead(change, command.term)
    runnable(change.view, command.agent)
    _put_placement(change, command.agent, command.node, command.term)


def _put_placement(change: Change, agent: AgentId, node: NodeId, term: int) -> None:
    before = read_placement(change.view, agent)
    if before is not None and before.term > term:
        raise Refused("stale-term", f"the leader of term {before.term} has placed it since, and this is the word of term {term}")
    if before is None or (before.node, before.term) != (node, term):
        change.put(placed_key(agent), write_placement(Placement(agent, node, term)))


def _next_version(old: Agent | None, version: int) -> None:
    current = 0 if old is None else old.version
    if version <= current:
        raise Refused(
            "version-conflict", f"version {version} is not above {current}", hint="somebody else deployed it meanwhile; try again"
        )
