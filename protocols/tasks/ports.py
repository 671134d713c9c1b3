"""What the tasks Flow asks of the world: to call a tool of an agent that runs here (or elsewhere by URL), and to sign.

Awaited as ``Port(CallTool(…))``; ``adapters/`` carries it out. Cancelling the Flow reaches the tool.
"""

from dataclasses import dataclass

from meshos.crypto.signing import Domain
from meshos.ids import AgentId, OrgDid, TaskId
from meshos.protocols.tasks.limits import MAX_DEPTH, PRIORITY

NOBODY = OrgDid("")
"""For whom a tool is called where no organisation has asked."""


@dataclass(frozen=True, slots=True)
class CallTool:
    """Call ``tool`` of ``agent`` with ``arguments`` (canonical CBOR of a map), for ``caller_org``. ``depth``: how many calls may follow it;
    ``priority``: 0 to 9, the most urgent first where calls wait.
    """

    agent: AgentId
    task: TaskId
    tool: str
    arguments: bytes
    timeout_s: float
    trace: str = ""
    depth: int = MAX_DEPTH - 1
    priority: int = PRIORITY
    caller_org: OrgDid = NOBODY


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool gave: canonical CBOR of its structured content, else its text, else its content list.

    ``failed`` is the tool's own word (``isError``): the task ended, and its answer is an error.
    Trouble on the way is raised instead: ``agent-crashed``, ``agent-hung``, ``agent-garbage``, ``result-too-large``, ….
    """

    value: bytes
    failed: bool
    replica: str


@dataclass(frozen=True, slots=True)
class SignBytes:
    """Have this node's key sign ``payload`` for ``domain``; gives the signature. A port, since the key may sit in a TPM or HSM.

    A key store that holds its keys in memory (``FileKeyStore.sign_now``) signs in less time than a task takes to start, so node/compose.py
    has it carried out at once. A store that must be waited for is wired among the ports that are waited for instead; nothing here changes.
    """

    domain: Domain
    payload: bytes
