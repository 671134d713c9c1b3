"""A client of one node that keeps its connection, and costs the machine little beside what it asks for."""

import http.client
import json

from meshos.node.cli.testnet.record import Node

Answered = tuple[int, dict[str, object]]


class Asker:
    """For one thread. Raises OSError or http.client.HTTPException where the node does not answer; then nothing is known."""

    def __init__(self, node: Node) -> None:
        host, _, port = node.api.removeprefix("http://").rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port))
        self._headers = {"Authorization": f"Bearer {node.api_key}", "Content-Type": "application/json"}

    def get(self, path: str, timeout_s: float) -> Answered:
        """GET."""
        return self._ask("GET", path, None, timeout_s)

    def post(self, path: str, body: object, timeout_s: float) -> Answered:
        """POST."""
        return self._ask("POST", path, json.dumps(body).encode(), timeout_s)

    def close(self) -> None:
        """It may be used again."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Answered:
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            answer = json.loads(response.read())
        except BaseException:
            self._connection.close()
            raise
        return response.status, answer if isinstance(answer, dict) else {}
