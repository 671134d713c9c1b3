"""``mesh run``: one node in the foreground. What it is goes to stdout once it is ready; logs go to stderr."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from meshos.errors import MeshError
from meshos.node.cli.init import DEFAULT_DIR, DirOption
from meshos.node.cli.output import JsonFlag, document, note, say

if TYPE_CHECKING:
    from meshos.node.compose import Ready


def register(app: typer.Typer) -> None:
    """Add ``mesh run``."""
    app.command(epilog="Example: mesh run --dir acme-1")(run)


def run(directory: DirOption = DEFAULT_DIR, as_json: JsonFlag = False) -> None:
    """Run a node in the foreground until SIGTERM or Ctrl-C, then leave cleanly.

    With --json the document comes when the node is ready, and stays the only one: what happens later is told on stderr.
    """
    from meshos.node.config import load

    load(directory)  # what is wrong with the folder is said before the node's libraries are loaded
    from meshos.node.runtime.matrix_threads import load_numpy

    load_numpy()
    from meshos.node.process import run as run_node

    told = False

    def ready(facts: "Ready") -> None:
        nonlocal told
        told = True
        _tell(facts, as_json)

    try:
        code = run_node(directory.absolute(), ready)
    except MeshError as error:
        if not (as_json and told):
            raise
        note(f"mesh: {error}")
        code = error.exit_code
    if code:
        raise typer.Exit(code)


def _tell(facts: "Ready", as_json: bool) -> None:
    if as_json:
        document("run", asdict(facts))
    else:
        say(f"{facts.name} of {facts.org}, mesh {facts.mesh}")
        say(f"  node id  {facts.node_id}")
        say(f"  API      {facts.api}")
        say(f"  links    {facts.link}   gossip {facts.gossip}   {facts.seeds} seeds")
        for address in facts.p2p or ("none",):
            say(f"  square   {address}")
        say(f"  sandbox  {', '.join(facts.sandbox) or 'none'}")
        say("ready")
    sys.stdout.flush()
