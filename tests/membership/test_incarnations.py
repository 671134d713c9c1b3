"""A node's own incarnations: written before they are signed, risen above what was once signed, and not to be used up."""

from meshos.effects import Persist, Sign
from meshos.presets import LAN
from meshos.protocols.membership import limits
from meshos.protocols.membership.statements import Kind
from meshos.protocols.membership.suspicion import shortest_s
from tests.membership.lone import ME, met, told


def test_an_incarnation_is_written_before_it_is_signed_and_signed_before_it_is_told() -> None:
    lone, (a, *_) = met(signs=False)
    effects = lone.hear(a, lone.word(Kind.SUSPECT, ME, 1, a))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Sign) and lone.written == [1, 2] and lone.machine.incarnation == 2
    assert "me alive 2" not in told(lone.until(5))
    lone.sign()
    assert "me alive 2" in told(lone.until(6))


def test_late_signatures_do_no_harm() -> None:
    lone, (a, b, *_) = met(signs=False)
    lone.hear(a, lone.word(Kind.SUSPECT, ME, 1, a))
    lone.hear(b, lone.word(Kind.DEAD, ME, 1, b))
    assert lone.written == [1, 2], "one refutation answers both"
    lone.unsigned.reverse()
    lone.sign()
    view = lone.machine.member(ME)
    assert view is not None and view.incarnation == 2 and not view.accusations


def test_a_node_whose_disk_forgot_rises_above_what_it_once_signed() -> None:
    lone, (a, *_) = met()
    lone.hear(a, lone.alive(ME, 40))
    assert lone.machine.incarnation == 41 and lone.written[-1] == 41
    lone.hear(a, lone.left(ME, 50))
    assert lone.machine.incarnation == 51 and lone.state(ME)[0] == "alive"


def test_nobody_can_use_up_a_nodes_incarnations() -> None:
    lone, (a, *_) = met()
    lone.hear(a, lone.word(Kind.DEAD, ME, limits.NUMBER - 1, a))
    assert lone.machine.incarnation == 1 and lone.state(ME)[0] == "alive"


def test_one_that_accuses_without_end_is_answered_slowly() -> None:
    lone, (a, *_) = met()
    for _ in range(100):
        lone.hear(a, lone.word(Kind.SUSPECT, ME, lone.machine.incarnation, a))
        lone.until(lone.now + 0.05)
    assert lone.machine.incarnation <= 1 + limits.REFUTATIONS + 5 / shortest_s(LAN, 5) + 1
    lone.until(lone.now + 10)
    view = lone.machine.member(ME)
    assert view is not None and not view.accusations, "answered in the end"
