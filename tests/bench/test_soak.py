"""``mesh bench soak``: that its audit would see each thing that it looks for, how it reads a replica's disk, and what a seed decides."""

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from meshos.bench import soak
from meshos.bench.machine import this_machine
from meshos.bench.pbft_node import ORGS, Members
from meshos.bench.report import Report
from meshos.bench.soak_audit import PRICE_MICRO, Asked, Evidence, Run, audit
from meshos.bench.soak_books import Books, Tabbed, books_of
from meshos.bench.soak_load import DONE, NOT_DONE, Load, Operation, first_after
from meshos.bench.soak_mesh import Mesh
from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.application import Ledger
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.kinds import envelope_of
from meshos.consensus.ledger.tabs import OpenTab, RedeemTab, tab_id, voucher
from meshos.consensus.pbft.block import Block, Certificate, Certified, Header, request_hash, requests_root
from meshos.consensus.pbft.chain import Chain
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.signing import sign
from meshos.node.cli.testnet import processes, record
from meshos.node.cli.testnet.making import ALLOCATION
from meshos.storage.memory import MemoryStore

A, B = "did:mesh:enterprise:a", "did:mesh:enterprise:b"


def all_is_well() -> Evidence:
    """a has given b 5 millionths, and paid it for one task."""
    books = Books("a-1", 2, "root", 1, {1: "first", 2: "second"})
    books.moved[A, B, 5] += 1
    books.committed["tx"] += 1
    books.tabs[b"tab"] = Tabbed("key-of-a-1", A, B, [PRICE_MICRO])
    books.wealth.update({A: ALLOCATION - 5 - PRICE_MICRO, B: ALLOCATION + 5 + PRICE_MICRO})
    transfer = Operation("t1", "payer", "a-1", B, micro=5, outcome=DONE, id="tx", said="in block 1")
    task = Operation("c1", "caller", "a-1", "b", outcome=DONE, id="task", result="word", receipt="signed", said="completed")
    return Evidence(
        dids={"a": A, "b": B},
        org_of={"a-1": "a", "b-1": "b"},
        keys={"a-1": "key-of-a-1", "b-1": "key-of-b-1"},
        transfers=[transfer],
        tasks=[task],
        runs=[Run("b", "c1", "word")],
        asked={"c1": [Asked("b-1", "completed", "word", "signed")]},
        books=[books, replace(books, name="b-1")],
    )


def test_nothing_is_found_where_all_is_well() -> None:
    assert audit(all_is_well()).all() == []


def test_an_acknowledged_transfer_that_no_block_holds_is_lost() -> None:
    evidence = all_is_well()
    evidence.transfers = [*evidence.transfers, Operation("t2", "payer", "a-1", B, micro=6, outcome=DONE, id="tx2")]
    (found,) = audit(evidence).lost
    assert "t2" in found and "no block" in found


def test_a_transfer_that_was_said_not_to_be_done_and_was_is_found() -> None:
    evidence = all_is_well()
    evidence.transfers[0].outcome = NOT_DONE  # type: ignore[index]
    assert "was said not to be done" in audit(evidence).lost[0]


def test_a_transfer_that_stands_in_the_blocks_twice_is_found_and_so_are_the_accounts() -> None:
    evidence = all_is_well()
    evidence.books[0].moved[A, B, 5] += 1  # shared by both replicas
    found = audit(evidence)
    assert "committed 2 times" in found.twice[0] and len(found.tokens) == 2


def test_a_transfer_that_nobody_asked_for_is_found_and_a_filler_is_none() -> None:
    evidence = all_is_well()
    evidence.books[0].moved[A, A, 1] += 1
    assert audit(evidence).all() == []
    evidence.transfers = []
    assert "nobody asked for" in audit(evidence).twice[0]


def test_a_task_that_ran_twice_is_found_whatever_was_acknowledged() -> None:
    evidence = all_is_well()
    evidence.tasks[0].outcome = ""
    evidence.runs = [*evidence.runs, Run("b", "c1", "other word")]
    found = audit(evidence)
    assert "run 2 times" in found.twice[0] and "never answered" in found.unanswered[0]


@pytest.mark.parametrize(
    "said", [Asked("b-1", "no-such-task", "", ""), Asked("b-1", "completed", "word", "other"), Asked("b-1", "completed", "", "signed")]
)
def test_an_acknowledged_task_that_its_provider_tells_otherwise_is_lost(said: Asked) -> None:
    evidence = all_is_well()
    evidence.asked = {"c1": [Asked("b-2", "completed", "word", "signed"), said]}
    assert len(audit(evidence).lost) == 1


def test_a_result_that_no_run_has_given_is_lost() -> None:
    evidence = all_is_well()
    evidence.runs = [Run("b", "c1", "other word")]
    assert "its agent has written" in audit(evidence).lost[0]


def test_a_voucher_that_is_redeemed_twice_or_for_more_than_was_done_is_found() -> None:
    evidence = all_is_well()
    evidence.books[0].tabs[b"tab"].redeemed += [PRICE_MICRO]
    assert "redeemed twice" in audit(evidence).twice[0]
    evidence.books[0].tabs[b"tab"].redeemed[-1] *= 2
    assert "for 1 tasks" in audit(evidence).twice[0]


@pytest.mark.parametrize("change", [{"root": "other"}, {"height": 1}, {"blocks": {1: "first", 2: "other"}}, {"faults": ["bad"]}])
def test_replicas_that_differ_are_found(change: dict[str, object]) -> None:
    evidence = all_is_well()
    evidence.books = [evidence.books[0], replace(evidence.books[1], **change)]  # type: ignore[arg-type]
    assert len(audit(evidence).apart) == 1


def test_a_replica_that_took_a_state_as_a_whole_is_compared_by_what_it_has() -> None:
    evidence = all_is_well()
    late = Books("b-1", 2, "root", 2, {2: "second"}, wealth=evidence.books[0].wealth)
    evidence.books = [late, evidence.books[0]]
    assert audit(evidence).all() == []
    evidence.books = [late]
    assert "no replica has kept the blocks below 2" in audit(evidence).apart


# -- a replica's disk --------------------------------------------------------------------------------------------------


class Disk:
    """A ledger's replica that only executes."""

    def __init__(self) -> None:
        members = Members.new([1, 2, 3, 4, 5])
        self.members, genesis = members, members.mesh()
        seats = [(org.did, org.validator) for org in genesis.orgs if org.validator is not None]
        self.validators = ValidatorSet(0, tuple(ValidatorEntry(did, seat.node, seat.key) for did, seat in seats))
        self.store = MemoryStore(random.Random(1))
        config = Config(members.peer(0).node, "", genesis.hash, genesis.time_ms, self.validators)
        self.chain = Chain(config, Ledger(genesis), self.store)
        self.store.write(self.chain.genesis())
        self.genesis = genesis
        self.nonces = [0, 0]

    def signed(self, number: int, body: Body) -> tuple[bytes, bytes]:
        """The request in which validator ``number`` wants ``body`` done, and its transaction's id."""
        envelope = envelope_of(body, self.members.peer(number).node, self.nonces[number], self.genesis.time_ms + 60_000)
        self.nonces[number] += 1
        signature = sign(self.members.key(number), transaction.domain(self.genesis.hash), envelope)
        return transaction.request(envelope, signature), transaction.transaction_id(envelope)

    def block(self, *requests: bytes) -> None:
        """The next block."""
        chain = self.chain
        root = requests_root([request_hash(request) for request in requests])
        at = (chain.height + 1, chain.epoch, chain.time_ms + 1)
        header = Header(*at, chain.head, chain.root, root, chain.named_next().hash)
        self.store.write(chain.apply(Certified(Block(header, requests), Certificate(0, ()))).writes)


def test_the_books_of_a_disk_hold_what_its_blocks_have_done() -> None:
    disk = Disk()
    transfer, id_ = disk.signed(0, Transfer(ORGS[1], 7))
    opening, opened = disk.signed(0, OpenTab(ORGS[1], 100))
    refused, _ = disk.signed(1, Transfer(ORGS[0], 10**14))
    disk.block(transfer, opening, refused)
    tab = tab_id(opened)
    proof = sign(disk.members.key(0), transaction.domain(disk.genesis.hash, "voucher"), voucher(tab, 30))
    redemption, _ = disk.signed(1, RedeemTab(tab, disk.members.peer(0).node, 30, bytes(32), proof))
    disk.block(redemption)
    books = books_of("one", disk.store)
    assert books.faults == [] and books.height == 2 and sorted(books.blocks) == [1, 2]
    assert books.moved == {(ORGS[0], ORGS[1], 7): 1} and books.committed[id_.hex()] == 1 and len(books.committed) == 3
    assert books.tabs == {tab: Tabbed(disk.members.peer(0).node, ORGS[0], ORGS[1], [30])}
    assert books.wealth[ORGS[0]] == ALLOCATION - 37 and books.wealth[ORGS[1]] == ALLOCATION + 37
    evidence = replace(all_is_well(), dids={str(org): org for org in ORGS}, transfers=[], tasks=[], runs=[], books=[books])
    assert audit(evidence).tokens == [] and audit(evidence).apart == []


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_node_that_ended_by_itself_is_told_with_its_last_words_and_so_are_errors(tmp_path: Path) -> None:
    nodes = tuple(
        record.Node(f"{org}-{number}", org, f"did:{org}", "n", "http://127.0.0.1:1", "", (), "", "", None, str(tmp_path), "", number == 1)
        for org in ("alpha", "beta")
        for number in (1, 2)
    )
    (tmp_path / processes.LOG).write_text('{"level":"info"}\n{"level":"error","event":"disk"}\nmesh: the disk is gone\n')
    live = Mesh(record.Testnet(tmp_path, "", nodes))
    assert live.names == ("alpha-1", "beta-1", "beta-2") and [node.name for node in live.validators] == ["alpha-1", "beta-1"]
    assert live.ended() == [f"{name} ended by itself: the disk is gone" for name in live.names]
    assert live.errors() == [f'{name}: {{"level":"error","event":"disk"}}' for name in live.names]
    assert live.head("alpha-1") is None


# -- what a seed decides -----------------------------------------------------------------------------------------------


def test_a_seed_decides_who_is_killed_when() -> None:
    names = ["a", "b", "c", "d"]
    first, again, other = ([*islice(soak.plan(seed, names), 200)] for seed in (1, 1, 2))
    assert first == again != other
    assert {len(kill.victims) for kill in first} == {1, 2, 3, 4} and {name for kill in first for name in kill.victims} == set(names)
    assert any(kill.again_s for kill in first) and any(kill.down_s > 8 for kill in first) and any(not kill.down_s for kill in first)


def test_a_gap_ends_with_a_transfer_that_was_asked_for_after_the_kill() -> None:
    early = Operation("1", "p", "a-1", B, asked=1.0, ended=3.5, outcome=DONE)
    expired = Operation("2", "p", "a-1", B, asked=3.1, ended=3.6, outcome=NOT_DONE)
    late = Operation("3", "p", "a-1", B, asked=3.2, ended=5.0, outcome=DONE)
    assert first_after([early, expired, late], 3.0) == 5.0 and first_after([early, expired], 3.0) is None


def test_a_client_whose_own_node_was_killed_waits_for_that_node() -> None:
    elsewhere = Operation("1", "p", "b-1", A, asked=3.0, ended=3.5, outcome=DONE)
    begun_before = Operation("2", "p", "a-1", B, asked=1.0, ended=7.0, outcome=DONE)
    kill = soak.Kill(0.0, ("a-1", "c-2"), 1.0, None)
    assert soak.own_gaps([elsewhere, begun_before], [(2.0, kill)]) == [5000.0]


def test_any_finding_misses_its_bar(tmp_path_factory: pytest.TempPathFactory) -> None:
    report, soaked = Report("soak", "mesh bench soak", this_machine()), soak.Soaked(loaded_s=1.0)
    soaked.load = Load(tmp_path_factory.mktemp("soak"))
    soaked.findings.twice.append("x was run 2 times")
    soak._rows(report, soaked)
    assert [row.met for row in report.rows if row.bar] == [True, False, True, True, True, True]
