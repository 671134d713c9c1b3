"""What is believed of records that others send, at once and later."""

import dataclasses
from collections.abc import Sequence

import pytest

from meshos.protocols.directory.embedder import HashedEmbedder
from meshos.protocols.directory.record import Tombstone
from meshos.storage.index.pieces import Reading
from tests.directory.world import NOW_MS, checker, org, record, sealed_record, signed


class ColdEmbedder(HashedEmbedder):
    """A model that nobody has needed yet."""

    loaded = False


def test_a_sampled_vector_that_is_not_of_its_text_is_refused() -> None:
    admitted = checker().admit([sealed_record(forged=True).to_bytes()], frozenset())
    assert admitted.entries == () and [error.name for error in admitted.refused] == ["vector-mismatch"]


@pytest.mark.parametrize("pieces", [b"", b"\x55" * 48, b"\xff" * 48 * 4], ids=["none", "too few", "others"])
def test_a_record_whose_pieces_are_not_of_its_text_is_refused(pieces: bytes) -> None:
    forged = signed(dataclasses.replace(record(), pieces=pieces), "n0-a")
    assert len(record().pieces) == 48 * 4  # tells, time, city, clock
    admitted = checker().admit([forged.to_bytes()], frozenset())
    assert admitted.entries == () and [error.name for error in admitted.refused] == ["vector-mismatch"]


def test_a_model_that_is_not_loaded_is_not_waited_for_and_nothing_counts_as_checked() -> None:
    honest = sealed_record()
    admitted = dataclasses.replace(checker(), embedder=ColdEmbedder()).admit([honest.to_bytes()], frozenset())
    assert [sealed.body for sealed in admitted.entries] == [honest.body]
    assert admitted.checked == frozenset(), "it is checked when the node is idle, and before it first ranks high"


def test_a_refused_publisher_costs_no_vector_and_only_its_tombstones_are_taken() -> None:
    class Counting(HashedEmbedder):
        texts = 0

        def read(self, texts: Sequence[str]) -> list[Reading]:
            Counting.texts += len(texts)
            return super().read(texts)

    tombstone = signed(Tombstone(org(0), "gone", 2, NOW_MS), "n0-a")
    other = sealed_record("other", by=1)
    pages = [sealed_record("cheat", forged=True).to_bytes(), sealed_record("honest").to_bytes(), tombstone.to_bytes(), other.to_bytes()]
    admitted = dataclasses.replace(checker(), embedder=Counting()).admit(pages, frozenset({org(0)}))
    assert [sealed.digest for sealed in admitted.entries] == [tombstone.digest, other.digest]
    assert [sealed.entry.name for sealed in admitted.shunned] == ["cheat", "honest"] and not admitted.cheats
    assert [error.name for error in admitted.refused] == ["publisher-refused"] * 2
    assert Counting.texts == 1, "of the other organisation's record"
