"""Where ``mesh`` begins: Ctrl-C ends it quietly even while its commands are still being loaded."""

import sys

INTERRUPTED = 130
"""As ``ending`` has it, which takes long to load itself."""


def main() -> None:
    """The console script ``mesh``."""
    try:
        from meshos.node.cli.main import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
