"""Agents that are like a given one: its record is the question, and no sentence model is needed."""

import re

from meshos.errors import Refused
from meshos.ids import AgentId
from meshos.protocols.directory.lookup import lookup
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord

AGENT_ID = re.compile(r"a-[0-9a-f]{16}")
"""A whole id, as ``meshos.ids.agent_id`` makes them."""


async def record_of(parts: Parts, agent: AgentId) -> AgentRecord:
    """The record of an agent; raises Refused ``no-such-agent``."""
    found = await lookup(parts, agent) if AGENT_ID.fullmatch(agent) else None
    if found is not None and isinstance(found.entry, AgentRecord):
        return found.entry
    raise Refused("no-such-agent", f"no agent {agent[:80]!r} is known to this node", hint="look for it with `mesh discover`")
