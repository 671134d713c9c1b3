"""The state in chunks: each proves itself, in any order, over whatever was there; a liar is noticed at his chunk."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.consensus.ledger import chunks, tree
from meshos.consensus.ledger.chunks import END, START, accept, gaps_of, parse, serve
from meshos.consensus.ledger.nodes import EMPTY
from meshos.consensus.ledger.scrub import scrub
from meshos.consensus.ledger.tree_limits import BUCKET_ENTRIES, MAX_CHUNK_BYTES, MAX_CHUNK_ENTRIES, MAX_KEY_BYTES, MAX_VALUE_BYTES
from meshos.errors import Failed, MeshError, Refused
from tests.ledger_tree.states import CROWD, KEYS, Memory, crowded, filled

LARGE = filled(3_000, value_bytes=10)
LARGE_CHUNKS = list(chunks.chunks(LARGE))
CONTENTS = st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=3))


def restored(root: bytes, data: list[bytes], view: Memory | None = None) -> Memory:
    """What the chunks come to in ``view``."""
    view = Memory() if view is None else view
    for chunk in data:
        view.lay(accept(view, root, chunk).writes)
    return view


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few keys make many chunks."""
    monkeypatch.setattr("meshos.consensus.ledger.chunks.MAX_CHUNK_ENTRIES", BUCKET_ENTRIES)


@settings(max_examples=100)
@given(CONTENTS, CONTENTS, st.randoms(use_true_random=False))
def test_any_state_is_restored_over_any_other_in_any_order(wanted: dict[bytes, bytes], old: dict[bytes, bytes], random: Random) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meshos.consensus.ledger.chunks.MAX_CHUNK_ENTRIES", BUCKET_ENTRIES)
        source, target = Memory(), Memory()
        root = source.change(wanted)
        target.change(old)
        data = list(chunks.chunks(source))
        random.shuffle(data)
        restored(root, data, target)
    assert dict(target) == dict(source)
    assert list(scrub(target))[-1:] == ([len(wanted)] if wanted else [])


def test_a_large_state_goes_in_bounded_chunks_without_a_gap_between_them() -> None:
    assert len(LARGE_CHUNKS) > 5
    place = START
    for data in LARGE_CHUNKS:
        chunk = parse(data)
        assert chunk.start == place and len(data) <= MAX_CHUNK_BYTES and len(chunk.entries) <= MAX_CHUNK_ENTRIES
        place = chunk.end
    assert place == END
    assert dict(restored(tree.root(LARGE), LARGE_CHUNKS)) == dict(LARGE)


def test_the_largest_leaf_with_the_longest_keys_fits_into_a_chunk() -> None:
    keys = [bytes([number]) * MAX_KEY_BYTES for number in range(2 * BUCKET_ENTRIES)]
    view = Memory()
    root = view.change({key: key + bytes(MAX_VALUE_BYTES - MAX_KEY_BYTES) for key in keys})
    data = list(chunks.chunks(view))
    assert len(data) > 1 and max(map(len, data)) <= MAX_CHUNK_BYTES
    assert dict(restored(root, data)) == dict(view)


@settings(max_examples=60)
@given(st.text("0123456789abcdef", max_size=6).filter(chunks.is_place))
def test_whatever_place_is_asked_for_is_in_the_chunk(place: str) -> None:
    chunk = parse(serve(LARGE, place.encode()))
    assert chunk.start <= place < chunk.end


@pytest.mark.parametrize("place", [b"g", b"10", b"A", b"\xff", b"1" * 65])
def test_a_strangers_place_is_checked(place: bytes) -> None:
    with pytest.raises(Refused) as caught:
        serve(LARGE, place)
    assert caught.value.name == "bad-place"


def test_a_restore_goes_on_where_it_was_broken_off() -> None:
    """What is missing is written with each chunk, so a crash between two of them loses nothing."""
    root, view = tree.root(LARGE), Memory()
    for number, data in enumerate(LARGE_CHUNKS[::2]):
        view.lay(accept(view, root, data).writes)
        assert tree.root(view) == EMPTY, number
    assert [gap[0] for gap in gaps_of(view, root)] == [parse(data).start for data in LARGE_CHUNKS[1::2]]
    place: bytes | None = b""
    while place is not None:
        accepted = accept(view, root, serve(LARGE, place))
        view.lay(accepted.writes)
        place = accepted.next
    assert dict(view) == dict(LARGE)


def test_a_state_that_is_not_whole_proves_and_takes_nothing() -> None:
    view = restored(tree.root(LARGE), LARGE_CHUNKS[1:])
    for use in (lambda: tree.prove(view, b"key"), lambda: tree.update(view, {b"key": b"value"})):
        with pytest.raises(Refused) as caught:
            use()
        assert caught.value.name == "state-incomplete"


def test_a_restore_turns_to_a_newer_root_over_what_is_there() -> None:
    view = restored(tree.root(LARGE), LARGE_CHUNKS[:3])
    newer = Memory(LARGE)
    root = newer.change({b"account/%d" % number: None for number in range(1_000)} | dict.fromkeys(CROWD, b"v"))
    assert gaps_of(view, root) == [(START, END)]
    assert dict(restored(root, list(chunks.chunks(newer)), view)) == dict(newer)


def test_a_chunk_may_come_twice() -> None:
    assert dict(restored(tree.root(LARGE), [*LARGE_CHUNKS[:-1], LARGE_CHUNKS[0], *LARGE_CHUNKS[-1:]])) == dict(LARGE)


def test_a_state_that_is_here_already_misses_nothing() -> None:
    assert gaps_of(LARGE, tree.root(LARGE)) == [] == gaps_of(Memory(), EMPTY)


@settings(max_examples=100)
@given(st.data())
def test_a_lying_sender_is_noticed_at_the_chunk_and_nothing_of_it_is_kept(data: st.DataObject) -> None:
    lie = bytearray(data.draw(st.sampled_from(LARGE_CHUNKS)))
    bit = data.draw(st.integers(0, 8 * len(lie) - 1))
    lie[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refused) as caught:
        accept(Memory(), tree.root(LARGE), bytes(lie))
    assert caught.value.name == "bad-chunk"


def fields() -> list[object]:
    value = cbor.decode(LARGE_CHUNKS[1], max_bytes=MAX_CHUNK_BYTES)
    assert isinstance(value, list)
    return list(value)


def lies() -> dict[str, object]:
    path, first, last, pages, entries = fields()
    assert isinstance(entries, list) and isinstance(pages, list) and isinstance(last, int)
    key, value = entries[0]
    return {
        "a value changed": [path, first, last, pages, [[key, value + b"x"], *entries[1:]]],
        "a key left out": [path, first, last, pages, entries[1:]],
        "a key added": [path, first, last, pages, sorted_by_place([*entries, [b"added", b"v"]])],
        "a key twice": [path, first, last, pages, [entries[0], *entries]],
        "keys out of order": [path, first, last, pages, [entries[1], entries[0], *entries[2:]]],
        "more than it holds": [path, first, last + 1, pages, entries],
        "another place": ["1", first, last, [pages[0], pages[0]], entries],
        "a page left out": [path, first, last, [], entries],
        "everything, and nothing in it": ["", 0, 15, [], []],
        "no pages but a path": ["1", 0, 15, [], entries],
        "digits the wrong way round": [path, last, first, pages, entries],
        "a short page": [path, first, last, [pages[0][:-1]], entries],
        "no chunk": [1, 2, 3],
        "no list": b"chunk",
        "an endless path": ["1" * 64, 0, 0, [pages[0]] * 65, []],
        "too many keys": [path, first, last, pages, [[b"k%d" % n, b""] for n in range(MAX_CHUNK_ENTRIES + 1)]],
        "a long key": [path, first, last, pages, [[bytes(MAX_KEY_BYTES + 1), b""]]],
        "a long value": [path, first, last, pages, [[b"k", bytes(MAX_VALUE_BYTES + 1)]]],
        "a text for a value": [path, first, last, pages, [[b"k", "v"]]],
        "too many bytes": [path, first, last, pages, [[b"k%d" % n, bytes(MAX_VALUE_BYTES)] for n in range(12)]],
    }


def sorted_by_place(entries: list[list[bytes]]) -> list[list[bytes]]:
    from meshos.consensus.ledger.nodes import position

    return sorted(entries, key=lambda entry: position(entry[0]))


@pytest.mark.parametrize("lie", lies())
def test_every_lie_has_one_name(lie: str) -> None:
    view = restored(tree.root(LARGE), LARGE_CHUNKS[:1])
    before = dict(view)
    with pytest.raises(Refused) as caught:
        accept(view, tree.root(LARGE), cbor.encode(lies()[lie]))
    assert caught.value.name == "bad-chunk"
    assert dict(view) == before


def test_a_chunk_of_another_state_is_no_part_of_this_one() -> None:
    other = filled(3_000, seed=2)
    with pytest.raises(Refused):
        accept(Memory(), tree.root(LARGE), serve(other, b""))


def test_a_giver_with_a_damaged_disk_says_so() -> None:
    view = Memory(LARGE)
    view[b"s/account/7"] = b"damaged"
    with pytest.raises(Failed) as caught:
        list(chunks.chunks(view))
    assert caught.value.name == "state-corrupt"


@pytest.mark.parametrize("harm", ["value", "no value", "a value more", "node", "no node", "root", "a node more"])
def test_a_scrub_finds_what_does_not_add_up(harm: str) -> None:
    view = Memory(LARGE)
    node = max(key for key in view if key.startswith(b"t/"))
    match harm:
        case "value":
            view[b"s/account/7"] = b"damaged"
        case "no value":
            del view[b"s/account/7"]
        case "a value more":
            view[b"s/more"] = b"v"
        case "node":
            view[node] = view[b"t/0"]
        case "no node":
            del view[node]
        case "root":
            view[b"t"] = bytes(31) + b"1"
        case _:
            view[node + b"00"] = view[node]
    with pytest.raises(MeshError) as caught:
        list(scrub(view))
    assert caught.value.name == "state-corrupt"


def test_crowded_keys_go_in_chunks_with_deep_paths(small_chunks: None) -> None:
    view = Memory()
    root = view.change(dict.fromkeys([*crowded(12, 3), *KEYS], b"v"))
    data = list(chunks.chunks(view))
    assert max(len(parse(chunk).path) for chunk in data) == 3
    assert dict(restored(root, data)) == dict(view)
