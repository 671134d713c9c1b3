"""The queue of news: how often each is sent, and what it bounds."""

from meshos.protocols.membership import limits
from meshos.protocols.membership.piggyback import Piggyback


def test_swim_4_1_news_is_sent_a_logarithm_of_times_least_sent_first() -> None:
    queue = Piggyback(3)
    queue.resize(99)
    assert queue.limit == 6
    for number in range(4):
        queue.put(number, bytes([number]) * 300)
    sent: list[int] = []
    while len(queue):
        sent += [blob[0] for blob in queue.take(640)]
    assert [sent.count(number) for number in range(4)] == [6] * 4 and sorted(sent[:4]) == [0, 1, 2, 3]


def test_neither_class_of_news_starves_the_other() -> None:
    queue = Piggyback(100)
    for number in range(500):
        queue.put(("word", number), b"m%03d" % number * 45)
        queue.put(("fact", number), b"u%03d" % number * 62, user=True)
    taken = queue.take(1040)
    membership, user = (sum(blob[:1] == mark for blob in taken) for mark in (b"m", b"u"))
    assert membership >= 3 and user >= 1 and sum(len(blob) + 3 for blob in taken) <= 1040


def test_the_queue_is_bounded_and_newer_takes_the_place_of_older() -> None:
    queue = Piggyback(4)
    for number in range(limits.QUEUE + 100):
        queue.put(number, b"x%d" % number)
    assert len(queue) == limits.QUEUE
    queue.put(limits.QUEUE, b"newer")
    assert len(queue) == limits.QUEUE and b"newer" in queue.take(100)
