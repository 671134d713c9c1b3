"""all-MiniLM-L6-v2 as matrix products: tokens in, one unit vector of 384 numbers per text out, and one a telling piece.

The model is BERT (Devlin et al. 2018) with 6 layers, 12 heads and width 384, distilled as MiniLM (Wang et al. 2020) and trained for
sentences (Reimers and Gurevych 2019); the sentence's vector is the mean of its tokens' vectors, scaled to length 1. Pieces are
taken one layer earlier: the last makes them all alike, as only their mean was trained.

What makes it quick: texts of a batch are laid end to end, so that no product is spent on padding; query, key and value are one
product; the scale of the attention is folded into the query's weights; activations are float32 and written in place.
NumPy's matrix products release the interpreter, so a worker thread does not hold up the event loop.
"""

import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from meshos.errors import Failed
from meshos.node.runtime.embedding.limits import BATCH_TOKENS, MAX_CHARS, MAX_TOKENS
from meshos.node.runtime.embedding.weights import Weights, model_folder, read_weights
from meshos.storage.index.pieces import Reading, telling

MODEL = "all-MiniLM-L6-v2"
DIMENSION = 384

_LAYERS = 6
_HEADS = 12
_HEAD = DIMENSION // _HEADS
_EPSILON = np.float32(1e-12)
_MEAN = np.full(DIMENSION, 1 / DIMENSION, np.float32)

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's weights, laid out for ``x @ w``."""

    qkv: Matrix
    qkv_bias: Matrix
    out: Matrix
    out_bias: Matrix
    norm1: tuple[Matrix, Matrix]
    up: Matrix
    up_bias: Matrix
    down: Matrix
    down_bias: Matrix
    norm2: tuple[Matrix, Matrix]


class MiniLM:
    """The loaded model. ``embed`` may be called from several threads at once."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load it (0.1 to 0.3 s). Raises Failed ``model-missing`` or ``model-broken``."""
        folder = model_folder(folder)
        weights, pages = read_weights(folder / "model.safetensors")
        try:
            self._words = weights["embeddings.word_embeddings.weight"]
            self._places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
            self._norm = (weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"])
            self._layers = [_layer(weights, number) for number in range(_LAYERS)]
        except KeyError as error:
            raise Failed("model-broken", f"the sentence model has no {error.args[0]}", hint="install it again") from error
        pages.madvise(mmap.MADV_DONTNEED)  # the layers are copies; of the word vectors, pages come back as they are used
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._vocabulary = frozenset(self._tokenizer.get_vocab(with_added_tokens=False))

    def knows(self, word: str) -> bool:
        """Whether the lower-case ``word`` is one of the 30,000 that the model has a vector for."""
        return word in self._vocabulary

    def embed(self, texts: Sequence[str]) -> Matrix:
        """One row of length 1 for each text, in their order (float32, len(texts) x 384)."""
        result = np.empty((len(texts), DIMENSION), np.float32)
        tokens = [_ids(self._encoded(text)) for text in texts]
        for batch in _batches([len(ids) for ids in tokens]):
            result[batch] = self._forward([tokens[number] for number in batch])[0]
        return result

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """The vector of each text, and its telling pieces."""
        encoded = [self._encoded(text) for text in texts]
        tokens = [_ids(one) for one in encoded]
        found: dict[int, Reading] = {}
        for batch in _batches([len(ids) for ids in tokens]):
            vectors, pieces = self._forward([tokens[number] for number in batch])
            start = 0
            for number, vector in zip(batch, vectors, strict=True):
                end = start + len(tokens[number])
                found[number] = _reading(vector, pieces[start + 1 : end - 1], _words(texts[number], encoded[number]))
                start = end
        return [found[number] for number in range(len(texts))]

    def _encoded(self, text: str) -> Encoding:
        return self._tokenizer.encode(text[:MAX_CHARS])

    def _forward(self, tokens: list[NDArray[np.int64]]) -> tuple[Matrix, Matrix]:
        """The vectors of some texts, and what leaves the last layer but one for each of their tokens, end to end."""
        ends = np.cumsum([len(ids) for ids in tokens])
        spans = [(int(end) - len(ids), int(end)) for ids, end in zip(tokens, ends, strict=True)]
        x = self._words[np.concatenate(tokens)]
        for begin, end in spans:
            x[begin:end] += self._places[: end - begin]
        _normalise(x, *self._norm)
        for layer in self._layers:
            pieces = x
            attended = _attend(x, layer, spans)
            attended += x
            _normalise(attended, *layer.norm1)
            hidden = attended @ layer.up
            hidden += layer.up_bias
            x = _gelu(hidden) @ layer.down
            x += layer.down_bias
            x += attended
            _normalise(x, *layer.norm2)
        means = np.add.reduceat(x, [begin for begin, _ in spans], axis=0)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        return means, pieces


class LazyMiniLM:
    """The model, loaded by the first thread that needs it, so that a node that never embeds never pays for it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._model: MiniLM | None = None

    name = MODEL
    dimension = DIMENSION

    @property
    def loaded(self) -> bool:
        """Whether somebody needed it already."""
        return self._model is not None

    def embed(self, texts: Sequence[str]) -> Matrix:
        """As ``MiniLM.embed``; the first call loads. Raises Failed ``model-missing`` or ``model-broken``."""
        return self.load().embed(texts)

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """As ``MiniLM.read``."""
        return self.load().read(texts)

    def knows(self, word: str) -> bool:
        """As ``MiniLM.knows``."""
        return self.load().knows(word)

    def load(self) -> MiniLM:
        """The model itself."""
        with self._lock:
            if self._model is None:
                self._model = MiniLM(self._folder)
            return self._model


def _ids(encoded: Encoding) -> NDArray[np.int64]:
    return np.array(encoded.ids, np.int64)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Texts of like length together, at most ``BATCH_TOKENS`` tokens each."""
    batches: list[list[int]] = []
    size = BATCH_TOKENS
    for number in np.argsort(lengths, kind="stable"):
        if size + lengths[number] > BATCH_TOKENS:
            batches.append([])
            size = 0
        batches[-1].append(int(number))
        size += lengths[number]
    return batches


def _words(text: str, encoded: Encoding) -> list[str]:
    """For each token between the first and the last, which frame the text, the lower-case word that it is a piece of."""
    spans: dict[int | None, tuple[int, int]] = {}
    numbers = encoded.word_ids[1:-1]
    for number, (begin, end) in zip(numbers, encoded.offsets[1:-1], strict=True):
        first, _ = spans.setdefault(number, (begin, end))
        spans[number] = first, end
    return [text[slice(*spans[number])].lower() for number in numbers]


def _reading(vector: Matrix, pieces: Matrix, words: Sequence[str]) -> Reading:
    rows = telling(words)
    return Reading(vector, pieces[rows], tuple(words[row] for row in rows))


def _layer(weights: Weights, number: int) -> _Layer:
    def take(name: str) -> Matrix:
        return weights[f"encoder.layer.{number}.{name}"]

    def turned(name: str) -> Matrix:
        return np.ascontiguousarray(take(name).T)

    scale = np.float32(1 / np.sqrt(_HEAD))
    query, key, value = (f"attention.self.{part}" for part in ("query", "key", "value"))
    return _Layer(
        qkv=np.hstack([turned(f"{query}.weight") * scale, turned(f"{key}.weight"), turned(f"{value}.weight")]),
        qkv_bias=np.hstack([take(f"{query}.bias") * scale, take(f"{key}.bias"), take(f"{value}.bias")]),
        out=turned("attention.output.dense.weight"),
        out_bias=take("attention.output.dense.bias"),
        norm1=(take("attention.output.LayerNorm.weight"), take("attention.output.LayerNorm.bias")),
        up=turned("intermediate.dense.weight"),
        up_bias=take("intermediate.dense.bias"),
        down=turned("output.dense.weight"),
        down_bias=take("output.dense.bias"),
        norm2=(take("output.LayerNorm.weight"), take("output.LayerNorm.bias")),
    )


def _attend(x: Matrix, layer: _Layer, spans: list[tuple[int, int]]) -> Matrix:
    """Self-attention of each text within itself."""
    qkv = x @ layer.qkv
    qkv += layer.qkv_bias
    context = np.empty_like(x)
    for begin, end in spans:
        parts = qkv[begin:end].reshape(end - begin, 3, _HEADS, _HEAD)
        query, key, value = (parts[:, part].transpose(1, 0, 2) for part in range(3))
        scores = query @ key.transpose(0, 2, 1)
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=2, keepdims=True)
        context[begin:end].reshape(end - begin, _HEADS, _HEAD)[:] = (scores @ value).transpose(1, 0, 2)
    out: Matrix = context @ layer.out
    out += layer.out_bias
    return out


def _normalise(x: Matrix, weight: Matrix, bias: Matrix) -> None:
    """Layer normalisation, in place."""
    x -= (x @ _MEAN)[:, None]  # quicker than x.mean
    spread = np.einsum("ij,ij->i", x, x)
    spread /= np.float32(DIMENSION)
    spread += _EPSILON
    x /= np.sqrt(spread)[:, None]
    x *= weight
    x += bias


def _gelu(x: Matrix) -> Matrix:
    """x times the normal distribution function of x.

    erf by Abramowitz and Stegun 7.1.26, whose error of 1.5e-7 is that of float32 itself.
    """
    z = np.abs(x)
    z *= np.float32(0.7071067811865476)
    t = z * np.float32(0.3275911)
    t += np.float32(1)
    np.reciprocal(t, out=t)
    poly = t * np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly += np.float32(factor)
        poly *= t
    z *= z
    np.negative(z, out=z)
    np.exp(z, out=z)
    poly *= z  # now 1 - erf(|x| / sqrt 2), twice what is missing of |x|
    poly *= np.abs(x)
    poly *= np.float32(-0.5)
    poly += np.maximum(x, np.float32(0))
    return poly
