"""Small files, written whole or not at all."""

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Put ``data`` at ``path``: it, or what was there before, survives a power cut at any moment (blocking). Raises OSError.

    The new file is synced before it takes the name, and the folder after, since it is the folder that holds the name.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")  # two writers at once do not meet in one file
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
