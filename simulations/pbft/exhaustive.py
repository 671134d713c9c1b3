"""Every order of everything, in a small scope: four validators, one height, a view change, a crash.

Theory of operation. What one replica does in one state with one event is computed once and remembered (automata.py). A global state is
then a few numbers: the state of each replica, the set of messages that were ever sent, how many crashes are left, and what each replica
has declined. The search goes through all of them, depth first, each once.

What may happen: any message that was ever sent reaches its receiver (late, again, or never: a message is never used up); a replica loses
its patience; a replica crashes, loses what was not on disk, and starts again.

Partial orders (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996). Two things spare most orders.

A message that is merely added to what its receiver holds, and makes it do nothing, is delivered as soon as it is there: votes are counted
and never taken back, so its coming earlier only moves the choice to the message that completes a quorum, and for that one both are
tried. The exception is a promise to the primary of the next view, where which q promises come first decides what is proved: there
all choices are tried.

Steps of different replicas commute, and what was sent is never unsent, so only the order of each replica's own steps matters. So the search
asks one replica after the other for its next step: each step that is possible now is one branch, and one more is that it waits for
a message that nobody has sent yet. Then it declines what it has been offered, and is asked again when there is something new. Every
execution has an equivalent one among these: take its replicas' own sequences of steps; whenever a replica is asked, its next step is
possible already, and can as well be taken now, or needs a message that is still to come.

Delay bounds (Emmi, Qadeer, Rakamarić, "Delay-Bounded Scheduling", POPL 2011). Two heights are too much for all orders. There messages
arrive in the order of sending, but for up to k times that one is put behind all others, a replica loses its patience, or crashes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from meshos.simulations.pbft.automata import CRASH, LEAVE, Automata, Counterexample, Scope, bits


@dataclass(slots=True)
class Found:
    """What an exploration has seen."""

    states: int = 0
    steps: int = 0
    decisions: int = 0
    carried_over: int = 0
    locals: int = 0
    complete: bool = True


def explore(scope: Scope, most: int | None = None, found: Found | None = None) -> Found:
    """All states of ``scope``, or the first ``most``; ``found`` counts them as they are met. Raises Counterexample."""
    automata = Automata(scope)
    automata.begin()
    found = found or Found()
    nothing = (0,) * scope.n
    begin = _State(_settle(automata, automata.first, automata.sent), automata.sent, scope.crashes, nothing, nothing)
    stack, seen = [begin], {begin}
    while stack:
        state = stack.pop()
        found.states, found.locals = found.states + 1, len(automata.locals)
        _judge(automata, state.places, found)
        if most is not None and found.states >= most:
            found.complete = not stack
            break
        for following in _following(automata, state):
            found.steps += 1
            if following not in seen:
                seen.add(following)
                stack.append(following)
    found.locals = len(automata.locals)
    return found


class _State(NamedTuple):
    """A global state; ``declined``: messages that each replica has let pass, ``asked``: whether it has declined to leave and to crash."""

    places: tuple[int, ...]
    sent: int
    crashes: int
    declined: tuple[int, ...]
    asked: tuple[int, ...]


def _following(automata: Automata, state: _State) -> Iterator[_State]:
    """What the first replica that there is something to ask may do next."""
    for place, local in enumerate(state.places):
        there = state.sent & automata.to[place]
        automata.sort(place, local, there)
        fresh = there & automata.locals[local].telling & ~state.declined[place]
        if not fresh and state.asked[place]:
            continue
        for event in bits(fresh):
            yield _stepped(automata, state, place, event)
        if not state.asked[place]:
            if automata.locals[local].may_leave:
                yield _stepped(automata, state, place, LEAVE)
            if state.crashes:
                yield _stepped(automata, state, place, CRASH)._replace(crashes=state.crashes - 1)
        yield state._replace(declined=_with(state.declined, place, state.declined[place] | fresh), asked=_with(state.asked, place, 1))
        return


def _with(values: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _stepped(automata: Automata, state: _State, place: int, event: int) -> _State:
    """One step, and everything that it lets others merely count."""
    number, out, _ = automata.step(place, state.places[place], event)
    sent = state.sent | out
    places = _settle(automata, _with(state.places, place, number), sent)
    return _State(places, sent, state.crashes, _with(state.declined, place, 0), _with(state.asked, place, 0))


def _settle(automata: Automata, places: tuple[int, ...], sent: int) -> tuple[int, ...]:
    return tuple(automata.settle(place, local, sent & automata.to[place]) for place, local in enumerate(places))


def _judge(automata: Automata, places: tuple[int, ...], found: Found) -> None:
    """All that was decided is one chain."""
    longest: tuple[bytes, ...] = ()
    for local in places:
        decided = automata.locals[local].decided
        shorter, longer = sorted((decided, longest), key=len)
        if longer[: len(shorter)] != shorter:
            raise Counterexample(f"two blocks are decided at height {len(shorter)}")
        longest = longer
    found.decisions += bool(longest)
    found.carried_over += any(automata.locals[local].node.core.desk.ballot.record.choice.hash is not None for local in places)


# -- two heights, by delays --------------------------------------------------------------------------------------------


def explore_delays(scope: Scope, bound: int, most: int | None = None, found: Found | None = None) -> Found:
    """All runs in which up to ``bound`` times something happens that is out of order; as ``explore``."""
    automata = Automata(scope)
    automata.begin()
    found = found or Found()
    queue = tuple(bits(automata.sent))
    begin = (automata.first, queue, scope.crashes, bound)
    stack, seen = [begin], {begin}
    while stack:
        state = stack.pop()
        found.states, found.locals = found.states + 1, len(automata.locals)
        _judge(automata, state[0], found)
        if most is not None and found.states >= most:
            found.complete = not stack
            break
        for following in _scheduled(automata, state):
            found.steps += 1
            if following not in seen:
                seen.add(following)
                stack.append(following)
    found.locals = len(automata.locals)
    return found


_Run = tuple[tuple[int, ...], tuple[int, ...], int, int]


def _scheduled(automata: Automata, run: _Run) -> Iterator[_Run]:
    """In order; or, as far as the bound allows, otherwise."""
    places, queue, crashes, bound = run
    if queue:
        head, rest = queue[0], queue[1:]
        yield _ran(automata, (places, rest, crashes, bound), automata.messages[head][0], head)
        if bound and rest:
            yield places, (*rest, head), crashes, bound - 1
    elif any(automata.locals[local].may_leave for local in places) and not bound:
        return
    for place, local in enumerate(places):
        if bound and automata.locals[local].may_leave:
            yield _ran(automata, (places, queue, crashes, bound - 1), place, LEAVE)
        if bound and crashes:
            yield _ran(automata, (places, queue, crashes - 1, bound - 1), place, CRASH)


def _ran(automata: Automata, run: _Run, place: int, event: int) -> _Run:
    places, queue, crashes, bound = run
    number, out, _ = automata.step(place, places[place], event)
    return (*places[:place], number, *places[place + 1 :]), (*queue, *bits(out)), crashes, bound


__all__ = ["Counterexample", "Found", "Scope", "explore", "explore_delays"]
