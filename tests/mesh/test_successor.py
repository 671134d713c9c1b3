"""A directory in cells whose codebook is worn and gets a successor while questions go on, one agent goes, one comes, and a node is killed.

The bounds are smaller here, or it would take thousands of records and a quarter of an hour: the nodes read ``SMALLER`` as they start.
Everything else is as it is for everybody: processes, the ledger, the model, the mechanism.
"""

import base64
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

import pytest

from meshos.consensus.ledger.audit import AUDIT
from meshos.consensus.ledger.light_client import decode_bundle
from meshos.ids import OrgDid, agent_id
from meshos.node.cli.testnet import processes
from tests.mesh.conftest import bring_up, decide, end
from tests.mesh.testnet import Net, until

FIRST, SECOND = 150, 250
"""Records on everyday matters, of which the codebook is made, and later ones on medicine: these lie in few of its cells, so that the
largest has ten times the mean then, where three wear it out."""

LATE = FIRST + SECOND
"""The number of the one that comes in the middle of the change."""

SMALLER = f'''"""What the nodes of this test take for the bounds of the directory."""

from meshos.protocols.directory import limits
from meshos.protocols.directory.cells import limits as bounds

limits.WATCH_ROUNDS = 10
bounds.CELLS_FROM = {FIRST}
bounds.RECORDS_A_CELL = 5
'''
"""Twenty seconds for a quarter of an hour. With 5 records to a cell there are 64 cells before and 128 after, so that places
by id move, too."""

THINGS = ("chess", "weather", "invoices", "photos", "trains", "music", "genomes", "recipes", "maps", "tides")
DOINGS = ("reads", "writes", "counts", "sorts", "draws", "plays", "predicts", "translates", "compares", "archives")
ILLS = ("tumours", "fractures", "vaccines", "allergies", "kidneys", "retinas", "surgery", "heartbeats", "prescriptions", "nurses")
CARES = ("diagnoses", "schedules", "scans", "monitors", "explains", "triages", "documents", "forecasts", "classifies", "summarises")
ORGS = ("alpha", "beta", "gamma", "delta")
SPREAD_S = 240.0
"""For hundreds of records to be read, sent and taken in, or a codebook to be made and checked, on a busy machine."""

PAUSE_S = 0.5
"""Between two questions to a node, so that there are up to eight a second."""

PROBES = 8
"""Of each kind so many are asked about."""

IN_A_ROW = 2 * PROBES + 2
"""When so many answers of each node are complete one after another, which are all that is asked about, the change is over."""


def card(number: int) -> dict[str, object]:
    """Different in what it does, and with a word of its own."""
    things, doings = (THINGS, DOINGS) if number < FIRST else (ILLS, CARES)
    what = f"{doings[number // 10 % 10]} {things[number % 10]}"
    return {"name": f"agent-{number}", "description": f"{what} number word{number:04}", "packages": []}


def asked(net: Net, org: str, number: int) -> Any:
    """The answer of ``org``'s node to a question about this one."""
    return net.discover(org, f"word{number:04} {(THINGS if number < FIRST else ILLS)[number % 10]}")


def shows(answer: Any, number: int) -> bool:
    return f"agent-{number}" in [agent["name"] for agent in answer["agents"]]


def found(net: Net, org: str, number: int) -> bool:
    return shows(asked(net, org, number), number)


@dataclass(slots=True)
class Trail:
    """What the ledger's audit trail says of codebooks: ``org``'s node proves its entries, as of the state before the newest block. So
    whenever there is a block of others (``height``: the newest that was looked at) it moves something, which makes one more."""

    net: Net
    org: str
    height: int = 0
    at: int = 0
    codebooks: list[str] = field(default_factory=list)

    def read(self) -> list[str]:
        """Their versions and hashes so far."""
        if self._height() > self.height:
            gift = 1_000_000 + time.monotonic_ns() % 1_000_000
            moved = self.net.ask(self.org, "POST", "/v1/proposals", {"motion": {"parameters": {"admission-gift": gift}}})
            self.height = self._height() if moved.status in (200, 201) else 0  # busy: again
        while True:
            place = "".join(f"%{byte:02x}" for byte in self.at.to_bytes(4, "big"))
            answer = self.net.ask(self.org, "GET", f"/v1/ledger/proofs/audit/{place}")
            if answer.status != 200:
                assert answer.body["name"] == "proof-not-yet", answer
                return self.codebooks
            value = decode_bundle(base64.b64decode(answer.body["proof"])).value
            if value is None:
                return self.codebooks
            entry = AUDIT.decode(value)
            self.codebooks += [entry.subject] if entry.what == "codebook" else []
            self.at += 1

    def _height(self) -> int:
        return int(self.net.ask("alpha", "GET", "/v1/ledger/head").body["height"])


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer of ``org``'s node about one agent. ``meant``: it ought to be there (it was known to all) or not (it was gone for all)."""

    at: float
    org: str
    number: int
    meant: bool
    there: bool
    complete: bool


@dataclass(slots=True)
class Asking:
    """All nodes are asked about what is ``known`` to all and ``gone`` for all, by turns. ``failed``: when whom no answer came from."""

    net: Net
    known: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    seen: list[Seen] = field(default_factory=list)
    failed: list[tuple[float, str, str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def go_on(self, org: str) -> None:
        """Until it is ``stopped``."""
        turn = ORGS.index(org)
        while not self.stopped.wait(PAUSE_S):
            turn, known, gone = turn + 1, self.known, self.gone
            number = (*known, *gone)[turn % len((*known, *gone))]
            at = time.monotonic()
            try:
                answer = asked(self.net, org, number)
            except (OSError, ValueError, HTTPException, AssertionError) as error:
                self.failed.append((at, org, repr(error)))
                continue
            if number in (self.known if number in known else self.gone):  # it was withdrawn meanwhile otherwise
                self.seen.append(Seen(at, org, number, number in known, shows(answer, number), answer["complete"]))

    def in_a_row(self, org: str, since: float) -> int:
        """How many of its last answers, all ``since`` then, were complete."""
        row = 0
        for one in reversed([one for one in self.seen if one.org == org and one.at > since]):
            if not one.complete:
                break
            row += 1
        return row


@contextmanager
def asking(net: Net, known: tuple[int, ...]) -> Iterator[Asking]:
    """Questions to all nodes in threads of their own."""
    questions = Asking(net, known)
    threads = [threading.Thread(target=questions.go_on, args=(org,), daemon=True) for org in ORGS]
    for thread in threads:
        thread.start()
    try:
        yield questions
    finally:
        questions.stopped.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True, slots=True)
class Change:
    """What came of it. The times are those of ``Seen``: the successor was ``in_force``, delta was killed, and was ``back``. ``left_s``: so
    soon after a word to its owner's node a withdrawn agent was gone from the answers of all that ran."""

    net: Net
    questions: Asking
    in_force: float
    back: float
    left_s: float


@pytest.fixture(scope="module")
def change(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Change]:
    """All that happens, from a fresh testnet until the change is over."""
    folder = tmp_path_factory.mktemp("successor")
    (folder / "smaller").mkdir()
    (folder / "smaller" / "sitecustomize.py").write_text(SMALLER, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        paths = (str(folder / "smaller"), os.environ.get("PYTHONPATH", ""))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        try:
            net = bring_up(folder, 4)
            known = cut(net)
            with asking(net, known) as questions:
                yield changed(net, questions)
        finally:
            end(folder)


def cut(net: Net) -> tuple[int, ...]:
    """Have the directory cut into cells by its first records; some of these, which all nodes find."""
    decide(net, {"directory-cells": 1})
    for part, org in enumerate(ORGS[:2]):
        net.publish(org, *map(card, range(part, FIRST, 2)))
    until(lambda: all(asked(net, org, 0)["cellsAsked"] > 1 for org in ORGS), "the directory is still whole", SPREAD_S)
    until(lambda: all(asked(net, org, 0)["complete"] for org in ORGS), "some cells are not answered for")
    some = range(0, FIRST - FIRST % PROBES, FIRST // PROBES)
    for number in some:
        until(lambda number=number: all(found(net, org, number) for org in ORGS), f"not all nodes find {number}")  # type: ignore[misc]
    return tuple(some)


def changed(net: Net, questions: Asking) -> Change:
    """Wear the codebook, and in the middle of the change kill delta, withdraw an agent, publish another, and start delta again."""
    net.publish("beta", *map(card, range(FIRST, FIRST + SECOND, 2)))
    some = range(FIRST, FIRST + SECOND - 2 * PROBES, SECOND // PROBES // 2 * 2)
    questions.known += tuple(number for number in some if all(found(net, org, number) for org in ORGS))  # not all are, by one that is worn
    net.publish("gamma", *map(card, range(FIRST + 1, FIRST + SECOND, 2)))
    trail = Trail(net, "alpha")
    until(lambda: len(trail.read()) > 1, "there is no successor", SPREAD_S)
    in_force = time.monotonic()
    processes.kill([net.node("delta")])
    left_s = withdraw(net, questions)
    net.publish("beta", card(LATE))
    until(lambda: all(found(net, org, LATE) for org in ORGS[:3]), "what has come in the middle is not found")
    net.must("testnet", "start", "delta-1")
    back = time.monotonic()
    until(lambda: found(net, "delta", LATE), "what has come in the middle is not found by the node that was away")
    questions.known += (LATE,)
    until(lambda: all(questions.in_a_row(org, back) >= IN_A_ROW for org in ORGS), "some answers go on to be partial", SPREAD_S)
    return Change(net, questions, in_force, back, left_s)


def withdraw(net: Net, questions: Asking) -> float:
    """Have alpha withdraw the first that is known, and give how long it took until no node that runs found it any more."""
    number, *others = questions.known
    agent = next(agent for agent in asked(net, "alpha", number)["agents"] if agent["name"] == f"agent-{number}")
    questions.known = tuple(others)
    begun = time.monotonic()
    assert net.ask("alpha", "DELETE", f"/v1/agents/{agent['agentId']}").status == 200
    until(lambda: not any(found(net, org, number) for org in ORGS[:3]), "a withdrawn agent is still found")
    questions.gone = (number,)
    return time.monotonic() - begun


def told(some: list[Seen], since: float) -> str:
    """For whoever reads that a test has failed."""
    return "; ".join(f"{one.at - since:.1f} s after the change: {one.org} about {one.number}" for one in some)


def test_the_ledger_has_a_successor_of_the_codebook_which_every_node_proves(change: Change) -> None:
    trails = [Trail(change.net, org) for org in ORGS]
    for trail in trails:
        until(lambda trail=trail: len(trail.read()) > 1, f"{trail.org} does not prove it")  # type: ignore[misc]
        assert trail.codebooks[:2] == trails[0].codebooks[:2]
    assert [subject.partition(":")[0] for subject in trails[0].codebooks][:2] == ["version 1", "version 2"]


def test_what_was_known_to_all_is_in_every_complete_answer_and_in_nearly_all_others(change: Change) -> None:
    meant = [one for one in change.questions.seen if one.meant]
    lacking = [one for one in meant if not one.there]
    wrong = [one for one in lacking if one.complete]
    assert not wrong, told(wrong, change.in_force)
    assert len(lacking) <= 0.02 * sum(one.at > change.in_force for one in meant), told(lacking, change.in_force)


def test_what_was_withdrawn_in_the_middle_is_gone_within_seconds_and_does_not_come_back(change: Change) -> None:
    assert change.left_s < 15
    back = [one for one in change.questions.seen if not one.meant and one.there]
    wrong = [one for one in back if one.complete or one.org != "delta" or one.at > change.back + 15]
    assert not wrong, told(wrong, change.in_force)  # delta has its own copy at first, and says that its answer is partial


def test_only_the_node_that_was_killed_did_not_answer(change: Change) -> None:
    assert {org for _, org, _ in change.questions.failed} <= {"delta"}
    assert all(change.in_force - 1 < at < change.back for at, _, _ in change.questions.failed), change.questions.failed


def test_afterwards_nothing_is_lost_and_all_answers_are_complete(change: Change) -> None:
    """By its id every record is found from every node; by a question, which goes to a fifth of all, nearly every one."""
    there = []
    for number in (*range(5, FIRST, FIRST // 5), *range(FIRST + 5, FIRST + SECOND, SECOND // 5), LATE):
        owner = ORGS[number % 2] if number < FIRST else ORGS[1 + number % 2]
        agent = agent_id(OrgDid(f"did:mesh:enterprise:{owner}"), f"agent-{number}")
        for org in ORGS:
            assert change.net.ask(org, "GET", f"/v1/agents/{agent}").body["name"] == f"agent-{number}"
            there.append(shows(until(lambda org=org, number=number: complete(change.net, org, number)), number))  # type: ignore[misc]
    assert sum(there) >= 0.9 * len(there)


def complete(net: Net, org: str, number: int) -> Any:
    """The answer, if it is."""
    answer = asked(net, org, number)
    return answer if answer["complete"] else None
