"""Histories that others have decided: Jepsen's runs against etcd, and simulated key-value clients (histories/README.md)."""

import io
import json
import lzma
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from meshos.simulations.linearizability import UNKNOWN, Operation, check
from meshos.simulations.models import Append, Cas, Read, RegisterOp, Write, key_values, register

HERE = Path(__file__).parent / "histories"
_JEPSEN = re.compile(r"INFO\s+jepsen\.util\s+-\s+(\d+)\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+(.*)")
_KV = re.compile(r'\{:process (\d+), :type :(invoke|ok), :f :(get|put|append), :key "(.*?)", :value (nil|"(.*)")\}')


def _files() -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress((HERE / "porcupine.tar.xz").read_bytes()))) as archive:
        found = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
    return {name: file.read().decode() for name, file in found.items() if file is not None}


FILES = _files()
VERDICTS = json.loads((HERE / "verdicts.json").read_text())


class _Log:
    """A history as it is read, line by line."""

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self._open: dict[str, tuple[RegisterOp, int]] = {}

    def invoke(self, process: str, op: RegisterOp, line: int) -> None:
        assert process not in self._open
        self._open[process] = (op, line)

    def end(self, process: str, result: Callable[[RegisterOp], object], line: int | None) -> None:
        op, invoked = self._open.pop(process)
        self.history.append(Operation(process, op, UNKNOWN if line is None else result(op), invoked, line))

    def fail(self, process: str) -> None:
        del self._open[process]

    def finish(self) -> list[Operation]:
        for process in list(self._open):
            self.end(process, lambda op: None, None)
        return self.history


def _jepsen(text: str) -> list[Operation]:
    log = _Log()
    for number, line in enumerate(text.splitlines()):
        found = _JEPSEN.fullmatch(line.strip())
        if found is None:
            continue
        process, kind, what, value = found.groups()
        if kind == "invoke":
            op = Read() if what == "read" else Write(int(value)) if what == "write" else Cas(*map(int, value.strip("[]").split()))
            log.invoke(process, op, number)
        elif kind == "info":
            log.end(process, lambda op: None, None)
        elif value == ":timed-out":
            log.fail(process)  # a read
        else:
            answer = {"read": None if value == "nil" else value, "write": None, "cas": kind == "ok"}[what]
            log.end(process, lambda op, answer=answer: int(answer) if isinstance(answer, str) else answer, number)  # type: ignore[misc]
    return log.finish()


def _key_values(text: str) -> list[Operation]:
    log = _Log()
    for number, line in enumerate(text.splitlines()):
        found = _KV.fullmatch(line)
        assert found is not None, line
        process, kind, what, key, _, value = found.groups()
        if kind == "invoke":
            log.invoke(process, Read(key) if what == "get" else Write(value, key) if what == "put" else Append(value, key), number)
        else:
            log.end(process, lambda op, value=value: value if isinstance(op, Read) else None, number)  # type: ignore[misc]
    return log.finish()


def test_every_run_of_jepsen_against_etcd_gets_the_verdict_that_is_known() -> None:
    wrong = {}
    for expected in ("linearizable", "not"):
        for name in [name for name in VERDICTS[expected] if name.startswith("jepsen/")]:
            answer = check(_jepsen(FILES[name]), register(), core=False).answer
            if answer != {"linearizable": "ok", "not": "violation"}[expected]:
                wrong[name] = answer
    assert not wrong and len(VERDICTS["linearizable"]) + len(VERDICTS["not"]) == 108


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("kv/")])
def test_key_value_clients_get_the_verdict_that_is_known(name: str) -> None:
    expected = "ok" if name in VERDICTS["linearizable"] else "violation"
    assert check(_key_values(FILES[name]), key_values(""), core=False).answer == expected


def test_what_contradicts_itself_is_named_and_no_more() -> None:
    history = _key_values(FILES["kv/c10-bad.txt"])
    conflict = check(history, key_values("")).conflict
    assert conflict is not None
    assert [operation.result for operation in conflict.core] == ["x 3 0 yx 3 1 yx 4 0 y", "x 3 0 yx 3 1 y"], "a read that went back"
    assert conflict.failing == conflict.core[1]
    assert check(conflict.core, key_values("")).answer == "violation"
