"""From text to words, from words to stems, and from a misspelt word to the one that was meant."""

import re
from collections.abc import Callable
from functools import lru_cache

from meshos.storage.index.limits import SPELLED_CHARS, WORD_CHARS, WORDS_READ

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SUFFIXES = ("ings", "ing", "ies", "es", "ed", "s")


_FUNCTION_WORDS = """
a about after all also am an and any anybody anyone anything are as at be because been before being between both but by can could
did do does doing done down during each for from had has have having he her here him his how i if in into is it its just me might
more most must my no nor not now of off on once one only or other our out over own please same she should so some somebody someone
something such than that the their them then there these they this those through to too under until up us very was we were what
when where which while who whom whose why will with within without would you your
"""

FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that tell what a sentence is, not what it is about."""


def words(text: str) -> list[str]:
    """The lower-case words of ``text`` in order; ``camelCase`` counts as two. At most ``WORDS_READ``, each at most ``WORD_CHARS``."""
    found: list[str] = []
    for match in _WORD.finditer(text):
        found += (part.lower()[:WORD_CHARS] for part in _HUMP.split(match.group()))
        if len(found) >= WORDS_READ:
            return found[:WORDS_READ]
    return found


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """The word without its English ending: plurals, -ed, -ing, a last e. Crude on purpose: a question and a card are treated alike."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)] + ("y" if suffix == "ies" else "")
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def corrected(text: str, count: Callable[[str], int], known: Callable[[str], bool], *, most: int) -> str:
    """``text`` with up to ``most`` unknown words replaced by the commonest known word one slip away.

    ``count`` says in how many documents a word stands, ``known`` whether it is a word at all. A slip is a letter too
    many, too few, wrong, or two swapped (Damerau 1964); the first letter is taken to be right.
    """
    tries = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal tries
        written = match.group()
        low, high = SPELLED_CHARS
        if tries >= most or not low <= len(written) <= high or any(count(word) or known(word) for word in words(written)):
            return written
        tries += 1
        best = max(((count(word), word) for word in _one_slip_away(written.lower())), default=(0, ""))
        return best[1] if best[0] else written

    return _WORD.sub(replace, text)


def _one_slip_away(word: str) -> set[str]:
    splits = [(word[:cut], word[cut:]) for cut in range(1, len(word) + 1)]
    missing = {left + letter + right for left, right in splits for letter in _LETTERS}
    extra = {left + right[1:] for left, right in splits if right}
    wrong = {left + letter + right[1:] for left, right in splits if right for letter in _LETTERS}
    swapped = {left + right[1] + right[0] + right[2:] for left, right in splits if len(right) > 1}
    return missing | extra | wrong | swapped
