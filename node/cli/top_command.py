"""``mesh top``: one plain frame, one JSON document, or the live screen where there is a terminal for it."""

import shutil
import sys

from meshos.node.cli.client_connection import Target
from meshos.node.cli.output import block, document
from meshos.node.cli.top_feed import Feed, once
from meshos.node.cli.top_frame import frame


def top(target: Target, *, once: bool, width: int | None, as_json: bool) -> None:
    """See ``client.top``."""
    if once or as_json or not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        _print(target, width, as_json)
        return
    from meshos.node.cli.top_screen import Top

    Top(Feed(target)).run()


def _print(target: Target, width: int | None, as_json: bool) -> None:
    snapshot = once(target)
    if as_json:
        body = {"status": snapshot.status, "members": snapshot.members, "agents": snapshot.agents, "events": snapshot.events}
        document("top", body)
    else:
        block("\n".join(frame(snapshot, width or shutil.get_terminal_size().columns)))
