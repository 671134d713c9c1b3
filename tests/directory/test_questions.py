"""The questions that rankings are chosen and judged on: well formed, kept apart, and about cards that exist."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshos.bench import retrieval

HERE = Path(__file__).parent
STYLES = {"plain", "terse", "long", "indirect", "typo"}


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


DEVELOPMENT, FROZEN = lines("development.jsonl"), lines("questions.jsonl")


def named(questions: list[dict[str, Any]]) -> set[str]:
    return {name for question in questions for name in question["relevant"]}


@pytest.mark.parametrize("questions", [DEVELOPMENT, FROZEN], ids=["development", "frozen"])
def test_each_is_asked_once_in_a_known_style_and_has_an_answer(questions: list[dict[str, Any]]) -> None:
    assert len({question["question"] for question in questions}) == len(questions) > 100
    assert {question["style"] for question in questions} == STYLES
    assert all(question["relevant"] and len(set(question["relevant"])) == len(question["relevant"]) for question in questions)


def test_what_is_tuned_on_names_no_card_that_is_judged_on() -> None:
    assert not named(DEVELOPMENT) & named(FROZEN)


def test_the_halves_are_of_like_size() -> None:
    halves = [question["half"] for question in DEVELOPMENT]
    assert set(halves) == {"a", "b"} and abs(halves.count("a") - halves.count("b")) <= 1


def test_the_cards_exist() -> None:
    folder = retrieval.data_folder()
    if folder is None:
        pytest.skip("the real cards are not here: set MESHOS_DATA to the folder that holds agents/")
    assert named(DEVELOPMENT) | named(FROZEN) <= retrieval.read_cards(folder).keys()
