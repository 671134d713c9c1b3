"""What a node owes the ledger: sent once, by whom it falls to, again where it was not done, and nothing where nothing is missing."""

from itertools import pairwise
from random import Random

import pytest

from meshos.consensus.ledger.commitments import COMMITMENTS, Commit, Commitment
from meshos.consensus.ledger.keys import KEYS, NODE, Key
from meshos.consensus.ledger.limits import MAX_TESTIMONIES, TESTIMONY_MS
from meshos.consensus.ledger.members import ORGS, Org
from meshos.consensus.ledger.motions import MOTIONS, Admit, Motion, Vote
from meshos.consensus.ledger.parameters import BY_INVITATION, BY_VOTE, OPEN, PARAMETERS, SPECS, Parameters
from meshos.consensus.ledger.seats import SEATS, Seats
from meshos.consensus.ledger.testimonies import DISCHARGES, OMITTED, STALE, TESTIMONIES, Discharge, said_by
from meshos.consensus.ledger.testimonies import Testify as Accuse  # pytest takes what begins with Test for its own
from meshos.consensus.ledger.testimonies import Testimony as Said
from meshos.consensus.ledger.upgrades import RULES, SUPPORTED, Rules, Support
from meshos.consensus.org.commands import Agent
from meshos.consensus.org.entries import META, Meta, agent_key, write_agent, write_meta
from meshos.consensus.pbft.validators import ValidatorEntry
from meshos.crypto import certificates
from meshos.crypto.keys import SigningKey, multikey
from meshos.effects import Delete, Err, Ok, Put, Tick
from meshos.errors import Refused, busy
from meshos.ids import AgentId, NodeId, agent_id
from meshos.protocols.directory.record import Tombstone, content_hash, seal
from meshos.protocols.directory.suspects import Lie
from meshos.protocols.ledger import registrar as module
from meshos.protocols.ledger.limits import ADMISSIONS, AT_ONCE, HOUR_S, LOOK_S, MAX_REF_BYTES, OWED_S, PAGE, REFRESH_S
from meshos.protocols.ledger.registrar import Registrar
from meshos.protocols.ledger.sender import Send
from meshos.protocols.ledger.slots import COMMITTED, EXPIRED, REFUSED, Concluded
from meshos.storage.memory import MemoryStore
from tests.directory.world import record
from tests.ledger.books import did
from tests.payments.lone import ALPHA, ME, Ledger, Lone

OTHER = NodeId("alpha-2")


class Office:
    """Who leads alpha."""

    lead: int | None = 1
    leader = ME.node


class Alpha:
    """The organisation's state, its node's registrar, and the ledger."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger, self.office, self.store = ledger or Ledger(), Office(), MemoryStore(Random(0))
        self.audits = 0
        self.begin()

    def begin(self) -> None:
        """A new life of the node."""
        self.lone = Lone(Registrar(ME, self.office, self.ledger, lambda: self.store, now=100.0))
        self.ops: dict[bytes, int] = {}

    def deploy(self, name: str, version: int = 1, *, withdrawn: bool = False) -> AgentId:
        id_ = agent_id(ALPHA, name)
        entry = Tombstone(ALPHA, name, version, 0) if withdrawn else record(name, version=version)
        sealed = seal(entry, ME.node, bytes(64), b"proof")
        agent = Agent(id_, name, version, b"file", "/", sealed.to_bytes(), (), 0, 0, withdrawn)
        self.audits += 1
        self.store.write((Put(agent_key(id_), write_agent(agent)), Put(META, write_meta(Meta(audit=self.audits)))))
        return id_

    def look(self, later: float = LOOK_S) -> list[Send]:
        """What it sends after so much time."""
        self.lone.now += later
        for _ in range(200):
            self.lone.step(Tick())
            if (self.lone.machine.deadline() or 0.0) > self.lone.now:
                break
        return self.sent()

    def sent(self) -> list[Send]:
        asked, self.lone.asked = self.lone.asked, []
        found = [(op, command) for op, command in asked if isinstance(command, Send)]
        assert len(found) == len(asked) and all(len(command.ref) <= MAX_REF_BYTES for _, command in found)
        self.ops |= {command.ref: op for op, command in found}
        return [command for _, command in found]

    def end(self, send: Send, outcome: str = COMMITTED, name: str = "", later: float = 0.5) -> list[Send]:
        """The ledger decides; what is sent then."""
        if outcome == COMMITTED:
            self.commit(send)
        self.lone.now += later
        self.lone.complete(self.ops[send.ref], Ok(Concluded(send.ref, bytes(32), outcome, name)))
        return self.sent()

    def commit(self, send: Send) -> None:
        body = send.body
        if isinstance(body, Support):
            self.ledger.put(RULES, b"", Rules(support=((ALPHA, body.version),)))
            return
        if isinstance(body, Vote):
            return
        if isinstance(body, Accuse):
            said = said_by(self.ledger, ALPHA, self.ledger.time_ms)
            self.ledger.put(TESTIMONIES, ALPHA, (*said, Said(body.node, body.reason, body.answer, self.ledger.time_ms)))
            return
        assert isinstance(body, Commit)
        self.ledger.put(COMMITMENTS, agent_id(ALPHA, body.name), Commitment(ALPHA, body.version, body.record or b"", 1))


@pytest.fixture
def alpha() -> Alpha:
    return Alpha()


# -- commitments -------------------------------------------------------------------------------------------------------


def test_a_deployed_agent_is_committed_to_once_by_the_leader(alpha: Alpha) -> None:
    assert alpha.look() == []
    id_ = alpha.deploy("clock")
    (send,) = alpha.look()
    assert send == Send(f"commit/{id_}/1/0".encode(), Commit("clock", 1, _hash("clock")))
    assert alpha.look() == [], "it is on its way"
    assert alpha.end(send) == [] and alpha.look(REFRESH_S) == []
    assert alpha.lone.machine.statistics() == {"owed": 0, "in_flight": 0, "refused": 0}  # type: ignore[attr-defined]


def test_a_renewed_record_has_the_hash_of_the_first_and_another_text_has_not() -> None:
    assert _hash("clock", 1) == _hash("clock", 7) != _hash("chess", 1)


def test_a_new_version_and_a_withdrawal_are_committed_to(alpha: Alpha) -> None:
    alpha.deploy("clock")
    alpha.end(alpha.look()[0])
    alpha.deploy("clock", 2)
    (send,) = alpha.look()
    assert send.body == Commit("clock", 2, _hash("clock", 2))
    alpha.end(send)
    alpha.deploy("clock", 3, withdrawn=True)
    (send,) = alpha.look()
    assert send.body == Commit("clock", 3, None)


def test_the_withdrawal_of_what_the_ledger_does_not_have_is_not_owed(alpha: Alpha) -> None:
    """Neither of what was withdrawn before it was committed to, nor of what the ledger has as withdrawn, or has forgotten."""
    alpha.deploy("clock", 3, withdrawn=True)
    assert alpha.look() == [] and alpha.look(REFRESH_S) == []
    id_ = alpha.deploy("chess", 4, withdrawn=True)
    alpha.ledger.put(COMMITMENTS, id_, Commitment(ALPHA, 2, b"", 1, 7))
    assert alpha.look() == []
    alpha.ledger.put(COMMITMENTS, id_, Commitment(ALPHA, 2, _hash("chess"), 1))
    (send,) = alpha.look(REFRESH_S)
    assert send.body == Commit("chess", 4, None)


def test_what_is_withdrawn_while_its_commitment_is_on_its_way_is_withdrawn_on_the_ledger_after_it(alpha: Alpha) -> None:
    alpha.deploy("clock")
    (first,) = alpha.look()
    alpha.deploy("clock", 2, withdrawn=True)
    assert alpha.look() == [], "there is nothing yet that could be withdrawn"
    sent = alpha.end(first) or alpha.look()
    assert [send.body for send in sent] == [Commit("clock", 2, None)]


def test_a_newer_version_takes_the_place_of_one_that_is_on_its_way(alpha: Alpha) -> None:
    alpha.deploy("clock")
    (first,) = alpha.look()
    alpha.deploy("clock", 2)
    (second,) = alpha.look()
    alpha.end(first, REFUSED, "version-conflict")
    assert alpha.look(REFRESH_S) == [], "the newer one is on its way still"
    alpha.end(second)
    assert alpha.look(REFRESH_S) == []


def test_whoever_does_not_lead_sends_nothing_and_begins_when_it_does(alpha: Alpha) -> None:
    alpha.office.lead = None
    alpha.deploy("clock")
    assert alpha.look() == [] and alpha.look(REFRESH_S) == []
    alpha.office.lead = 2
    assert len(alpha.look()) == 1


def test_what_another_node_has_committed_to_is_not_sent(alpha: Alpha) -> None:
    id_ = alpha.deploy("clock")
    alpha.ledger.put(COMMITMENTS, id_, Commitment(ALPHA, 1, _hash("clock"), 1))
    assert alpha.look() == []
    alpha.ledger.put(COMMITMENTS, id_, None)
    assert alpha.look() == [], "nothing changed here"
    assert len(alpha.look(REFRESH_S)) == 1, "but it is compared again now and then"


def test_a_restart_asks_for_the_same_under_the_same_name(alpha: Alpha) -> None:
    alpha.deploy("clock")
    (first,) = alpha.look()
    alpha.begin()
    assert alpha.look() == [first]


def test_a_refusal_is_tried_again_under_another_name_after_growing_pauses(alpha: Alpha) -> None:
    id_ = alpha.deploy("clock")
    (send,) = alpha.look()
    pauses = []
    for attempt in range(1, 5):
        began = alpha.lone.now
        again = alpha.end(send, EXPIRED)
        while not again:
            again = alpha.look()
        (send,) = again
        assert send.ref == f"commit/{id_}/1/{attempt}".encode()
        pauses.append(alpha.lone.now - began)
    assert pauses[0] >= OWED_S and all(later > 1.4 * earlier for earlier, later in pairwise(pauses)), pauses


def test_what_had_ended_before_a_restart_costs_no_pause(alpha: Alpha) -> None:
    alpha.deploy("clock")
    (send,) = alpha.look()
    (again,) = alpha.end(send, EXPIRED, later=0.0)
    assert again.ref.endswith(b"/1")


def test_a_full_queue_is_tried_again_under_the_same_name(alpha: Alpha) -> None:
    alpha.deploy("clock")
    (send,) = alpha.look()
    alpha.lone.complete(alpha.ops[send.ref], Err(busy("the queue of this node's transactions")))
    assert alpha.look() == [] and alpha.look(OWED_S) == [send]


def test_a_thousand_agents_are_committed_to_a_few_at_a_time_and_read_in_pages(alpha: Alpha, monkeypatch: pytest.MonkeyPatch) -> None:
    read = [0]
    compare = Registrar._compare

    def counted(self: Registrar, agent: Agent) -> None:
        read[0] += 1
        compare(self, agent)

    monkeypatch.setattr(Registrar, "_compare", counted)
    for number in range(3 * PAGE + 1):
        alpha.deploy(f"agent {number}")
    alpha.lone.now += LOOK_S
    alpha.lone.step(Tick())
    assert read[0] == PAGE, "in one step"
    sent = alpha.sent() + alpha.look()
    assert len(sent) == AT_ONCE and read[0] == 3 * PAGE + 1
    done = set()
    while sent:
        send = sent.pop(0)
        done.add(send.body)
        sent += alpha.end(send)
        assert len(sent) <= AT_ONCE
    assert len(done) == 3 * PAGE + 1 == len({body.name for body in done if isinstance(body, Commit)})
    for _ in range(20):
        alpha.look()
    assert read[0] == 3 * PAGE + 1, "none is read again while nothing changes"


def test_a_state_that_is_being_laid_down_is_no_reason_to_send(alpha: Alpha) -> None:
    alpha.deploy("clock")
    alpha.ledger.restoring = True
    assert alpha.look() == [] and alpha.look() == []
    alpha.ledger.restoring = False
    assert len(alpha.look()) == 1


def test_an_organisation_whose_state_is_older_than_the_ledgers_sends_nothing(alpha: Alpha) -> None:
    id_ = alpha.deploy("clock", 3)
    alpha.ledger.put(COMMITMENTS, id_, Commitment(ALPHA, 5, bytes(32), 1))
    assert alpha.look() == []


def test_what_is_gone_from_the_organisation_is_owed_no_more(alpha: Alpha) -> None:
    id_ = alpha.deploy("clock")
    (send,) = alpha.look()
    alpha.store.write((Delete(agent_key(id_)),))
    alpha.office.lead = None
    alpha.look()
    assert alpha.end(send, EXPIRED) == [] and alpha.look(REFRESH_S) == []


def test_it_takes_no_commands(alpha: Alpha) -> None:
    outcome = alpha.lone.ask("anything")
    assert isinstance(outcome, Err) and isinstance(outcome.error, Refused) and outcome.error.name == "unknown-command"


# -- support of rules --------------------------------------------------------------------------------------------------


def seated(ledger: Ledger, node: NodeId) -> None:
    ledger.put(SEATS, b"", Seats((ValidatorEntry(ALPHA, node, "key"),)))


def test_the_node_with_the_seat_says_which_rules_it_supports(alpha: Alpha, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha.office.lead = None
    seated(alpha.ledger, ME.node)
    assert alpha.look() == [], "what the ledger takes for granted"
    monkeypatch.setattr(module, "SUPPORTED", 2)
    (send,) = alpha.look()
    assert send == Send(b"support/2/0", Support(2))
    assert alpha.end(send) == [] and alpha.look() == []
    monkeypatch.setattr(module, "SUPPORTED", 1)
    (back,) = alpha.look()
    assert back.body == Support(1)


def test_a_node_without_the_seat_says_nothing(alpha: Alpha, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUPPORTED", 2)
    assert alpha.look() == []
    seated(alpha.ledger, OTHER)
    assert alpha.look() == []
    seated(alpha.ledger, ME.node)
    assert len(alpha.look()) == 1
    seated(alpha.ledger, OTHER)
    assert alpha.look() == [] and alpha.lone.machine.statistics()["owed"] == 0  # type: ignore[attr-defined]


# -- testimonies -------------------------------------------------------------------------------------------------------


@pytest.fixture
def convinced(alpha: Alpha) -> dict[NodeId, Lie]:
    """Of whom the directory of alpha's seated node is convinced; beta-1, beta-2 and so on are nodes."""
    found: dict[NodeId, Lie] = {}
    alpha.lone.machine._convinced = lambda: found  # type: ignore[attr-defined]
    seated(alpha.ledger, ME.node)
    alpha.ledger.put(RULES, b"", Rules(support=((ALPHA, SUPPORTED),)))
    for number in range(1, MAX_TESTIMONIES + 4):
        alpha.ledger.put(KEYS, f"beta-{number}", Key(NODE, did("beta")))
    return found


def test_the_node_with_the_seat_testifies_once_about_whom_it_is_convinced_of(alpha: Alpha, convinced: dict[NodeId, Lie]) -> None:
    convinced[NodeId("beta-1")] = Lie(STALE, b"a" * 32)
    alpha.office.lead = None
    (send,) = alpha.look()
    assert send == Send(f"testify/{b'a'.hex() * 16}/0".encode(), Accuse("beta-1", STALE, b"a" * 32))
    assert alpha.look() == [], "it is on its way"
    alpha.end(send)
    assert alpha.look(OWED_S) == [] and alpha.lone.machine.statistics()["owed"] == 0  # type: ignore[attr-defined]
    alpha.ledger.time_ms += TESTIMONY_MS + 1
    assert [again.body for again in alpha.look()] == [send.body], "it has lapsed, and this node is convinced still"


def test_what_is_refused_is_tried_again_until_it_is_needed_no_more(alpha: Alpha, convinced: dict[NodeId, Lie]) -> None:
    convinced[NodeId("beta-1")] = Lie(STALE, b"a" * 32)
    (send,) = alpha.look()
    assert alpha.end(send, REFUSED, "no-voice") == []
    (again,) = alpha.look(OWED_S)
    assert again.ref != send.ref and again.body == send.body
    alpha.end(again, REFUSED, "no-voice")
    alpha.ledger.put(DISCHARGES, "beta-1", Discharge(1, ()))
    assert alpha.look(10 * OWED_S) == [] and alpha.lone.machine.statistics()["owed"] == 0  # type: ignore[attr-defined]


def test_it_says_nothing_of_its_own_nodes_of_strangers_nor_where_another_speaks(alpha: Alpha, convinced: dict[NodeId, Lie]) -> None:
    alpha.ledger.put(KEYS, OTHER, Key(NODE, ALPHA))
    convinced |= {node: Lie(STALE, b"a" * 32) for node in (OTHER, NodeId("stranger"))}
    assert alpha.look() == []
    convinced[NodeId("beta-1")] = Lie(STALE, b"a" * 32)
    seated(alpha.ledger, OTHER)
    assert alpha.look() == []
    seated(alpha.ledger, ME.node)
    assert len(alpha.look()) == 1


def test_it_testifies_about_no_more_nodes_than_the_ledger_takes(alpha: Alpha, convinced: dict[NodeId, Lie]) -> None:
    convinced |= {NodeId(f"beta-{number}"): Lie(OMITTED, bytes([number]) * 32) for number in range(1, MAX_TESTIMONIES + 4)}
    sent, waiting = 0, alpha.look()
    while waiting:
        sent += 1
        waiting += alpha.end(waiting.pop())
        waiting += [] if waiting else alpha.look()
    assert sent == MAX_TESTIMONIES == len(said_by(alpha.ledger, ALPHA, alpha.ledger.time_ms))


# -- strangers ---------------------------------------------------------------------------------------------------------


def asks(ledger: Ledger, number: int = 1, policy: int = OPEN, *, forged: bool = False, voted: tuple[str, ...] = ("beta",)) -> bytes:
    """A motion of beta's to admit somebody, where the mesh admits by ``policy``; its id."""
    seated(ledger, ME.node)
    values = tuple(policy if name == "admission" else 1 for name in SPECS)
    ledger.put(PARAMETERS, b"", Parameters(1, values, values))
    root, org = SigningKey(number.to_bytes(32, "big")), did(f"stranger{number}")
    certificate = certificates.new_root(root, did("another") if forged else org, now=1_700_000_000)
    id_ = bytes([number]) * 32
    ledger.put(MOTIONS, id_, Motion("beta", Admit(org, multikey(root.public), certificate, bytes(64)), 10**15, voted))
    ledger.height += 1
    return id_


def test_it_votes_once_for_a_stranger_whom_another_moves_to_admit(alpha: Alpha) -> None:
    alpha.office.lead = None
    id_ = asks(alpha.ledger)
    (send,) = alpha.look()
    assert send.body == Vote(id_, True)
    assert alpha.look() == [], "it is on its way"
    alpha.ledger.put(MOTIONS, id_, None)
    assert alpha.end(send) == [] and alpha.look() == []


def test_it_does_not_vote_where_people_do_nor_for_a_root_that_is_not_that_of_its_certificate(alpha: Alpha) -> None:
    asks(alpha.ledger, policy=BY_VOTE)
    assert alpha.look() == []
    asks(alpha.ledger, forged=True)
    assert alpha.look() == []
    asks(alpha.ledger, voted=("beta", ALPHA))
    assert alpha.look() == [], "it has voted"
    asks(alpha.ledger, 2, policy=BY_INVITATION)
    assert len(alpha.look()) == 1


def test_a_certificate_is_looked_at_once(alpha: Alpha, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(module, "verify_root", lambda certificate, org, public: looked.append(org))
    for number in range(1, ADMISSIONS + 4):
        asks(alpha.ledger, number)
    for _ in range(3):  # there are more of them than it welcomes, so it looks at all of them again
        alpha.look()
        alpha.ledger.height += 1
    assert sorted(looked) == sorted(did(f"stranger{number}") for number in range(1, ADMISSIONS + 4))
    alpha.ledger.put(MOTIONS, bytes([1]) * 32, None)
    alpha.look()
    assert len(alpha.lone.machine._genuine) == ADMISSIONS + 2, "of a motion that has ended nothing is kept"  # type: ignore[attr-defined]


def test_what_can_never_be_carried_it_votes_against_and_of_a_former_member_it_says_nothing(alpha: Alpha) -> None:
    id_ = asks(alpha.ledger)
    (send,) = alpha.look()
    assert send.body == Vote(id_, True)
    alpha.ledger.put(ORGS, did("stranger1"), Org("another-root", 1))
    assert alpha.end(send, REFUSED, "already-a-member") == []
    alpha.ledger.height += 1
    (against,) = alpha.look(OWED_S)
    assert against.body == Vote(id_, False)
    alpha.end(against, EXPIRED)
    alpha.ledger.put(ORGS, did("stranger1"), Org("another-root", 1, left_ms=2))
    alpha.ledger.height += 1
    assert alpha.look(REFRESH_S) == []


def test_a_vote_that_nobody_needs_any_more_is_not_sent_again(alpha: Alpha) -> None:
    id_ = asks(alpha.ledger)
    (send,) = alpha.look()
    assert alpha.end(send, EXPIRED) == []
    alpha.ledger.put(MOTIONS, id_, None)
    alpha.ledger.height += 1
    assert alpha.look(REFRESH_S) == []


def test_it_welcomes_so_many_an_hour_and_leaves_the_rest_to_people(alpha: Alpha) -> None:
    for number in range(1, ADMISSIONS + 4):
        asks(alpha.ledger, number)
    seen = _votes(alpha)
    assert len(seen) == ADMISSIONS
    alpha.lone.now += HOUR_S * 2 / ADMISSIONS
    alpha.ledger.height += 1
    assert len(_votes(alpha)) == 2


def _votes(alpha: Alpha) -> list[Send]:
    """All that it sends, each carried at once."""
    waiting, seen = alpha.look(), []
    while waiting:
        send = waiting.pop(0)
        seen.append(send)
        assert isinstance(send.body, Vote)
        alpha.ledger.put(MOTIONS, send.body.motion, None)
        waiting += alpha.end(send)
    return seen


def test_this_code_supports_the_rules_that_are_taken_for_granted() -> None:
    assert SUPPORTED == 1, "then what a new mesh announces is tested elsewhere"


def _hash(name: str, version: int = 1) -> bytes:
    return content_hash(seal(record(name, version=version), ME.node, bytes(64), b"proof").body)
