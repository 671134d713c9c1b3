"""How much of the disk an agent's private folder takes, counted without trusting the agent.

Files are bounded one by one by the kernel (RLIMIT_FSIZE); their sum is looked at now and then, and an agent that has too much is ended
as ``agent-disk-full``. Counting follows no symbolic link and opens each folder from the one above, so that an agent which
moves things about meanwhile leads it nowhere else. What cannot be counted, since it is too deep or closed, is too much.
"""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import trio

from meshos.adapters.onprem import limits


@dataclass(frozen=True, slots=True)
class Room:
    """What one private folder may hold, and how often that is looked at."""

    max_bytes: int = limits.PRIVATE_BYTES
    max_files: int = limits.PRIVATE_FILES
    check_s: float = limits.ROOM_CHECK_S


def excess(folder: Path, room: Room) -> str | None:
    """What is too much in ``folder``, in words, or None (blocking)."""
    count = _Count(room)
    try:
        count.enter(folder, None)
        while count.way and count.too_much is None:
            handle, below = count.way[-1]
            if below:
                count.enter(below.pop(), handle)
            else:
                os.close(count.way.pop()[0])
    except OSError as error:
        return f"what cannot be counted: {error.strerror}"
    finally:
        for handle, _ in count.way:
            os.close(handle)
    return count.too_much


class _Count:
    """A walk: ``way`` is the open folder on each level, and which of those inside are still to be entered."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = self._files = 0
        self.way: list[tuple[int, list[str]]] = []
        self.too_much: str | None = None

    def enter(self, name: Path | str, above: int | None) -> None:
        """Count what lies in this folder; nothing, if it is not there any more."""
        if len(self.way) == limits.PRIVATE_DEPTH:
            self.too_much = f"folders more than {limits.PRIVATE_DEPTH} deep"
            return
        try:
            handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        except (FileNotFoundError, NotADirectoryError):  # it was moved away, or a link or file put in its place (ENOTDIR says both)
            return
        below: list[str] = []
        self.way.append((handle, below))
        with os.scandir(handle) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    self._size += info.st_blocks * 512
                    if stat.S_ISDIR(info.st_mode):
                        below.append(entry.name)
                self._files += 1
                if self._files > self._room.max_files:
                    self.too_much = f"more than {self._room.max_files} files"
                    return
                if self._size > self._room.max_bytes:
                    self.too_much = f"more than {self._room.max_bytes >> 20} MiB"
                    return


class Counting:
    """Counts one folder at a time, in a thread, for all agents of a node."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._one = trio.CapacityLimiter(1)

    async def wait_excess(self, folder: Path) -> str:
        """Come back once there is too much in ``folder``, and say what."""
        while True:
            began = trio.current_time()
            found = await trio.to_thread.run_sync(excess, folder, self.room, limiter=self._one)
            if found is not None:
                return found
            took_s = trio.current_time() - began
            await trio.sleep(max(self.room.check_s, took_s * limits.ROOM_PAUSE))
