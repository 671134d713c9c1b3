"""What a test has left running, read from /proc."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def processes_below(top: Path) -> list[int]:
    """Every other process of this machine that names ``top`` in its command, its environment or as its folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes() + os.fsencode(os.readlink(entry / "cwd"))
            except OSError:  # it has ended
                continue
            if str(top).encode() in words:
                found.append(int(entry.name))
    return found


def kill_below(top: Path) -> None:
    """End them, at once."""
    for pid in processes_below(top):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signal.SIGKILL)
