"""What a disk can do wrong, as errors with a name.

A failed write ends the node (see ``meshos.effects``), so these stay on this machine: they are shown to whoever runs the
node, and never cross the wire. They are OSErrors too, which is what the Store port promises.
"""

import errno
from pathlib import Path

from meshos.errors import Failed

_FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = ("No space left on device", "Disk quota exceeded")  # LevelDB hands the text on, not the number


class DiskFailed(Failed, OSError):
    """The disk did not do what it was told: ``disk-full`` or ``disk-failed``. Nothing of the batch was acknowledged."""


def disk_failed(error: OSError, path: Path | str) -> DiskFailed:
    """``error`` of the system or of LevelDB at ``path``, by name."""
    text = said(error)
    if error.errno in _FULL_ERRNO or any(full in text for full in _FULL_TEXT):
        return DiskFailed("disk-full", f"the disk under {path} is full", hint="free some space, then start the node again")
    return DiskFailed("disk-failed", f"the disk under {path} failed: {text}", hint="check the disk (dmesg), then start the node again")


def said(error: Exception) -> str:
    """The words of ``error``; LevelDB's come as bytes."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)
