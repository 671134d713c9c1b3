"""The frame of a client command, written once: one question to a node, and its answer in the form that was asked for.

A command asks (``ask``, or ``order`` where the ledger has to decide first), gives a program what it wants and is done
(``if for_program(...): return``), and else tells a person, each in its own words.
"""

import secrets
from collections.abc import Iterable, Mapping

from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.output import document, say

GRACE_S = 5.0
"""How much longer than the node itself a command waits."""


def ask(target: Target, *path: str, only: Mapping[str, str] | None = None) -> dict[str, object]:
    """What the node has at ``path``, of that what ``only`` says; raises as ``Client.get``."""
    with Client(target) as client:
        return client.query(only, *path) if only else client.get(*path)


def order(target: Target, *path: str, body: Mapping[str, object], timeout_s: float, key: str | None = None) -> dict[str, object]:
    """What became of what the node is to have decided, within this time; once only, under an idempotency key that is new if none is given.

    Raises as ``Client.post``.
    """
    whole = {**body, "timeout": timeout_s, "idempotencyKey": key or secrets.token_hex(16)}
    with Client(target) as client:
        return client.post(*path, body=whole, timeout_s=timeout_s + GRACE_S)


def for_program(command: str, answer: Mapping[str, object], *, as_json: bool, quiet: bool = False, ids: Iterable[object] = ()) -> bool:
    """Print the document (``--json``), or else the ids, one a line (``--quiet``); False where a person is to be told."""
    if as_json:
        document(command, answer)
    elif quiet:
        for identity in ids:
            say(str(identity))
    return as_json or quiet
