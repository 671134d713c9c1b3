"""One process works in a folder: a lock that the system gives back however the process ends.

``flock`` and not LevelDB's own lock alone: that one is a record lock, which the system drops as soon as the same process closes any
other handle of the file; and a second open in the same process, refused, does just that. (Seen with LevelDB 1.22.)
"""

import fcntl
import os
from pathlib import Path

from meshos.errors import Refused

_NAME = "in-use.lock"


def lock_folder(folder: Path) -> int:
    """Make ``folder`` ours; gives the handle that holds it until closed. Raises Refused ``folder-in-use``, or OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError):
            raise folder_in_use(folder) from error
        raise
    return file


def folder_in_use(folder: Path) -> Refused:
    """The refusal of a second opening."""
    return Refused("folder-in-use", f"another process works in {folder}", hint="stop it first, or choose another folder")
