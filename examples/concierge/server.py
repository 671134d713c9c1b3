"""An agent that uses other agents: it asks its own node to discover one, and to call it.

The node gave its process MESH_NODE (where its API is) and MESH_API_KEY (a token of its own: scoped, with a budget, and
limited in how deep agents may call agents that call agents). Only the standard library and the MCP package are used.
"""

import json
import os
import re
import urllib.error
import urllib.request

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

MAX_ANSWER_BYTES = 8 << 20
server = MCPServer("concierge")

Record = dict[str, object]


def _ask_node(path: str, body: Record, timeout_s: float) -> Record:
    """POST to the node's API; a problem document becomes one sentence."""
    request = urllib.request.Request(
        os.environ["MESH_NODE"].rstrip("/") + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {os.environ['MESH_API_KEY']}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the node is on this machine: never through a proxy
    try:
        with opener.open(request, timeout=timeout_s) as response:
            answer = json.loads(response.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        problem = json.loads(error.read(MAX_ANSWER_BYTES) or b"{}")
        raise ToolError(f"{problem.get('detail') or error.reason} [{problem.get('name') or error.code}]") from error
    except OSError as error:
        raise ToolError(f"the node at {os.environ['MESH_NODE']} does not answer: {error}") from error
    if not isinstance(answer, dict):
        raise ToolError("the node's answer is no object")
    return answer


def _words(text: object) -> set[str]:
    return set(re.findall(r"[a-z0-9]{3,}", str(text).lower().replace("_", " ")))


def _fitness(task: Record, request: str, arguments: Record) -> tuple[bool, int]:
    """Whether the task can be called with these arguments, and how many of the request's words speak for it."""
    schema = task.get("inputSchema")
    schema = schema if isinstance(schema, dict) else {}
    required, known = schema.get("required", []), schema.get("properties", {})
    callable_ = all(name in arguments for name in required) and all(name in known for name in arguments)
    return callable_, len(_words(request) & (_words(task.get("name")) | _words(task.get("description"))))


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def find(request: str, limit: int = 5) -> list[dict[str, object]]:
    """Find agents, of any organisation, that can do what is asked for in plain words."""
    answer = _ask_node("/v1/discover", {"query": request, "limit": max(1, min(limit, 20))}, 15)
    agents = answer.get("agents")
    kept = ("agentId", "meshId", "name", "description", "score", "pricing", "tasks")
    return [{key: agent.get(key) for key in kept} for agent in agents if isinstance(agent, dict)] if isinstance(agents, list) else []


@server.tool()
def delegate(request: str, arguments: dict[str, object] | None = None, task: str = "", timeout: float = 30) -> dict[str, object]:
    """Have a request in plain words done by whichever agent in the mesh can do it.

    `arguments` go to the tool that is chosen; `task` names the tool where it is known.
    """
    given = arguments or {}
    tried: list[str] = []
    for agent in find(request, 5):
        tasks = agent.get("tasks")
        offered = [one for one in tasks if isinstance(one, dict) and task in ("", one.get("name"))] if isinstance(tasks, list) else []
        fitting = [(fitness, one) for one in offered if (fitness := _fitness(one, request, given))[0]]
        if agent.get("name") == "Concierge" or not fitting:
            tried.append(f"{agent.get('name')}: no tool takes {', '.join(given) or 'no arguments'}")
            continue
        chosen = max(fitting, key=lambda pair: pair[0])[1]
        body: Record = {"agentId": agent["agentId"], "type": chosen["name"], "data": given, "timeout": timeout}
        done = _ask_node("/v1/tasks", body, timeout + 5)
        who = {"agentId": agent["agentId"], "meshId": agent["meshId"], "name": agent["name"], "task": chosen["name"]}
        return {"doneBy": who, "status": done.get("status"), "result": done.get("result"), "error": done.get("error")}
    raise ToolError(f"nobody was found who can do this; {'; '.join(tried)[:500] or 'no agent matched'}")


if __name__ == "__main__":
    server.run("stdio")
