"""A process of a benchmark: it says ``ready``, answers each line by a line of JSON, and ends with its standard input."""

import json
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Self, cast

from meshos.errors import Failed

END_S = 5.0


class AskedProcess:
    """Use: ``with AskedProcess(command) as process``. Raises Failed ``peer-not-ready`` where it ends before it is."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._child: subprocess.Popen[str]

    def ask(self, word: str) -> Any:
        """What it answers; raises Failed ``bench-command-failed`` where it ends instead."""
        print(word, file=self._child.stdin, flush=True)
        answer = cast("IO[str]", self._child.stdout).readline()
        if not answer:
            raise Failed("bench-command-failed", f"a process of this benchmark ended while it was asked for {word!r}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if cast("IO[str]", self._child.stdout).readline() != "ready\n":
            self._end()
            raise Failed("peer-not-ready", f"a process of this benchmark ended before it served: {' '.join(self._command[-4:])}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        cast("IO[str]", self._child.stdin).close()
        try:
            self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
