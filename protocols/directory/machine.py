"""The directory machine: which agents' records this node holds, and where they lie.

Theory of operation. Entries come from this node's own owner (``Publish``, ``Withdraw``) or were fetched from another node and verified
(``Merge``). Which stays is decided in ``holdings``. Everything taken in is persisted before it is answered for, and told to the index
(``IndexChanged``), which lives off the event loop. A record lives for the mesh's lifetime of records from when it was
received, here or by another holder; its owner renews it by a higher version. A tombstone and the mark of a lapsed version live three
times as long, so that the copies that others received later lapse before them. Times mean nothing after a restart, so that each entry's
life begins anew then. A longer lifetime holds at once, a shorter one for what is received from then on: its owner had no time to renew it.

While the directory is whole, an entry lies in the bucket of its id. By a codebook it lies in cells (``cells.layout``), which worker threads
work out: what came without its places, as this node's own does, waits for them, unfound, until the Flows have placed it.

The machine starts two Flows of ``sync``: ``KEEP`` once, and ``TELL`` for what this node has published.
"""

import heapq
import itertools

from meshos.effects import Completed, Err, Ok, Outcome, Persist, Tell, Tick
from meshos.errors import MeshError, Refused
from meshos.flow import Propose
from meshos.flow_machine import Abandon, FlowEnded, Perform, StartFlow
from meshos.ids import AgentId, OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.checking import publisher_refused
from meshos.protocols.directory.commands import (
    MACHINE,
    Arrange,
    Command,
    Digest,
    Disown,
    Find,
    Held,
    IndexChanged,
    Item,
    Items,
    Judge,
    KeepCodebook,
    Merge,
    Merged,
    Place,
    Placed,
    Places,
    Publish,
    Read,
    ReadArranged,
    ReadCodebook,
    ReadDigest,
    ReadDue,
    ReadItems,
    ReadPlaces,
    ReadPlacesOf,
    ReadUnchecked,
    ReadUnplaced,
    Release,
    Want,
    Wanted,
    Withdraw,
    is_record,
    item_of,
)
from meshos.protocols.directory.holdings import Caps, Holding, Holdings, Kind, Lifetime, a_day, bucket_of, uncapped
from meshos.protocols.directory.record import AgentRecord, Sealed, parse
from meshos.protocols.directory.refusals import Refusals
from meshos.protocols.directory.stored import Stored
from meshos.storage.store import View

KEEP = "directory-keep"
TELL = "directory-tell"

_RESTART_S = 5.0


class Directory:
    """See the module's text. ``node`` is this node's id, by which it knows the entries that it has signed itself; ``caps`` how many records
    the mesh wants held, ``lifetime`` for how long.
    """

    def __init__(self, node: str, view: View, caps: Caps = uncapped, lifetime: Lifetime = a_day) -> None:
        self._node = node
        self._lifetime = lifetime
        self._stored = Stored(view)
        self._held = Holdings(caps)
        self._expiries: list[tuple[float, AgentId, bytes]] = []
        self._unchecked: dict[AgentId, None] = {}
        self._layout = b""
        self._unplaced: dict[AgentId, None] = {}
        self._refusals = Refusals()
        self._parsed: dict[bytes, Sealed] = {}  # by digest, the latest asked for last
        self._tells = 0
        self._begun = False
        self._keep_again: float | None = None
        self._put: dict[AgentId, Sealed] = {}
        self._drop: dict[AgentId, None] = {}
        self._moved: dict[AgentId, int] = {}
        self._effects: list[object] = []

    # -- the machine -------------------------------------------------------------------------------------------------

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._stored.writes, self._put, self._drop, self._moved, self._effects = [], {}, {}, {}, []
        if not self._begun:
            self._begin(now)
        if isinstance(event, Perform) and isinstance(event.operation, Propose):
            answer = self._answer(now, event.operation.command)
            self._effects.append(Tell(event.reply_to, Completed(event.op, answer)))
        elif isinstance(event, FlowEnded):
            if event.flow == KEEP:
                self._keep_again = now + _RESTART_S
        elif not isinstance(event, Tick | Abandon):
            raise TypeError(f"Directory has no use for {event!r}")
        self._lapse(now)
        if self._keep_again is not None and self._keep_again <= now:
            self._keep()
        before: list[object] = [Persist(tuple(self._stored.writes))] if self._stored.writes else []
        if self._put or self._drop or self._moved:
            before.append(self._index_changed())
        return before + self._effects

    def _index_changed(self) -> IndexChanged:
        """What waits for its places is not there yet."""
        put = {agent: sealed for agent, sealed in self._put.items() if agent not in self._unplaced}
        homes = [held.places[0] for agent in put if (held := self._held.get(agent)) is not None]
        return IndexChanged(tuple(put.values()), tuple(homes), tuple(self._drop), tuple(self._moved.items()))

    def deadline(self) -> float | None:
        """When the next entry lapses; at once, before the first step."""
        if not self._begun:
            return 0.0
        due = [when for when in (self._keep_again, self._expiries[0][0] if self._expiries else None) if when is not None]
        return min(due) if due else None

    def beginning(self, prefix: str, most: int) -> list[AgentId]:
        """For the API, read-only: up to ``most`` agents whose ids begin with ``prefix``."""
        return self._held.records_beginning(prefix, most)

    def record(self, agent: AgentId) -> Sealed | None:
        """For the API, read-only: the record that is held of an agent. The last PARSED that were asked for are kept ready."""
        held = self._held.get(agent)
        if held is None or held.kind != "record":
            return None
        sealed = self._parsed.pop(held.digest, None)
        if sealed is None:
            sealed = parse(self._stored.sealed_bytes(held))
        self._parsed[held.digest] = sealed
        if len(self._parsed) > limits.PARSED:
            del self._parsed[next(iter(self._parsed))]
        return sealed

    def records_of(self, org: OrgDid) -> int:
        """For the API, read-only: how many records this node holds of an organisation."""
        return self._held.records_of(org)

    def digest(self) -> bytes:
        """Of all that is held: two that are alike have the same."""
        return self._held.digests(self._held.places())[0]

    def statistics(self) -> dict[str, int]:
        """How much is held, how many vectors wait to be checked, how many did not fit."""
        return {
            "records": self._held.records,
            "entries": len(self._held),
            "unchecked": len(self._unchecked),
            "unplaced": len(self._unplaced),
            "cheats": self._refusals.cheats,
        }

    # -- beginning ---------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Everything that was held is held again."""
        self._begun = True
        self._layout = self._stored.layout()
        for holding, sealed in self._stored.entries(self._node, now):
            self._hold(now, holding)
            if sealed is not None and is_record(sealed):
                self._put[holding.id] = sealed
        self._keep()

    def _keep(self) -> None:
        self._keep_again = None
        self._effects.append(Tell("flows", StartFlow(KEEP, KEEP, None, None, MACHINE)))

    # -- commands ----------------------------------------------------------------------------------------------------

    def _answer(self, now: float, command: object) -> Outcome[object]:
        try:
            return Ok(self._obey(now, command))
        except MeshError as error:
            return Err(error)

    def _obey(self, now: float, command: object) -> object:
        match command:
            case Publish(entries) | Withdraw(entries):
                return self._publish(now, entries)
            case Merge(entries, checked, layout, places):
                return self._merge(now, entries, checked, places if layout == self._layout else ())
            case Arrange(layout, placed):
                self._arrange(layout, placed)
                return None
            case Place(layout, placed):
                if layout == self._layout:
                    self._lay(placed)
                return layout == self._layout
            case Release(layout, kept):
                return self._release(kept) if layout == self._layout else 0
            case ReadArranged():
                return self._layout
            case ReadPlaces():
                return tuple(self._held.places())
            case ReadPlacesOf(ids):
                return tuple(() if (held := self._held.get(agent)) is None else held.places for agent in ids)
            case KeepCodebook(name, data, wanted):
                self._stored.keep_codebook(name, data, frozenset(wanted))
                return None
            case ReadCodebook(name):
                return self._stored.codebook(name)
            case ReadUnplaced(count):
                return self._read_unplaced(count)
            case ReadDigest(places):
                root, digests = self._held.digests(places)
                return Digest(root, b"".join(digests))
            case ReadItems(places, after):
                return Items(*self._held.items(places, after, limits.ITEMS_A_PAGE))
            case Want(items):
                return self._want(now, items)
            case Read(ids, max_bytes):
                return self._read(ids, max_bytes)
            case Find(ids, brief):
                return tuple(self._find(agent, brief=brief) for agent in ids)
            case ReadUnchecked(count):
                return self._read_unchecked(count)
            case Judge():
                self._judge(now, command)
                return self._refusals.refused(now)
            case Disown(items):
                self._disown(now, items)
                return None
            case ReadDue(count):
                return self._read_due(now, count)
            case _:
                raise TypeError(f"Directory has no use for {command!r}; it knows {Command}")

    def _publish(self, now: float, entries: tuple[Sealed, ...]) -> Merged:
        """Our own: their vectors need no check here, and an old version is a mistake of ours that has to be heard of."""
        merged = self._merge(now, entries, frozenset(sealed.digest for sealed in entries), (), own=True)
        refused = {place for place, _ in merged.refused}
        news = [item_of(sealed) for place, sealed in enumerate(entries) if place not in refused]
        if news:
            self._tells += 1
            self._effects.append(Tell("flows", StartFlow((TELL, self._tells), TELL, tuple(news), now + limits.SYNC_TIMEOUT_S, MACHINE)))
        return merged

    def _merge(
        self, now: float, entries: tuple[Sealed, ...], checked: frozenset[bytes], places: tuple[Places, ...], *, own: bool = False
    ) -> Merged:
        news, refused = 0, []
        for number, sealed in enumerate(entries):
            there: Places = () if self._layout else (bucket_of(sealed.entry.agent_id),)
            if self._layout and len(places) == len(entries):
                there = places[number]
            try:
                news += self._take(now, sealed, there, checked=sealed.digest in checked, own=own)
            except Refused as error:
                refused.append((number, error))
                if error.name in ("org-full", "directory-full") and not own:
                    self._refusals.shun(sealed.digest, now + limits.FULL_S)
        return Merged(news, tuple(refused))

    def _take(self, now: float, sealed: Sealed, places: Places, *, checked: bool, own: bool) -> bool:
        """Hold ``sealed`` if it is newer than what is held; whether it was."""
        entry = sealed.entry
        agent = entry.agent_id
        kind: Kind = "record" if isinstance(entry, AgentRecord) else "tombstone"
        old = self._held.get(agent)
        mine = sealed.signer == self._node
        new = Holding(agent, entry.mesh_id, kind, entry.version, sealed.digest, now, 0.0, checked or kind != "record", mine, places)
        if old is not None and new.rank() <= old.rank():
            if own and new.digest != old.digest:
                raise Refused("old-version", f"version {old.version} of {entry.name[:60]!r} is there already", hint="raise the version")
            return False
        if kind == "record" and not own and entry.mesh_id in self._refusals.refused(now):
            raise publisher_refused(sealed)
        out = self._held.check_room(new, old)
        if out is not None:
            self._refusals.shun(out.digest, now + limits.FULL_S)  # what came and went at its owner's will would make who lists it a liar
            self._forget(out)
            self._put.pop(out.id, None)
            self._drop[out.id] = None
        self._hold(now, new)
        self._stored.put(new, sealed.to_bytes())
        if kind == "record":
            self._put[agent] = sealed
            self._drop.pop(agent, None)
        elif old is not None and old.kind == "record":
            self._put.pop(agent, None)
            self._drop[agent] = None
        return True

    # -- places ------------------------------------------------------------------------------------------------------

    def _arrange(self, layout: bytes, placed: tuple[Placed, ...]) -> None:
        self._layout = layout
        self._stored.arrange(layout)
        self._unplaced.clear()
        places = {one.id: one.places for one in placed if (held := self._held.get(one.id)) is not None and held.digest == one.digest}
        for holding in list(self._held.all()):
            there = places.get(holding.id, ()) if layout else (bucket_of(holding.id),)
            self._held.lay(holding, there)
            self._stored.put_places(holding)
            if holding.kind == "mark":
                continue
            if not there:
                self._unplaced[holding.id] = None
            if holding.kind == "record":
                if there:
                    self._moved[holding.id] = there[0]
                else:
                    self._drop[holding.id] = None

    def _lay(self, placed: tuple[Placed, ...]) -> None:
        for one in placed:
            held = self._held.get(one.id)
            if held is None or held.digest != one.digest or one.id not in self._unplaced:
                continue  # it was replaced meanwhile, and waits for its own places
            del self._unplaced[one.id]
            self._held.lay(held, one.places)
            self._stored.put_places(held)
            if held.kind == "record":
                self._put[held.id] = parse(self._stored.sealed_bytes(held))
                self._drop.pop(held.id, None)

    def _release(self, kept: Places) -> int:
        stays, gone = frozenset(kept), 0
        for place in [place for place in self._held.places() if place not in stays]:
            for held in self._held.lying_in(place):
                if not held.own and stays.isdisjoint(held.places):
                    self._forget(held)
                    self._put.pop(held.id, None)
                    self._drop[held.id] = None
                    gone += 1
        return gone

    def _read_unplaced(self, count: int) -> tuple[Sealed, ...]:
        held = [holding for agent in itertools.islice(self._unplaced, count) if (holding := self._held.get(agent)) is not None]
        return tuple(parse(self._stored.sealed_bytes(holding)) for holding in held if holding.kind != "mark")

    def _want(self, now: float, items: tuple[Item, ...]) -> Wanted:
        ids = []
        for item in items:
            if self._refusals.shuns(now, item.digest):
                continue
            held = self._held.get(item.id)
            if held is None or item.version > held.version:
                ids.append(item.id)
            elif item.version == held.version and held.kind != "mark" and item.digest != held.digest:
                ids.append(item.id)  # which of the two stays is decided when it is here
        return Wanted(tuple(ids), self._refusals.refused(now))

    def _read(self, ids: tuple[AgentId, ...], max_bytes: int) -> tuple[bytes, ...]:
        found: list[bytes] = []
        for agent in ids:
            held = self._held.get(agent)
            if held is None or held.kind == "mark":
                continue
            data = self._stored.sealed_bytes(held)
            max_bytes -= len(data)
            if max_bytes < 0 and found:
                break
            found.append(data)
        return tuple(found)

    def _find(self, agent: AgentId, *, brief: bool) -> Held | None:
        held = self._held.get(agent)
        if held is None:
            return None
        return Held(held.version, held.checked, None if brief or held.kind == "mark" else parse(self._stored.sealed_bytes(held)))

    def _read_unchecked(self, count: int) -> tuple[Sealed, ...]:
        """The oldest unchecked; each goes to the end of the line, so that one that cannot be checked does not block the others."""
        agents = list(itertools.islice(self._unchecked, count))
        for agent in agents:
            del self._unchecked[agent]
            self._unchecked[agent] = None
        return tuple(parse(self._stored.sealed_bytes(held)) for agent in agents if (held := self._held.get(agent)) is not None)

    def _judge(self, now: float, judge: Judge) -> None:
        for item in judge.good:
            held = self._held.get(item.id)
            if held is not None and held.digest == item.digest and not held.checked:
                held.checked = True
                self._unchecked.pop(item.id, None)
                self._stored.put(held, self._stored.sealed_bytes(held))
        for item in judge.bad:
            held = self._held.get(item.id)
            if held is not None and held.digest == item.digest and held.kind == "record":
                self._refusals.count(now, held.org)
                self._mark(now, held)
        for org in judge.refused:
            self._refusals.count(now, org)
        for digest in judge.unwanted:
            self._refusals.shun(digest, now + limits.REFUSED_S)

    def _disown(self, now: float, items: tuple[Item, ...]) -> None:
        for item in items:
            held = self._held.get(item.id)
            if held is None or held.digest != item.digest or held.kind == "mark":
                continue  # it was replaced meanwhile
            if held.own and held.kind == "record":
                held.since = now - self._lifetime()  # it is due: by the certificate that this node has now
            else:
                self._forget(held)
                self._put.pop(item.id, None)
                self._drop[item.id] = None

    def _forget(self, held: Holding) -> None:
        self._held.drop(held.id)
        self._unchecked.pop(held.id, None)
        self._unplaced.pop(held.id, None)
        self._stored.forget(held.id)

    def _read_due(self, now: float, count: int) -> tuple[Sealed, ...]:
        due: list[Sealed] = []
        age = self._lifetime() / limits.RENEWALS
        for holding in self._held.own_records():
            if len(due) == count:
                break
            if now - holding.since >= age:
                due.append(parse(self._stored.sealed_bytes(holding)))
        return tuple(due)

    # -- holding and lapsing -----------------------------------------------------------------------------------------

    def _hold(self, now: float, holding: Holding) -> None:
        holding.since = now
        self._held.put(holding)
        self._await_expiry(holding)
        if len(self._expiries) > 2 * len(self._held) + 1_000:  # most belong to versions long replaced
            self._expiries = [when for when in self._expiries if (held := self._held.get(when[1])) is not None and held.expires == when[0]]
            heapq.heapify(self._expiries)
        self._unchecked.pop(holding.id, None)
        self._unplaced.pop(holding.id, None)
        if holding.kind == "record" and not holding.checked:
            self._unchecked[holding.id] = None
        if not holding.places and holding.kind != "mark":
            self._unplaced[holding.id] = None

    def _await_expiry(self, holding: Holding) -> None:
        holding.expires = holding.since + self._lifetime() * (1 if holding.kind == "record" else limits.TOMBSTONE_LIVES)
        heapq.heappush(self._expiries, (holding.expires, holding.id, holding.digest))

    def _lapse(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            when, agent, digest = heapq.heappop(self._expiries)
            held = self._held.get(agent)
            if held is None or held.digest != digest or held.expires != when:
                continue  # it was renewed or replaced, and has another place in the heap
            self._await_expiry(held)  # the mesh may want it to live longer than when it was received
            if held.expires <= now:
                self._mark(now, held) if held.kind == "record" else self._forget(held)

    def _mark(self, now: float, held: Holding) -> None:
        """The record goes; that its version is not wanted any more is remembered."""
        mark = Holding(held.id, held.org, "mark", held.version, held.digest, now, 0.0, True, held.own, held.places)
        self._hold(now, mark)
        self._stored.put(mark, b"")
        self._put.pop(held.id, None)
        self._drop[held.id] = None
