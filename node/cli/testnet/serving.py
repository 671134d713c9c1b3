"""A testnet that other machines can join: its nodes take gossip, links and strangers on an address of this machine, not on loopback only.

The APIs stay on loopback. What is written is the nodes' configuration; the genesis, keys and data are as before, so the testnet goes on.
"""

from dataclasses import replace
from pathlib import Path

from meshos.ids import NodeId
from meshos.node import folder
from meshos.node.cli.testnet.making import p2p_of
from meshos.node.cli.testnet.record import Testnet, save
from meshos.node.config import load


def move(testnet: Testnet, host: str) -> Testnet:
    """The same testnet with all its nodes at ``host``. They must not run; what is so already is not written again."""
    nodes = []
    for node in testnet.nodes:
        config = load(Path(node.dir))
        square = None if config.square is None else replace(config.square, host=host)
        seeds = tuple(replace(seed, gossip=replace(seed.gossip, host=host), link=replace(seed.link, host=host)) for seed in config.seeds)
        moved = replace(config, gossip=replace(config.gossip, host=host), link=replace(config.link, host=host), square=square, seeds=seeds)
        if moved != config:
            folder.write_config(moved)
        nodes.append(replace(node, gossip=str(moved.gossip), link=str(moved.link), p2p=p2p_of(moved, NodeId(node.node_id))))
    moved_net = replace(testnet, nodes=tuple(nodes))
    if moved_net != testnet:
        save(moved_net)
    return moved_net


def is_at(testnet: Testnet, host: str) -> bool:
    """Whether that is so already."""
    return all(node.link.rpartition(":")[0].strip("[]") == host for node in testnet.nodes)


def invitation(testnet: Testnet) -> str:
    """What somebody on another machine types."""
    digits = folder.read_genesis(Path(testnet.genesis)).hash.hex()[:32]
    return f"mesh join {testnet.nodes[0].p2p[0]} --genesis-hash {digits} --org NAME"
