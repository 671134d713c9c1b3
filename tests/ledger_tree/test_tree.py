"""The state tree is a map with one root: whatever the way to a content, the same root, and never two roots for one content."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.consensus.ledger import tree
from meshos.consensus.ledger.nodes import EMPTY, KEPT, VALUES, Kept
from meshos.consensus.ledger.proofs import verify
from meshos.consensus.ledger.tree_limits import BUCKET_ENTRIES, MAX_KEY_BYTES, MAX_VALUE_BYTES
from meshos.errors import Broken, Failed, Refused
from tests.ledger_tree.states import CROWD, KEYS, Memory, filled

CONTENTS = st.binary(min_size=0, max_size=3)
CHANGES = st.dictionaries(st.sampled_from(KEYS), st.none() | CONTENTS, max_size=25)


def built(content: dict[bytes, bytes]) -> Memory:
    """The state of ``content``, made at once."""
    view = Memory()
    view.change(content)
    return view


@settings(max_examples=150)
@given(st.lists(CHANGES, max_size=6))
def test_the_store_is_a_function_of_the_content_alone(blocks: list[dict[bytes, bytes | None]]) -> None:
    """Root, nodes and values: nothing of the past is left in the store, so there is nothing to prune."""
    view, model = Memory(), dict[bytes, bytes]()
    for block in blocks:
        view.change(block)
        model |= {key: value for key, value in block.items() if value is not None}
        for key in [key for key, value in block.items() if value is None]:
            model.pop(key, None)
    assert dict(view) == dict(built(model))
    assert {key: tree.State(view).get(key) for key in KEYS} == {key: model.get(key) for key in KEYS}
    assert list(tree.State(view).scan(b"crowded/")) == sorted((key, value) for key, value in model.items() if key.startswith(b"crowded/"))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(KEYS), CONTENTS, min_size=1), st.randoms(use_true_random=False))
def test_the_root_is_independent_of_the_order(content: dict[bytes, bytes], random: object) -> None:
    order = list(content)
    random.shuffle(order)  # type: ignore[attr-defined]
    view = Memory()
    for key in order:
        view.change({key: content[key]})
    assert dict(view) == dict(built(content))


@given(st.dictionaries(st.sampled_from(KEYS), CONTENTS), st.dictionaries(st.sampled_from(KEYS), CONTENTS))
def test_another_content_has_another_root(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> None:
    assert (tree.root(built(one)) == tree.root(built(other))) == (one == other)


def test_no_content_is_the_empty_root() -> None:
    assert tree.root(Memory()) == EMPTY
    view = built(dict.fromkeys(KEYS, b"v"))
    assert view.change(dict.fromkeys(KEYS)) == EMPTY
    assert not view


def test_what_changes_nothing_writes_no_node() -> None:
    view = filled(200)
    root, writes = tree.update(view, {b"account/7": view[b"s/account/7"], b"nobody": None})
    assert root == tree.root(view)
    assert {write.key for write in writes} == {b"s/account/7", b"s/nobody"}


def test_the_ninth_key_below_a_path_makes_a_page_and_its_going_a_leaf_again() -> None:
    view = built(dict.fromkeys(CROWD[:BUCKET_ENTRIES], b"v"))
    assert [key for key in view if key.startswith(b"t/")] == [b"t/"]
    before = dict(view)
    view.change({CROWD[BUCKET_ENTRIES]: b"v"})
    assert {b"t/", b"t/5", b"t/55", b"t/555"} < set(view)
    view.change({CROWD[BUCKET_ENTRIES]: None})
    assert dict(view) == before


@settings(max_examples=60)
@given(CHANGES, CHANGES, st.sampled_from(KEYS))
def test_the_state_before_the_newest_block_is_still_proven(
    first: dict[bytes, bytes | None], second: dict[bytes, bytes | None], key: bytes
) -> None:
    """Header h + 1 signs the root after block h, when the state here is the one after h + 1."""
    view = Memory()
    signed = view.change(first)
    newest = view.change(second)
    value, proof = tree.prove_at(view, key, signed)
    assert value == first.get(key)
    verify(signed, key, value, proof)
    value, proof = tree.prove_at(view, key, newest)
    verify(newest, key, value, proof)
    assert value == view.get(b"s/" + key)


def test_a_state_that_nobody_remembers_is_not_proven() -> None:
    """As after a restart: until the next block makes the newest state a signed one."""
    view = filled(300)
    signed = tree.root(view)
    view.change({b"account/7": b"other"})
    KEPT.clear()
    with pytest.raises(Refused) as caught:
        tree.prove_at(view, b"account/8", signed)
    assert caught.value.name == "proof-not-yet"


def test_a_value_that_nobody_remembers_is_not_proven_either() -> None:
    view = filled(300)
    signed, value = tree.root(view), view[b"s/account/8"]
    view.change({b"account/7": b"other"})
    VALUES.clear()
    assert tree.prove_at(view, b"account/8", signed)[0] == value
    with pytest.raises(Refused) as caught:
        tree.prove_at(view, b"account/7", signed)
    assert caught.value.name == "proof-not-yet"


@pytest.mark.parametrize("damage", [b"", b"\0", b"\1" + bytes(512), b"\2", b"\0\5short", b"\0\0" + bytes(32)])
def test_a_damaged_node_is_refused_before_anything_is_made_of_it(damage: bytes) -> None:
    view = filled(300)
    path = max(key for key in view if key.startswith(b"t/"))
    KEPT.clear()
    view[path] = damage
    keys = [b"account/%d" % number for number in range(300)]
    with pytest.raises(Failed) as caught:
        tree.update(view, dict.fromkeys(keys, b"other"))
    assert caught.value.name == "state-corrupt"
    with pytest.raises(Failed):
        for key in keys:
            tree.prove(view, key)
    KEPT.clear()


@pytest.mark.parametrize("key", [b"", b"k" * (MAX_KEY_BYTES + 1)])
def test_keys_are_bounded(key: bytes) -> None:
    with pytest.raises(Broken) as caught:
        tree.update(Memory(), {key: b"v"})
    assert caught.value.name == "store-limit"


def test_values_are_bounded() -> None:
    assert tree.update(Memory(), {b"k" * MAX_KEY_BYTES: bytes(MAX_VALUE_BYTES)})
    with pytest.raises(Broken):
        tree.update(Memory(), {b"k": bytes(MAX_VALUE_BYTES + 1)})


def test_the_memory_of_nodes_is_bounded_and_forgets_without_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Kept(4)
    monkeypatch.setattr("meshos.consensus.ledger.tree.KEPT", few)
    view = filled(300)
    view.change({b"account/%d" % number: b"other" for number in range(0, 300, 3)})
    assert len(few) <= 8
    assert tree.root(view) == tree.root(built({key[2:]: value for key, value in view.items() if key.startswith(b"s/")}))


class Counting(Memory):
    reads = 0

    def get(self, key: bytes, default: object = None) -> bytes | None:  # type: ignore[override]
        self.reads += key.startswith(b"t/")
        return super().get(key)


def test_where_reads_are_recorded_memory_spares_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay remembers nothing, and needs what memory knew."""
    reads = []
    for spared in (True, False, False):
        monkeypatch.setattr(KEPT, "spares_reads", spared)
        view = Counting(filled(300))
        if len(reads) == 2:
            KEPT.clear()
        tree.update(view, {b"account/7": b"other"})
        reads.append(view.reads)
    assert reads[0] == 0 < reads[1] == reads[2]


def test_a_warm_start_reads_no_node_one_by_one() -> None:
    view = Counting(filled(300))
    KEPT.clear()
    assert tree.warm(view) == sum(key.startswith(b"t/") for key in view)
    tree.update(view, {b"account/%d" % number: b"other" for number in range(300)})
    assert view.reads == 0
