"""How the agreement may be broken, one rule at a time: each of these must be found by a scenario of this folder."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakKeyDictionary

from meshos.consensus.pbft import ballot, claims, validators, view_change, views
from meshos.consensus.pbft.asking import Asking
from meshos.consensus.pbft.ballot import Ballot
from meshos.consensus.pbft.block import Block, Certified, Header
from meshos.consensus.pbft.chain import Chain
from meshos.consensus.pbft.checking import Lane
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.fetching import Fetching
from meshos.consensus.pbft.messages import Checkpoints, Message, NewView, ViewChange, Vote
from meshos.consensus.pbft.pbft import Pbft
from meshos.consensus.pbft.quorum import faults, quorum
from meshos.consensus.pbft.records import ViewRecord
from meshos.consensus.pbft.relaying import PASSED, Relaying
from meshos.consensus.pbft.transfer import Transfer
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.consensus.pbft.view_change import Changes, Choice, choose
from meshos.consensus.pbft.views import Views
from meshos.crypto.signing import Claim
from meshos.effects import WriteBack
from meshos.errors import Refused
from meshos.ids import NodeId
from meshos.simulations.mutations import Mutation, replaced
from meshos.simulations.pbft import group
from meshos.simulations.pbft.toy import Toy, ToyBatch


@contextmanager
def quorum_less_one() -> Iterator[None]:
    """Two quorums need not share an honest validator."""
    with replaced(validators, "quorum", lambda n: quorum(n) - 1):
        yield


@contextmanager
def vote_not_persisted() -> Iterator[None]:
    """A vote is signed, and nothing on the disk knows of it."""

    def forgetful(self: Ballot, block: Block) -> None:
        return None

    with replaced(Ballot, "_persist", forgetful):
        yield


@contextmanager
def skipped_fsync() -> Iterator[None]:
    """Votes and promises are written some time, and signed at once."""
    with replaced(ballot, "Persist", WriteBack):
        yield


@contextmanager
def missing_lock_check() -> Iterator[None]:
    """A new view begins afresh, whatever its votes say is prepared."""

    def afresh(changes: Iterable[ViewChange]) -> Choice:
        return Choice(choose(changes).height)

    with replaced(views, "choose", afresh), replaced(view_change, "choose", afresh):
        yield


@contextmanager
def lock_not_told() -> Iterator[None]:
    """A promise says nothing of what is prepared."""
    promise = Ballot.promise

    def forgetful(self: Ballot, view: int, height: int, head: bytes) -> None:
        self.voted = replace(self.voted, lock=None)
        promise(self, view, height, head)

    with replaced(Ballot, "promise", forgetful):
        yield


@contextmanager
def new_view_not_verified() -> Iterator[None]:
    """Whatever its primary calls the proof of a view is one."""

    def believed(message: NewView, genesis_hash: bytes, sets: claims.Sets) -> list[Claim]:
        return []

    with replaced(claims, "_new_view", believed):
        yield


@contextmanager
def dedup_off() -> Iterator[None]:
    """A request that was ordered may be ordered again; the application does not notice either."""
    with replaced(Chain, "place", lambda self, name: None), replaced(ToyBatch, "admit", lambda self, request: None):
        yield


@contextmanager
def unsigned_accepted() -> Iterator[None]:
    """Signatures are looked at, and never found wrong."""
    ended = Lane.ended

    def blind(self: "Lane[object]", outcome: object) -> object:
        return [(item, True) for item, _ in ended(self, outcome)]  # type: ignore[arg-type]

    with replaced(Lane, "ended", blind):
        yield


@contextmanager
def one_liar_too_many() -> Iterator[None]:
    """f + 1 of the validators lie."""
    with replaced(group, "liars_of", lambda n: faults(n) + 1):
        yield


@contextmanager
def state_root_unchecked() -> Iterator[None]:
    """A block may name any state before it."""
    check = Chain.check_links

    def lenient(self: Chain, header: Header) -> None:
        check(self, replace(header, state_root=self.root))

    with replaced(Chain, "check_links", lenient):
        yield


@contextmanager
def set_change_at_once() -> Iterator[None]:
    """Other validators decide from the next block on."""

    def hasty(self: Chain) -> ValidatorSet:
        return self._head.pending or self._head.validators

    with replaced(Chain, "named_next", hasty):
        yield


@contextmanager
def views_across_epochs() -> Iterator[None]:
    """The proof of a view counts in later epochs too, where other validators decide.

    That a view merely goes on beyond the boundary, with its number, breaks nothing and is no mutation: whoever begins an epoch in view v
    has voted in no view of it below v, which is all that a promise of v says; at most f honest validators can begin above a view in
    which q have prepared, too few for a quorum with f liars, and whoever joins them from below comes by q promises of this epoch.
    """
    worth, enter = Pbft._worth, Views.on_new_view

    def also_old(self: Pbft, sender: NodeId, message: Message) -> bool:
        if isinstance(message, NewView) and message.epoch < self.chain.epoch:
            return message.view > self.view
        return worth(self, sender, message)

    def as_if_of_now(self: Views, sender: NodeId, message: NewView) -> None:
        enter(self, sender, replace(message, epoch=max(message.epoch, self._desk.chain.epoch)))

    with replaced(Pbft, "_worth", also_old), replaced(Views, "on_new_view", as_if_of_now):
        yield


@contextmanager
def choice_forgotten() -> Iterator[None]:
    """What a view must begin with is not on the disk."""
    enter = Ballot.enter

    def forgetful(self: Ballot, view: int, choice: Choice) -> None:
        enter(self, view, Choice(choice.height))
        self.record = ViewRecord(self.record.epoch, view, view, choice)

    with replaced(Ballot, "enter", forgetful):
        yield


@contextmanager
def promise_not_binding() -> Iterator[None]:
    """A validator that has promised to leave a view goes on voting in it."""

    def careless(self: Ballot, phase: str, height: int, block: bytes) -> Vote:
        record = self.record
        return Vote("prepare" if phase == "prepare" else "commit", record.epoch, record.view, height, block, self.index or 0, b"")

    with replaced(Desk, "votes", property(lambda self: self.speaks)), replaced(Ballot, "_vote", careless):
        yield


@contextmanager
def witness_not_asked() -> Iterator[None]:
    """A validator trusts its disk, whatever the others have seen of it."""

    def trusting(self: Asking) -> None:
        self._cleared()

    with replaced(Asking, "begin", trusting), replaced(Asking, "recognise", lambda self, vote: None):
        yield


@contextmanager
def patience_without_end() -> Iterator[None]:
    """Nobody leaves a view of its own accord."""
    with replaced(Views, "leave", lambda self: None):
        yield


@contextmanager
def certificate_not_checked() -> Iterator[None]:
    """Fetched blocks are believed."""

    def believed(blocks: object, genesis_hash: bytes, validators: ValidatorSet) -> tuple[int, list[Claim]]:
        return len(blocks), []  # type: ignore[arg-type]

    with replaced(claims, "blocks_claims", believed):
        yield


@contextmanager
def chunk_not_checked() -> Iterator[None]:
    """A part of a state is believed."""
    restore = Toy.restore

    def believing(self: Toy, view: object, chunk: bytes, root: bytes) -> object:
        try:
            return restore(self, view, chunk, root)  # type: ignore[arg-type]
        except Refused:
            from meshos.consensus.pbft.application import Restored

            return Restored((), None)

    with replaced(Toy, "restore", believing):
        yield


@contextmanager
def known_epochs_help() -> Iterator[None]:
    """Whoever tells of epochs is asked on at once, be they known or not."""
    learn = Transfer.on_checkpoints

    def patient(self: Transfer, sender: NodeId, message: Checkpoints) -> None:
        epoch, awaited = self._newest_epoch, self.awaits(sender)
        learn(self, sender, message)
        if awaited and message.steps and message.checkpoint is None and self._newest_epoch == epoch:
            self.ask()

    with replaced(Transfer, "on_checkpoints", patient):
        yield


@contextmanager
def taken_back_unpunished() -> Iterator[None]:
    """Whoever takes back what it has claimed is asked again as soon as it claims it anew."""
    answered = Fetching.answered

    def lenient(self: Fetching, peer: NodeId, now: float, height: int, *, first: int | None, oldest: int) -> None:
        taken_back = first is None and height <= self._from
        answered(self, peer, now, height, first=self._from + 1 if taken_back else first, oldest=oldest)

    with replaced(Fetching, "answered", lenient):
        yield


@contextmanager
def blame_without_end() -> Iterator[None]:
    """Each block that an old request is not in is held against the primary, whenever it was proposed, and also once its view was left."""
    passed: WeakKeyDictionary[Relaying, int] = WeakKeyDictionary()

    def restless(self: Relaying, certified: Certified) -> None:
        desk, oldest = self._desk, self._desk.pool.oldest()
        if oldest is not None and desk.now - oldest.since >= desk.timing.patience_ms / 1000:
            passed[self] = passed.get(self, 0) + 1
            if passed[self] % PASSED == 0:
                self._views.leave()

    with replaced(Relaying, "committed", restless):
        yield


@contextmanager
def one_is_followed() -> Iterator[None]:
    """Who has left a view takes the others along, though nobody else has."""
    joined = Changes.joined
    with replaced(Changes, "joined", lambda self, view, weak: joined(self, view, 1)):
        yield


_ALL = (
    Mutation("quorum-less-one", "a quorum is one vote short", quorum_less_one, "safety"),
    Mutation("vote-not-persisted", "a vote is signed before it is written", vote_not_persisted, "safety", "honesty"),
    Mutation("skipped-fsync", "a vote is signed before its write is synced", skipped_fsync, "safety"),
    Mutation("missing-lock-check", "a new view carries nothing over", missing_lock_check, "safety"),
    Mutation("lock-not-told", "a promise hides what is prepared", lock_not_told, "safety"),
    Mutation("new-view-not-verified", "a new view needs no proof", new_view_not_verified, "safety"),
    Mutation("dedup-off", "a request may be ordered twice", dedup_off, "safety", "ordered again"),
    Mutation("unsigned-accepted", "no signature is found wrong", unsigned_accepted, "safety"),
    Mutation("one-liar-too-many", "f + 1 validators lie", one_liar_too_many, "safety"),
    Mutation("state-root-unchecked", "a block may name any state", state_root_unchecked, "safety"),
    Mutation("set-change-at-once", "other validators decide before the boundary", set_change_at_once, "safety"),
    Mutation("views-across-epochs", "the proof of a view counts in later epochs", views_across_epochs, "safety"),
    Mutation("choice-forgotten", "what a view must begin with is lost in a crash", choice_forgotten, "safety"),
    Mutation("promise-not-binding", "votes in a view that was left", promise_not_binding, "safety"),
    Mutation("witness-not-asked", "an old copy of a disk votes", witness_not_asked, "safety", "honesty"),
    Mutation("patience-without-end", "a dead primary is waited for", patience_without_end, "stuck"),
    Mutation("certificate-not-checked", "fetched blocks are believed", certificate_not_checked, "safety"),
    Mutation("chunk-not-checked", "parts of a state are believed", chunk_not_checked, "safety"),
    Mutation("known-epochs-help", "a liar that tells known epochs is asked for ever", known_epochs_help, "stuck"),
    Mutation(
        "taken-back-unpunished",
        "who takes back what it has claimed is asked again at once",
        taken_back_unpunished,
        "stuck",
        "asks the same",
    ),
    Mutation(
        "blame-without-end", "a primary is blamed for what was decided before, again and again", blame_without_end, "stuck", "asks for view"
    ),
    Mutation("one-is-followed", "a lone validator takes the others to its view", one_is_followed, "stuck", "asks for view"),
)

_CORE_ALONE = ("new-view-not-verified", "views-across-epochs", "choice-forgotten", "witness-not-asked", "chunk-not-checked")
MUTATIONS = tuple(mutation for mutation in _ALL if mutation.name not in _CORE_ALONE)
"""What whole nodes show, in a mesh that goes on."""

_MESH_ALONE = (
    "patience-without-end",
    "known-epochs-help",
    "taken-back-unpunished",
    "blame-without-end",
    "one-is-followed",
)
CORE = tuple(mutation for mutation in _ALL if mutation.name not in _MESH_ALONE)
"""What a storm shows: all but that nothing happens any more."""
