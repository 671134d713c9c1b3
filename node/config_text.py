"""``node.toml`` as text: what ``mesh init`` writes, and ``config.parse`` reads again."""

import json
from pathlib import Path

from meshos.node.config import KEYS, OFF, NodeConfig, Payments
from meshos.protocols.relay.policy import USUAL
from meshos.protocols.tasks.amounts import mesh


def to_toml(config: NodeConfig) -> str:
    """The file, as ``parse`` reads it; paths inside the node's folder are written relative to it."""

    def path(value: Path) -> str:
        return json.dumps(str(value.relative_to(config.dir) if value.is_relative_to(config.dir) else value), ensure_ascii=False)

    lines = [
        "# One node of Mesh OS. Paths are relative to this file's folder. `mesh doctor --dir .` checks it.",
        f"name = {json.dumps(config.name)}",
        f"org = {json.dumps(config.org)}",
        f"region = {json.dumps(config.region)}",
        f"genesis = {path(config.genesis)}",
    ]
    lines += [f"{key} = {json.dumps(value)}" for key, value in (("advertise", config.advertise), ("timing", config.timing)) if value]
    lines += [f"{key} = true" for key, on in (("leaf", config.leaf), ("recorder", config.recorder)) if on]
    lines += ["", "[api]", f"listen = {json.dumps(str(config.api))}", f"keys = {path(config.api_keys)}"]
    if config.api_tls_certificate is not None and config.api_tls_key is not None:
        lines += [f"tls_certificate = {path(config.api_tls_certificate)}", f"tls_key = {path(config.api_tls_key)}"]
    lines += ["", "[gossip]", f"listen = {json.dumps(str(config.gossip))}", "", "[link]", f"listen = {json.dumps(str(config.link))}"]
    lines += [] if config.quic else ["quic = false"]
    lines += ["", "[square]", f"listen = {json.dumps(OFF if config.square is None else str(config.square))}"]
    lines += ["", "[keys]", f"file = {path(config.keys)}", f"passphrase_file = {path(config.passphrase_file)}"]
    lines += [f"certificate = {path(config.certificate)}", f"revocations = {path(config.revocations)}"]
    if config.egress_allow:
        lines += ["", "[egress]", f"allow = {json.dumps(list(config.egress_allow))}"]
    if config.payments != Payments():
        amounts = ((name, mesh(getattr(config.payments, name))) for name in KEYS["payments"])
        lines += ["", "[payments]", *(f'{name} = "{amount} MESH"' for name, amount in amounts)]
    if config.relaying != USUAL:
        relaying = config.relaying
        lines += ["", "[relay]", f"serve = {json.dumps(relaying.serve)}", f"own_only = {json.dumps(relaying.own_only)}"]
        lines += [f"bytes_per_s = {relaying.bytes_per_s}", f"punch = {json.dumps(relaying.punch)}"]
    if config.keep_blocks is not None:
        lines += ["", "[ledger]", f"keep_blocks = {config.keep_blocks}"]
    for seed in config.seeds:
        lines += ["", "[[seed]]", f"node = {json.dumps(seed.node)}"]
        lines += [f"gossip = {json.dumps(str(seed.gossip))}", f"link = {json.dumps(str(seed.link))}"]
    return "\n".join(lines) + "\n"
