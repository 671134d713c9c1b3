"""Logs: one event with a fixed name, and its fields; for people on a terminal, for programs (a JSON object a line) elsewhere.

``logger.info("suspected", extra={"peer": "gamma-1"})``: the message is the name of the event, everything that varies is a field.
Fields beyond ``ts, level, event, node, sys`` are whatever ``extra`` holds (org, peer, req, task, height, dur_ms, err …). Values
from strangers are stripped of control characters. Secrets never get here: nothing that holds one has a ``repr`` that shows it.
"""

import logging
import sys
import time
from typing import TextIO

from pydantic_core import to_json

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LEVELS = {"DEBUG": "debug", "INFO": "info", "WARNING": "warn", "ERROR": "error", "CRITICAL": "error"}
MAX_VALUE_CHARS = 2000


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {key: _clean(value) for key, value in vars(record).items() if key not in _OWN and value not in ("", None)}
    if record.exc_info and record.exc_info[1] is not None:
        fields["err"] = repr(record.exc_info[1])[:MAX_VALUE_CHARS]
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _clean(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    text = str(value)[:MAX_VALUE_CHARS]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


class _JsonLines(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node
        self._second, self._told = -1, ""  # the second of the latest line, and how it is written

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._told = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        row = {
            "ts": f"{self._told}.{int(record.msecs):03d}Z",
            "level": _LEVELS[record.levelname],
            "event": str(_clean(record.getMessage())),
            "node": self._node,
            "sys": record.name.removeprefix("meshos."),
        }
        return to_json(row | _fields(record), inf_nan_mode="constants").decode()


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        traceback = fields.pop("traceback", None)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {_LEVELS[record.levelname].upper():5} {_clean(record.getMessage())}"
        line += "".join(f" {key}={value}" for key, value in fields.items())
        return f"{line}\n{traceback}" if traceback else line


def set_up(node: str, levels: dict[str, str] | None = None, *, out: TextIO | None = None) -> None:
    """Send the logs of ``meshos`` to ``out`` (stderr). ``levels`` maps a subsystem (``links``, ``membership``, …) to its level.

    Other libraries log from WARNING on: some of them turn INFO on for everybody.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells of them
    stream = out or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines() if stream.isatty() else _JsonLines(node))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("meshos").setLevel(logging.INFO)
    for name, level in (levels or {}).items():
        logging.getLogger(f"meshos.{name}").setLevel(level.upper())
