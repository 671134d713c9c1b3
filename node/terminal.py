"""A command that has something to end behind itself, and its terminal, which may be closed meanwhile.

What Ctrl-C ends in order, SIGTERM and SIGHUP (the terminal was closed) end in the same way. Who was started with SIGHUP ignored, as
nohup(1) does, goes on ignoring it.
"""

import errno
import os
import signal
import stat
import termios
from collections.abc import Callable
from types import FrameType


def end_as_after_ctrl_c(told: Callable[[signal.Signals], None] = lambda number: None) -> None:
    """From now on SIGTERM and SIGHUP raise KeyboardInterrupt, after ``told`` has heard which of them it was."""

    def leave(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell and the kernel may both send it
            mute()
        told(signal.Signals(number))
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, leave)


def mute() -> None:
    """Write no more to a terminal that is closed, or to a pipe whose reader stood in it: that would fail in the middle of leaving."""
    for stream in (1, 2):
        if _is_gone(stream) or stat.S_ISFIFO(os.fstat(stream).st_mode):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


def _is_gone(stream: int) -> bool:
    try:
        termios.tcgetattr(stream)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)  # of a file it is ENOTTY
    return False
