"""Agents that are like a given one: its record is the question, and no sentence model is needed."""

import re

from meshos.errors import Refused
from meshos.flow import Propose
from meshos.ids import AgentId
from meshos.protocols.directory.commands import MACHINE, Find, Held
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord

AGENT_ID = re.compile(r"a-[0-9a-f]{16}")
"""A whole id, as ``meshos.ids.agent_id`` makes them."""


async def record_of(parts: Parts, agent: AgentId) -> AgentRecord:
    """The record that this node holds of an agent; raises Refused ``no-such-agent``."""
    found: tuple[Held | None, ...] = await Propose(Find((agent,)), MACHINE) if AGENT_ID.fullmatch(agent) else ()
    for held in found:
        if held is not None and held.sealed is not None and isinstance(held.sealed.entry, AgentRecord):
            return held.sealed.entry
    raise Refused("no-such-agent", f"no agent {agent[:80]!r} is known to this node", hint="look for it with `mesh discover`")
