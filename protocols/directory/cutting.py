"""How the mesh comes to a codebook, and a node to its content: trained by one, checked by each, and fetched from whoever has it.

Where the mesh wants cells (the parameter ``directory-cells``) and there is no codebook yet, the first organisation in turn trains one from
the records that its node holds, once they are enough, and endorses it on the ledger. The others fetch it by its hash, check it by their
own records, and endorse it too. Once it is in force, whoever has its content lays the directory by it
(``succession`` has what follows).
"""

from functools import partial

from meshos.errors import MeshError, Refused
from meshos.flow import Ask, Compute, Propose
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.cells import codebook as codebooks
from meshos.protocols.directory.cells.codebook import Codebook
from meshos.protocols.directory.cells.limits import CELLS_FROM, CODEBOOK_BYTES
from meshos.protocols.directory.cells.quality import quality
from meshos.protocols.directory.cells.training import train
from meshos.protocols.directory.commands import MACHINE, KeepCodebook, ReadCodebook
from meshos.protocols.directory.parts import Agreed, Parts
from meshos.protocols.directory.record import PROTOCOL
from meshos.protocols.directory.wire import AskCodebook, decode_part, encode_request


async def follow_codebooks(parts: Parts) -> None:
    """Have what the ledger names, and say what this node would endorse (``Parts.endorses``)."""
    if parts.agreed is None:
        return
    agreed = parts.agreed()
    if agreed.restoring or not agreed.in_cells:
        parts.endorses = None
        return
    for name in agreed.names()[: limits.CODEBOOKS]:
        if name not in parts.codebooks and name not in parts.refused_codebooks:
            await _have(parts, name, agreed.names())
    wanted = {*agreed.names(), *(parts.endorses or ())[1:]}
    for name in [name for name in parts.codebooks if name not in wanted]:
        del parts.codebooks[name]  # each takes up to 36 MB
    parts.refused_codebooks &= wanted
    if agreed.speaks and not agreed.version and parts.endorses is None:
        parts.endorses = await _endorsed(parts, agreed)


async def _endorsed(parts: Parts, agreed: Agreed) -> tuple[int, bytes] | None:
    for name in agreed.endorsed:
        codebook = parts.codebooks.get(name)
        if codebook is not None and codebook.version == 1 and name not in parts.refused_codebooks:
            good = await Compute(partial(_is_good, parts, codebook), cost_s=2.0)
            if good:
                return codebook.version, name
            if good is not None:
                parts.refused_codebooks.add(name)
    if not agreed.trains or parts.shelf.size() < CELLS_FROM:
        return None
    return await bring(parts, agreed, await Compute(partial(_trained, parts), cost_s=5.0))


async def bring(parts: Parts, agreed: Agreed, codebook: Codebook) -> tuple[int, bytes]:
    """Keep a codebook that this node has made, for whoever asks for it; its version and its hash, to be endorsed."""
    data: bytes = await Compute(partial(codebooks.encode, codebook), cost_s=0.1)
    name = codebooks.name_of(data)
    await Propose(KeepCodebook(name, data, agreed.names()), MACHINE)
    parts.codebooks[name] = codebook
    return codebook.version, name


def _is_good(parts: Parts, codebook: Codebook) -> bool | None:
    """None: this node holds too little to say."""
    if codebook.model != parts.checker.embedder.name:
        return False
    if parts.shelf.size() < max(CELLS_FROM, codebook.cells):
        return None
    vectors, _, placed_by = parts.shelf.everything()
    return quality(codebook, vectors, placed_by).good


def _trained(parts: Parts) -> Codebook:
    vectors, texts, _ = parts.shelf.everything()
    return train(1, parts.checker.embedder.name, vectors, texts, seed=1)


async def _have(parts: Parts, name: bytes, wanted: tuple[bytes, ...]) -> None:
    data: bytes | None = await Propose(ReadCodebook(name), MACHINE)
    fetched = data is None
    if data is None:
        data = await _fetched(parts, name)
    if data is None:
        return  # nobody who was asked has it: it is asked for again
    try:
        codebook: Codebook = await Compute(partial(codebooks.decode, data), cost_s=0.05)
    except Refused:
        parts.refused_codebooks.add(name)
        return
    if fetched:
        await Propose(KeepCodebook(name, data, wanted), MACHINE)
    parts.codebooks[name] = codebook


async def _fetched(parts: Parts, name: bytes) -> bytes | None:
    """The codebook of this hash from the first peer that has it whole; None if none of a few has."""
    peers = sorted(parts.peers(), key=lambda node: (parts.distance_s(node), node))
    for peer in peers[: limits.CODEBOOK_PEERS]:
        try:
            data = await _from(peer, name)
        except MeshError:
            continue  # another may have it
        if await Compute(partial(_is, name, data), cost_s=0.01):
            return data
    return None


def _is(name: bytes, data: bytes) -> bool:
    return codebooks.name_of(data) == name


async def _from(peer: NodeId, name: bytes) -> bytes:
    data, total = b"", 0
    while not data or len(data) < total:
        body = encode_request(AskCodebook(name, len(data)))
        said, part = decode_part(await Ask(peer, PROTOCOL, body, limits.SYNC_TIMEOUT_S, retries=1))
        total = total or said
        if said != total or total > CODEBOOK_BYTES or len(part) != min(limits.PART_BYTES, total - len(data)) or not part:
            break  # it has it not, or has us ask without end
        data += part
    return data


async def tell_codebook(asked: AskCodebook) -> tuple[int, bytes]:
    """How long the codebook is, and the part of it that was asked for; 0 and nothing where this node has it not."""
    data: bytes | None = await Propose(ReadCodebook(asked.name), MACHINE)
    return (0, b"") if data is None else (len(data), data[asked.offset : asked.offset + limits.PART_BYTES])
