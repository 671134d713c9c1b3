"""What must hold in a genesis beyond its shape, one sentence for each thing that does not."""

from collections.abc import Iterator

from meshos.genesis_content import Genesis, TrustWeights
from meshos.genesis_reading import Problem, read


def check(data: bytes) -> list[Problem]:
    """All that is wrong with a genesis file, and notes on what may surprise; no problem but notes means it can be used."""
    genesis, problems = read(data)
    return problems if genesis is None else check_genesis(genesis)


def check_genesis(genesis: Genesis) -> list[Problem]:
    """As ``check``, of one that was read already."""
    if not genesis.orgs:
        return [Problem("$.orgs", "this mesh has no organisations yet: add each with `mesh genesis add`")]
    found = [*_orgs(genesis), *_keys(genesis), *_validators(genesis), *_coordinators(genesis), *_tokens(genesis)]
    return [*found, *_trust(genesis.trust_weights), *_governance(genesis), *_seats(genesis), *_parameters(genesis)]


def _orgs(genesis: Genesis) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, org in enumerate(genesis.orgs):
        if org.did in seen:
            yield Problem(f"$.orgs[{index}].did", f"{org.did} stands twice, also as entry {seen[org.did]}")
        seen.setdefault(org.did, index)


def _keys(genesis: Genesis) -> Iterator[Problem]:
    """One key, one role: a key that two hold, or that does two things, makes one theft two."""
    seen: dict[str, str] = {}
    nodes: dict[str, str] = {}
    for index, org in enumerate(genesis.orgs):
        path = f"$.orgs[{index}]"
        keys = [(f"{path}.rootKey", org.root_key)]
        if org.validator is not None:
            keys.append((f"{path}.validator.key", org.validator.key))
            where = f"{path}.validator.node"
            if org.validator.node in nodes:
                yield Problem(where, f"this node votes for another organisation already ({nodes[org.validator.node]})")
            nodes.setdefault(org.validator.node, where)
        keys += [(f"{path}.humanKeys[{n}].key", human.key) for n, human in enumerate(org.human_keys)]
        for where, key in keys:
            if key in seen:
                yield Problem(where, f"this key is used already at {seen[key]}; every role has a key of its own")
            seen.setdefault(key, where)


def _validators(genesis: Genesis) -> Iterator[Problem]:
    count = len(genesis.validators)
    if count == 0:
        yield Problem("$.orgs", "no organisation has a validator, so nothing could ever be agreed")
    elif count < 4:
        yield Problem("$.orgs", f"{count} of the organisations vote, and none of them may fail; from 4 on, one may", note=True)


def _coordinators(genesis: Genesis) -> Iterator[Problem]:
    for index, did in enumerate(genesis.meta_coordinators):
        path = f"$.metaCoordinators[{index}]"
        if genesis.org(did) is None:
            yield Problem(path, f"{did} is no organisation of this genesis")
        if did in genesis.meta_coordinators[:index]:
            yield Problem(path, f"{did} stands twice")
    needed, count = genesis.governance.min_approvals, len(set(genesis.meta_coordinators))
    if count < needed:
        sentence = f"{count} meta-coordinators cannot give the {needed} approvals that a risky decision needs: people must approve it"
        yield Problem("$.metaCoordinators", sentence, note=True)


def _tokens(genesis: Genesis) -> Iterator[Problem]:
    allocated = sum(org.allocation for org in genesis.orgs)
    if allocated > genesis.supply:
        yield Problem("$.supplyMillionths", f"is {genesis.supply}, and the organisations' allocations add up to {allocated}")
    elif allocated == 0:
        yield Problem("$.orgs", "no organisation has tokens, so none can pay another", note=True)


def _trust(weights: TrustWeights) -> Iterator[Problem]:
    total = weights.credentials + weights.history + weights.attestations + weights.compliance + weights.uptime
    if total != 100:
        yield Problem("$.trustWeights", f"add up to {total}, and must make 100")


def _governance(genesis: Genesis) -> Iterator[Problem]:
    governance, path = genesis.governance, "$.governance"
    names = [chamber.name for chamber in governance.chambers]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(f"{path}.chambers[{index}].name", f"a chamber called {name} stands here twice")
    total = sum(chamber.points for chamber in governance.chambers)
    if total != 100:
        yield Problem(f"{path}.chambers", f"have {total} points in all, and must have 100")
    human = [chamber for chamber in governance.chambers if chamber.human]
    if governance.min_human_chambers > len(human):
        sentence = f"is {governance.min_human_chambers}, and there are {len(human)} human chambers, so nothing could pass"
        yield Problem(f"{path}.minHumanChambers", sentence)
    machine_points = total - sum(chamber.points for chamber in human)
    if machine_points >= governance.pass_percent:
        sentence = f"is {governance.pass_percent}, and chambers without people have {machine_points} points: they could decide alone"
        yield Problem(f"{path}.passPercent", sentence)
    if governance.override_percent < governance.pass_percent:
        yield Problem(f"{path}.overridePercent", "is below passPercent: overruling must not be easier than deciding")
    if governance.pause_ms > governance.pause_window_ms:
        yield Problem(f"{path}.pause_ms", "is longer than pauseWindow_ms, the time it is counted in")


def _seats(genesis: Genesis) -> Iterator[Problem]:
    chambers = {chamber.name: chamber for chamber in genesis.governance.chambers}
    keys: set[tuple[str, str]] = set()
    for index, seat in enumerate(genesis.governance.seats):
        path = f"$.governance.seats[{index}]"
        chamber, org = chambers.get(seat.chamber), genesis.org(seat.org)
        if chamber is None:
            yield Problem(f"{path}.chamber", f"there is no chamber called {seat.chamber}")
        elif chamber.weighting != "seat":
            yield Problem(f"{path}.chamber", f"{seat.chamber} votes by token and has no seats")
        if org is None:
            yield Problem(f"{path}.org", f"{seat.org} is no organisation of this genesis")
        elif chamber is not None and chamber.human and seat.key not in {human.key for human in org.human_keys}:
            yield Problem(f"{path}.key", f"is not among the human keys of {seat.org}")
        if (seat.chamber, seat.key) in keys:
            yield Problem(f"{path}.key", f"this key has a seat in {seat.chamber} already")
        keys.add((seat.chamber, seat.key))
    seated = {seat.chamber for seat in genesis.governance.seats}
    empty = [name for name, chamber in chambers.items() if chamber.weighting == "seat" and name not in seated]
    if empty:
        yield Problem("$.governance.seats", f"nobody sits in {', '.join(empty)} yet, so these give no points", note=True)


def _parameters(genesis: Genesis) -> Iterator[Problem]:
    if genesis.embedding.record_dimension < genesis.embedding.dimension:
        yield Problem("$.embedding.recordDimension", "is below dimension, and a record holds the model's whole vector")
    directory = genesis.directory
    if directory.max_records_per_org > directory.max_records:
        yield Problem("$.directory.maxRecordsPerOrg", "is above maxRecords, so one organisation could fill the directory")
    if directory.replicas > len(genesis.orgs):
        sentence = f"is {directory.replicas}, and {len(genesis.orgs)} organisations can keep one copy each"
        yield Problem("$.directory.replicas", sentence, note=True)
    if not any(genesis.placement_seed):
        yield Problem("$.placementSeed", "is all zeros, so places could be chosen in advance: `mesh genesis new` draws one")
    if genesis.timing in ("local", "fast") and not genesis.testnet:
        sentence = f"{genesis.timing} is meant for a testnet on one machine; between machines it accuses live nodes"
        yield Problem("$.timing", sentence, note=True)
