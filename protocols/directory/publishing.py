"""From what an owner says to records that the mesh holds: embed, sign, publish; and to withdraw, and to renew."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from meshos.effects import Err, Outcome
from meshos.errors import MeshError, Refused
from meshos.flow import Compute, Gather, Port, Propose
from meshos.ids import AgentId, agent_id
from meshos.protocols.directory import limits
from meshos.protocols.directory.commands import MACHINE, EntrySignature, Merge, Merged, Publish, ReadDue, SignEntry, Withdraw
from meshos.protocols.directory.newest import holders_away, newest
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.profile import Profile, checked
from meshos.protocols.directory.record import AgentRecord, Entry, Sealed, body_of, buried, described, seal


@dataclass(frozen=True, slots=True)
class Publication:
    """Agents to publish, and when (Unix time in milliseconds; a Flow has no clock)."""

    profiles: tuple[Profile, ...]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Agents of this org to withdraw by name, and when."""

    names: tuple[str, ...]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Published:
    """The ids of what was taken in, and the place of each that was not, with the reason."""

    accepted: tuple[AgentId, ...]
    refused: tuple[tuple[int, MeshError], ...]


async def publish(parts: Parts, publication: Publication) -> Published:
    """Publish each profile under its next version. Of a name that stands here twice the last counts.

    Raises Failed ``model-missing``; what is wrong with one profile refuses that one only, as ``holders-away`` does: in a directory in cells
    nobody could be asked which version of it there is.
    """
    refused: list[tuple[int, MeshError]] = []
    places: dict[str, int] = {}
    for place, profile in enumerate(publication.profiles):
        try:
            places[checked(profile).name] = place
        except Refused as error:
            refused.append((place, error))
    accepted: list[AgentId] = []
    order = sorted(places.values())
    for start in range(0, len(order), limits.PUBLISHED_AT_ONCE):
        batch = order[start : start + limits.PUBLISHED_AT_ONCE]
        ids, errors = await _publish_batch(parts, [publication.profiles[place] for place in batch], publication.now_ms)
        accepted += ids
        refused += ((batch[place], error) for place, error in errors)
    return Published(tuple(accepted), tuple(sorted(refused, key=lambda pair: pair[0])))


async def _publish_batch(parts: Parts, profiles: Sequence[Profile], now_ms: int) -> tuple[list[AgentId], list[tuple[int, MeshError]]]:
    embedder = parts.checker.embedder
    texts = [profile.text() for profile in profiles]
    read = await Compute(lambda: embedder.read(texts), cost_s=0.015 * len(texts))
    before = await newest(parts, [agent_id(parts.org, profile.name) for profile in profiles])
    sure = [place for place, one in enumerate(before) if one.sure]
    refused = [(place, holders_away(profiles[place].name)) for place, one in enumerate(before) if not one.sure]
    entries: list[Entry] = []
    for place in sure:
        now, last = profiles[place], before[place]
        entries.append(described(parts.org, now, last.version + 1, now_ms, embedder.name, read[place], last.entry))
    accepted, errors = await _seal_and_propose(entries)
    return accepted, [*refused, *((sure[place], error) for place, error in errors)]


async def withdraw(parts: Parts, withdrawal: Withdrawal) -> Published:
    """Bury the records of these names. Raises Refused ``no-such-agent`` if one of them has none, ``holders-away`` if nobody knows."""
    before = await newest(parts, [agent_id(parts.org, name) for name in withdrawal.names])
    entries: list[Entry] = []
    for name, last in zip(withdrawal.names, before, strict=True):
        if not last.sure:
            raise holders_away(name)
        if not isinstance(last.entry, AgentRecord):
            raise Refused("no-such-agent", f"{parts.org} has no agent {name[:60]!r} in the directory", hint="`mesh agents` lists them")
        entries.append(buried(parts.org, name, last.version + 1, withdrawal.now_ms, last.entry))
    accepted, refused = await _seal_and_propose(entries, gone=True)
    return Published(tuple(accepted), tuple(refused))


async def renew(parts: Parts) -> int:
    """Publish again, under the next version, what this node signed and what grows old; how many. What another node of the organisation has
    changed or withdrawn meanwhile is taken over instead, and what nobody can be asked about waits for the next time.
    """
    due: tuple[Sealed, ...] = await Propose(ReadDue(limits.PUBLISHED_AT_ONCE), MACHINE)
    records = [sealed.entry for sealed in due if isinstance(sealed.entry, AgentRecord)]
    if not records:
        return 0
    known = await newest(parts, [record.agent_id for record in records])
    pairs = list(zip(known, records, strict=True))
    newer = tuple(one.sealed for one, record in pairs if one.sealed is not None and one.sealed.entry.version > record.version)
    if newer:
        await Propose(Merge(newer), MACHINE)
    entries: list[Entry] = [
        dataclasses.replace(record, version=one.version + 1)
        for one, record in pairs
        if one.sure and one.sealed is not None and one.sealed.entry.version == record.version
    ]
    accepted, _ = await _seal_and_propose(entries)
    return len(accepted)


async def _seal_and_propose(entries: Sequence[Entry], *, gone: bool = False) -> tuple[list[AgentId], list[tuple[int, MeshError]]]:
    refused: list[tuple[int, MeshError]] = []
    signed: list[tuple[int, Entry]] = []
    bodies: list[bytes] = []
    for place, entry in enumerate(entries):
        try:
            bodies.append(body_of(entry))
            signed.append((place, entry))
        except Refused as error:
            refused.append((place, error))
    outcomes: list[Outcome[EntrySignature]] = await Gather(*(Port(SignEntry(body)) for body in bodies)) if bodies else []
    sealed: list[tuple[int, Sealed]] = []
    for (place, entry), outcome in zip(signed, outcomes, strict=True):
        if isinstance(outcome, Err):
            raise outcome.error  # a key that cannot sign one cannot sign any
        sealed.append((place, seal(entry, outcome.value.signer, outcome.value.signature, outcome.value.proof)))
    if not sealed:
        return [], refused
    batch = tuple(one for _, one in sealed)
    merged: Merged = await Propose(Withdraw(batch) if gone else Publish(batch), MACHINE)
    refused += ((sealed[place][0], error) for place, error in merged.refused)
    lost = {place for place, _ in merged.refused}
    return [one.entry.agent_id for place, (_, one) in enumerate(sealed) if place not in lost], refused
