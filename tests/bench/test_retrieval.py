"""The pure parts of the measurement of ranking."""

import re
from pathlib import Path

import numpy as np
import pytest

from meshos.bench import retrieval
from meshos.bench.retrieval import Quality, Question, bm25, interval, reciprocal_ranks
from meshos.errors import BadInput

CARDS = {"time": "what time is it in another city", "git": "reads the history of a repository", "units": "converts miles and kilometres"}


def split(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_only_the_first_right_card_among_ten_counts() -> None:
    answers = {"first": ["a"], "second": ["x", "a", "b"], "late": [*"cdefghijkl", "a"], "none": ["x"]}
    questions = [Question(text, "people", frozenset("ab")) for text in answers]
    assert reciprocal_ranks(questions, lambda question: answers[question]).tolist() == [1.0, 0.5, 0.0, 0.0]


def test_bm25_finds_the_card_with_the_rare_words() -> None:
    rank = bm25(CARDS, split)
    assert rank("kilometres and miles")[0] == "units" and rank("the history")[0] == "git"


def test_the_interval_holds_the_ratio_and_narrows_where_all_agree() -> None:
    random = np.random.default_rng(7)
    theirs = random.random(100)
    assert interval(theirs * 2, theirs) == pytest.approx((2.0, 2.0))
    low, high = interval(random.random(100), theirs)
    assert low < 1 < high


@pytest.mark.parametrize(
    ("ratios", "better", "met"),
    [
        ({"bm25": (1.4, 1.2, 1.6), "minilm": (1.08, 1.01, 1.15)}, "minilm", True),
        ({"bm25": (1.4, 1.2, 1.6), "minilm": (1.08, 0.99, 1.15)}, "minilm", False),
        ({"bm25": (1.04, 1.01, 1.6), "minilm": (1.5, 1.2, 1.7)}, "bm25", False),
        ({"bm25": (1.4, 1.2, 1.6), "minilm": (1.1, 1.01, 1.2), "minilm_our_text": (0.9, 0.8, 1.0)}, "minilm", True),
    ],
)
def test_the_bar_is_on_the_better_of_the_two(ratios: dict[str, tuple[float, float, float]], better: str, met: bool) -> None:
    found = Quality(1, 1, {"ours": 0.6} | {name: 0.6 / ratio[0] for name, ratio in ratios.items()}, {}, ratios)
    assert found.better() == better and found.met() is met


def test_without_the_cards_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHOS_DATA", str(tmp_path))
    with pytest.raises(BadInput) as refused:
        retrieval.material()
    assert refused.value.name == "no-cards" and "MESHOS_DATA" in refused.value.hint
