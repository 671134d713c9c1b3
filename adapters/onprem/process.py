"""One process of an agent in its sandbox, from launch to the last of its descendants."""

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

import trio

from meshos.adapters.onprem import cgroups, limits, sandbox
from meshos.errors import Failed, MeshError, Refused


@dataclass(frozen=True, slots=True)
class Grace:
    """How long a clean stop waits at each step, in seconds."""

    stdin_s: float = limits.STDIN_GRACE_S
    term_s: float = limits.TERM_GRACE_S
    kill_s: float = limits.KILL_GRACE_S


class AgentProcess:
    """The launcher and the ends of its pipes. Use ``start``; whoever has one calls ``stop`` in every case."""

    def __init__(self, launcher: trio.Process, group: cgroups.Group, fds: tuple[int, int, int], control: int, status: int) -> None:
        self._launcher = launcher
        self._group = group
        self.stdin, self.stdout, self.stderr = fds
        self._control, self._status = control, status
        self._buffer = b""
        self.layers: tuple[str, ...] = ()
        self.exit_code: int | None = None
        self._starved = False
        self.refusal: MeshError | None = None
        self.ended = trio.Event()
        """The agent's own process has ended, or could not be started."""

    @classmethod
    async def start(cls, plan: sandbox.Plan) -> "AgentProcess":
        """Launch; raises OSError where not even the launcher can be started."""
        pipes = [os.pipe() for _ in range(5)]
        (in_r, in_w), (out_r, out_w), (err_r, err_w), (ctl_r, ctl_w), (sta_r, sta_w) = pipes
        theirs, ours = (in_r, out_w, err_w, ctl_r, sta_w), (in_w, out_r, err_r, ctl_w, sta_r)
        try:
            for fd in (out_r, in_w):
                with contextlib.suppress(OSError):  # above the user's share of pipe memory: the default size serves
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, limits.PIPE_BYTES)
            with trio.CancelScope(shield=True):  # a process must not be born unseen; launching takes milliseconds
                launcher = await trio.lowlevel.open_process(
                    sandbox.launcher_command(ctl_r, sta_w, plan.label),
                    stdin=in_r,
                    stdout=out_w,
                    stderr=err_w,
                    pass_fds=(ctl_r, sta_w),
                    env={},
                    start_new_session=True,
                )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        for fd in ours:
            os.set_blocking(fd, False)
        process = cls(launcher, plan.group_of(launcher.pid), (in_w, out_r, err_r), ctl_w, sta_r)
        with trio.CancelScope(shield=True):  # the launcher reads its plan first of all
            await process._hand_over(plan.to_json())
        return process

    async def _hand_over(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._control, data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._control)
            except BrokenPipeError:
                return  # the launcher ended: watch() tells

    async def watch(self) -> None:
        """Follow what the launcher reports, until it has nothing more to report; then ``ended`` is set."""
        try:
            while True:
                try:
                    data = os.read(self._status, 4096)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._status)
                    continue
                if not data:
                    return
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in lines:
                    self._heed(json.loads(line))
        finally:
            self.ended.set()

    def _heed(self, report: dict[str, object]) -> None:
        layers, code, refused = report.get("layers"), report.get("exited"), report.get("refused")
        if isinstance(layers, list):
            self.layers = tuple(map(str, layers))
        elif refused == "program":
            self.refusal = Refused("agent-not-here", f"its program cannot be run: {report.get('text')}", hint="look at its path and modes")
        elif refused is not None:
            self.refusal = Refused("sandbox-broken", f"its sandbox cannot be built: {report.get('text')}", hint="run `mesh doctor`")
        elif isinstance(code, int):
            self.exit_code = code
            self._starved = report.get("starved") is True
            self.ended.set()

    def served(self) -> None:
        """It has started: from here on its file's share of a processor holds."""
        self._tell(b"served\n")

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # the launcher has ended: watch() tells
            os.write(self._control, word)

    def how_it_ended(self, last_words: str, log: Path) -> MeshError:
        """The error that its open calls end with; ``log`` is where all its words stand."""
        if self.refusal is not None:
            return self.refusal
        code = self.exit_code
        if self._starved:
            what, hint = (
                "the agent and what it started took more memory than it may",
                "raise resources.memory in its file, and deploy it again",
            )
            return Failed("agent-out-of-memory", what, hint=hint, outcome="unknown")
        if code is None:
            what = "the agent was killed with its launcher"
        elif code < 0:
            what = f"the agent was killed by signal {-code}"
        else:
            what = f"the agent ended with exit code {code}"
        return Failed(
            "agent-crashed", f"{what}{f': {last_words}' if last_words else ''}", hint=f"its node keeps its log in {log}", outcome="unknown"
        )

    async def stop(self, grace: Grace) -> None:
        """End it and everything it started: SIGTERM after ``stdin_s`` (the caller has closed its stdin), SIGKILL after ``term_s`` more.

        Not to be cancelled: it takes at most the three graces together.
        """
        with trio.CancelScope(shield=True):
            with trio.move_on_after(grace.stdin_s):
                await self._launcher.wait()
            if self._launcher.returncode is None:
                self._tell(b"term\n")
                with trio.move_on_after(grace.term_s):
                    await self._launcher.wait()
            self._close(self._control)
            if self._launcher.returncode is None:
                with trio.move_on_after(grace.kill_s):
                    await self._launcher.wait()
            if self._launcher.returncode is None:
                self._launcher.kill()
                await self._launcher.wait()
            if self._launcher.returncode != 0:  # it came to no end of its own, so it has not tidied up
                await trio.to_thread.run_sync(self._group.remove)

    def close(self) -> None:
        """Close our ends of its pipes (stdin is the session's to close). Whoever still reads them must have ended."""
        for fd in (self.stdout, self.stderr, self._status):
            self._close(fd)

    def _close(self, fd: int) -> None:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)
