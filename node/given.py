"""What a node's machines are built with, read off its opened folder: no secrets, and all of it in a recording."""

from dataclasses import dataclass, replace

from meshos.consensus.raft.config import PRESETS as RAFT
from meshos.consensus.raft.config import Config as RaftConfig
from meshos.genesis import to_json
from meshos.node.kernel.payments import Terms
from meshos.node.opening import Folder
from meshos.node.runtime.recorder.limits import LOG_BYTES
from meshos.presets import PRESETS, Timing
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.limits import ANCHORS
from meshos.protocols.membership.machine import Seed
from meshos.protocols.membership.statements import NodeFacts
from meshos.protocols.payments.budget import Budget
from meshos.protocols.payments.limits import REDEEM_S, TESTNET_REDEEM_S
from meshos.protocols.relay.policy import USUAL, Policy


@dataclass(frozen=True, slots=True)
class Given:
    """What a node's machines are built with, beside their disks, clocks and chance; ``genesis`` is its JSON."""

    certified: Certified
    facts: NodeFacts
    genesis: str
    validator_key: str
    timing: Timing
    raft: RaftConfig
    seeds: tuple[Seed, ...]
    terms: Terms
    keep_blocks: int | None
    relaying: Policy = USUAL


def given_of(opened: Folder, version: str) -> Given:
    """What the machines of this node are built with, by software of this ``version``."""
    config, genesis, me = opened.config, opened.genesis, opened.me
    timing = config.timing or genesis.timing
    return Given(
        certified=Certified(me.node, me.org, opened.certificate),
        facts=_facts(opened, version),
        genesis=to_json(genesis).decode(),
        validator_key=opened.validator_key,
        timing=PRESETS[timing],
        raft=_lighter(RAFT[timing]) if config.recorder else RAFT[timing],
        seeds=tuple(Seed(seed.node, str(seed.link)) for seed in config.seeds if seed.node != me.node),
        terms=_terms(opened),
        keep_blocks=config.keep_blocks,
        relaying=replace(config.relaying, punch=config.relaying.punch and config.links_on_quic),
    )


def _facts(opened: Folder, version: str) -> NodeFacts:
    config = opened.config
    first = tuple(dict.fromkeys(seed.node for seed in config.seeds if seed.node != opened.me.node))
    return NodeFacts(
        org=opened.me.org,
        name=config.name,
        gossip="" if config.leaf else str(config.advertised_gossip),
        link="" if config.leaf else str(config.advertised_link),
        api="" if config.leaf else str(config.api),
        region=config.region,
        version=version,
        anchors=first[:ANCHORS] if config.leaf else (),
    )


def _terms(opened: Folder) -> Terms:
    payments = opened.config.payments
    redeem_s = TESTNET_REDEEM_S if opened.genesis.testnet else REDEEM_S
    return Terms(Budget(payments.per_provider, payments.in_all), payments.credit, redeem_s)


def _lighter(raft: RaftConfig) -> RaftConfig:
    """For a node that records: each segment begins with what its group keeps in memory."""
    return replace(raft, cached_bytes=min(raft.cached_bytes, LOG_BYTES))
