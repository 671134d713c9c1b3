"""A square's host with all that it speaks: what ``square.py`` loads when the first stranger knocks."""

import logging
from functools import partial

from meshos.node.runtime.square import rendezvous, routing, serving
from meshos.node.runtime.square.announcing import PROTOCOLS, Announcer
from meshos.node.runtime.square.host import SquareHost
from meshos.node.runtime.square.offer import Offer
from meshos.protocols.square.announcements import directory_topic, heads_topic

for _noisy in ("libp2p", "quic", "aioquic"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)  # they warn of what strangers send, who could fill the log so


def open_host(seed: bytes, offer: Offer) -> SquareHost:
    """The host of the node whose key has this seed."""
    answering = offer.answering
    host = SquareHost(seed, answering.budget, serving.handlers(answering))
    host.handlers[serving.IDENTIFY] = serving.identify(host, answering, offer.agent, offer.addresses)
    topics = heads_topic(offer.genesis_hash), directory_topic(offer.genesis_hash)
    announcer = Announcer(host.identity, answering, topics, offer.news, lambda peer: offer.routes().knows(peer))
    for protocol in PROTOCOLS:
        host.handlers[protocol] = partial(announcer.serve, protocol)
    host.background.append(announcer.run)
    host.figures.append(announcer.statistics)
    host.handlers[routing.protocol_of(offer.genesis_hash)] = routing.handler(answering, offer.routes)
    point = rendezvous.handler(answering, rendezvous.namespace_of(offer.genesis_hash), offer.records)
    host.handlers[rendezvous.PROTOCOL] = point
    return host
