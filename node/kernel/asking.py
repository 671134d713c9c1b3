"""Names of a node's Flows, and those by which whoever stands outside asks a machine: one command in, its answer out."""

from meshos.flow import Propose
from meshos.protocols.directory.commands import MACHINE as DIRECTORY_MACHINE
from meshos.protocols.ledger.port import LEDGER
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.payments.commands import PAYING

CALL, CALLED_OFF, DEPLOY, UNDEPLOY = "call", "call-off", "deploy", "undeploy"
PROCESSES, ORG_NODES, REMOVE_NODE = "agents-processes", "org-nodes", "org-remove-node"
DELIVER, SETTLE, TIDY = "receipts-deliver", "calls-settle", "agents-tidy"
RECOVER, KEEP_GROUP, KEEP_SEAT = "tasks-recover", "org-keep-group", "org-keep-seat"
ASK_ORG, ASK_DIRECTORY, ASK_LEDGER, SEND, ASK_PAYING = "ask-org", "ask-directory", "ask-ledger", "send-transaction", "ask-paying"
"""For whoever stands outside: put one command to the machine, give its answer."""


async def ask_org(command: object) -> object:
    """The Flow ``ASK_ORG``."""
    return await Propose[object](command)


async def ask_directory(command: object) -> object:
    """The Flow ``ASK_DIRECTORY``."""
    return await Propose[object](command, to=DIRECTORY_MACHINE)


async def ask_ledger(command: object) -> object:
    """The Flow ``ASK_LEDGER``."""
    return await Propose[object](command, to=LEDGER)


async def send_transaction(send: object) -> object:
    """The Flow ``SEND``: in the name of this node."""
    return await Propose[object](send, to=TRANSACTIONS)


async def ask_paying(command: object) -> object:
    """The Flow ``ASK_PAYING``."""
    return await Propose[object](command, to=PAYING)
