"""What is believed of records that others send, at once and later."""

import dataclasses

from meshos.protocols.directory.embedder import HashedEmbedder
from tests.directory.world import checker, org, sealed_record


class ColdEmbedder(HashedEmbedder):
    """A model that nobody has needed yet."""

    loaded = False


def test_a_sampled_vector_that_is_not_of_its_text_is_refused() -> None:
    admitted = checker().admit([sealed_record(forged=True).to_bytes()], frozenset())
    assert admitted.entries == () and [error.name for error in admitted.refused] == ["vector-mismatch"]


def test_a_model_that_is_not_loaded_is_not_waited_for_and_nothing_counts_as_checked() -> None:
    honest = sealed_record()
    admitted = dataclasses.replace(checker(), embedder=ColdEmbedder()).admit([honest.to_bytes()], frozenset())
    assert [sealed.body for sealed in admitted.entries] == [honest.body]
    assert admitted.checked == frozenset(), "it is checked when the node is idle, and before it first ranks high"


def test_a_suspected_organisation_is_checked_whatever_it_costs() -> None:
    admitted = dataclasses.replace(checker(), embedder=ColdEmbedder()).admit([sealed_record(forged=True).to_bytes()], frozenset({org(0)}))
    assert admitted.entries == ()
