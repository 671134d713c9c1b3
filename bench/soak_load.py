"""The load of ``mesh bench soak``: clients that move MESH and call agents, and write down everything that was acknowledged to them.

Each operation has a key of its own, and its client repeats it with that key until it is told how it ended: that is what a client does
whose node was killed, and what makes a thing that is done twice visible. Amounts are unique, so that a transfer is found in the blocks.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from meshos.bench.asker import Answered, Asker
from meshos.consensus.org.commands import STATUSES
from meshos.node.api.amounts import text
from meshos.node.cli.testnet.record import Node

DONE, NOT_DONE, UNSURE = "done", "not done", "unsure"
"""How an operation ended: *unsure* is a task of which its provider has recorded that nobody knows."""
ANSWER_S = 12.0
ASKED_S = 8.0
"""How long a client waits for an answer, and how long it gives its node."""
AGAIN_S = 0.25
PAUSE_S = 0.1
"""Between two operations of a client, of which there are eight: they leave nodes some of two cores to come back on."""
TASK_ENDS = frozenset(STATUSES)


@dataclass(slots=True)
class Operation:
    """One thing that was asked for, by ``client`` at ``node``. Times are monotonic; ``outcome`` is empty while nobody has said."""

    key: str
    client: str
    node: str
    to: str
    """A transfer: the organisation that gets it; a task: the one whose agent it is."""
    micro: int = 0
    asked: float = 0.0
    ended: float = 0.0
    tries: int = 0
    outcome: str = ""
    said: str = ""
    """In words, for who reads the file: the ledger's refusal, the task's status, or what was answered last."""
    id: str = ""
    result: str = ""
    receipt: str = ""


@dataclass(slots=True)
class Load:
    """All clients and what they were told. ``stop``: begin nothing new; ``give_up``: do not wait any more."""

    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)
    give_up: threading.Event = field(default_factory=threading.Event)
    transfers: list[Operation] = field(default_factory=list)
    tasks: list[Operation] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, validators: Sequence[Node], agents: dict[str, str]) -> None:
        """A payer and a caller at each of ``validators``; ``agents``: organisation and id of its agent."""
        for place, node in enumerate(validators):
            others = [other for other in validators if other.org != node.org]
            payer = _Payer(self, node, f"payer-{node.name}", self.transfers, [other.did for other in others], place)
            caller = _Caller(self, node, f"caller-{node.name}", self.tasks, [(org, agents[org]) for org in agents if org != node.org])
            for client in (payer, caller):
                thread = threading.Thread(target=client.run, daemon=True)
                self._threads.append(thread)
                thread.start()

    def end(self, within_s: float) -> None:
        """Let each client finish what it has begun, as long as that takes ``within_s`` at most."""
        self.stop.set()
        until = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self.give_up.set()
        for thread in self._threads:
            thread.join(ANSWER_S * 2)

    def transferred_since(self, at: float) -> float | None:
        """When the first transfer was acknowledged that was asked for after ``at``."""
        return first_after(self.transfers, at)

    def wait_transfer(self, at: float, within_s: float) -> float | None:
        """As ``transferred_since``; waits for it."""
        until = time.monotonic() + within_s
        while (found := self.transferred_since(at)) is None and time.monotonic() < until:
            time.sleep(0.02)
        return found


def first_after(operations: Iterable[Operation], at: float) -> float | None:
    """When the first of these was acknowledged as done that was asked for after ``at``."""
    return min((one.ended for one in list(operations) if one.outcome == DONE and one.asked >= at), default=None)


class _Client:
    """One thread. ``kept`` is where its operations go, beside the file."""

    def __init__(self, load: Load, node: Node, name: str, kept: list[Operation]) -> None:
        self._load, self._node, self._name, self._kept = load, node, name, kept
        self._asker = Asker(node)
        self._random = random.Random(name)
        self._number = 0

    def run(self) -> None:
        """Until told to stop."""
        with (self._load.folder / f"{self._name}.jsonl").open("a") as file:
            while not self._load.stop.is_set():
                self._number += 1
                operation = self._next()
                self._kept.append(operation)
                operation.asked = time.monotonic()
                self._carry_out(operation, file)
                time.sleep(PAUSE_S)

    def _carry_out(self, operation: Operation, file: TextIO) -> None:
        while not self._load.give_up.is_set():
            operation.tries += 1
            try:
                status, answer = self._ask(operation)
            except (OSError, http.client.HTTPException, ValueError) as error:
                operation.said = f"{type(error).__name__}: {error}"
            else:
                self._read(operation, status, answer)
            if operation.outcome:
                operation.ended = time.monotonic()
                break
            time.sleep(AGAIN_S)
        file.write(json.dumps(asdict(operation)) + "\n")
        file.flush()

    def _next(self) -> Operation:
        raise NotImplementedError

    def _ask(self, operation: Operation) -> Answered:
        raise NotImplementedError

    def _read(self, operation: Operation, status: int, answer: dict[str, object]) -> None:
        raise NotImplementedError


class _Payer(_Client):
    """Moves a few millionths at a time; each amount once. Its ``place`` among four keeps its amounts apart from the others'."""

    def __init__(self, load: Load, node: Node, name: str, kept: list[Operation], to: Sequence[str], place: int) -> None:
        super().__init__(load, node, name, kept)
        self._to, self._place = to, place

    def _next(self) -> Operation:
        key = f"{self._name}-{self._number}"
        return Operation(key, self._name, self._node.name, self._random.choice(self._to), micro=4 * self._number + self._place)

    def _ask(self, operation: Operation) -> Answered:
        transfer = {"to": operation.to, "amount": text(operation.micro)}
        body = {"transfer": transfer, "idempotencyKey": operation.key, "timeout": ASKED_S}
        return self._asker.post("/v1/transactions", body, ANSWER_S)

    def _read(self, operation: Operation, status: int, answer: dict[str, object]) -> None:
        if status == 200:
            operation.outcome, operation.id, operation.said = DONE, str(answer["txId"]), f"in block {answer['height']}"
            return
        operation.said = str(answer.get("name"))
        if operation.said == "transaction-expired":
            operation.outcome = NOT_DONE


class _Caller(_Client):
    """Calls agents of other organisations that record each of their runs."""

    def __init__(self, load: Load, node: Node, name: str, kept: list[Operation], agents: Sequence[tuple[str, str]]) -> None:
        super().__init__(load, node, name, kept)
        self._agents = dict(agents)

    def _next(self) -> Operation:
        return Operation(f"{self._name}-{self._number}", self._name, self._node.name, self._random.choice(list(self._agents)))

    def _ask(self, operation: Operation) -> Answered:
        body = {
            "agentId": self._agents[operation.to],
            "type": "record",
            "data": {"name": operation.key},
            "timeout": ASKED_S,
            "idempotencyKey": operation.key,
        }
        return self._asker.post("/v1/tasks", body, ANSWER_S + ASKED_S)

    def _read(self, operation: Operation, status: int, answer: dict[str, object]) -> None:
        receipt, error = answer.get("receipt"), answer.get("error")
        told = str(answer.get("status"))
        operation.said = told if not isinstance(error, dict) else f"{told}: {error.get('name')}"
        if told not in TASK_ENDS or not isinstance(receipt, dict):  # nobody has recorded that
            operation.said = str(answer.get("name") or operation.said)
            return
        operation.id, operation.receipt = str(answer["taskId"]), str(receipt["signed"])
        operation.result = str(answer.get("result") or "")
        operation.outcome = DONE if told == "completed" else UNSURE
