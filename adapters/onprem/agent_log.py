"""An agent's stderr on disk: bounded, in two files, with the last words kept for error messages."""

import logging
import os
from pathlib import Path

import trio

from meshos.adapters.onprem import limits

logger = logging.getLogger("meshos.agents")


class AgentLog:
    """``path`` and ``path.1``, each at most ``limits.LOG_FILE_BYTES``.

    Bytes are kept as they came: to show them safely on a terminal is the reader's part. What the disk does not take is lost and
    counted, since an agent must not stop its node by writing to a disk that is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = b""
        self.written = self.lost = 0
        """Bytes since this object was made."""

    async def pump(self, fd: int) -> None:
        """Copy ``fd`` (non-blocking) until its end. The disk is written in a thread; what comes faster waits in the pipe."""
        while True:
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(fd)
                continue
            if not data:
                return
            self._last = (self._last + data)[-limits.LAST_WORDS_BYTES :]
            try:
                await trio.to_thread.run_sync(self._append, data)
                self.written += len(data)
            except OSError as error:
                if not self.lost:
                    logger.warning("agent-log-lost", extra={"path": self.path, "err": error.strerror})
                self.lost += len(data)

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            full = self.path.stat().st_size + len(data) > limits.LOG_FILE_BYTES
        except FileNotFoundError:
            full = False
        if full:
            assert limits.LOG_FILES == 2
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        with open(self.path, "ab", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(data)

    def last_words(self) -> str:
        """The last line that is not empty, cleaned and cut, or an empty text."""
        for line in reversed(self._last.decode("utf-8", "replace").splitlines()):
            shown = "".join(c if c.isprintable() else " " for c in line).strip()
            if shown:
                return shown[:200]
        return ""

    def forget(self) -> None:
        """Begin a new life: the last words of an earlier one explain nothing."""
        self._last = b""
